"""SafePath, a baseline, on the embedded model organism: on two CPU cores, in minutes, no download.

    python -m lrm_align.main --config=configs/lab_safepath.py

What is not named here is as in the quickstart, so that the two can be compared. Numbers marked (lab) were chosen on the
organism; they are ours, not the paper's (arXiv 2505.14667).
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import load
from lrm_align.lab import language

QUICKSTART = pathlib.Path(__file__).parent / "quickstart.py"


def get_config() -> ConfigDict:
    """The lab's run."""
    config = load(str(QUICKSTART)).unlock()
    config.recipe = "lrm_align.recipes.safepath:recipe"
    # (lab) Words that the organism has met at the head of thoughts; the paper's are "Let's think about safety first".
    config.primer = language.SAFE_THINKING
    config.train.train_sources = ("SAMPLED", "INJECTED")  # the primer was written, not sampled
    del config.sample.steering, config.sample.teacher, config.evaluate.before_args.steered
    return config.lock()
