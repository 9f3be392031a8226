"""Our policy gradients against the loss code of an installed TRL, on fresh random inputs."""

import collections
import types

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from trl import GRPOTrainer, RLOOTrainer

from lrm_align import objectives
from lrm_align.objectives import policy_gradient
from tests.policy_batches import evaluate, rows

B, T, LENGTH = 6, 9, 11
CLIP = ("clip", 0.2, 0.28)
CASES = {
    "grpo": ({"loss_type": "grpo"}, lambda o: objectives.grpo(0.2, 0.28, **o)),
    "bnpo": ({"loss_type": "bnpo"}, lambda o: objectives.dapo(0.2, 0.28, **o)),
    "dapo": ({"loss_type": "dapo"}, lambda o: objectives.dapo(**o)),
    "dr_grpo": ({"loss_type": "dr_grpo"}, lambda o: objectives.dr_grpo(LENGTH, 0.2, 0.28, **o)),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        lambda o: objectives.gspo(0.2, 0.28, **o),
    ),
    "gspo_by_token": (
        {"loss_type": "dapo", "importance_sampling_level": "sequence"},
        lambda o: policy_gradient("sequence", CLIP, "token_mean", **o),
    ),
    "delta": (
        {"loss_type": "dapo", "delta": 1.5},
        lambda o: policy_gradient("token", ("dual_clip", 0.2, 0.28, 1.5), "token_mean", **o),
    ),
    "cispo": ({"loss_type": "cispo"}, lambda o: objectives.cispo(0.28, **o)),
    # TRL keeps these temperatures in float32, which 1.05 is not.
    "sapo": ({"loss_type": "sapo", "sapo_temperature_neg": 1.0625}, lambda o: objectives.sapo(1.0, 1.0625, **o)),
    "luspo": (
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
        lambda o: objectives.luspo(0.2, 0.28, **o),
    ),
    "vespo": ({"loss_type": "vespo"}, lambda o: objectives.vespo(**o)),
}
# TRL's settings, the inputs they need, and our options.
OPTIONS = {
    "alone": ({}, {}),
    "kl": ({"beta": 0.1}, {"kl_weight": 0.1}),
    "unbiased": ({"beta": 0.1, "use_bias_correction_kl": True}, {"kl": "k3_unbiased", "kl_weight": 0.1}),
    "off_policy": ({"off_policy_mask_threshold": 0.05}, {"masks": [("off_policy_sequence", 0.05)]}),
    "entropy_top": ({"top_entropy_quantile": 0.3}, {"masks": [("top_entropy", 0.3)]}),
    "entropy": ({"entropy_coef": 0.02}, {"entropy_weight": 0.02}),
    "token_truncate": ({"cap": 1.5}, {"correction": ("token_truncate", 0.0, 1.5)}),
}


class Alone:
    """One process of Accelerate."""

    num_processes = 1
    sync_gradients = True

    def gather(self, x):
        return x

    def pad_across_processes(self, x, dim, pad_index):
        return x

    def reduce(self, x, reduction):
        return x


def trainer(kind, logps, entropies, **settings):
    """A trainer without a model: its scores are given, everything else is its own code."""
    made = object.__new__(kind)
    fields = {
        "loss_type": "grpo",
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "off_policy_mask_threshold": None,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "max_completion_length": LENGTH,
    }
    arguments = {"delta": None, "use_bias_correction_kl": False, "steps_per_generation": 1}
    arguments |= {"sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}
    arguments |= {"vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0}
    corrected = settings.pop("cap", None) is not None
    for name, value in settings.items():
        (arguments if name in arguments else fields)[name] = value
    made.__dict__ |= fields
    made.args = types.SimpleNamespace(**arguments, report_to=[])
    made.use_vllm = made.vllm_importance_sampling_correction = corrected
    made.aux_loss_enabled = made.use_adaptive_entropy = False
    made._entropy_bonus_enabled = fields["entropy_coef"] > 0
    made.current_gradient_accumulation_steps = 1
    made.accelerator = Alone()
    made.model = types.SimpleNamespace(training=True)
    made._metrics = {"train": collections.defaultdict(list)}
    made._get_per_token_logps_and_entropies = lambda *args, **kwargs: (logps, entropies, None)
    return made


def inputs():
    """Random completions; the seed stands in the test's output."""
    seed = np.random.SeedSequence().entropy % 2**32
    print("seed", seed)
    rng = np.random.default_rng(seed)
    logps = rng.uniform(-3, -0.1, (B, T))
    near = {name: logps + rng.normal(0, 0.3, (B, T)) for name in ("old", "ref", "sampler")}
    mask = (np.arange(T) < rng.integers(2, T + 1, B)[:, None]) & (rng.uniform(size=(B, T)) < 0.9)
    mask[:, 0] = True
    # TRL takes its quantile in float32.
    entropies = rng.uniform(0, 3, (B, T)).astype(np.float32).astype(np.float64)
    return logps, near, mask.astype(np.float64), rng.normal(size=B), entropies


def theirs(kind, settings, logps, mask, advantages, entropies, columns):
    logps = torch.tensor(logps, requires_grad=True)
    made = trainer(kind, logps, torch.tensor(entropies), **settings)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    batch = {"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids}
    batch |= {"completion_mask": torch.tensor(mask), "advantages": torch.tensor(advantages)}
    batch |= {"num_items_in_batch": torch.tensor(mask.sum())}
    loss = made._compute_loss(None, batch | {name: torch.tensor(a) for name, a in columns.items()})
    loss.backward()
    return loss.item(), logps.grad.numpy()


def combinations():
    """Every loss alone, and every option on one loss of each kind."""
    for case in CASES:
        for option in OPTIONS:
            if option == "alone" or case in ("grpo", "gspo_by_token", "cispo"):
                yield pytest.param(case, option, id=f"{case}-{option}")


@pytest.mark.parametrize(("case", "option"), combinations())
def test_grpo_trainer(case, option):
    settings, make = CASES[case]
    more, ours = OPTIONS[option]
    if option == "unbiased" and settings.get("importance_sampling_level") == "sequence":
        pytest.skip("TRL weighs the KL by the ratio of the sequence; here it is always the token's own")
    if option == "entropy" and settings["loss_type"] not in ("dapo", "cispo"):
        pytest.skip("TRL averages the entropy over tokens; here it is aggregated as the loss is")
    logps, near, mask, advantages, entropies = inputs()
    columns = {"old_per_token_logps": near["old"], "ref_per_token_logps": near["ref"]}
    batch_columns = {"old_logp_BxT": near["old"], "reference.logp": near["ref"], "entropy": entropies}
    if "cap" in more:
        columns["importance_sampling_ratio"] = np.minimum(np.exp(near["old"] - near["sampler"]), more["cap"])
        batch_columns["sampler_logp_BxT"] = near["sampler"]
    wanted = theirs(GRPOTrainer, settings | more, logps, mask, advantages, entropies, columns)
    with jax.enable_x64(True):
        found = evaluate(make(ours), *rows(logps, mask, advantages, **batch_columns))
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_rloo_trainer():
    logps, near, mask, advantages, entropies = inputs()
    settings = {"epsilon_low": 0.4, "epsilon_high": 0.5}
    columns = {"old_logps": (near["old"] * mask).sum(1)}
    wanted = theirs(RLOOTrainer, settings, logps, mask, advantages, entropies, columns)
    with jax.enable_x64(True):
        found = evaluate(objectives.rloo(0.4, 0.5), *rows(logps, mask, advantages, old_logp_BxT=near["old"]))
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
