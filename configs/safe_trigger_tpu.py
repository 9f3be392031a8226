"""Safe Trigger on Cloud TPU, with the paper's numbers where it has any (Miao et al. 2026, arXiv 2606.16808, "ST").

    python -m lrm_align.main --config=configs/safe_trigger_tpu.py:r1_llama_8b --workdir=gs://BUCKET/safe_trigger

The paper prints the data, the LoRA shape, four samples a query and the form of the reward. It prints no prompt, filter,
length, temperature, learning rate, batch, epoch, beta, delta or weight: those are ours. Presets that end in `_full`
train all weights, `_added` gives the tags tokens of their own. Mesh axes of size -1 take what the other axes leave of
the devices.

WildJailbreak is gated: accept its terms, and give the path of its `train.tsv` as
`--config.prompts.args.sources.jailbreak.path` and `--config.adversarial.args.sources.jailbreak.path`.
"""

from typing import Any

from ml_collections import ConfigDict

from lrm_align.config import choose
from lrm_align.recipes import auditing, indicators


def get_config(preset: str = "r1_llama_8b") -> ConfigDict:
    """One of the paper's models; bare it is DeepSeek-R1-Distill-Llama-8B, the backbone of its analyses."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.safe_trigger:recipe"
    config.seed = 42  # ours
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        "dtype": "bfloat16",  # ours
        "param_dtype": "",  # as stored: bf16 under LoRA
        "remat": "full",  # ours
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.lora = {
        "rank": 64,  # ST section 4.1
        "alpha": 16.0,  # ST section 4.1: scale 0.25
        "dropout": 0.05,  # ST section 4.1
        "targets": "q|k|v|o|gate|up|down",  # ours: all linear layers
    }
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}
    config.tags = "text"  # ours; "added": `<safe>` and `</safe>` as new tokens

    config.prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {
            "sources": {  # ST section 3.1: 10,000 of each
                "general": {
                    "path": "openbmb/UltraFeedback",
                    "columns": {"text": "instruction"},
                    "label": "benign",
                    "kind": "general",
                    "limit": 10_000,
                },
                "harmful": {
                    "path": "PKU-Alignment/PKU-SafeRLHF",
                    "columns": {"text": "prompt"},
                    "label": "harmful",
                    "kind": "plain",
                    "limit": 10_000,
                },
                "jailbreak": _wild_jailbreak(limit=10_000),
            },
        },
        "against": _evaluated(),  # ours: no training prompt may be in a set that is evaluated on
    }
    config.adversarial = {
        "factory": "lrm_align.chat:load_sources",
        # ST section 3.2: 20,000 adversarial harmful queries of WildJailbreak that stage 1 has not. The same seed draws
        # the same first 10,000, which are then left out.
        "args": {"sources": {"jailbreak": _wild_jailbreak(limit=30_000)}},
        "against": _evaluated(),
    }
    config.sample = {  # pass 1, and what the other passes don't say otherwise
        "samples": 1,  # ST section 3.1
        "temperature": 0.6,  # the model card's
        "top_p": 0.95,  # the model card's
        "top_k": 0,  # off for R1-Distill; Qwen3's card says 20
        "min_p": 0.0,
        "max_new_tokens": 8192,  # ours: ST figure 5 has means of about 1,000
        "slots": 64,  # ours
        "max_length": 17_408,  # ours: an audit prompt holds the reasoning of pass 1
        "steps_per_call": 64,  # ours
        "shard_traces": 256,  # ours: at most these are lost to a kill
    }
    config.audit = {  # pass 2
        "template": auditing.TEMPLATE,  # ours; the three components of the block are ST section 3.1's
        "think_source": "first",  # ST section 3.1; "second" is its figure 2
        "sampling": {},
    }
    config.explore = {
        "sampling": {
            "samples": 4,  # ST section 3.2
            "temperature": 1.0,  # ours: "high"
            "top_p": 1.0,  # ours
            "top_k": 0,  # ours
        }
    }
    config.judge = {
        "f_safe_by": "model",  # ST figure 2 as we read it: the base model; "guard" takes config.guard
        "questions": indicators.QUESTIONS,  # ours
        "sampling": {"temperature": 0.6, "max_new_tokens": 4096},  # ours: greedy reasoning models loop
    }
    config.reward = {
        "factory": "lrm_align.rewards:safe_trigger",
        "args": {
            "w_a": 3.0,  # ours; ST section 3.2 asks for w_a > w_b > w_c
            "w_b": 2.0,  # ours
            "w_c": 1.0,  # ours
        },
        "delta": 1.0,  # ours
    }
    config.guard = {
        "factory": "lrm_align.scoring.llama_guard:load",
        "args": {"path_or_hub_id": "meta-llama/Llama-Guard-3-8B", "dtype": "bfloat16"},  # ST section 4.1, on answers
        "sharded": True,  # over the run's mesh
        "threshold": 0.5,  # ours
    }
    config.train = {  # stage 1
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 32,  # ours
        "batch_rows": 0,
        "row_length": 16_384,  # ours: thinking of pass 1 and what follows in pass 2
        "max_segments": 32,  # a batch has no more
        "overlong": "drop",  # ours: a cut trace would teach to stop before the answer
        "epochs": 1,  # ours
        "micro_batches": 1,
        "chunk": 512,  # ours: positions whose logits over 128,256 tokens are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # tags that are tokens of their own were written, not sampled
        "optimizer": _optimizer(learning_rate=2e-5),  # ours
        "checkpoint_every": 200,  # ours
        "keep": 3,  # ours
        "log_every": 10,  # ours
    }
    config.preference = {  # stage 2
        "lora": {**config.lora, "dropout": 0.0},  # ours: policy and reference must not differ by noise
        "train": {
            **config.train,
            "objective": "lrm_align.objectives:preference",
            "objective_args": {
                "loss": "sigmoid",  # ST equation 16
                "beta": 0.1,  # ours: TRL's default, the library of ST section 4.1
            },
            "batch_traces": 32,  # ours: pairs
            "max_segments": 64,  # two a pair
            "train_sources": ("SAMPLED",),
            "optimizer": _optimizer(learning_rate=5e-6),  # ours
        },
    }
    config.export = {"dtype": "", "adapters": True}
    config.evaluate = {
        "factory": "lrm_align.evals.triggered:evaluate",
        "args": {
            "risky": _evaluated(),
            "general": {  # ST section 4.1: the look-alikes of its over-refusal set
                "xstest_safe": {
                    "path": "walledai/XSTest",
                    "columns": {"text": "prompt"},
                    "where": {"label": "safe"},
                    "label": "benign",
                    "split": "test",
                },
            },
            "limit": 0,  # prompts a set; 0 takes all
        },
        "before_args": {"audit": auditing.TEMPLATE},  # for risk_identification_rate, ST section 2
        "table_args": {},
        "temperature": 0.6,  # the model card's
        "top_p": 0.95,  # the model card's
        "top_k": 0,
    }
    for change in choose(preset, PRESETS):
        change(config)
    return config


def _wild_jailbreak(limit: int) -> dict[str, Any]:
    """The adversarial harmful subset (ST section 3.2)."""
    return {
        "path": "wildjailbreak/train.tsv",
        "columns": {"text": "adversarial"},
        "where": {"data_type": "adversarial_harmful"},
        "label": "harmful",
        "kind": "jailbreak",
        "source": "wildjailbreak",
        "limit": limit,
    }


def _evaluated() -> dict[str, dict[str, Any]]:
    """Harmful sets of ST section 4.1 that the hub gives without terms."""
    return {
        "advbench": {"path": "walledai/AdvBench", "columns": {"text": "prompt"}, "label": "harmful"},
        "xstest_unsafe": {
            "path": "walledai/XSTest",
            "columns": {"text": "prompt"},
            "where": {"label": "unsafe"},
            "label": "harmful",
            "split": "test",
        },
    }


def _optimizer(learning_rate: float) -> dict[str, Any]:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "schedule": "cosine",  # ours, as for the next six
        "warmup": 0.1,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }


def student(path: str):
    """Another model, with the sampling that its card asks for."""

    def change(config: ConfigDict) -> None:
        config.model.path = path
        if "Qwen3" in path:
            config.sample.top_k = 20  # the model card's
            config.evaluate.top_k = 20

    return change


def full(config: ConfigDict) -> None:
    """All weights in float32 with float32 Adam, in both stages; rows of 4,096. Not in the paper."""
    config.model.param_dtype = "float32"
    for lora, train in ((config.lora, config.train), (config.preference.lora, config.preference.train)):
        lora.rank = 0
        lora.dropout = 0.0
        train.row_length = 4096


def added(config: ConfigDict) -> None:
    """The tags as tokens of their own, whose rows only full fine-tuning trains."""
    full(config)
    config.tags = "added"


PRESETS = {
    "r1_llama_8b": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),),
    "r1_llama_8b_full": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"), full),
    "r1_llama_8b_added": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"), added),
    "r1_llama_70b": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-70B"),),
    "qwen3_0_6b": (student("Qwen/Qwen3-0.6B"),),
    "qwen3_8b": (student("Qwen/Qwen3-8B"),),
    "qwen3_8b_full": (student("Qwen/Qwen3-8B"), full),
    "qwen3_32b": (student("Qwen/Qwen3-32B"),),
}
