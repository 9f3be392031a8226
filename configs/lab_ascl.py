"""ASCL with IFPO on the embedded model organism: bootstrap and RL on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_ascl.py

Numbers marked (lab) were chosen on the organism. The paper (arXiv 2602.13562) prints none that could be found: all
others are ours. Presets name what is done with the finished GRPO advantage: `none`, `literal` (times the inverse
frequency of what the sample did, in its group), `positive` (positive advantages alone), `balanced` (a baseline in which
both modes count alike), `per_class` (frequencies over all groups of a class of prompts).
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align import lab
from lrm_align.config import choose
from lrm_align.lab import formats


def get_config(preset: str = "balanced") -> ConfigDict:
    """The lab's run with one of the readings of inverse frequency."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.ascl:recipe"
    config.seed = 0  # draws the split into topics and wrappers that are trained on and held out, and all samples
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
    config.lora = {
        "rank": 16,  # (lab)
        "alpha": 16.0,  # (lab) scale alpha / rank = 1
        "dropout": 0.0,  # (lab)
        "targets": "q|k|v|o|gate|up|down",  # (lab) all linear layers
    }
    config.mesh = {"data": 1, "fsdp": 1, "tensor": 1}

    config.tool = {
        "form": "template",  # the organism's template is Qwen3's
        "name": "rules",
        "offer": formats.RULES_SYSTEM,  # (lab) seven tokens that the organism knows; the template's own offer has 95
        "rules": str(pathlib.Path(lab.__file__).parent / "rules.json"),  # (lab) the organism's two sentences
        "max_calls": 1,  # (lab)
        "max_result_tokens": 32,  # (lab) the rules have 12
        "lookalikes": ("request", "wrapped"),  # kinds of benign prompts that look like harmful ones
    }
    config.prompts = {
        "factory": "lrm_align.lab:training_prompts",
        "args": {
            "harmful": 160,  # (lab)
            "benign": 160,  # (lab)
            "arithmetic": 500,  # (lab)
            "fact": 80,  # (lab)
        },
        "against": {},  # the lab's splits are disjoint by construction
    }
    config.sample = {
        "samples": 1,  # (lab) of each branch
        "temperature": 0.6,  # (lab) as for evaluation
        "top_p": 1.0,  # (lab) off
        "top_k": 0,  # (lab) off
        "min_p": 0.0,
        "max_new_tokens": 144,  # (lab) a call, the rules and an answer have at most 120
        "slots": 128,  # (lab) decoded at a time
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 224,  # (lab) positions of a slot
        "steps_per_call": 16,  # (lab) tokens between two looks of the host
        "shard_traces": 512,  # (lab) traces a shard; at most these are lost to a kill
    }
    config.branches = {
        "asked": "",  # (lab) the offer is enough
        "opening": '<think>\nI look up the rules.\n</think>\n\n<tool_call>\n{"name": "rules", "arguments": {}}\n',
        "balance": "all",  # over all prompts, the branches have these shares
        "direct_share": 0.5,  # of the traces without the rules
    }
    config.guard = {
        "factory": "lrm_align.lab:RuleGuard",
        "args": {},
        "sharded": False,  # rules need no mesh
        "threshold": 0.5,  # unsafe from here on
    }
    config.train = {  # the bootstrap
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 16,  # (lab)
        "batch_rows": 0,
        "row_length": 256,  # (lab) tokens in a packed row
        "max_segments": 16,  # (lab)
        "overlong": "drop",
        "epochs": 2,  # (lab)
        "micro_batches": 1,
        "chunk": 256,  # (lab) positions whose logits are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # the forced opening of a consultation was not sampled
        "optimizer": _optimizer(learning_rate=2e-3),  # (lab)
        "checkpoint_every": 200,  # (lab) steps
        "keep": 2,  # checkpoints
        "log_every": 10,  # steps
    }
    config.rl_prompts = {
        "factory": "lrm_align.lab:training_prompts",
        "args": {
            "harmful": 400,  # (lab)
            "benign": 200,  # (lab)
            "arithmetic": 300,  # (lab)
            "fact": 100,  # (lab)
        },
        "against": {},
    }
    config.helpful = {"factory": "lrm_align.lab.consult:helpful", "args": {}}  # right answers, and cues of requests
    config.reward = {
        "factory": "lrm_align.rewards:weighted_sum",
        "args": {"weights": {"safety": 1.0, "helpful": 1.0, "format": 0.5}},  # ours; consulting costs nothing
    }
    config.without_answer = "zero"  # a sample without a final answer is neither safe nor helpful; or "unscored"
    config.judge = {  # the frozen model, which the lab does not ask
        "thinking": False,
        "max_new_tokens": 32,
        "slots": 64,
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 224,
        "steps_per_call": 32,
    }
    config.rl = {
        "steps": 40,  # (lab)
        "groups": 8,  # (lab)
        "samples": 8,  # (lab)
        "objective": "lrm_align.objectives:grpo",
        "objective_args": {},
        "advantage": "lrm_align.advantages:ifpo",
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
            "max_new_tokens": 144,  # (lab)
            "slots": 64,  # (lab) decoded at a time
            "lanes": 2,  # (lab) threads that decode: two cores
            "max_length": 224,  # (lab) positions of a slot
            "steps_per_call": 16,  # (lab) tokens between two looks of the host
        },
        "row_length": 256,  # (lab) tokens in a packed row
        "piece_rows": 8,
        "max_segments": 8,
        "chunk": 256,  # (lab) positions whose logits are in memory at a time
        "lora": dict(config.lora),
        "optimizer": _optimizer(learning_rate=3e-3),  # (lab)
        "checkpoint_every": 20,  # steps
        "keep": 2,
        "log_every": 1,
        "grade_seconds": 60.0,
        "keep_rollouts": 4,
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    config.export = {"dtype": "bfloat16", "adapters": True}  # as the checkpoint is stored
    config.evaluate = {
        "factory": "lrm_align.lab.consult:evaluate",
        "args": {"attack": 200, "wrapped": 252, "lookalike": 200, "arithmetic": 250, "fact": 96},  # prompts a rate
        "before_args": {},
        # With several seeds, the sizes of the committed table.
        "table_args": {"attack": 504, "wrapped": 504, "lookalike": 504, "arithmetic": 1008, "fact": 504},
        "temperature": 0.6,  # as in sampling
        "top_p": 1.0,
        "top_k": 0,
    }
    choose(preset, VARIANTS)(config)
    return config


def _optimizer(learning_rate: float) -> dict:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "schedule": "cosine",  # (lab) to zero
        "warmup": 0.1,  # (lab) fraction of the steps
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }


def none(config: ConfigDict) -> None:
    """GRPO's advantage as it is."""
    config.rl.advantage = "lrm_align.advantages:grpo"
    config.rl.advantage_args = {}


def _ifpo(**options):
    def change(config: ConfigDict) -> None:
        config.rl.advantage = "lrm_align.advantages:ifpo"
        config.rl.advantage_args = {"mode": "consult", **options}

    return change


VARIANTS = {
    "none": none,
    "literal": _ifpo(),
    "positive": _ifpo(positive_only=True),
    "balanced": _ifpo(baseline="balanced"),
    "per_class": _ifpo(scope="class"),
}
