"""What must change no loss, no metric and no gradient: every objective on random scores in float64, without a model."""

import functools

import jax
import numpy as np
import pytest

from lrm_align.objectives.preflight import check_objective
from lrm_align.training import make_mesh
from lrm_align.training.scores import KNOWN
from tests.invariance import packing
from tests.invariance.evaluated import Evaluated, evaluated, slopes
from tests.invariance.table import OBJECTIVES

TRACES = packing.traces(0)
ROWS = packing.pack(TRACES, packing.PACKED)
MASKED = ROWS.batch.loss_mask_BxT == 0
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@functools.cache
def laid_out(rows: tuple[tuple[int, ...], ...], padding: float = 0.0) -> dict[str, Evaluated]:
    packed = packing.pack(TRACES, rows, padding)
    return {name: found.by_token(packed) for name, found in evaluated(packed).items()}


def expected(name: str) -> Evaluated:
    return laid_out(packing.PACKED)[name]


def close(found: Evaluated, wanted: Evaluated) -> None:
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-9, atol=1e-12)
    for key, pair in wanted.metrics.items():
        # Counts, and the sums of what is never differentiated, may be float32.
        for a, b in zip(found.metrics[key], pair, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=key)
    for score, gradient in wanted.gradient.items():
        np.testing.assert_allclose(found.gradient[score], gradient, rtol=1e-9, atol=1e-12, err_msg=score)


LAYOUTS = {
    "packed = unpacked": (packing.UNPACKED,),
    "order of segments": (packing.SEGMENTS_REVERSED,),
    "order of rows": (packing.ROWS_PERMUTED,),
    "padding": (packing.PACKED, 7.0),
}


@every_objective
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_changes_nothing(name, layout):
    close(laid_out(*LAYOUTS[layout])[name], expected(name))


@functools.cache
def in_pieces() -> list[dict[str, Evaluated]]:
    """Three micro-batches, each with the normalizers of the whole batch."""
    pieces = []
    for rows in ((0, 3), (1,), (2,)):
        kept = [numbers if row in rows else () for row, numbers in enumerate(packing.PACKED)]
        piece = packing.pack(TRACES, kept)
        pieces.append(evaluated(piece, ROWS))
    return pieces


@every_objective
def test_micro_batches_add_up_to_the_batch(name):
    """Losses, metrics and gradients are those of one batch in sum."""
    total = jax.tree.map(lambda *a: sum(a), *(piece[name] for piece in in_pieces()))
    close(total.by_token(ROWS), expected(name))


@functools.cache
def on_eight_devices() -> dict[str, Evaluated]:
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp", "tensor")))
    return evaluated(ROWS, put=lambda a: jax.device_put(a, rows))


@every_objective
def test_eight_devices_are_one(name):
    close(on_eight_devices()[name].by_token(ROWS), expected(name))


@functools.cache
def poisoned(poison: float) -> dict[str, Evaluated]:
    """Scores and columns that are not finite where nothing is trained."""
    floats = ("old_logp_BxT", "ref_logp_BxT", "sampler_logp_BxT", "advantage_BxT")
    columns = {column: np.where(MASKED, poison, vars(ROWS.batch)[column]) for column in floats}
    scores = {score: np.where(MASKED, poison, values) for score, values in ROWS.scores.items()}
    return evaluated(ROWS._replace(batch=ROWS.batch.replace(**columns), scores=scores))


@every_objective
@pytest.mark.parametrize("poison", [-np.inf, np.nan])
def test_the_gradient_of_what_is_not_trained_is_exactly_zero(name, poison):
    """For masked tokens and padding, also where scores and columns are not finite there; and nothing else changes."""
    found = poisoned(poison)[name]
    assert all((gradient[MASKED] == 0).all() for gradient in found.gradient.values())
    close(found.by_token(ROWS), expected(name))


@functools.cache
def untrained() -> dict[str, Evaluated]:
    return evaluated(ROWS._replace(batch=ROWS.batch.replace(loss_mask_BxT=np.zeros_like(ROWS.batch.loss_mask_BxT))))


@every_objective
def test_nothing_trained_is_exactly_zero(name):
    found = untrained()[name]
    assert found.loss == 0
    assert all((gradient == 0).all() for gradient in found.gradient.values())
    for key, (total, weight) in found.metrics.items():
        assert np.all(weight == 0) and np.all(total == 0), key


@functools.cache
def far_apart(sign: int) -> dict[str, Evaluated]:
    """Policy and reference 20,000 apart, each token in the other direction than its neighbours."""
    far = sign * np.where(np.arange(packing.LENGTH) % 2, 1e4, -1e4)
    moved = {"logp": ROWS.scores["logp"] + far, "reference.logp": ROWS.scores["reference.logp"] - far}
    return evaluated(ROWS._replace(scores=ROWS.scores | moved))


@every_objective
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_log_ratios_stay_finite(name, sign):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(far_apart(sign)[name]))


@pytest.fixture(scope="module")
def differences():
    """A random direction, and the slope of every loss along it."""
    rng = np.random.default_rng(1)
    direction = {score: rng.normal(size=a.shape) for score, a in ROWS.scores.items()}
    with pytest.MonkeyPatch.context() as patch:
        return direction, slopes(ROWS, direction, patch)


@every_objective
def test_finite_differences_agree(name, differences):
    """With what is a constant for the gradient held constant."""
    direction, slope = differences
    gradient = expected(name).gradient
    wanted = sum((ROWS.by_token(direction[score]) * g).sum() for score, g in gradient.items())
    np.testing.assert_allclose(slope[name], wanted, rtol=1e-6, atol=1e-8)
    assert abs(wanted) > 1e-4, "the direction says something"


@functools.cache
def at_a_distance(size: float, dtype: str) -> dict[str, Evaluated]:
    """The policies so many times as far from each other, as float32 numbers, evaluated in a type."""
    logp = ROWS.scores["logp"]

    def moved(values):
        return np.float32(logp + size * (values - logp))

    columns = {name: moved(vars(ROWS.batch)[name]) for name in ("old_logp_BxT", "ref_logp_BxT", "sampler_logp_BxT")}
    scores = {name: moved(values) if "logp" in name else np.float32(values) for name, values in ROWS.scores.items()}
    batch = ROWS.batch.replace(advantage_BxT=np.float32(ROWS.batch.advantage_BxT), **columns)
    return evaluated(ROWS._replace(scores=scores, batch=batch), dtype=dtype)


@pytest.mark.slow
@every_objective
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_float32_is_enough(name, size):
    """Value and gradient, also where policy, reference and sampler are nearly equal."""
    found, wanted = at_a_distance(size, "float32")[name], at_a_distance(size, "float64")[name]
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-5, atol=1e-6)
    for score, gradient in wanted.gradient.items():
        assert found.gradient[score].dtype == np.float32
        np.testing.assert_allclose(found.gradient[score], gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())


@every_objective
def test_it_passes_the_check_of_a_config(name):
    always = ("tokens_BxT", "segment_ids_BxT", "positions_BxT", "loss_mask_BxT", "tag_BxS", "tag_names")
    columns = [column for column, value in vars(ROWS.batch).items() if value is not None and column not in always]
    check_objective(f"mine:{name}", OBJECTIVES[name], KNOWN, tag_names=packing.TAGS, columns=columns)
