"""ThinkSafe on the embedded model organism: the whole method on two CPU cores, in under three minutes, no download.

    python -m lrm_align.main --config=configs/quickstart.py

Numbers marked (lab) were chosen on the organism; they are ours, not the paper's. Presets: `full` trains all weights
instead of adapters, `kl` keeps the benign answers by a KL term, `direct_refusal` is the baseline without reasoning,
`benign_only` and `rejection` are the negative controls.
"""

from ml_collections import ConfigDict

from lrm_align import lab
from lrm_align.config import choose


def get_config(preset: str = "lora") -> ConfigDict:
    """The quickstart, or one of its comparisons."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.thinksafe:recipe"
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
        "targets": "q|k|v|o|gate|up|down",  # (lab) all linear layers; ThinkSafe's own are q and v
    }
    config.mesh = {"data": 1, "fsdp": 1, "tensor": 1}

    config.prompts = {
        "factory": "lrm_align.lab:training_prompts",
        "args": {
            "harmful": 600,  # (lab)
            "benign": 500,  # (lab)
            "arithmetic": 300,  # (lab)
            "fact": 100,  # (lab) keeps recall: questions about topics
        },
        "against": {},  # the lab's splits are disjoint by construction
    }
    config.sample = {
        "steering": "prefix",  # arXiv 2601.23143, appendix E.3
        "teacher": "",  # another model's directory, for the cross-model ablation
        "written_refusal": "",  # a sentence: no sampling for harmful prompts, the DirectRefusal baseline
        "samples": 1,  # appendix B.1
        "temperature": 0.6,  # appendix B.1
        "top_p": 1.0,  # (lab) off: at 0.95 the organism's steered answers are never unsafe, and the guard has no work
        "top_k": 0,  # (lab) off
        "min_p": 0.0,
        "max_new_tokens": 96,  # (lab) the longest answer has 82
        "slots": 128,  # (lab) decoded at a time
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 144,  # (lab) positions of a slot; the longest steered prompt has 60
        "steps_per_call": 16,  # (lab) tokens between two looks of the host
        "shard_traces": 512,  # (lab) traces a shard; at most these are lost to a kill
    }
    config.guard = {
        "factory": "lrm_align.lab:RuleGuard",
        "args": {},
        "sharded": False,  # rules need no mesh
        "threshold": 0.5,  # unsafe from here on
    }
    config.filter = {
        "factory": "lrm_align.recipes.filtering:closed_and_safe",  # the rule that says which traces stay
        "args": {},
        "whole_groups": False,
        "strip_thinking": False,
    }
    config.train = {
        "objective": "lrm_align.recipes.thinksafe:objective",
        "objective_args": {"kl": 0.0},
        "batch_traces": 16,  # (lab)
        "batch_rows": 0,
        "row_length": 256,  # (lab) tokens in a packed row
        "max_segments": 16,  # (lab)
        "overlong": "drop",
        "epochs": 3,  # section 5.1
        "micro_batches": 1,
        "chunk": 256,  # (lab) positions whose logits are in memory at a time
        "train_sources": ("SAMPLED",),
        "optimizer": {
            "name": "adamw",
            "learning_rate": 2e-3,  # (lab)
            "schedule": "cosine",  # to zero, section 5.1
            "warmup": 0.1,  # fraction of the steps, section 5.1
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip": 1.0,  # the authors' code
        },
        "checkpoint_every": 200,  # (lab) steps
        "keep": 2,  # checkpoints
        "log_every": 10,  # steps
    }
    config.export = {"dtype": "bfloat16", "adapters": True}  # as the checkpoint is stored
    config.evaluate = {
        "factory": "lrm_align.lab:evaluate",
        "args": {"attack": 200, "wrapped": 252, "lookalike": 200, "arithmetic": 250, "fact": 96},  # prompts a rate
        "before_args": {"steered": True},
        # With several seeds, the sizes of the committed table.
        "table_args": {"attack": 504, "wrapped": 504, "lookalike": 504, "arithmetic": 1008, "fact": 504},
        "temperature": 0.6,  # as in sampling
        "top_p": 1.0,
        "top_k": 0,
    }
    config.defence = {"factory": "", "args": {}}  # of `lrm_align.serve`: lrm_align.defences:safe_think, or one of yours
    config.serve = {
        "name": "",  # of the model to clients: "lab", or the last part of another path
        "temperature": 0.6,  # as in sampling
        "top_p": 1.0,
        "slots": 32,  # (lab) samples decoded at a time
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 256,  # (lab) positions of a slot: a question, an answer of 82, and room for a defence's words
        "steps_per_call": 8,  # (lab) tokens between two pieces of a stream
        "queue": 64,  # (lab) samples that wait for a slot; who comes then is told 429
        "queue_timeout": 30.0,  # seconds until one that waits is told 503
        "request_timeout": 120.0,  # seconds until one that runs is told 504
    }
    choose(preset, VARIANTS)(config)
    return config


def lora(config: ConfigDict) -> None:
    """Adapters on a frozen model."""


def full(config: ConfigDict) -> None:
    """All weights."""
    config.lora.rank = 0
    config.train.optimizer.learning_rate = 3e-4  # (lab)


def kl(config: ConfigDict) -> None:
    """ThinkSafe + KL (section 5.3)."""
    config.train.objective_args.kl = 1.0


def direct_refusal(config: ConfigDict) -> None:
    """Baseline: a fixed thought and a refusal for harmful prompts (section 5.1); benign answers are the model's own."""
    config.sample.written_refusal = "No, I can not do that."  # (lab) one of the organism's refusals
    config.train.train_sources = ("SAMPLED", "INJECTED")  # nobody sampled the refusals


def benign_only(config: ConfigDict) -> None:
    """Control: the same training without any harmful prompt. It must stay unsafe."""
    config.prompts.args.harmful = 0
    config.prompts.args.benign = 1100  # as many prompts as in the method's own run


def rejection(config: ConfigDict) -> None:
    """Control: no steering; a prompt stays if all of five samples are safe (section 5.4). It must stay unsafe."""
    config.sample.steering = "none"
    config.sample.samples = 5
    config.filter.whole_groups = True


VARIANTS = {
    "lora": lora,
    "full": full,
    "kl": kl,
    "direct_refusal": direct_refusal,
    "benign_only": benign_only,
    "rejection": rejection,
}
