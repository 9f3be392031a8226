"""Losses as values made of pure functions of token scores; they know no model, mesh or optimizer."""

from lrm_align.objectives.combine import combine, where
from lrm_align.objectives.kl import kl_to_reference
from lrm_align.objectives.objective import Metrics, Normalizers, Objective, Scores, token_mean
from lrm_align.objectives.sft import sft

__all__ = [
    "Metrics",
    "Normalizers",
    "Objective",
    "Scores",
    "combine",
    "kl_to_reference",
    "sft",
    "token_mean",
    "where",
]
