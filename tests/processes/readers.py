"""What guards and measures read from a model on the devices of several processes, started by a test.

    python -m tests.processes.readers DIRECTORY

The first process leaves what came out in DIRECTORY/found.npz; the others make sure that they read the same.
"""

import hashlib
import pathlib
import sys

import jax
import numpy as np

from lrm_align import processes
from lrm_align.evals import moved
from lrm_align.models import hf
from lrm_align.provenance import Source
from lrm_align.scoring.choice import choice_probabilities
from lrm_align.scoring.greedy import greedy
from lrm_align.traces import TokenStore, Trace
from lrm_align.training import make_mesh, reference
from tests.processes.trainer import SIZES


def read(directory: pathlib.Path, mesh: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    """Probabilities of choices, greedy tokens, a divergence, and log-probabilities of traces."""
    model, params = hf.load(directory, mesh=mesh, dtype="float32")
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 60, 3 + n).tolist() for n in range(6)]
    with jax.set_mesh(mesh):
        chosen = choice_probabilities(model, params, rows, (3, 7), longest=16, multiple=4)
        written = greedy(model, params, rows, stop=2, new_tokens=5, longest=16, multiple=4, choices=(3, 7))
    steps = [moved.Moved(row, row[:2], row[1:]) for row in rows]
    store = TokenStore.from_traces(
        [Trace(row[:2], row[2:], [Source.SAMPLED] * len(row[2:]), [-1.0] * len(row[2:])) for row in rows]
    )
    return {
        "chosen": chosen,
        "written": np.array([one.ids + [-1] * (5 - len(one.ids)) for one in written]),
        "likely": np.concatenate([one.p_SxW for one in written]),
        "moved": moved.kl(model, params, steps, mesh, horizon=3, size=4),
        "reference": reference.logp(model, params, store, mesh, row_length=16, rows=4),
    }


@processes.together
def main(directory: pathlib.Path) -> None:
    """Reads, and leaves what came out."""
    found = read(directory / "model", make_mesh(SIZES))
    processes.agree("numbers", {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in found.items()})
    if processes.primary():
        np.savez(directory / "found.npz", **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
