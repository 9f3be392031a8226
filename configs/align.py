"""ThinkSafe for a model and prompts of your own, on one machine.

    python -m lrm_align.main --config=configs/align.py --config.model.path=MY_MODEL --workdir=runs/mine

`prompts.jsonl` holds a line {"prompt": "…", "label": "harmful" or "benign"} for each prompt to train on,
`held_out.jsonl` harmful ones to measure on; `config.prompts.args.sources.mine` and
`config.evaluate.args.sources.held_out` say so for other names and columns. The guard is Llama-Guard-3-8B; a word behind
the preset takes another: `:qwen3guard`, `:wildguard`, `:prompted` (any chat model that is asked; `config.guard.args`
names it), `:keywords` (refusal keywords, no model). Presets:

    one_machine  the paper's settings, in pieces that one accelerator has room for
    small        for some ten to a thousand prompts, and a small model without an accelerator
    lab          the quickstart's, with the lab's rule as the guard, for a model as small as the lab's

    python -m lrm_align.main --config=configs/align.py:small+keywords --config.model.path=MY_MODEL --workdir=runs/mine
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import choose, load
from lrm_align.settings import own_files

HERE = pathlib.Path(__file__).parent


def get_config(preset: str = "one_machine") -> ConfigDict:
    """ThinkSafe with the paper's settings, in smaller pieces, or with the lab's."""
    config = choose(preset, PRESETS)()
    config.prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {"sources": own_files.prompts()},
        "against": own_files.held_out(),  # none of them is trained on
    }
    config.evaluate = {
        "factory": "lrm_align.evals.guarded:evaluate",
        "args": {
            "sources": own_files.held_out(),
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


def small() -> ConfigDict:
    """Ours: enough updates of few prompts, at ten times the paper's learning rate; short texts."""
    config = one_machine()
    config.model.dtype = "float32"  # ours: what CPUs compute fast
    config.sample.samples = 4  # ours: 20 prompts give 80 traces
    config.sample.max_new_tokens = 512  # ours
    config.sample.max_length = 1_024  # ours: and as much of prompt
    config.sample.slots = 8  # ours
    config.train.row_length = 1_024  # ours: the longest trace
    config.train.batch_traces = 4  # ours
    config.train.max_segments = 4  # a batch has no more
    config.train.epochs = 5  # ours: 80 traces are 100 updates
    config.train.optimizer.learning_rate = 1e-4  # ours: 100 updates of 1e-5 teach next to nothing
    return config


def lab() -> ConfigDict:
    """The quickstart's."""
    return load(str(HERE / "quickstart.py")).unlock()


PRESETS = {"one_machine": one_machine, "small": small, "lab": lab}
