"""Supervised fine-tuning on data that others wrote, on Cloud TPU.

    python -m lrm_align.main --config=configs/sft_tpu.py:star1 --config.model.path=Qwen/Qwen3-8B --workdir=gs://BUCKET/sft
    python -m lrm_align.main --config=configs/sft_tpu.py --config.data.path=mine.jsonl --dry_run

`config.data.path` is a JSONL, JSON, CSV, TSV or Parquet file or a `datasets` id, whose shape is found by its columns.
`--dry_run` shows how long the examples are, what is left out and why, and some of them with what is trained on.

"STAR-1" is Wang et al. 2025, arXiv 2504.01903, and its code; "SafeChain" is Jiang et al. 2025, arXiv 2502.12025; "TRL"
is the example at the head of its `scripts/sft.py`. Everything else is ours.
"""

from ml_collections import ConfigDict

from lrm_align.config import choose


def get_config(preset: str = "plain") -> ConfigDict:
    """SFT of all weights on any data set, or with a paper's data and numbers."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.sft:recipe"
    config.seed = 0
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "Qwen/Qwen3-8B",
        "dtype": "bfloat16",
        "param_dtype": "float32",  # master weights
        "remat": "full",
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.lora = {
        "rank": 0,  # STAR-1 and SafeChain train all weights
        "alpha": 16.0,  # TRL
        "dropout": 0.0,
        "targets": "q|k|v|o|gate|up|down",  # all linear layers
    }
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}

    config.data = {
        "path": "",  # a file or a `datasets` id
        "format": "auto",  # by the columns; or messages, sharegpt, prompt_completion, alpaca, star1, safechain
        "split": "train",  # of a `datasets` id
        "subset": "",
        "columns": {},  # such as {"prompt": "question", "completion": "answer"}, where the names differ
        "limit": 0,  # examples; 0 takes all
        "turns": "all",  # of the assistant that are trained on; or "last"
        "thoughts": "template",  # where its template puts them; or "text", "drop"
        "system": "template",  # where its template puts it; or "user", "drop"
        "template_kwargs": {},
        "validation": 0.0,  # share of the prompts that is held out
        "validate_every": 50,  # steps between losses on them
        "keep_best": False,  # write out the weights with the lowest of these, not the last
    }
    config.train = {
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 16,  # TRL: 2 rows, 8 times accumulated
        "batch_rows": 0,
        "row_length": 8192,  # STAR-1, SafeChain
        "max_segments": 32,
        "overlong": "drop",  # examples longer than a row, counted; "truncate" cuts their ends
        "epochs": 1,  # TRL
        "micro_batches": 1,
        "chunk": 512,  # positions whose logits are in memory at a time
        "train_sources": ("INJECTED",),  # answers that others wrote
        "optimizer": {
            "name": "adamw",
            "learning_rate": 2e-5,  # TRL, for all weights
            "schedule": "cosine",
            "warmup": 0.05,  # STAR-1
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip": 1.0,
        },
        "checkpoint_every": 100,
        "keep": 2,
        "log_every": 10,
    }
    config.export = {"dtype": "bfloat16", "adapters": True}
    choose(preset, PRESETS)(config)
    return config


def plain(config: ConfigDict) -> None:
    """As above."""


def star1(config: ConfigDict) -> None:
    """STAR-1's 1,000 examples and numbers."""
    config.data.path = "UCSC-VLAA/STAR-1"
    config.data.format = "star1"
    config.train.batch_traces = 128  # STAR-1: 8 devices, 16 times accumulated
    config.train.epochs = 5  # STAR-1: 40 updates
    config.train.optimizer.learning_rate = 1e-5  # STAR-1
    config.train.optimizer.b2 = 0.95  # STAR-1
    config.train.optimizer.weight_decay = 1e-4  # STAR-1


def safechain(config: ConfigDict) -> None:
    """SafeChain's 40,000 examples and numbers."""
    config.data.path = "UWNSL/SafeChain"
    config.data.format = "safechain"
    config.train.batch_traces = 8  # SafeChain: 2 on each of 4 devices
    config.train.epochs = 2  # SafeChain
    config.train.optimizer.learning_rate = 1e-5  # SafeChain


PRESETS = {"plain": plain, "star1": star1, "safechain": safechain}
