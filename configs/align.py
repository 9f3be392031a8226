"""ThinkSafe for a model and prompts of your own, on one machine.

    python -m lrm_align.main --config=configs/align.py --config.model.path=MY_MODEL --workdir=runs/mine

`prompts.jsonl` holds a line {"prompt": "…", "label": "harmful" or "benign"} for each prompt to train on,
`held_out.jsonl` harmful ones to measure on; `config.prompts.args.sources.mine` and
`config.evaluate.args.sources.held_out` say so for other names and columns. The guard is Llama-Guard-3-8B unless
`config.guard` names another. The preset `lab` has the settings of the quickstart, with the lab's rule as the guard, for
a model as small as the lab's.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import choose, load

HERE = pathlib.Path(__file__).parent
COLUMNS = {"text": "prompt", "label": "label"}


def get_config(preset: str = "one_machine") -> ConfigDict:
    """ThinkSafe with the paper's settings, in smaller pieces, or with the lab's."""
    config = choose(preset, PRESETS)()
    config.prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {"sources": {"mine": {"path": "prompts.jsonl", "columns": COLUMNS}}},
        "against": {"held_out": {"path": "held_out.jsonl", "columns": COLUMNS}},  # none of them is trained on
    }
    config.evaluate = {
        "factory": "lrm_align.evals.guarded:evaluate",
        "args": {
            "sources": {"held_out": {"path": "held_out.jsonl", "columns": COLUMNS}},
            "limit": 0,  # prompts; 0 takes all
        },
        "before_args": {},
        "table_args": {},
        **{name: config.evaluate[name] for name in ("temperature", "top_p", "top_k")},
    }
    return config.lock()


def one_machine() -> ConfigDict:
    """The paper's numbers for Qwen3 (`thinksafe_tpu.py`), but for what one accelerator has room for."""
    config = load(f"{HERE / 'thinksafe_tpu.py'}:qwen3_1_7b").unlock()
    config.sample.slots = 16  # ours: 10 GiB of cache for Qwen3-1.7B
    config.sample.max_new_tokens = 4_096  # ours; the paper's 16,384 drops fewer long thoughts
    config.sample.max_length = 5_120  # ours: and 1,024 tokens of prompt
    config.train.row_length = 5_120  # ours: the longest trace
    return config


def lab() -> ConfigDict:
    """The quickstart's."""
    return load(str(HERE / "quickstart.py")).unlock()


PRESETS = {"one_machine": one_machine, "lab": lab}
