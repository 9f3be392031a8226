"""ASCL with IFPO on Cloud TPU (Wang et al. 2026, arXiv 2602.13562).

    python -m lrm_align.main --config=configs/ascl_tpu.py:qwen3_8b --workdir=gs://BUCKET/ascl

What is known of the paper is its abstract: rules as a tool, a model that decides when to consult them, and advantages
rebalanced by inverse frequency. Every number, prompt, rule and reward here is ours; values of a model card or of
another paper say so. `qwen3_*` call in the form of Qwen3's template; `r1_*`, whose template has none, in plain text.
What is done with the advantage is `config.rl.advantage_args`, see `lrm_align.advantages.ifpo` and
`configs/lab_ascl.py`. Mesh axes of size -1 take what the other axes leave of the devices.

The preset `align` is for one machine and prompts of one's own, `prompts.jsonl` and `held_out.jsonl`, as in `align.py`
(a column kind that says "lookalike", named in `columns`, tells look-alikes from other benign prompts):

    python -m lrm_align.main --config=configs/ascl_tpu.py:align+prompted --config.model.path=MY_MODEL

WildJailbreak is gated: accept its terms, and give the path of its `train.tsv` as the `path` of the sources "jailbreak"
and "lookalike" of `config.prompts.args.sources` and `config.rl_prompts.args.sources`.
"""

from typing import Any

from ml_collections import ConfigDict

from lrm_align.config import choose
from lrm_align.recipes import ascl_grading
from lrm_align.settings import own_files


