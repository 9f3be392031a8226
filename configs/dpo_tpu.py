"""DPO on your own preference pairs, on Cloud TPU or one machine.

    python -m lrm_align.main --config=configs/dpo_tpu.py --config.model.path=Qwen/Qwen3-8B \\
        --config.pairs.args.path=pairs.jsonl --workdir=gs://BUCKET/dpo

`pairs.jsonl` has the columns prompt, chosen and rejected, each text or a list of messages; CSV, Parquet and `datasets`
ids do as well. `--dry_run` shows what it would do, with one pair as it is trained on.

"DPO" is Rafailov et al. 2023, arXiv 2305.18290; "handbook" is the alignment handbook's zephyr-7b-dpo-qlora, as its
model card lists it; "TRL" is the example at the head of its `scripts/dpo.py`. Everything else is ours.
"""

from ml_collections import ConfigDict

from lrm_align.config import choose


def get_config(preset: str = "qwen3_8b") -> ConfigDict:
    """DPO with adapters; `_full` trains all weights."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.dpo:recipe"
    config.seed = 42  # handbook
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "Qwen/Qwen3-8B",
        "dtype": "bfloat16",  # handbook: bf16
        "param_dtype": "",  # as stored
        "remat": "full",  # handbook: gradient checkpointing
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.lora = {
        "rank": 32,  # TRL
        "alpha": 16.0,  # TRL: scale 0.5
        "dropout": 0.0,  # must be 0: policy and reference are compared token by token
        "targets": "q|k|v|o|gate|up|down",  # handbook: all linear layers
    }
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}

    config.pairs = {
        "factory": "lrm_align.recipes.pairing:read",  # or yours, which returns a `pairing.Pairs`
        "args": {
            "path": "",  # a file, a `datasets` id, or a directory of shards of paired traces
            "split": "train",  # of a `datasets` id
            "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
            "label": "",  # "harmful" or "benign" for all pairs, where a loss asks for it
            "limit": 0,  # pairs, drawn by the seed; 0 takes all
            "empty_thought": False,  # an empty block of thinking before answers that have none
            "template_kwargs": {},
        },
    }
    config.reference = {
        "logp": "live",  # a second forward pass in every step; "stored": once for all, before the training
        "path": "",  # where stored ones are kept, to be used by several runs; "" is the run's own directory
    }
    config.train = {
        "objective": "lrm_align.objectives:preference",
        "objective_args": {
            "loss": "sigmoid",  # DPO; `lrm_align.objectives.preference` lists the others
            "beta": 0.1,  # DPO, appendix B
            "divergence": "reverse_kl",  # DPO
            "sft": 0.0,  # weight of the SFT term on the chosen answers
            "train_on": "answer",  # "after_divergence": from the first token on in which the two answers differ
        },
        "batch_traces": 128,  # handbook: pairs in a batch
        "batch_rows": 0,
        "row_length": 4096,  # a pair stands in one row: prompt and answer, twice
        "max_segments": 32,  # answers in a row
        "overlong": "drop",  # pairs longer than a row, counted; "truncate" cuts their ends
        "epochs": 1,  # handbook
        "micro_batches": 1,
        "chunk": 512,  # positions whose logits over 151,936 tokens are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # answers read from text are INJECTED
        "optimizer": {
            "name": "adamw",
            "learning_rate": 5e-6,  # handbook, TRL: for adapters
            "schedule": "cosine",  # handbook
            "warmup": 0.1,  # handbook, fraction of the steps
            "b1": 0.9,  # handbook, as for the next two
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,  # transformers' default
            "clip": 1.0,  # transformers' default
        },
        "checkpoint_every": 100,
        "keep": 3,
        "log_every": 10,
    }
    config.export = {"dtype": "", "adapters": True}
    # "lrm_align.evals.guarded:evaluate" measures before and after with the guard below; "" measures nothing.
    config.evaluate = {
        "factory": "",
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
        "temperature": 0.6,  # Qwen3's own generation config, as for the next two
        "top_p": 0.95,
        "top_k": 20,
    }
    config.guard = {
        "factory": "lrm_align.scoring.llama_guard:load",
        "args": {"path_or_hub_id": "meta-llama/Llama-Guard-3-8B", "dtype": "bfloat16"},
        "sharded": True,
        "threshold": 0.5,
    }
    config.sample = {  # the engine of the evaluation
        "min_p": 0.0,
        "max_new_tokens": 16_384,
        "slots": 64,
        "max_length": 17_408,
        "steps_per_call": 64,
        "shard_traces": 256,
    }
    for change in choose(preset, PRESETS):
        change(config)
    return config


def student(path: str):
    """Another model, with the sampling of its family."""

    def change(config: ConfigDict) -> None:
        config.model.path = path
        if "R1-Distill" in path:
            config.evaluate.top_k = 0

    return change


def full(config: ConfigDict) -> None:
    """All weights in float32; the reference is a frozen copy, or stored."""
    config.lora.rank = 0
    config.model.param_dtype = "float32"
    config.reference.logp = "stored"  # no copy of the weights in memory
    config.train.optimizer.learning_rate = 5e-7  # TRL


PRESETS = {
    "qwen3_0_6b": (student("Qwen/Qwen3-0.6B"),),
    "qwen3_1_7b": (student("Qwen/Qwen3-1.7B"),),
    "qwen3_4b": (student("Qwen/Qwen3-4B"),),
    "qwen3_8b": (student("Qwen/Qwen3-8B"),),
    "qwen3_8b_full": (student("Qwen/Qwen3-8B"), full),
    "r1_qwen_7b": (student("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),),
    "r1_llama_8b": (student("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),),
}
