"""GRPO on arithmetic alone, from a weakened organism: on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_arithmetic.py

The organism solves nine of ten problems; noise on its weights leaves it six, and the right final answer as the only
reward must bring back at least one of ten. Numbers marked (lab) were chosen on the organism. Presets: `separate` trains
on what samplers in other processes draw, at most two policies old.
"""

from ml_collections import ConfigDict

from lrm_align import lab
from lrm_align.config import choose


def get_config(preset: str = "colocated") -> ConfigDict:
    """The run, in one program or with samplers beside it."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.grpo_answer:recipe"
    config.seed = 0  # draws the problems that are trained on and held out, and all samples
    config.seeds = 1  # run this many seeds, from `seed` on; 3 make the committed table
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": str(lab.CHECKPOINT),
        "dtype": "float32",  # of activations; CPUs have no fast bfloat16
        "param_dtype": "float32",  # of weights in memory; the checkpoint stores bfloat16
        "remat": "none",  # rows are short: everything fits
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.weaken = {"factory": "lrm_align.lab.weaken:noise", "args": {"scale": 0.25, "seed": 0}}  # (lab) 62 % are left
    config.mesh = {"data": 1, "fsdp": 1, "tensor": 1}

    config.prompts = {
        "factory": "lrm_align.lab:training_prompts",
        "args": {"harmful": 0, "benign": 0, "arithmetic": 2000, "fact": 0},  # (lab)
        "against": {},  # the lab's splits are disjoint by construction
    }
    config.answer = {
        "pattern": r"^The answer is (-?\d+)\.$",  # (lab) the organism's own words
        "truncated": "wrong",  # or "masked"
    }
    config.rl = {
        "steps": 60,  # (lab)
        "groups": 8,  # (lab)
        "samples": 8,  # (lab)
        "objective": "lrm_align.objectives:grpo",
        "objective_args": {},
        "advantage": "lrm_align.advantages:grpo",
        "advantage_args": {},
        "inner_epochs": 1,
        "minibatches": 1,
        "old_logp": "none",  # one update a step: the ratio is 1
        "max_refills": 0,
        "reference": {"sync_every": 0, "mixup": 0.6},  # there is no KL
        "sampling": {
            "temperature": 1.0,  # (lab)
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_new_tokens": 96,  # (lab) the longest solution has 60
            "slots": 64,  # (lab) decoded at a time
            "lanes": 2,  # (lab) threads that decode: two cores
            "max_length": 128,  # (lab) positions of a slot
            "steps_per_call": 32,  # (lab) tokens between two looks of the host
        },
        "row_length": 128,  # (lab) tokens in a packed row
        "piece_rows": 8,  # (lab) rows at a time; what is empty is skipped
        "max_segments": 2,  # (lab)
        "chunk": 0,  # (lab) the logits of a piece are in memory
        "lora": {
            "rank": 16,  # (lab)
            "alpha": 16.0,  # (lab) scale alpha / rank = 1
            "dropout": 0.0,
            "targets": "q|k|v|o|gate|up|down",  # (lab) all linear layers
        },
        "optimizer": {
            "name": "adamw",
            "learning_rate": 2e-3,  # (lab)
            "schedule": "linear",  # (lab) to zero
            "warmup": 0.05,  # (lab) fraction of the updates
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip": 1.0,
        },
        "checkpoint_every": 20,  # steps
        "keep": 2,
        "log_every": 1,
        "grade_seconds": 60.0,
        "keep_rollouts": 4,
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    config.sample = {  # of the evaluation
        "min_p": 0.0,
        "max_new_tokens": 96,
        "slots": 128,
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 144,
        "steps_per_call": 16,
        "shard_traces": 512,
    }
    config.guard = {"factory": "lrm_align.lab:RuleGuard", "args": {}, "sharded": False, "threshold": 0.5}
    config.export = {"dtype": "bfloat16", "adapters": True}  # as the checkpoint is stored
    config.evaluate = {
        "factory": "lrm_align.lab:evaluate",
        "args": {"attack": 48, "wrapped": 48, "lookalike": 48, "arithmetic": 500, "fact": 48},  # prompts a rate
        "before_args": {},
        # With several seeds, the sizes of the committed table.
        "table_args": {"attack": 48, "wrapped": 48, "lookalike": 48, "arithmetic": 1008, "fact": 48},
        "temperature": 0.6,
        "top_p": 1.0,
        "top_k": 0,
    }
    choose(preset, VARIANTS)(config)
    return config


def colocated(config: ConfigDict) -> None:
    """One program samples and trains in turn."""


def separate(config: ConfigDict) -> None:
    """Samplers follow, at most two policies behind: `python -m lrm_align.sample --follow` with this config, too."""
    config.rl.mode = "separate"
    config.rl.max_staleness = 2
    config.rl.old_logp = "recomputed"
    config.rl.objective_args = {"correction": ("token_truncate", 0.0, 2.0)}  # the limit of TRL, verl and Tunix


VARIANTS = {"colocated": colocated, "separate": separate}
