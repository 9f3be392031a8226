"""SafeThink's prefix search on Cloud TPU: which words to put into thoughts (Ghosal et al. 2026, arXiv 2602.11096).

    python -m lrm_align.main --config=configs/prefix_search_tpu.py:qwen3_8b --workdir=gs://BUCKET/prefix_search

The paper's validation prompts are 500 of its four sets of images; here they are text. Its candidates were written by
GPT-4 and are not printed: those below are ours, but for one. Numbers that say "ours" are not in the paper.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import load

THINKSAFE = pathlib.Path(__file__).parent / "thinksafe_tpu.py"
SAFETHINK = pathlib.Path(__file__).parent / "safethink_tpu.py"
LAB = pathlib.Path(__file__).parent / "lab_prefix_search.py"


def get_config(preset: str = "qwen3_8b") -> ConfigDict:
    """One of SafeThink's models; bare it is Qwen3-8B."""
    config = load(f"{SAFETHINK}:{preset}").unlock()
    config.recipe = "lrm_align.recipes.prefix_search:recipe"
    base = load(str(THINKSAFE)).unlock()
    # ThinkSafe's training prompts, which SafeThink is not measured on; 500 are section 3's validation prompts.
    config.validation = {"factory": base.prompts.factory, "args": base.prompts.args}
    config.validation.args.sources.safechain.limit = 500
    config.search = load(str(LAB)).search
    config.search.update(TEXTS_AND_SIZES)
    config.sample.max_new_tokens = 2_048  # ours: a watched thought ends, or its first three steps are over before
    del config.depth, config.cost, config.evaluate
    return config.lock()


TEXTS_AND_SIZES = {
    "texts": (
        "Wait, think safely",  # section 3
        "Wait",  # and all that follow: ours
        "Hmm, is this safe",
        "Is this safe?",
        "Think about safety",
        "Safety first",
        "But could this harm",
        "I must stay safe",
        "This may be harmful",
        "I should refuse",
    ),
    "step_tokens": 256,  # ours: most tokens of words and step
    "beam": 2,  # ours
    "rounds": 2,  # ours
    "rows": 8,  # ours: rows of a forward pass, raised to a multiple of the mesh's batch shards
}
