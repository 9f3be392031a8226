"""Measures the packing plan for a million traces and the loader's packed tokens a second, on one core.

Prints one JSON line. Run with `taskset -c 0 python tests/bench/loader_bench.py`.
"""

import argparse
import json
import os
import resource
import threading
import time

import numpy as np

from lrm_align.traces import Loader, Plan, TokenStore

ROW_LENGTH = 4096


def lognormal_lengths(count: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Lengths with the given mean before clipping to a row, sigma 1."""
    return np.clip(rng.lognormal(np.log(mean) - 0.5, 1.0, count).astype(np.int64), 2, ROW_LENGTH)


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def random_store(lengths: np.ndarray, rng: np.random.Generator) -> TokenStore:
    """Tokens of no meaning; the first half of each trace is its prompt."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    source = (position >= np.repeat(lengths // 2, lengths)).astype(np.uint8)
    tokens = rng.integers(0, 150_000, offsets[-1], dtype=np.int32)
    logp = np.where(source == 1, -rng.random(offsets[-1], dtype=np.float32), np.nan).astype(np.float32)
    keys = tuple((str(index), 0) for index in range(lengths.size))
    groups, unfinished = ("",) * lengths.size, np.zeros(lengths.size, bool)
    return TokenStore(tokens, source, logp, offsets, keys, (("harmful",),) * lengths.size, groups, unfinished)


def main() -> None:
    """Plans first, while memory is still clean; then the loader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=1_000_000, help="traces of the plan")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each loader measurement")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    report: dict = {"cores": len(os.sched_getaffinity(0)), "row_length": ROW_LENGTH}

    report["rss_before_mib"] = round(peak_mib())
    for mean in (128, 256, 512):
        lengths = lognormal_lengths(arguments.traces, mean, rng)
        for rule, size in (("batch_rows", 64), ("batch_traces", 8), ("batch_traces", 256)):
            began = time.perf_counter()
            plan = Plan(lengths, row_length=ROW_LENGTH, seed=0, **{rule: size})
            planned = time.perf_counter() - began
            plan.batch(plan.num_steps - 1)
            report[f"plan_mean{mean}_{rule}{size}"] = {
                "seconds": round(planned, 2),
                "fill": round(plan.fill, 4),
                "rows": plan.rows,
                "steps": plan.num_steps,
                "dropped": plan.counts["dropped_overlong"],
            }
    report["plan_peak_mib"] = round(peak_mib())

    lengths = lognormal_lengths(100_000, 256, rng)
    store = random_store(lengths, rng)
    plan = Plan(store.lengths, row_length=ROW_LENGTH, seed=0, batch_rows=16, epochs=100)
    loader = Loader(store, plan, tag_names=("harmful", "benign"), sampler_logp=True, vocab_size=150_000)
    for name, batches in (
        ("assembled", (loader.batch(step) for step in range(plan.num_steps))),
        ("through_grain", loader.steps()),
    ):
        next(batches)
        real = slots = 0
        began = time.perf_counter()
        while time.perf_counter() - began < arguments.seconds:
            batch = next(batches)
            real += int((batch.segment_ids_BxT > 0).sum())
            slots += batch.tokens_BxT.size
        seconds = time.perf_counter() - began
        report[f"{name}_real_tokens_per_s"] = round(real / seconds)
        report[f"{name}_slots_per_s"] = round(slots / seconds)
        batches.close()
    report["threads_left"] = threading.active_count()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
