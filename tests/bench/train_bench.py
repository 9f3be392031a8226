"""Training throughput of one small shape: float32, all weights, AdamW 1e-3, 8 rows of 512 tokens a step.

    python tests/bench/train_bench.py                              # equal-length rows; one JSON line
    python tests/bench/train_bench.py --packed                     # lognormal lengths (mean 128, longest 512), packed
    python tests/bench/train_bench.py --peer_python=VENV/bin/python --peer_script=trl_sft.py     # and the ratio

A peer is run in the same call, in its own environment; it prints one JSON line with `tokens_per_s`, `peak_rss_mb` for
equal-length rows. Peers pad: on lognormal lengths their real tokens a second are that rate times the share of a padded
batch that is real, for batches of 8 padded to their longest.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.models import Model, ModelConfig
from lrm_align.training import OptimizerSettings, full, make_mesh, make_step, sharding
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.state import init_state

SHAPE = ModelConfig("qwen3", 8192, 256, 768, 6, num_heads=8, num_kv_heads=4, head_dim=32, qk_norm=True, tied=True)
ROWS, LENGTH, WARM_UP = 8, 512, 3


def equal_batch(rng: np.random.Generator) -> Batch:
    """Rows that are one trace each, as the peers' are."""
    tokens = rng.integers(3, SHAPE.vocab_size, (ROWS, LENGTH), dtype=np.int32)
    ones = np.ones((ROWS, LENGTH), np.int32)
    mask = np.ones((ROWS, LENGTH), np.float32)
    mask[:, 0] = 0
    return Batch(tokens, ones, np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)), mask)


def lengths(rng: np.random.Generator, count: int) -> np.ndarray:
    """Lognormal (sigma 0.8), cut to 8…512, with a mean of about 128."""
    return np.clip(np.exp(rng.normal(np.log(128) - 0.28, 0.8, count)), 8, LENGTH).astype(int)


def packed_batch(rng: np.random.Generator) -> Batch:
    """Rows filled first-fit by decreasing length from a pool of traces."""
    left = np.full(ROWS, LENGTH)
    segment_ids, positions = (np.zeros((ROWS, LENGTH), np.int32) for _ in range(2))
    for size in np.sort(lengths(rng, ROWS * LENGTH // 128))[::-1]:
        fits = np.flatnonzero(left >= size)
        if fits.size:
            row = fits[0]
            at = slice(LENGTH - left[row], LENGTH - left[row] + size)
            segment_ids[row, at] = segment_ids[row].max() + 1
            positions[row, at] = np.arange(size)
            left[row] -= size
    tokens = rng.integers(3, SHAPE.vocab_size, (ROWS, LENGTH), dtype=np.int32) * (segment_ids > 0)
    return Batch(tokens, segment_ids, positions, ((positions > 0) & (segment_ids > 0)).astype(np.float32))


def ours(packed: bool, steps: int, chunk: int, remat: str) -> dict:
    """Times the compiled step, its batch coming from the host each time."""
    model, tuning, mesh = Model(SHAPE, remat=remat), full(), make_mesh()
    optimizer = make_optimizer(OptimizerSettings(learning_rate=1e-3, schedule="linear", warmup=0.0), steps)
    step = make_step(model, objectives.sft(), optimizer, tuning, chunk=chunk)
    key = jax.random.key(0)
    params = jax.jit(model.init)(key)
    fresh = functools.partial(init_state, tuning=tuning, transform=optimizer.transform)
    shardings = sharding.state_shardings(jax.eval_shape(fresh, key, params), optimizer.transform, mesh, model.rules)
    state = sharding.start(key, params, tuning, optimizer.transform, shardings)
    del params
    rng = np.random.default_rng(0)
    batches = [packed_batch(rng) if packed else equal_batch(rng) for _ in range(steps)]
    placed = sharding.global_batch(batches[0], mesh)
    began = time.perf_counter()
    compiled = sharding.compile_step(step, state, None, placed, optimizer.transform, mesh)
    compile_s = time.perf_counter() - began
    seconds = []
    for batch in batches:
        began = time.perf_counter()
        state, metrics = compiled(state, None, sharding.global_batch(batch, mesh))
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[WARM_UP:])
    real = float(np.mean([np.count_nonzero(b.segment_ids_BxT) for b in batches]))
    return {
        "name": "lrm_align" + (" packed" if packed else ""),
        "step_s": median,
        "tokens_per_s": real / median,
        "slot_tokens_per_s": ROWS * LENGTH / median,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "compile_s": compile_s,
        "loss": float(metrics["loss"]),
        "steps": seconds,
    }


def peer(python: str, script: str, packed: bool) -> dict:
    """A peer's own line, and what its rate is worth on lognormal lengths."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, script], capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if packed:
        batches = lengths(np.random.default_rng(1), 8 * 2000).reshape(-1, 8)
        found["real_share"] = float(batches.sum() / (batches.max(1) * 8).sum())
        found["tokens_per_s"] *= found["real_share"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--chunk", type=int, default=64, help="positions of a row whose logits are in memory at a time")
    parser.add_argument("--remat", default="attention", help="saves little, and computes little again")
    parser.add_argument("--peer_python", action="append", default=[])
    parser.add_argument("--peer_script", action="append", default=[])
    arguments = parser.parse_args()
    own = ours(arguments.packed, arguments.steps, arguments.chunk, arguments.remat)
    print(json.dumps(own))
    for python, script in zip(arguments.peer_python, arguments.peer_script, strict=True):
        other = peer(python, script, arguments.packed)
        ratio = {
            "tokens": own["tokens_per_s"] / other["tokens_per_s"],
            "memory": own["peak_rss_mb"] / other["peak_rss_mb"],
        }
        print(json.dumps(other))
        print(json.dumps({"ratio_to": other["peer"], **ratio}))


if __name__ == "__main__":
    main()
