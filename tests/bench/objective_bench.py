"""What an objective costs beyond SFT: a training step of one small shape, float32, all weights, 8 rows of 512 tokens.

    python tests/bench/objective_bench.py      # one JSON line: the median step of each, and its ratio to SFT's

The steps of all objectives take turns, so that a noisy machine troubles all alike; each ratio is the median over the
rounds. Old and reference log-probabilities are precomputed, except where the name says "live".
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from train_bench import LENGTH, ROWS, SHAPE, equal_batch

from lrm_align import objectives
from lrm_align.batch import Batch
from lrm_align.models import Model
from lrm_align.objectives import Objective
from lrm_align.training import OptimizerSettings, full, make_mesh, make_step, sharding
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.state import init_state

SUBJECTS = {
    "sft": (objectives.sft(), True),
    "grpo": (objectives.grpo(), True),
    "grpo, KL": (objectives.grpo(kl="k3", kl_weight=0.04), True),
    "grpo, KL, correction": (objectives.grpo(kl_weight=0.04, correction="token_truncate"), True),
    "preference": (objectives.preference(), True),
    "grpo, entropy": (objectives.grpo(entropy_weight=0.01), True),
    "grpo, KL, live reference": (objectives.grpo(kl="k3", kl_weight=0.04), False),
}


def batches(rng: np.random.Generator) -> Batch:
    """Rows of one pair each, with every column."""
    batch = equal_batch(rng)
    half = np.arange(LENGTH) // (LENGTH // 2)

    def noise() -> np.ndarray:
        return rng.normal(-9, 0.1, (ROWS, LENGTH)).astype(np.float32)

    return batch.replace(
        segment_ids_BxT=np.tile(1 + half, (ROWS, 1)).astype(np.int32),
        positions_BxT=np.tile(np.arange(LENGTH) % (LENGTH // 2), (ROWS, 1)).astype(np.int32),
        loss_mask_BxT=np.tile(np.arange(LENGTH) % (LENGTH // 2) > 0, (ROWS, 1)).astype(np.float32),
        pair_BxS=np.tile(np.int32([0, 1]), (ROWS, 1)),
        advantage_BxT=np.repeat(rng.normal(size=(ROWS, 2)), LENGTH // 2, axis=1).astype(np.float32),
        old_logp_BxT=noise(),
        sampler_logp_BxT=noise(),
        ref_logp_BxT=noise(),
    )


def subject(objective: Objective, precomputed: bool, steps: int):
    """A step that keeps its own state."""
    model, mesh = Model(SHAPE, remat="attention"), make_mesh()
    tuning = full(reference=not precomputed)
    optimizer = make_optimizer(OptimizerSettings(learning_rate=1e-4, schedule="linear", warmup=0.0), steps)
    key = jax.random.key(0)
    params = jax.jit(model.init)(key)
    state = jax.jit(lambda k, p: init_state(k, p, tuning, optimizer.transform))(key, params)
    shardings = sharding.state_shardings(state, optimizer.transform, mesh, model.rules)
    state, frozen = jax.device_put(state, shardings), tuning.freeze(params)
    batch = batches(np.random.default_rng(0))
    if not precomputed:
        batch = batch.replace(ref_logp_BxT=None)
    placed = sharding.global_batch(batch, mesh)
    step = make_step(model, objective, optimizer, tuning, chunk=64)
    compiled = sharding.compile_step(step, state, frozen, placed, optimizer.transform, mesh)

    def run() -> float:
        nonlocal state
        began = time.perf_counter()
        state, metrics = compiled(state, frozen, placed)
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    runs = {name: subject(*made, rounds + 1) for name, made in SUBJECTS.items()}
    seconds = [{name: run() for name, run in runs.items()} for _ in range(rounds + 1)][1:]
    report = {
        name: {
            "step_s": round(statistics.median(s[name] for s in seconds), 3),
            "over_sft": round(statistics.median(s[name] / s["sft"] for s in seconds), 3),
        }
        for name in runs
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
