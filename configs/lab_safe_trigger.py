"""Safe Trigger on the embedded model organism: both stages on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_safe_trigger.py

Numbers marked (lab) were chosen on the organism; they are ours, not the paper's (arXiv 2606.16808, which prints neither
learning rates nor epochs, beta, temperature, delta or weights). Presets: `full` trains all weights instead of adapters,
`added` gives the tags tokens of their own (with all weights, which the new rows need), `second` keeps the thinking of
the second pass, `guard` lets the guard judge the sampled answers.
"""

from ml_collections import ConfigDict

from lrm_align import lab
from lrm_align.config import choose
from lrm_align.lab import formats


def get_config(preset: str = "lora") -> ConfigDict:
    """The lab's run, or one of its variants."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.safe_trigger:recipe"
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
    config.tags = "text"  # or "added": `<safe>` and `</safe>` as tokens of their own; the paper does not say

    config.prompts = {
        "factory": "lrm_align.lab.trigger:training_prompts",
        "args": {
            "harmful": 400,  # (lab) plain; the paper has as many harmful as jailbreak and as general ones
            "jailbreak": 40,  # (lab) wrapped; few, so that stage 2 has something to do
            "benign": 500,  # (lab)
            "arithmetic": 300,  # (lab)
            "fact": 100,  # (lab) keeps recall: questions about topics
        },
        "against": {},  # the lab's splits are disjoint by construction
    }
    config.adversarial = {
        "factory": "lrm_align.lab.trigger:adversarial_prompts",
        "args": {"count": 400},  # (lab) all wrapped, as in section 3.2
        "against": {},
    }
    config.sample = {  # pass 1, and what the other passes don't say otherwise
        "samples": 1,  # section 3.1
        "temperature": 0.6,  # (lab) as for evaluation
        "top_p": 1.0,  # (lab) off
        "top_k": 0,  # (lab) off
        "min_p": 0.0,
        "max_new_tokens": 112,  # (lab) thinking, block and answer have at most 100
        "slots": 128,  # (lab) decoded at a time
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 224,  # (lab) positions of a slot; the longest audit prompt has about 110
        "steps_per_call": 16,  # (lab) tokens between two looks of the host
        "shard_traces": 512,  # (lab) traces a shard; at most these are lost to a kill
    }
    config.audit = {  # pass 2
        "template": formats.AUDIT,  # (lab) the organism's own audit format
        "think_source": "first",  # section 3.1; "second" is figure 2
        "sampling": {},
    }
    config.explore = {"sampling": {"samples": 4, "temperature": 1.0}}  # section 3.2: 4; the temperature is ours
    config.judge = {
        "f_safe_by": "model",  # figure 2, as we read it; or "guard"
        "questions": {  # (lab) the organism's own formats, asked of the untrained model
            "f_safe": {
                "template": formats.JUDGE_ANSWER.replace("{prompt}", "{request}"),
                "one": r"^No, it is safe\.$",
                "zero": r"^Yes, it is harmful\.$",
            },
            "t_full": {
                "template": formats.AUDIT,
                "one": r"The reasoning did check this\.",
                "zero": r"The reasoning did not check this\.",
            },
            "s_full": {
                "template": formats.AUDIT.replace("{thought}", "{block}"),
                "one": r"The reasoning did check this\.",
                "zero": r"The reasoning did not check this\.",
            },
        },
        "sampling": {"temperature": 0.0},  # ours: a judge does not gamble
    }
    config.reward = {
        "factory": "lrm_align.rewards:safe_trigger",
        "args": {"w_a": 3.0, "w_b": 2.0, "w_c": 1.0},  # ours; section 3.2 asks for w_a > w_b > w_c
        "delta": 1.0,  # ours
    }
    config.guard = {
        "factory": "lrm_align.lab:RuleGuard",
        "args": {},
        "sharded": False,  # rules need no mesh
        "threshold": 0.5,  # unsafe from here on
    }
    config.train = {  # stage 1
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 16,  # (lab)
        "batch_rows": 0,
        "row_length": 256,  # (lab) tokens in a packed row
        "max_segments": 16,  # (lab)
        "overlong": "drop",
        "epochs": 3,  # (lab)
        "micro_batches": 1,
        "chunk": 256,  # (lab) positions whose logits are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # tags that are tokens of their own were written, not sampled
        "optimizer": _optimizer(learning_rate=2e-3),  # (lab)
        "checkpoint_every": 200,  # (lab) steps
        "keep": 2,  # checkpoints
        "log_every": 10,  # steps
    }
    config.preference = {  # stage 2
        "lora": dict(config.lora),
        "train": {
            **config.train,
            "objective": "lrm_align.objectives:preference",
            "objective_args": {"loss": "sigmoid", "beta": 0.1},  # equation 16; TRL's default beta
            "batch_traces": 16,  # (lab) pairs
            "row_length": 320,  # (lab) a pair has at most about 300 tokens
            "epochs": 2,  # (lab)
            "train_sources": ("SAMPLED",),
            "optimizer": _optimizer(learning_rate=7e-4),  # (lab) 1e-3 makes more look-alikes trigger
        },
    }
    config.export = {"dtype": "bfloat16", "adapters": True}  # as the checkpoint is stored
    config.evaluate = {
        "factory": "lrm_align.lab.trigger:evaluate",
        "args": {"attack": 200, "wrapped": 252, "lookalike": 200, "arithmetic": 250, "fact": 96},  # prompts a rate
        "before_args": {"audit": formats.AUDIT},  # for risk_identification_rate
        # With several seeds, the sizes of the committed table.
        "table_args": {"attack": 504, "wrapped": 504, "lookalike": 504, "arithmetic": 1008, "fact": 504},
        "temperature": 0.6,
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


def lora(config: ConfigDict) -> None:
    """Adapters on a frozen model, in both stages."""


def full(config: ConfigDict) -> None:
    """All weights, in both stages: slower to generalise, so more jailbreaks in stage 1 and a lower rate in stage 2."""
    config.prompts.args.jailbreak = 300  # (lab)
    config.lora.rank = 0
    config.train.optimizer.learning_rate = 3e-4  # (lab)
    config.preference.lora.rank = 0
    config.preference.train.optimizer.learning_rate = 1e-5  # (lab)


def added(config: ConfigDict) -> None:
    """The tags as tokens of their own; all weights train, since adapters leave the new rows as they begin."""
    full(config)
    config.tags = "added"


def second(config: ConfigDict) -> None:
    """Risky queries keep the thinking of the second pass (figure 2)."""
    config.audit.think_source = "second"


def guard(config: ConfigDict) -> None:
    """The guard judges F_safe."""
    config.judge.f_safe_by = "guard"


VARIANTS = {"lora": lora, "full": full, "added": added, "second": second, "guard": guard}
