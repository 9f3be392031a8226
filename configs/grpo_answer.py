"""GRPO on questions with a known answer, of your own, on one machine.

    python -m lrm_align.main --config=configs/grpo_answer.py --config.model.path=MY_MODEL --workdir=runs/grpo

`train.jsonl` and `test.jsonl` are GSM8K's files, or any with the columns question and answer: a number ("$70,000"),
LaTeX, a solution that ends in "#### 42" or holds a box. Answers are compared as the benchmarks compare them, and one
that no response could equal is refused at once. "TRL" is the default of its GRPOConfig (1.16); everything else is ours.
"""

from ml_collections import ConfigDict

from lrm_align.config import choose

COLUMNS = {"columns": {"text": "question"}, "label": "benign", "meta": ("answer",)}


def get_config(preset: str = "one_machine") -> ConfigDict:
    """The run."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.grpo_answer:recipe"
    config.seed = 42  # TRL
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "Qwen/Qwen3-0.6B",
        "dtype": "bfloat16",
        "param_dtype": "",  # as stored
        "remat": "full",
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.weaken = {"factory": "", "args": {}}
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}

    config.prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {"sources": {"mine": {"path": "train.jsonl", **COLUMNS}}},
        "against": {"held_out": {"path": "test.jsonl", **COLUMNS}},  # none of them is trained on
    }
    config.answer = {
        "pattern": "",  # as the evaluator reads answers; or a regular expression whose group is the answer
        "truncated": "wrong",  # or "masked"
    }
    config.answers = {"seconds": 5.0, "workers": 4}  # of comparisons that need algebra
    config.rl = {
        "steps": 200,
        "groups": 8,
        "samples": 8,  # TRL
        "objective": "lrm_align.objectives:grpo",
        "objective_args": {},  # TRL: no KL
        "advantage": "lrm_align.advantages:grpo",
        "advantage_args": {},
        "inner_epochs": 1,  # TRL
        "minibatches": 1,
        "old_logp": "none",  # one update a step: the ratio is 1
        "max_refills": 0,
        "reference": {"sync_every": 0, "mixup": 0.6},  # there is no KL
        "sampling": {
            "temperature": 1.0,  # TRL
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_new_tokens": 512,  # TRL; a model that thinks needs thousands
            "slots": 64,  # decoded at a time
            "lanes": 1,
            "max_length": 1024,  # and 512 tokens of prompt
            "steps_per_call": 32,
        },
        "row_length": 2048,
        "piece_rows": 4,
        "max_segments": 16,
        "chunk": 512,
        "lora": {
            "rank": 32,
            "alpha": 32.0,
            "dropout": 0.0,  # must be 0: policies are compared token by token
            "targets": "q|k|v|o|gate|up|down",  # all linear layers
        },
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-5,  # for adapters; TRL's 1e-6 is for all weights
            "schedule": "linear",  # TRL
            "warmup": 0.0,  # TRL
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip": 1.0,  # TRL
        },
        "checkpoint_every": 20,
        "keep": 2,
        "log_every": 1,
        "grade_seconds": 120.0,
        "keep_rollouts": 4,
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    config.sample = {  # of the evaluation
        "min_p": 0.0,
        "max_new_tokens": 512,
        "slots": 64,
        "lanes": 1,
        "max_length": 1024,
        "steps_per_call": 32,
        "shard_traces": 256,
    }
    config.guard = {"factory": "lrm_align.lab:RuleGuard", "args": {}, "sharded": False, "threshold": 0.5}  # not asked
    config.export = {"dtype": "bfloat16", "adapters": True}
    config.evaluate = {
        "factory": "lrm_align.evals.answered:evaluate",
        "args": {"sources": {"held_out": {"path": "test.jsonl", **COLUMNS}}, "limit": 200},
        "before_args": {},
        "table_args": {},
        "temperature": 0.0,  # greedy
        "top_p": 1.0,
        "top_k": 0,
    }
    choose(preset, PRESETS)(config)
    return config


def one_machine(config: ConfigDict) -> None:
    """As above."""


PRESETS = {"one_machine": one_machine}
