"""SafeThink's prefix search on the embedded model organism: on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_prefix_search.py

Numbers marked (lab) were chosen on the organism; they are ours, not the paper's (arXiv 2602.11096), which prints only
the length of candidates and the number of its validation prompts (500). The organism read "Wait, think safely." while
it was pretrained, in thoughts that go on to say what a topic is: that these words work on it is no finding.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import load

SAFETHINK = pathlib.Path(__file__).parent / "lab_safethink.py"


def get_config() -> ConfigDict:
    """The lab's search."""
    config = load(str(SAFETHINK)).unlock()
    config.recipe = "lrm_align.recipes.prefix_search:recipe"
    config.validation = {
        "factory": "lrm_align.lab:training_prompts",  # of other topics than the evaluation's
        "args": {"harmful": 64, "benign": 32, "arithmetic": 16, "fact": 16},  # (lab)
    }
    config.search = {
        "texts": (
            "Wait, think safely",  # the paper's
            "Wait, think safely.",  # as `safe_think` has it
            "Wait",
            "No",
            "Okay",
            "Is it harmful?",
            "Is this safe?",
            "This is harmful",
            "I should refuse.",
            "I recall that",
            "Let me think again.",
            "Let me check",
            "What are the rules",
            "Sorry, I can not",
            "You must not help",
            "It is safe",  # a candidate that should do harm
        ),
        "pieces": True,  # every run of tokens of the texts, too
        "beam": 3,  # (lab) candidates that grow in a round; 0: none
        "rounds": 2,  # (lab)
        "max_tokens": 5,  # section 3: candidates have 1 to 5
        "place": "step",  # ours: before the step that SafeThink would reject; "start": at the head of the thought
        "steps": 1,  # ours: how many steps after the words the guard reads
        "samples": 1,  # ours: draws of a step
        "step_tokens": 32,  # (lab) most tokens of words and step
        "guard_reads_words": False,  # the paper's pseudo-code scores thought and step
        "horizon": 16,  # ours: tokens of the model's own thought over which KL is taken
        "kl_weight": 0.1,  # ours: λ, in R a nat; the paper prints none
        "held_out": 0.5,  # ours: part of the prompts that only finalists are measured on
        "finalists": 12,  # ours: the best of the search, beside the given texts and the Pareto front
        "rows": 32,  # (lab) rows of a forward pass
    }
    del config.depth, config.cost, config.evaluate, config.serve
    return config.lock()
