"""Losses as values made of pure functions of token scores; they know no model, mesh or optimizer."""

from lrm_align.objectives import schedules
from lrm_align.objectives.combine import combine, where
from lrm_align.objectives.kl import kl_estimate, kl_to_reference
from lrm_align.objectives.objective import STEP, Metrics, Normalizers, Objective, Scores, token_mean
from lrm_align.objectives.policy_gradient import policy_gradient
from lrm_align.objectives.preference import preference
from lrm_align.objectives.presets import cispo, dapo, dr_grpo, gmpo, grpo, gspo, luspo, rloo, sapo, vespo
from lrm_align.objectives.sft import sft
from lrm_align.objectives.tokens import Tokens

__all__ = [
    "STEP",
    "Metrics",
    "Normalizers",
    "Objective",
    "Scores",
    "Tokens",
    "cispo",
    "combine",
    "dapo",
    "dr_grpo",
    "gmpo",
    "grpo",
    "gspo",
    "kl_estimate",
    "kl_to_reference",
    "luspo",
    "policy_gradient",
    "preference",
    "rloo",
    "sapo",
    "schedules",
    "sft",
    "token_mean",
    "vespo",
    "where",
]
