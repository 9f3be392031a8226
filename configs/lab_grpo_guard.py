"""GRPO with a guard, ThinkSafe's online baseline, on the embedded model organism: on two CPU cores, no download.

    python -m lrm_align.main --config=configs/lab_grpo_guard.py

Prompts, model and evaluation are the quickstart's, so that the two can be compared. Numbers come from arXiv 2601.23143,
section F, or, where it says (code), from the authors' code; those marked (lab) were chosen on the organism.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import load, plain

QUICKSTART = pathlib.Path(__file__).parent / "quickstart.py"


def get_config() -> ConfigDict:
    """The lab's run."""
    config = load(str(QUICKSTART)).unlock()
    config.recipe = "lrm_align.recipes.grpo_guard:recipe"
    config.weaken = {"factory": "", "args": {}}  # nothing
    config.reward = {
        "factory": "lrm_align.rewards:weighted_sum",
        "args": {"weights": {"safety": 1.0, "form": 1.0}},  # (code) the sum
    }
    config.rl = {
        "steps": 190,  # (lab) about one pass over the prompts, as in the code
        "groups": 8,
        "samples": 8,
        "objective": "lrm_align.objectives:grpo",
        "objective_args": {"kl": "k3", "kl_weight": 0.04},
        "advantage": "lrm_align.advantages:grpo",
        "advantage_args": {},
        "inner_epochs": 1,  # (code)
        "minibatches": 1,
        "old_logp": "none",  # one update a step: the ratio is 1, and the clip at 0.2 is inert
        "max_refills": 0,
        "reference": {"sync_every": 0, "mixup": 0.6},  # the untrained model
        "sampling": {
            "temperature": 1.0,  # (lab) code: 0.7, at which the organism hardly ever refuses
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_new_tokens": 96,  # (lab) the longest answer has 82
            "slots": 64,  # (lab) decoded at a time
            "lanes": 2,  # (lab) threads that decode: two cores
            "max_length": 144,  # (lab) positions of a slot
            "steps_per_call": 32,  # (lab) tokens between two looks of the host
        },
        "row_length": 144,  # (lab) tokens in a packed row
        "piece_rows": 8,  # (lab) rows at a time; what is empty is skipped
        "max_segments": 2,  # (lab)
        "chunk": 0,  # (lab) the logits of a piece are in memory
        "lora": plain(config.lora),
        "optimizer": {
            **plain(config.train.optimizer),  # cosine, 10 % warm-up, clipped at 1
            "learning_rate": 2e-3,  # (lab)
        },
        "checkpoint_every": 50,  # (lab) steps
        "keep": 2,
        "log_every": 1,
        "grade_seconds": 60.0,
        "keep_rollouts": 4,
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    del config.lora, config.train, config.filter, config.evaluate.before_args.steered
    return config.lock()
