"""One device and a mesh of eight compute the same."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lrm_align.errors import UserError
from lrm_align.models import load, lora, partition, save, sequence_scores
from tests.families import COMPUTED, packed_rows, tiny


def make_mesh(*shape: int) -> jax.sharding.Mesh:
    return jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def outputs(model, params, tokens, segments, positions):
    hidden = model.hidden(params, tokens, segments, positions)
    scores = sequence_scores(hidden, model.head(params), tokens, segments, needs=("logp", "entropy"), chunk=8)
    return model.logits(params, tokens, segments, positions), scores


@pytest.mark.parametrize("family", COMPUTED)
def test_logits_and_scores(family):
    model, params = tiny(family)
    params = lora.attach(params, lora.init(jax.random.key(0), params, 2), 1.0)
    rows = packed_rows(seed=0, rows=4, length=16, vocab=48)
    expected = jax.jit(outputs, static_argnums=0)(model, params, *rows)
    mesh = make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(params, partition.shardings(params, mesh))
        rows = jax.device_put(rows, NamedSharding(mesh, P(("data", "fsdp"))))
        found = jax.jit(outputs, static_argnums=0)(model, sharded, *rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), found, expected)


def test_loading_onto_a_mesh_reads_every_part(tmp_path):
    model, params = tiny("llama")
    save(tmp_path, model, params, max_shard_bytes=5000)
    mesh = make_mesh(2, 2, 2)
    _, sharded = load(tmp_path, mesh)
    jax.tree.map(np.testing.assert_array_equal, sharded, params)
    assert sharded["layers"]["q"].addressable_shards[0].data.shape == (2, 8, 2, 8)
    # And back: an export from a mesh is the same file.
    save(tmp_path / "again", model, sharded)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path / "again")[1], params)


def test_a_mesh_that_does_not_divide_is_named(tmp_path):
    model, params = tiny("qwen3")
    save(tmp_path, model, params)
    with pytest.raises(UserError, match=r"splits dimension 2 of \['layers'\]\['k'\] .* over tensor = 8, .* divide 2"):
        load(tmp_path, make_mesh(1, 1, 8))
