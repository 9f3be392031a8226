"""A small training in several processes, started by a test: `python -m tests.processes.trainer DIRECTORY`.

Also a number of small agreements, since starting processes is what takes the time. The first process leaves what came
out in DIRECTORY/found.npz.
"""

import json
import pathlib
import sys

import jax
import numpy as np

from lrm_align import objectives, processes
from lrm_align.errors import UserError
from lrm_align.models import partition
from lrm_align.provenance import Source
from lrm_align.traces import Loader, Plan, TokenStore, Trace
from lrm_align.training import OptimizerSettings, TrainSettings, make_mesh, sharding, train
from tests.training import tiny

SIZES = {"data": 2, "fsdp": 2, "tensor": 2}
ROWS = 8


def loader(mesh: jax.sharding.Mesh) -> Loader:
    """Few traces, so that the last rows of every batch, and so all of the last process, are empty."""
    rng = np.random.default_rng(0)
    traces = [
        Trace(
            rng.integers(1, 60, 4),
            rng.integers(1, 60, 3 + n % 5),
            [Source.SAMPLED] * (3 + n % 5),
            [-1.0] * (3 + n % 5),
            prompt_id=str(n),
        )
        for n in range(9)
    ]
    store = TokenStore.from_traces(traces)
    plan = Plan(store.lengths, row_length=24, seed=0, batch_traces=3, epochs=2, max_segments=4, rows_multiple=ROWS)
    return Loader(store, plan, **sharding.share(mesh)._asdict(), vocab_size=tiny.CONFIG.vocab_size)


def trained(directory: pathlib.Path, mesh: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    """The losses, and the weights as every process can read them."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(tiny.MODEL.init, jax.random.key(0))
    # By NumPy: compiling an initialisation costs as much as the training here.
    params = jax.tree.map(lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), shapes)
    found = train(
        tiny.MODEL,
        params,
        objectives.sft(),
        loader(mesh),
        optimizer=OptimizerSettings(learning_rate=1e-2, warmup=0.0),
        settings=TrainSettings(log_every=1, chunk=0),
        mesh=mesh,
        workdir=directory,
        log=lambda line: None,
    )
    leaves = jax.tree_util.tree_leaves_with_path(found.params)
    weights = {jax.tree_util.keystr(path): partition.on_host(leaf) for path, leaf in leaves}
    return {"losses": np.array([row["loss"] for row in found.rows]), **weights}


def agreements() -> None:
    """What processes tell each other."""
    index = jax.process_index()
    assert processes.primary() == (index == 0)
    long = "é" * 3_000_000
    assert processes.shared("a long text", lambda: long + str(index)) == long + "0"
    assert processes.first("a value", [index, 0.1]) == [0, 0.1]
    assert not processes.everyone("some", index == 1) and processes.everyone("all", True)
    highest = processes.Highest()
    assert [highest.of(15 * index * (step == 1)) for step in range(4)] == [0, 0, 15, 0]
    assert processes.each("the indices", index) == [0, 1]
    processes.agree("the same", {"a": (1, 2)})
    try:
        processes.agree("the index", index)
        assert index == 0
    except UserError as error:
        assert "process 1 has other the index than the first process: 1 and 0" in str(error)


@processes.together
def main(directory: pathlib.Path) -> None:
    """Trains, and leaves what came out."""
    agreements()
    mesh = make_mesh(SIZES)
    found = trained(directory, mesh)
    if processes.primary():
        np.savez(directory / "found.npz", **found)
    rows = (directory / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == len(found["losses"]) and "loss" in json.loads(rows[-1])


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
