"""TRL's own DPO loss code on fresh random inputs, beside ours: value, gradient and the metrics people watch.

Its trainer's method runs on stand-ins for model and accelerator that hand out given log-probabilities.
"""

import collections
import functools
import types

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from trl.trainer.dpo_trainer import DPOTrainer

from lrm_align import objectives
from tests.pair_batches import batch_of, by_answer, columns_of

PAIRS, LENGTH = 6, 9
SEEDS = range(4)
THEIRS = {"nca": "nca_pair", "exo": "exo_pair"}
DIVERGENCES = {"js": "js_divergence"}
CASES = {
    **{name: {} for name in ("sigmoid", "hinge", "ipo", "apo_zero", "apo_down", "sigmoid_norm", "sppo_hard", "nca")},
    "discopop": {"tau": 0.05},
    "robust": {"label_smoothing": 0.2},
    "exo": {"label_smoothing": 0.01},
    "sigmoid forward_kl": {"divergence": "forward_kl"},
    "sigmoid js": {"divergence": "js"},
    "robust js": {"divergence": "js", "label_smoothing": 0.2},
    "ipo forward_kl": {"divergence": "forward_kl"},
    "sigmoid sft": {"sft": 0.3},
    "sigmoid ld": {"ld_alpha": 0.4},
    "sigmoid_norm ld": {"ld_alpha": 0.4},
}
METRICS = {
    "rewards/chosen": "rewards/chosen", "rewards/rejected": "rewards/rejected", "rewards/margin": "rewards/margins",
    "rewards/accuracy": "rewards/accuracies", "logp/chosen": "logps/chosen", "logp/rejected": "logps/rejected",
}  # fmt: skip


def random_inputs(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities of policy and reference, and masks of answers of different lengths after a common prompt."""
    rng = np.random.default_rng(seed)
    logp, ref = -4 * rng.random((2, 2 * PAIRS, LENGTH))
    prompt = np.tile(rng.integers(0, 3, PAIRS), 2)[:, None]
    place = np.arange(LENGTH)
    mask = (place >= prompt) & (place < prompt + rng.integers(1, LENGTH - 2, 2 * PAIRS)[:, None])
    return logp * mask, ref * mask, mask.astype(np.float64)


class Given(torch.nn.Module):
    """Stands for a model: gives the log-probabilities that it was made with."""

    is_gradient_checkpointing = False

    def __init__(self, logp):
        super().__init__()
        self.logp = logp

    def forward(self, **inputs):
        del inputs
        nothing = torch.zeros_like(self.logp)
        outputs = {"log_probs": self.logp, "entropy": nothing, "mean_logits": nothing, "is_top1": nothing.bool()}
        return types.SimpleNamespace(**outputs)


def theirs(name: str, beta: float, options: dict, logp, ref, mask):
    """(loss, gradient, metrics) by TRL."""
    loss = name.split()[0]
    types_ = [THEIRS.get(loss, loss), *(["sft"] if "sft" in options else [])]
    logp = torch.tensor(logp, requires_grad=True)
    policy = Given(logp)
    same = types.SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    divergence = options.get("divergence", "reverse_kl")
    trainer = types.SimpleNamespace(
        accelerator=same,
        model=policy,
        ref_model=Given(torch.tensor(ref)),
        args=types.SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=options.get("tau", 0.05)),
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        use_weighting=False,
        beta=beta,
        ld_alpha=options.get("ld_alpha"),
        f_divergence_type=DIVERGENCES.get(divergence, divergence),
        label_smoothing=options.get("label_smoothing", 0.0),
        loss_types=types_,
        loss_weights=[1.0, options.get("sft", 0.0)][: len(types_)],
        _metrics={"train": collections.defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    completion = torch.tensor(np.pad(mask, ((0, 0), (1, 0)))).long()
    inputs = {"input_ids": torch.ones_like(completion), "attention_mask": torch.ones_like(completion)}
    value = DPOTrainer._compute_loss(trainer, policy, {**inputs, "completion_mask": completion}, False)
    (gradient,) = torch.autograd.grad(value, logp)
    found = {ours: trainer._metrics["train"][name][0] for ours, name in METRICS.items()}
    return float(value.detach()), gradient.numpy(), found


@pytest.fixture(scope="module")
def found():
    """(inputs, {case: (loss, metrics, gradient)}) by our code, over the seeds: one program."""
    inputs = {name: [random_inputs(seed + 10 * i) for seed in SEEDS] for i, name in enumerate(CASES)}
    made = {name: objectives.preference(name.split()[0], 0.1, **options) for name, options in CASES.items()}

    def one(objective, logp, ref, mask):
        batch = batch_of(mask)

        def loss(logp):
            return objective.loss({"logp": logp, "reference.logp": ref}, batch, objective.normalizers(batch))

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(logp)
        return value, metrics, gradient

    with jax.enable_x64(True):
        columns = {n: [(columns_of(a), columns_of(b), c) for a, b, c in drawn] for n, drawn in inputs.items()}
        stacked = {name: [np.stack(part) for part in zip(*rows)] for name, rows in columns.items()}
        evaluate = jax.jit(lambda all_: {n: jax.vmap(functools.partial(one, made[n]))(*all_[n]) for n in CASES})
        return inputs, jax.device_get(evaluate(stacked))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_trl_dpo(found, name, seed):
    inputs, ours = found
    logp, ref, mask = inputs[name][seed]
    value, metrics, gradient = jax.tree.map(lambda a: a[seed], ours[name])
    wanted, wanted_gradient, wanted_metrics = theirs(name, 0.1, CASES[name], logp, ref, mask)
    np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-8)
    trained = mask > 0
    np.testing.assert_allclose(by_answer(gradient)[trained], wanted_gradient[trained], rtol=1e-6, atol=1e-8)
    for key, mean in wanted_metrics.items():
        np.testing.assert_allclose(metrics[key][0] / metrics[key][1], mean, rtol=1e-5, atol=1e-6, err_msg=key)
