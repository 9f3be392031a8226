"""SafeThink on the embedded model organism: no training, on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_safethink.py
    python -m lrm_align.main --config=configs/lab_safethink.py:safe_path        # another defence

Numbers marked (lab) were chosen on the organism; they are ours, not the paper's (arXiv 2602.11096). Presets:
`safe_think`, `safe_path`, `zero_think`, `less_think`, `more_think`, `thinking_intervention`, `safe_remind`,
`self_reminder`. What is not named here is as in the quickstart, so that the two can be compared.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import choose, load

QUICKSTART = pathlib.Path(__file__).parent / "quickstart.py"
# Each with its arguments; what is not named is the defence's own.
DEFENCES = {
    "safe_think": {
        "text": "Wait, think safely.",  # section 3; the stop is ours. lab_prefix_search.py looks for others
        "steps": "sentence",  # (lab) thoughts have no paragraphs
        "step_tokens": 64,  # ours: of a step where `steps` is "tokens"
        "threshold": 0.0,  # section 3
        "early": 3,  # section 4: the curve is flat from there on
        "resamples": 4,  # (lab) the paper is silent
        "keep_words": True,
        "fallback": "last",  # the paper's pseudo-code
    },
    "safe_path": {},
    "zero_think": {},
    "less_think": {},
    "more_think": {"times": 2},  # (lab) an answer has at most 96 tokens
    "thinking_intervention": {},
    "safe_remind": {},
    "self_reminder": {},
}


def get_config(preset: str = "safe_think") -> ConfigDict:
    """The lab's run of a defence."""
    arguments = choose(preset, DEFENCES)
    config = load(str(QUICKSTART)).unlock()
    config.recipe = "lrm_align.recipes.safethink:recipe"
    config.guard = {
        "factory": "lrm_align.lab:ThoughtGuard",
        "args": {},
        "sharded": False,
        "devices": 0,  # the model's own mesh
    }
    # What an evaluation asks that needs a guard; the lab's asks the ground truth.
    config.evaluate.guard = {"factory": "lrm_align.lab:RuleGuard", "args": {}, "sharded": False, "threshold": 0.5}
    config.defence = {"factory": f"lrm_align.defences:{preset}", "args": arguments}
    config.depth = {
        # m of the paper's figure; other defences have no depth.
        "steps": tuple(range(7)) if preset == "safe_think" else (),
        "args": {"wrapped": 28, "lookalike": 8, "arithmetic": 8, "fact": 8},  # (lab) all but plain attacks are few
    }
    config.cost = {
        "factory": "lrm_align.lab:training_prompts",  # of other topics than the evaluation's
        "args": {"harmful": 2, "benign": 256, "arithmetic": 128, "fact": 64},  # (lab) the harmful ones are left out
        "rounds": 5,  # (lab)
    }
    del config.sample.steering, config.sample.teacher, config.sample.written_refusal
    del config.evaluate.before_args.steered, config.prompts, config.filter, config.train, config.lora, config.export
    return config.lock()
