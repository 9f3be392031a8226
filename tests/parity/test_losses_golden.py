"""Policy gradients against the mature trainers' own numbers: loss and gradient on fixed inputs."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrm_align import objectives
from lrm_align.objectives import policy_gradient
from tests.policy_batches import evaluate, rows

TOLERANCE = {"float64": {"rtol": 1e-6, "atol": 1e-8}, "float32": {"rtol": 1e-4, "atol": 1e-4}}

# Every policy-gradient case of the file of golden losses, as an objective.
CASES = {
    "grpo": lambda: objectives.grpo(),
    "grpo_kl": lambda: objectives.grpo(kl_weight=0.04),
    "grpo_clip_higher": lambda: objectives.grpo(0.2, 0.28),
    "bnpo": lambda: objectives.dapo(0.2, 0.2),
    "dr_grpo": lambda: objectives.dr_grpo(16),
    "dapo": lambda: objectives.dapo(),
    "dapo_kl_tool": lambda: objectives.dapo(0.2, 0.2, kl_weight=0.02),
    "gspo": lambda: objectives.gspo(0.003, 0.004),
    "cispo": lambda: objectives.cispo(1.28),
    "sapo": lambda: objectives.sapo(),
    "two_sided": lambda: policy_gradient(surrogate=("dual_clip", 0.2, 0.2, 1.5), aggregate="sequence_mean"),
    "tis": lambda: objectives.dapo(0.2, 0.2, correction=("token_truncate", 0.0, 2.0)),
    "opsm": lambda: objectives.grpo(masks=[("off_policy_sequence", 0.02)]),
    "entropy_top": lambda: objectives.dapo(0.2, 0.2, masks=[("top_entropy", 0.4)]),
    "kl_bias_corrected": lambda: objectives.grpo(kl="k3_unbiased", kl_weight=0.05),
}


@pytest.fixture(scope="module")
def golden(shared_data):
    file = shared_data / "golden" / "losses.npz"
    if not file.exists():
        pytest.skip(f"no golden losses at {file}")
    arrays = np.load(file)
    cases = {case["name"]: case for case in json.loads(arrays["cases"].tobytes())}
    return arrays, {name: case for name, case in cases.items() if case["family"] == "policy_gradient"}


def test_golden_cases_are_all_here(golden):
    assert set(golden[1]) == set(CASES)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_policy_gradient_golden(golden, name, dtype):
    arrays, cases = golden
    case = cases[name]

    def of(part):
        return arrays[f"{name}/{part}"].astype(dtype)

    with jax.enable_x64(dtype == "float64"):
        mask = of("mask") * of("tool_mask") if case["use_tool_mask"] else of("mask")
        columns = {"old_logp_BxT": of("old_logps"), "reference.logp": of("ref_logps"), "entropy": of("entropies")}
        if case["tis_cap"] is not None:
            columns["sampler_logp_BxT"] = of("sampler_logps")
        batch, scores = rows(of("logps"), mask, of("advantages"), **columns)
        loss, gradient = evaluate(CASES[name](), batch, scores)
        assert loss.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(loss, arrays[f"{name}/loss"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, arrays[f"{name}/grad"], **TOLERANCE[dtype])


# What functions of TRL, verl and OpenRLHF gave on one tiny input in float64, to eight digits.
NEW = [[-0.50, -1.20, -0.30, -2.00], [-0.10, -0.90, -1.50, -0.40], [-0.70, -0.20, -1.10, -0.60]]
OLD = [[-0.70, -1.00, -0.35, -1.50], [-0.45, -0.80, -1.10, -0.90], [-0.60, -0.50, -1.00, -0.90]]
REF = [[-0.60, -1.50, -0.20, -1.80], [-0.30, -0.60, -1.90, -0.70], [-0.90, -0.10, -1.40, -0.30]]
SAMPLER = [[-0.80, -0.90, -0.30, -1.70], [-1.40, -0.70, -1.20, -0.80], [-0.20, -0.60, -1.30, -0.50]]
MASK = [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
ADVANTAGES = [1.0, -0.8, 0.5]
SEEN = ((0, 0), (1, 0), (2, 1))  # the entries of the gradient that follow the loss below


def token_mean(surrogate, correction="none"):
    return policy_gradient("token", surrogate, "token_mean", correction=correction)


def sequence_mean(surrogate, correction="none"):
    return policy_gradient("token", surrogate, "sequence_mean", correction=correction)


def dppo(allows):
    """Losses that are no piece of ours can be written beside it: a ratio cut at 20, where a trust region allows it."""

    def surrogate(tokens):
        p, q = (jax.lax.stop_gradient(jnp.exp(logp)) for logp in (tokens.logp_BxT, tokens.old_logp_BxT))
        allowed = allows(p, q, jnp.sign(tokens.advantage_BxT))
        return -jnp.minimum(p / q, 20.0) * allowed * tokens.advantage_BxT * tokens.logp_BxT, {}

    return surrogate


def tv_allows(p, q, sign):
    return sign * (p - q) <= 0.05


def coin_kl_allows(p, q, sign):
    divergence = q * jnp.log(q / p) + (1 - q) * jnp.log((1 - q) / (1 - p))
    return (divergence <= 0.05) | (sign * (p - q) <= 0)


def dro(tokens):
    square = 0.3 / 2 * jnp.square(tokens.delta_BxT)
    return square - tokens.advantage_BxT * tokens.logp_BxT, {}


TABLE = {
    "TRL grpo": (objectives.grpo, (-0.19833935, 0, 0.09460450, 0)),
    "TRL grpo .2/.28 k3": (
        lambda: objectives.grpo(0.2, 0.28, kl_weight=0.1),
        (-0.20492327, -0.13465406, 0.09611508, -0.00175285),
    ),
    "TRL grpo unbiased KL": (
        lambda: objectives.grpo(kl="k3_unbiased", kl_weight=0.1),
        (-0.19589210, 0.00135711, 0.09696962, -0.00224976),
    ),
    "TRL dapo .2/.28": (objectives.dapo, (-0.04063581, -0.13571142, 0.12613934, 0)),
    "TRL dapo .2/.28 delta 1.35": (
        lambda: token_mean(("dual_clip", 0.2, 0.28, 1.35)),
        (-0.07332815, -0.13571142, 0, 0),
    ),
    "TRL dr_grpo L=10": (lambda: objectives.dr_grpo(10), (-0.01014399, 0, 0.03784180, 0)),
    "TRL gspo": (lambda: objectives.gspo(0.05, 0.06), (-0.22455084, -0.11297848, 0.07276282, 0)),
    "TRL luspo": (lambda: objectives.luspo(0.05, 0.06), (-0.20593458, -0.33893544, 0.29105127, 0)),
    "TRL cispo": (lambda: objectives.cispo(1.1), (0.04207604, -0.12222222, 0.09777778, -0.06111111)),
    "TRL sapo": (objectives.sapo, (-0.48206520, -0.13406180, 0.09016903, -0.10911508)),
    "TRL vespo": (objectives.vespo, (-0.06963795, -0.10528989, 0.10986497, -0.04265631)),
    "TRL token_truncate": (
        lambda: token_mean("clip", ("token_truncate", 0.0, 2.0)),
        (0.08809674, 0, 0.25227868, 0),
    ),
    "TRL token_mask": (lambda: token_mean("clip", ("token_mask", 0.5, 2.0)), (-0.16418194, 0, 0, 0)),
    "TRL sequence_truncate": (
        lambda: token_mean("clip", ("sequence_truncate", 0.0, 2.0)),
        (0.43736388, 0, 0.25227868, 0),
    ),
    "TRL sequence_mask": (lambda: token_mean("clip", ("sequence_mask", 0.0, 2.0)), (-0.41110301, 0, 0, 0)),
    "verl vanilla c 1.35": (lambda: token_mean(("dual_clip", 0.2, 0.2, 1.35)), (-0.06650562, 0, 0, 0)),
    "verl seq-mean-token-sum c 3": (
        lambda: policy_gradient("token", "dual_clip", "sequence_sum"),
        (-0.10143986, 0, 0.37841801, 0),
    ),
    "verl gspo": (lambda: objectives.gspo(0.05, 0.06), (-0.22455084, -0.11297848, 0.07276282, 0)),
    "verl sapo": (objectives.sapo, (-0.48206520, -0.13406180, 0.09016903, -0.10911508)),
    "verl cispo": (lambda: token_mean("cispo_two_sided"), (0.02700760, -0.13333333, 0.10666667, -0.06666667)),
    "verl geo_mean": (objectives.gmpo, (-0.23207932, -0.11297848, 0.07276282, -0.09209758)),
    "verl gpg": (lambda: token_mean("reinforce"), (0.01444444, -0.11111111, 0.08888889, -0.05555556)),
    "verl k1": (lambda: objectives.kl_to_reference("k1"), (0.11111111, 0.11111111, 0.11111111, 0.11111111)),
    "verl k2": (lambda: objectives.kl_to_reference("k2"), (0.03, 0.01111111, 0.02222222, -0.01111111)),
    "verl k3": (lambda: objectives.kl_to_reference("k3"), (0.02827290, 0.01057362, 0.02014103, -0.01168566)),
    "verl k3+": (lambda: objectives.kl_to_reference("k3+"), (0.02827290, 0.01111111, 0.02222222, -0.01111111)),
    "OpenRLHF sample level dual 1.35": (
        lambda: sequence_mean(("dual_clip", 0.2, 0.2, 1.35)),
        (-0.22285861, 0, 0, 0),
    ),
    "OpenRLHF tis": (lambda: token_mean("clip", ("token_truncate", 0.5, 2.0)), (0.08809674, 0, 0.25227868, 0)),
    "OpenRLHF icepop": (lambda: token_mean("clip", ("token_mask", 0.5, 2.0)), (-0.16418194, 0, 0, 0)),
    "OpenRLHF seq-mask-tis": (lambda: token_mean("clip", ("geometric_filter", 0.8, 1.2)), (-0.44815458, 0, 0, 0)),
    "verl dppo_tv": (lambda: token_mean(dppo(tv_allows)), (0.03577246, 0, 0.12613934, 0)),
    "verl dppo_kl": (lambda: token_mean(dppo(coin_kl_allows)), (0.01425217, -0.13571142, 0.12613934, 0)),
    "verl dro": (lambda: token_mean(dro), (0.02652778, -0.10444444, 0.10055556, -0.04555556)),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_golden(name):
    make, (wanted, *slopes) = TABLE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objective = make()
    with jax.enable_x64(True):
        columns = {"old_logp_BxT": OLD, "sampler_logp_BxT": SAMPLER, "reference.logp": REF}
        columns = {column: np.array(values) for column, values in columns.items()}
        batch, scores = rows(np.array(NEW), np.array(MASK, float), np.array(ADVANTAGES), **columns)
        loss, gradient = evaluate(objective, batch, scores)
        found = jnp.stack([loss, *(gradient[at] for at in SEEN)])
    np.testing.assert_allclose(found, [wanted, *slopes], rtol=0, atol=6e-9)