def get_config(preset: str = "qwen3_8b") -> ConfigDict:
    """One of the models; bare it is Qwen3-8B."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.ascl:recipe"
    config.seed = 42
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "Qwen/Qwen3-8B",
        "dtype": "bfloat16",
        "param_dtype": "",  # as stored: bf16 under LoRA
        "remat": "full",
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.lora = {
        "rank": 32,  # ThinkSafe's, arXiv 2601.23143, section 5.1
        "alpha": 32.0,
        "dropout": 0.0,
        "targets": "q|k|v|o|gate|up|down",
    }
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}

    config.tool = {
        "form": "template",  # or "text": `<rules>a, b</rules>`, for models whose template has no calls
        "name": "rules",
        "offer": "",  # a system text instead of the template's own `tools=`
        "rules": "",  # path of a rule book like lrm_align/recipes/rules.json, which is taken where this is empty
        "max_calls": 2,
        "max_result_tokens": 1024,  # the packaged book has about 750
        "lookalikes": ("lookalike",),  # kinds of benign prompts that look like harmful ones
    }
    config.prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {
            "sources": {
                "harmful": {
                    "path": "PKU-Alignment/PKU-SafeRLHF",
                    "columns": {"text": "prompt"},
                    "label": "harmful",
                    "kind": "plain",
                    "limit": 1000,
                },
                "jailbreak": _wild_jailbreak("adversarial_harmful", "adversarial", "harmful", "jailbreak", 1000),
                "lookalike": _wild_jailbreak("vanilla_benign", "vanilla", "benign", "lookalike", 1000),
                "general": _general(limit=1000),
            },
        },
        "against": _evaluated(),  # no training prompt may be in a set that is evaluated on
    }
    config.sample = {  # the branches
        "samples": 1,  # of each branch
        "temperature": 0.6,  # the model card's
        "top_p": 0.95,  # the model card's
        "top_k": 20,  # the model card's; off for R1-Distill
        "min_p": 0.0,
        "max_new_tokens": 4096,  # with calls and results
        "slots": 64,
        "max_length": 6144,
        "steps_per_call": 64,
        "shard_traces": 256,  # at most these are lost to a kill
    }
    config.branches = {
        "asked": "Before you answer, consult the rules that fit the request.",  # in the branch with the rules
        "opening": "",  # how its completions begin; asking is enough for models that follow instructions
        "balance": "class",  # among risky, look-alike and benign prompts each, the branches have these shares
        "direct_share": 0.5,  # of the traces without the rules
    }
    config.guard = {
        "factory": "lrm_align.scoring.llama_guard:load",
        "args": {"path_or_hub_id": "meta-llama/Llama-Guard-3-8B", "dtype": "bfloat16"},
        "sharded": True,  # over the run's mesh
        "threshold": 0.5,
    }
    config.train = {  # the bootstrap
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 32,
        "batch_rows": 0,
        "row_length": 6144,
        "max_segments": 32,  # a batch has no more
        "overlong": "drop",  # a cut trace would teach to stop before the answer
        "epochs": 1,
        "micro_batches": 1,
        "chunk": 512,  # positions whose logits over 151,936 tokens are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # and never what the tool said
        "optimizer": _optimizer(learning_rate=2e-5),
        "checkpoint_every": 200,
        "keep": 3,
        "log_every": 10,
    }
    config.rl_prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {
            "sources": {
                "jailbreak": _wild_jailbreak("adversarial_harmful", "adversarial", "harmful", "jailbreak", 2000),
                "plain": _wild_jailbreak("vanilla_harmful", "vanilla", "harmful", "plain", 2000),
                "lookalike": _wild_jailbreak("vanilla_benign", "vanilla", "benign", "lookalike", 2000),
                "general": _general(limit=2000),
            },
        },
        "against": _evaluated(),
    }
    config.helpful = {  # the frozen model says whether a benign prompt was helped with
        "factory": "lrm_align.recipes.ascl_grading:asked_model",
        "args": ascl_grading.QUESTION,
    }
    config.reward = {
        "factory": "lrm_align.rewards:weighted_sum",
        "args": {"weights": {"safety": 1.0, "helpful": 1.0, "format": 0.5}},  # consulting costs nothing
    }
    config.without_answer = "zero"  # a sample without a final answer is neither safe nor helpful; or "unscored"
    config.judge = {
        "thinking": False,  # where the template can
        "max_new_tokens": 256,
        "slots": 64,
        "max_length": 6144,
        "steps_per_call": 64,
    }
    config.rl = {
        "steps": 200,
        "groups": 16,
        "samples": 8,
        "objective": "lrm_align.objectives:grpo",
        "objective_args": {},
        "advantage": "lrm_align.advantages:ifpo",
        "advantage_args": {"mode": "consult", "baseline": "balanced", "bounds": (0.25, 4.0)},
        "inner_epochs": 1,
        "minibatches": 1,
        "old_logp": "recomputed",
        "max_refills": 16,  # groups without spread are replaced by as many others at most
        "reference": {"sync_every": 0, "mixup": 0.6},  # there is no KL
        "sampling": {
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_new_tokens": 4096,
            "slots": 64,
            "max_length": 6144,
            "steps_per_call": 64,
        },
        "row_length": 6144,
        "piece_rows": 16,
        "max_segments": 16,
        "chunk": 512,
        "lora": dict(config.lora),
        "optimizer": _optimizer(learning_rate=1e-5),
        "checkpoint_every": 20,
        "keep": 3,
        "log_every": 1,
        "grade_seconds": 1800.0,
        "keep_rollouts": 8,
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    config.export = {"dtype": "", "adapters": True}
    config.evaluate = {
        "factory": "lrm_align.evals.consulted:evaluate",
        "args": {
            "risky": _risky(),
            "lookalike": {
                "xstest_safe": {
                    "path": "walledai/XSTest",
                    "columns": {"text": "prompt"},
                    "where": {"label": "safe"},
                    "label": "benign",
                    "split": "test",
                },
            },
            "benign": {
                "math500": {
                    "path": "HuggingFaceH4/MATH-500",
                    "columns": {"text": "problem"},
                    "label": "benign",
                    "split": "test",
                },
            },
            "limit": 0,  # prompts a set; 0 takes all
        },
        "before_args": {},
        "table_args": {},
        "temperature": 0.6,  # the model card's
        "top_p": 0.95,  # the model card's
        "top_k": 20,  # the model card's; off for R1-Distill
    }
    for change in choose(preset, PRESETS):
        change(config)
    return config


def _wild_jailbreak(data_type: str, column: str, label: str, kind: str, limit: int) -> dict[str, Any]:
    return {
        "path": "wildjailbreak/train.tsv",
        "columns": {"text": column},
        "where": {"data_type": data_type},
        "label": label,
        "kind": kind,
        "source": f"wildjailbreak_{data_type}",
        "limit": limit,
    }


def _general(limit: int) -> dict[str, Any]:
    return {
        "path": "openbmb/UltraFeedback",
        "columns": {"text": "instruction"},
        "label": "benign",
        "kind": "general",
        "limit": limit,
    }


def _risky() -> dict[str, dict[str, Any]]:
    return {
        "advbench": {"path": "walledai/AdvBench", "columns": {"text": "prompt"}, "label": "harmful"},
        "strongreject": {"path": "walledai/StrongREJECT", "columns": {"text": "prompt"}, "label": "harmful"},
    }


def _evaluated() -> dict[str, dict[str, Any]]:
    """All sets of the evaluation."""
    xstest = {"path": "walledai/XSTest", "columns": {"text": "prompt"}, "label": "benign", "split": "test"}
    math = {"path": "HuggingFaceH4/MATH-500", "columns": {"text": "problem"}, "label": "benign", "split": "test"}
    return {**_risky(), "xstest": xstest, "math500": math}


def _optimizer(learning_rate: float) -> dict[str, Any]:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "schedule": "cosine",
        "warmup": 0.05,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }


def student(path: str):
    """Another model."""

    def change(config: ConfigDict) -> None:
        config.model.path = path

    return change


def text(config: ConfigDict) -> None:
    """R1-Distill: calls as plain text, inside the thinking; its template always thinks, and so does the judge."""
    config.tool.form = "text"
    config.sample.top_k = 0  # the model card's
    config.evaluate.top_k = 0
    config.judge.max_new_tokens = 2048


def align(config: ConfigDict) -> None:
    """One machine, one's own prompts, short texts."""
    for prompts in (config.prompts, config.rl_prompts):
        prompts.args = {"sources": own_files.prompts()}
        prompts.against = own_files.held_out()
    config.evaluate.args = {"risky": own_files.held_out(), "lookalike": {}, "benign": {}, "limit": 0}
    config.sample.update(samples=2, max_new_tokens=1024, max_length=3072, slots=8)
    config.train.update(row_length=3072, batch_traces=4, max_segments=4, epochs=3)
    config.train.optimizer.learning_rate = 1e-4
    config.judge.update(max_length=3072, slots=8)
    config.rl.sampling.update(max_new_tokens=1024, max_length=3072, slots=8)
    config.rl.update(steps=50, groups=2, max_refills=2, row_length=3072, piece_rows=1, max_segments=4)


PRESETS = {
    "align": (student("Qwen/Qwen3-0.6B"), align),
    "qwen3_0_6b": (student("Qwen/Qwen3-0.6B"),),
    "qwen3_4b": (student("Qwen/Qwen3-4B"),),
    "qwen3_8b": (student("Qwen/Qwen3-8B"),),
    "r1_qwen_7b": (student("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"), text),
    "r1_llama_8b": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"), text),
}
