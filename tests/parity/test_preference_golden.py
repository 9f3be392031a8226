"""Loss and gradient of TRL's own code on fixed inputs: the preference cases of the golden file."""

import json

import jax
import numpy as np
import pytest

from lrm_align import objectives
from tests.pair_batches import batch_of, by_answer, columns_of

# Cases whose losses need not be here; all of them are.
ABSENT: set[str] = set()
NAMES = {"nca_pair": "nca", "exo_pair": "exo"}
DIVERGENCES = {"reverse_kl": "reverse_kl", "forward_kl": "forward_kl", "js_divergence": "js"}
CASES = (
    *("dpo_sigmoid", "dpo_hinge", "dpo_ipo", "dpo_robust", "dpo_sppo_hard", "dpo_apo_zero", "dpo_apo_down"),
    *("dpo_nca_pair", "dpo_exo_pair", "dpo_sigmoid_norm", "dpo_discopop", "dpo_mpo", "dpo_ld", "dpo_js"),
    "dpo_forward_kl",
)
PARTS = ("logps", "ref_logps", "mask")
TOLERANCE = {"float64": {"rtol": 1e-6, "atol": 1e-8}, "float32": {"rtol": 1e-4, "atol": 1e-4}}


@pytest.fixture(scope="module")
def golden(shared_data):
    file = shared_data / "golden" / "losses.npz"
    if not file.exists():
        pytest.skip(f"no golden losses at {file}")
    arrays = np.load(file)
    cases = {case["name"]: case for case in json.loads(arrays["cases"].tobytes()) if case["family"] == "preference"}
    return arrays, cases


def objective_of(case):
    loss, *rest = case["loss_types"]
    options = {"divergence": DIVERGENCES[case["f_divergence_type"]], "ld_alpha": case["ld_alpha"]}
    if case["label_smoothing"]:
        options["label_smoothing"] = case["label_smoothing"]
    if rest:
        assert rest == ["sft"] and case["loss_weights"][0] == 1.0
        options["sft"] = case["loss_weights"][1]
    return objectives.preference(NAMES.get(loss, loss), case["beta"], **options)


def test_golden_cases_are_all_here(golden):
    assert set(golden[1]) == set(CASES) | ABSENT


@pytest.fixture(scope="module", params=TOLERANCE)
def found(golden, request):
    """{case: (loss, gradient)} in one precision; all cases are one program, since compiling is what costs."""
    arrays, cases = golden

    def of(name, logp, ref, mask):
        batch, objective = batch_of(mask), objective_of(cases[name])

        def loss(logp_BxT):
            return objective.loss({"logp": logp_BxT, "reference.logp": ref}, batch, objective.normalizers(batch))[0]

        return jax.value_and_grad(loss)(logp)

    with jax.enable_x64(request.param == "float64"):
        read = {name: [arrays[f"{name}/{part}"].astype(request.param) for part in PARTS] for name in CASES}
        inputs = {name: (columns_of(logp), columns_of(ref), mask) for name, (logp, ref, mask) in read.items()}
        evaluated = jax.jit(lambda inputs: {name: of(name, *inputs[name]) for name in CASES})(inputs)
        return request.param, jax.device_get(evaluated)


@pytest.mark.parametrize("name", CASES)
def test_preference_golden(golden, found, name):
    arrays, (dtype, results) = golden[0], found
    value, gradient = results[name]
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(value, arrays[f"{name}/loss"], **TOLERANCE[dtype])
    # The trainer sums over masked places as well: they hold 0 there, but their gradient is no 0.
    trained, gradient = arrays[f"{name}/mask"] > 0, by_answer(gradient)
    assert not arrays[f"{name}/logps"][~trained].any()
    np.testing.assert_allclose(gradient[trained], arrays[f"{name}/grad"][trained], **TOLERANCE[dtype])
    assert not gradient[~trained].any()
