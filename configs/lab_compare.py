"""All methods on the embedded model organism: one seed within an hour on two CPU cores, no download.

    python -m lrm_align.main --config=configs/lab_compare.py
    python -m lrm_align.main --config=configs/lab_compare.py --config.compared="('thinksafe', 'rapo')"    # some of them

Every method is the run of its own config, from the same model, with the same seed, measured on the same prompts. A
comparison that was interrupted goes on where it was.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align import lab

HERE = pathlib.Path(__file__).parent
METHODS = {
    "thinksafe": ("quickstart.py", {}),
    "thinksafe_kl": ("quickstart.py:kl", {}),
    "safe_trigger": ("lab_safe_trigger.py", {}),
    "rapo": ("lab_rapo.py", {}),
    "ascl": ("lab_ascl.py", {}),
    "safethink": ("lab_safethink.py", {}),
    "grpo_guard": ("lab_grpo_guard.py", {}),
    "direct_refusal": ("quickstart.py:direct_refusal", {}),
    "rejection_sampling": ("quickstart.py:rejection", {}),
    "safepath": ("lab_safepath.py", {}),
}


def get_config() -> ConfigDict:
    """The comparison."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.compare:recipe"
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
    config.mesh = {"data": 1, "fsdp": 1, "tensor": 1}
    config.compared = tuple(METHODS)  # which of them, in the order of the table
    # A config file each, and what is changed in it: {"train": {"epochs": 2}}.
    config.methods = {
        name: {"config": str(HERE / file), "changes": changes} for name, (file, changes) in METHODS.items()
    }
    config.sample = {  # of the untrained model's evaluation; methods bring their own limits
        "min_p": 0.0,
        "max_new_tokens": 96,  # (lab) the longest answer has 82
        "slots": 128,  # (lab) decoded at a time
        "lanes": 2,  # (lab) threads that decode: two cores
        "max_length": 144,  # (lab) positions of a slot
        "steps_per_call": 16,  # (lab) tokens between two looks of the host
        "shard_traces": 512,  # (lab) traces a shard; at most these are lost to a kill
    }
    config.guard = {"factory": "lrm_align.lab:RuleGuard", "args": {}, "sharded": False, "threshold": 0.5}
    config.evaluate = {
        "factory": "lrm_align.lab:evaluate",
        "args": {"attack": 200, "wrapped": 252, "lookalike": 200, "arithmetic": 250, "fact": 96},  # prompts a rate
        # With several seeds, the sizes of the committed table.
        "table_args": {"attack": 504, "wrapped": 504, "lookalike": 504, "arithmetic": 1008, "fact": 504},
        "temperature": 0.6,
        "top_p": 1.0,
        "top_k": 0,
    }
    return config
