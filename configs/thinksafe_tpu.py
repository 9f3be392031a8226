"""ThinkSafe on Cloud TPU, with the paper's numbers (arXiv 2601.23143; "code" is the authors' repository).

    python -m lrm_align.main --config=configs/thinksafe_tpu.py:qwen3_8b --workdir=gs://BUCKET/thinksafe

The presets `qwen3_*` and `r1_*` are faithful: batches of 8 traces. Those that end in `_pod` fill the mesh with rows and
rescale the learning rate by `lrm_align.traces.rescale`; `_full` trains all weights. Mesh axes of size -1 take what the
other axes leave of the devices.
"""

from ml_collections import ConfigDict

from lrm_align.config import choose


def get_config(preset: str = "qwen3_8b") -> ConfigDict:
    """One of the paper's students; bare it is Qwen3-8B."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.thinksafe:recipe"
    config.seed = 42  # code; the paper does not say
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "Qwen/Qwen3-8B",
        "dtype": "bfloat16",  # code: bf16 weights and autocast
        "param_dtype": "",  # as stored: bf16 under LoRA
        "remat": "full",  # code: gradient checkpointing
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.lora = {
        "rank": 32,  # section 5.1
        "alpha": 16.0,  # section 5.1: scale 0.5
        "dropout": 0.05,  # section 5.1
        "targets": "q|v",  # section 5.1
    }
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}

    config.prompts = {
        "factory": "lrm_align.chat:load_sources",
        "args": {
            "sources": {
                # Section 5.1: SafeChain's 40,000 prompts, without its responses. Code: harmful if the label says so.
                "safechain": {
                    "path": "UWNSL/SafeChain",
                    "columns": {"text": "instruction", "kind": "label"},
                    "harmful_if": "harmful",
                },
            },
        },
        # Ours, on by default: no training prompt may be in a set that the paper evaluates on.
        "against": {
            "strongreject": {
                "path": "walledai/StrongREJECT",
                "columns": {"text": "prompt"},
                "label": "harmful",
            },
            "xstest": {"path": "walledai/XSTest", "columns": {"text": "prompt"}, "label": "benign", "split": "test"},
        },
    }
    config.sample = {
        "steering": "prefix",  # code; the paper's table 5 lacks one blank line
        "teacher": "",
        "written_refusal": "",
        "samples": 1,  # appendix B.1
        "temperature": 0.6,  # appendix B.1
        "top_p": 0.95,  # appendix B.1
        "top_k": 20,  # appendix B.1 for Qwen3; R1-Distill has it off
        "min_p": 0.0,
        "max_new_tokens": 16_384,  # appendix B.1
        "slots": 64,  # ours: 8B in bf16 and 64 × 17,408 positions of cache on 16 chips
        "max_length": 17_408,  # ours: the completion and 1,024 tokens of prompt, the limit of the authors' GRPO code
        "steps_per_call": 64,  # ours
        "shard_traces": 256,  # ours: at most these are lost to a kill
    }
    config.guard = {
        "factory": "lrm_align.scoring.llama_guard:load",
        "args": {"path_or_hub_id": "meta-llama/Llama-Guard-3-8B", "dtype": "bfloat16"},  # section 5.1
        "sharded": True,  # over the run's mesh
        "threshold": 0.5,  # code: safe if log p(safe) >= log p(unsafe)
    }
    config.filter = {
        "factory": "lrm_align.recipes.filtering:closed_and_safe",  # code: closed thinking, then the guard
        "args": {},
        "whole_groups": False,
        "strip_thinking": False,
    }
    config.train = {
        "objective": "lrm_align.recipes.thinksafe:objective",
        "objective_args": {"kl": 0.0},  # 1.0 is ThinkSafe + KL (section 5.3)
        "batch_traces": 8,  # section 5.1
        "batch_rows": 0,
        "row_length": 16_384,  # section 5.1
        "max_segments": 8,  # a batch has no more
        "overlong": "truncate",  # code
        "epochs": 3,  # section 5.1; the code's train.py says 1
        "micro_batches": 1,
        "chunk": 512,  # ours: positions whose logits over 151,936 tokens are in memory at a time
        "train_sources": ("SAMPLED",),
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-5,  # section 5.1
            "schedule": "cosine",  # section 5.1
            "warmup": 0.1,  # section 5.1, fraction of the steps
            "b1": 0.9,  # transformers' default, as for the next three
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip": 1.0,  # code
        },
        "checkpoint_every": 500,  # ours
        "keep": 3,  # ours
        "log_every": 10,  # ours
    }
    config.export = {"dtype": "", "adapters": True}
    config.evaluate = {
        "factory": "lrm_align.evals.guarded:evaluate",
        "args": {
            "sources": {
                "strongreject": {
                    "path": "walledai/StrongREJECT",
                    "columns": {"text": "prompt"},
                    "label": "harmful",
                }
            },
            "limit": 0,  # prompts a set; 0 takes all
        },
        "before_args": {},
        "table_args": {},
        "temperature": 0.6,  # section 5.1
        "top_p": 0.95,  # section 5.1
        "top_k": 20,  # appendix C for reasoning; the authors' safety script drops it by mistake
    }
    for change in choose(preset, PRESETS):
        change(config)
    return config


def student(path: str, remat: str = "full"):
    """Another student, with the sampling of its family."""

    def change(config: ConfigDict) -> None:
        config.model.path = path
        config.model.remat = remat
        if "R1-Distill" in path:
            config.sample.top_k = 0  # appendix B.1
            config.evaluate.top_k = 0

    return change


def pod(config: ConfigDict) -> None:
    """Fills the mesh: one row a chip of 16. The learning rate grows by the square root of traces a step (ours).

    The paper's responses average about 1,100 tokens (figures 9 and 10, both labels, with the prompt), so that 16 rows
    of 16,384 tokens hold about 240 traces, 30 times the paper's 8: 1e-5 · √30 ≈ 5.5e-5.
    """
    config.train.batch_traces = 0
    config.train.batch_rows = 16
    config.train.max_segments = 128
    config.train.optimizer.learning_rate = 5.5e-5


def full(config: ConfigDict) -> None:
    """All weights in float32 with float32 Adam; rows of 4,096, one a chip of 16. Not in the paper."""
    config.lora.rank = 0
    config.lora.dropout = 0.0
    config.model.param_dtype = "float32"
    config.train.batch_traces = 0
    config.train.batch_rows = 16
    config.train.row_length = 4096
    config.train.max_segments = 64


PRESETS = {
    "qwen3_0_6b": (student("Qwen/Qwen3-0.6B"),),
    "qwen3_1_7b": (student("Qwen/Qwen3-1.7B"),),
    "qwen3_4b": (student("Qwen/Qwen3-4B"),),
    "qwen3_8b": (student("Qwen/Qwen3-8B"),),
    "qwen3_8b_pod": (student("Qwen/Qwen3-8B"), pod),
    "qwen3_8b_full": (student("Qwen/Qwen3-8B"), full),
    "r1_qwen_1_5b": (student("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),),
    "r1_qwen_7b": (student("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),),
    "r1_llama_8b": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),),
}
