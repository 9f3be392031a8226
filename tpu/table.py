"""Makes tpu/README.md: which shipped config fits which topology.

    python tpu/table.py [PRESET …]

Compiles what `tpu/fits.json` does not hold yet, one process each, and writes both files anew after every compilation.
Presets that are named are compiled again. Compile times mean something on a quiet machine only.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "fits.json"
CONFIG = "configs/thinksafe_tpu.py"
PRESETS = (
    "qwen3_0_6b",
    "qwen3_1_7b",
    "qwen3_4b",
    "qwen3_8b",
    "qwen3_8b_pod",
    "qwen3_8b_full",
    "r1_qwen_1_5b",
    "r1_qwen_7b",
    "r1_llama_8b",
)
# Other losses on one preset; each runs the reference beside the policy where it needs one.
LOSSES = {name: f"lrm_align.objectives:{name}" for name in ("sft", "preference", "grpo")}
LOSSES_PRESET, LOSSES_TOPOLOGY = "qwen3_8b", "v6e:4x4"
TOPOLOGIES = ("v5e:4x4", "v6e:4x4", "v5p:2x2x4")

TEXT = """# Does it fit?

    pip install .[tpu]
    python tpu/fit.py --config={config}:qwen3_8b --topology=v6e:4x4 [--json]

compiles the train step of a config for a TPU topology on a host without a TPU, from shapes alone (no weights, no
network), and prints a chip's memory by kind. Exit status 0: it fits; 1: it does not; 2: a mistake in the command.
Overrides work as everywhere: `--config.train.row_length=32768`.

The shipped configs, on 16 chips each: peak GiB a chip, and seconds to compile; in bold what does not fit, with what a
chip has.

{table}

{preset} with other losses, on {topology}, without dropout:

{losses}

The memory is the compiler's own account ({versions}): what is alive at the peak. Nothing here was run on a TPU. The
compiler was asked for little effort, except where that left less than a fifth of a chip free (marked *). At full
effort, which overlaps more, Qwen3-8B full on v6e:4x4 takes 10.3 GiB instead of 9.6 and three times as long to compile.
`python tpu/table.py` made this file; `fits.json` beside it has all kinds of memory.

What keeps it small: layers are scanned and their activations recomputed (`config.model.remat`); state, gradients and
activations are sharded over all chips and the state is donated; logits exist for `config.train.chunk` positions of a
row at a time, each chip holding its part of the vocabulary; attention is Pallas' splash kernel. If a config does not
fit: shorter rows, `--config.model.remat=full`, more chips, or `--config.mesh.tensor=2`.
"""


def render(presets: Sequence[str], topologies: Sequence[str], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table, presets down and topologies across; a dash where nothing was compiled."""
    lines = ["| preset | " + " | ".join(topologies) + " |", "|---" * (len(topologies) + 1) + "|"]
    for preset in presets:
        cells = [_cell(results.get(f"{preset} on {topology}")) for topology in topologies]
        lines.append(f"| {preset} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "–"
    peak = "more" if result["peak_hbm_gib"] is None else f"{result['peak_hbm_gib']:.1f}"
    full = "*" if result["effort"] == "full" else ""
    return f"{peak}{full} ({result['compile_s']:.0f} s)" if result["fits"] else f"**{peak} of {result['hbm_gib']:.1f}**"


def _losses(results: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| loss | " + LOSSES_TOPOLOGY + " |", "|---|---|"]
    return "\n".join(lines + [f"| `{name}` | {_cell(results.get(_loss_key(name)))} |" for name in LOSSES])


def _loss_key(name: str) -> str:
    return f"{LOSSES_PRESET} with {name} on {LOSSES_TOPOLOGY}"


def _fit(preset: str, topology: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "fit.py"), f"--config={CONFIG}:{preset}", f"--topology={topology}", "--json"]
    command += more
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}")
    return json.loads(done.stdout)


def main(again: Sequence[str]) -> None:
    """Compiles what is missing and writes the files."""
    if unknown := sorted(set(again) - set(PRESETS)):
        raise SystemExit(f"unknown presets: {', '.join(unknown)}; there are {', '.join(PRESETS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    cells = {f"{preset} on {topology}": (preset, topology) for preset in PRESETS for topology in TOPOLOGIES}
    for name, path in LOSSES.items():
        options = (f"--objective={path}", "--config.lora.dropout=0.0")
        cells[_loss_key(name)] = (LOSSES_PRESET, LOSSES_TOPOLOGY, *options)
    for name, arguments in cells.items():
        if name not in results or arguments[0] in again:
            results[name] = _fit(*arguments)
            print(name, results[name]["fits"], results[name]["peak_hbm_gib"], flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        _write(results)


def _write(results: Mapping[str, Mapping[str, Any]]) -> None:
    versions = " and ".join(f"{package} {metadata.version(package)}" for package in ("jax", "libtpu"))
    table = render(PRESETS, TOPOLOGIES, results)
    places = {"preset": LOSSES_PRESET, "topology": LOSSES_TOPOLOGY, "losses": _losses(results)}
    text = TEXT.format(config=CONFIG, table=table, versions=versions, **places)
    (HERE / "README.md").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
