"""RAPO on the embedded model organism: both stages on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_rapo.py

Numbers marked (lab) were chosen on the organism; they are ours, not those of the paper (arXiv 2602.04224) or of its
authors' code ("code"). Presets: `risk_only` and `general_only` drop one of the two rewards, `gdpo` normalises each
reward by itself before they are summed, `no_hints` tells the judge no counts of sentences.
"""

from ml_collections import ConfigDict

from lrm_align import lab
from lrm_align.config import choose
from lrm_align.lab import formats
from lrm_align.scoring import levels


def get_config(preset: str = "rapo") -> ConfigDict:
    """The lab's run, or one of its variants."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.rapo:recipe"
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

    config.levels = {
        # (lab) the lengths that the organism was pretrained to write, for the judge as well; written = None means that
        # there is one table.
        "table": {"lengths": levels.WRITTEN, "written": None},
        "source": "column",  # as StrataSword's files; or "judged"
        "column": "level",
        "without": ("arithmetic", "fact"),  # (lab) kinds that are answered without safety analysis
    }
    config.prompts = {  # stage 1
        "factory": "lrm_align.lab.levels:training_prompts",
        "args": {
            "name": "sft",
            "plain": 80,  # (lab) few in all, so that stage 2 has something to do
            "wrapped": 50,  # (lab)
            "nested": 50,  # (lab)
            "benign": 240,  # (lab) as many plain ones as harmful: with fewer, look-alikes are refused
            "arithmetic": 75,  # (lab)
            "fact": 40,  # (lab)
        },
        "against": {},  # the lab's splits are disjoint by construction; the stage `disjoint` proves it by hash
    }
    config.rl_prompts = {  # stage 2
        "factory": "lrm_align.lab.levels:training_prompts",
        "args": {
            "name": "rl",
            "plain": 60,  # (lab) code: 100 harmful, 300 wrapped, 400 benign
            "wrapped": 160,  # (lab)
            "nested": 160,  # (lab)
            "benign": 240,  # (lab)
            "arithmetic": 40,  # (lab) what stage 1 left as it was shall stay
            "fact": 60,  # (lab)
        },
        "against": {},
    }
    config.sample = {  # of both passes of stage 1, and of evaluations
        "samples": 1,  # code
        "temperature": 0.0,  # code: greedy
        "top_p": 1.0,  # code
        "top_k": 0,
        "min_p": 0.0,
        "max_new_tokens": 144,  # (lab) analysis, thought and answer have at most 100
        "slots": 128,  # (lab) decoded at a time
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 224,  # (lab) positions of a slot
        "steps_per_call": 16,  # (lab) tokens between two looks of the host
        "shard_traces": 512,  # (lab) traces a shard; at most these are lost to a kill
    }
    config.analysis = {  # pass 1
        "system": formats.LEVEL_SYSTEM,  # (lab) the organism's own format
        "user": formats.LEVEL_USER,  # (lab)
        "opening": formats.LEVEL_OPENING,  # code
        "guidance": ("", "", ""),  # (lab) the format has none
        "min_characters": 40,  # (lab) code: 64, which is more than two of the organism's sentences
        "fit": True,  # ours: what does not keep to the length is dropped
        "sampling": {},
    }
    config.continuation = {"sampling": {}}  # pass 2
    config.filter = {"guarded": False}  # code: nobody looks whether harmful prompts are refused
    config.guard = {
        "factory": "lrm_align.lab:RuleGuard",
        "args": {},
        "sharded": False,  # rules need no mesh
        "threshold": 0.5,  # unsafe from here on
    }
    config.train = {  # stage 1
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 8,  # (lab) with 16 the same number of traces teaches less
        "batch_rows": 0,
        "row_length": 256,  # (lab) tokens in a packed row
        "max_segments": 16,  # (lab)
        "overlong": "drop",
        "epochs": 3,  # code
        "micro_batches": 1,
        "chunk": 256,  # (lab) positions whose logits are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # code: the analysis that was put there is trained on as well
        "optimizer": _optimizer(learning_rate=2e-3, schedule="cosine"),  # (lab)
        "checkpoint_every": 200,  # (lab) steps
        "keep": 2,  # checkpoints
        "log_every": 10,  # steps
    }
    config.judge = {
        "risk": {  # (lab) a rule: the organism has no format for this
            "factory": "lrm_align.lab.rapo_judges:length_rule",
            "args": {"lengths": levels.WRITTEN},
        },
        "harmful": {"factory": "lrm_align.lab.rapo_judges:organism", "args": {}},  # section 4.4: the untrained model
        "benign": {"factory": "lrm_align.lab.rapo_judges:help_rule", "args": {}},  # (lab) a rule, as for risk
        "hints": True,  # code: the judge is told how many sentences it sees
        "truncated": "scored",  # ours; or "masked"
        "thinking": True,  # (lab) without its thinking the organism misses five of six unsafe answers
        "max_new_tokens": 48,  # (lab) a verdict has 30
        "slots": 64,  # (lab)
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 224,  # (lab)
        "steps_per_call": 16,  # (lab)
    }
    config.reward = {
        "factory": "lrm_align.rewards:weighted_sum",
        "args": {"weights": {"risk": 1.0, "general": 1.0}},  # section 4.4: the sum
        "parts": ("risk", "general"),
    }
    config.rl = {  # stage 2
        "steps": 50,  # (lab)
        "groups": 16,  # (lab)
        "samples": 4,  # code
        "objective": "lrm_align.objectives:dapo",  # code: TRL's default of its date
        "objective_args": {"epsilon_high": 0.2},  # code: 0.2 on both sides
        "advantage": "lrm_align.advantages:grpo",  # code: the sum, then group statistics
        "advantage_args": {},
        "inner_epochs": 1,  # code
        "minibatches": 4,  # (lab) code: one update for 1 prompt at 4 processes, so as many updates as prompts
        "old_logp": "sampler",  # (lab) full distribution, float32; the gap is measured on a step's first minibatch
        "max_refills": 0,  # code: groups without spread stay
        "reference": {"sync_every": 0, "mixup": 0.6},  # code: no KL
        "sampling": {
            "temperature": 1.0,  # (lab) code: 1.2
            "top_k": 0,
            "top_p": 1.0,  # (lab) code: 0.9
            "min_p": 0.0,
            "max_new_tokens": 144,  # (lab)
            "slots": 64,  # (lab)
            "lanes": 2,  # (lab) threads that decode: two cores
            "max_length": 224,  # (lab)
            "steps_per_call": 32,  # (lab)
        },
        "row_length": 256,  # (lab)
        "piece_rows": 8,  # (lab)
        "max_segments": 8,  # (lab)
        "chunk": 256,  # (lab)
        "lora": dict(config.lora),
        "optimizer": _optimizer(learning_rate=1e-3, schedule="linear"),  # (lab)
        "checkpoint_every": 25,  # (lab) steps
        "keep": 2,
        "log_every": 5,
        "grade_seconds": 300.0,  # (lab) the first question compiles the judge
        "keep_rollouts": 4,
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    config.export = {"dtype": "bfloat16", "adapters": True}  # as the checkpoint is stored
    config.evaluate = {
        "factory": "lrm_align.lab.rapo:evaluate",
        "args": {  # prompts a rate
            "attack": 200,
            "wrapped": 252,
            "nested": 200,
            "lookalike": 200,
            "arithmetic": 250,
            "fact": 96,
        },
        "before_args": {},
        # With several seeds, the sizes of the committed table.
        "table_args": {
            "attack": 504,
            "wrapped": 504,
            "nested": 504,
            "lookalike": 504,
            "arithmetic": 1008,
            "fact": 504,
        },
        "temperature": 0.6,
        "top_p": 1.0,
        "top_k": 0,
    }
    choose(preset, VARIANTS)(config)
    return config


def _optimizer(learning_rate: float, schedule: str) -> dict:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "schedule": schedule,  # (lab) to zero
        "warmup": 0.1,  # (lab) fraction of the steps
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }


def rapo(config: ConfigDict) -> None:
    """The method: both rewards, summed before they are normalised."""


def risk_only(config: ConfigDict) -> None:
    """Ablation: the length of safe reasoning alone; the answer earns nothing."""
    config.reward.args.weights.general = 0.0


def general_only(config: ConfigDict) -> None:
    """Ablation: the answer alone; safe reasoning earns nothing."""
    config.reward.args.weights.risk = 0.0


def gdpo(config: ConfigDict) -> None:
    """Each reward normalised in its group, then summed (arXiv 2601.05242)."""
    config.rl.advantage = "lrm_align.advantages:gdpo"


def no_hints(config: ConfigDict) -> None:
    """The judge counts sentences itself. The lab's rule does so anyway: this is for real judges."""
    config.judge.hints = False


VARIANTS = {"rapo": rapo, "risk_only": risk_only, "general_only": general_only, "gdpo": gdpo, "no_hints": no_hints}
