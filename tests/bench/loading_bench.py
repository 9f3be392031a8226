"""Loading a model directory, against transformers: seconds and peak memory, each in a process of its own.

    python tests/bench/loading_bench.py MODEL [--dtype=float32] [--rounds=3]

Prints the ratio of medians. "load" is everything from the directory's name to arrays that can be computed with: all
checks of config, headers and values included here. Peaks are above what the process held before.
"""

import argparse
import json
import statistics
import subprocess
import sys

OURS = """
import jax, jax.numpy, sys, time, json, resource
from lrm_align.models import load
jax.numpy.zeros(1).block_until_ready()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start = peak(), time.perf_counter()
_, params = load(sys.argv[1], dtype=sys.argv[2])
jax.block_until_ready(params)
print(json.dumps([time.perf_counter() - start, (peak() - before) / 2**20]))
"""
THEIRS = """
import torch, sys, time, json, resource
from transformers import AutoModelForCausalLM
import transformers.models.llama.modeling_llama, transformers.models.qwen2.modeling_qwen2
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start = peak(), time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
for p in model.parameters(): p.sum().item()  # mapped files are read
print(json.dumps([time.perf_counter() - start, (peak() - before) / 2**20]))
"""


def once(program: str, model: str, dtype: str) -> list[float]:
    """Seconds and GiB of one process."""
    done = subprocess.run([sys.executable, "-c", program, model, dtype], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Runs both in turns."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {"ours": [], "transformers": []}
    for _ in range(options.rounds):
        for name, program in (("ours", OURS), ("transformers", THEIRS)):
            found[name].append(once(program, options.model, options.dtype))
            print(name, *(f"{value:.2f}" for value in found[name][-1]), flush=True)
    seconds, gib = (
        [statistics.median(row[i] for row in found[name]) for name in ("ours", "transformers")] for i in (0, 1)
    )
    print(f"seconds {seconds[0]:.2f} / {seconds[1]:.2f} = {seconds[0] / seconds[1]:.2f}; "
          f"peak {gib[0]:.2f} / {gib[1]:.2f} GiB = {gib[0] / gib[1]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
