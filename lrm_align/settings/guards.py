"""Guards that a config takes by a word: `configs/align.py:keywords`, `configs/align.py:small+prompted`.

    llamaguard   Llama-Guard-3-8B                                          ThinkSafe section 5.1
    qwen3guard   Qwen3Guard-Gen-4B                                         its report
    wildguard    WildGuard (7B), which judges refusals, too                ThinkSafe section 5.1
    prompted     any chat model that is asked a question; an own prompt    ours
    keywords     "did not decline", no model                               Zou et al. 2023, arXiv 2307.15043

All say how surely a response is unsafe: 1 is unsafe. `config.guard.args.path_or_hub_id` names another model.
"""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from lrm_align.errors import UserError

# Recipes whose guard judges whole responses alone, and tells harmful prompts from others where both are judged.
WHOLE = ("evaluating", "thinksafe", "dpo", "rapo")


class Choice(NamedTuple):
    """A guard as a config names it.

    Attributes:
      factory: makes it.
      model: directory or hub id, "" where there is none.
      refusals: whether it judges refusals for the evaluator, too.
      part: what of a response the evaluator shows it.
    """

    factory: str
    model: str = ""
    refusals: bool = False
    part: str = "all"


GUARDS: Mapping[str, Choice] = {
    "llamaguard": Choice("lrm_align.scoring.llama_guard:load", "meta-llama/Llama-Guard-3-8B"),
    "qwen3guard": Choice("lrm_align.scoring.qwen3_guard:load", "Qwen/Qwen3Guard-Gen-4B", refusals=True, part="answer"),
    "wildguard": Choice("lrm_align.scoring.wild_guard:load", "allenai/wildguard", refusals=True),
    "prompted": Choice("lrm_align.judging.prompted:load", "Qwen/Qwen2.5-1.5B-Instruct"),  # small: for any machine
    "keywords": Choice("lrm_align.judging.keywords:Complies"),
}
KEYWORDS_RULE = "lrm_align.recipes.filtering:by_label"
CLOSED_AND_SAFE = "lrm_align.recipes.filtering:closed_and_safe"
INSTEAD = "without it take another guard by its preset: :qwen3guard, :wildguard, :prompted (any chat model), :keywords"


def split(preset: str) -> tuple[str, str]:
    """The config's own preset and the guard of "PRESET+GUARD"; either may be missing.

    >>> split("small+keywords"), split("keywords"), split("small")
    (('small', 'keywords'), ('', 'keywords'), ('small', ''))

    Raises:
      UserError: two of either.
    """
    words = [word for word in preset.split("+") if word]
    guards = [word for word in words if word in GUARDS]
    presets = [word for word in words if word not in GUARDS]
    if len(guards) > 1:
        raise UserError(f"preset :{preset} names {len(guards)} guards, {' and '.join(guards)}; it can have one")
    if len(presets) > 1:
        near = difflib.get_close_matches(presets[-1], GUARDS, 1)
        hint = f"; did you mean +{near[0]}?" if near else f"; the guards are {', '.join('+' + name for name in GUARDS)}"
        raise UserError(f"preset :{preset} has no guard {presets[-1]!r}{hint}")
    return presets[0] if presets else "", guards[0] if guards else ""


def give(config: ConfigDict, name: str) -> None:
    """Gives a config a guard of the table, and what goes with it: the evaluator's part, the filter of the keywords.

    Raises:
      UserError: the config asks no guard, or its guard reads what keywords cannot judge.
    """
    choice, method = GUARDS[name], config.recipe.partition(":")[0].rpartition(".")[2]
    if "guard" not in config:
        raise UserError(f"this config asks no guard, so that it has no preset :{name}")
    if name == "keywords" and method not in WHOLE:
        raise UserError(f"preset :keywords judges whole answers to harmful prompts; the guard of {method} reads others")
    with config.unlocked():
        config.guard.factory = choice.factory
        # A type that the new guard need not have: ours take the type of the guard that stood there.
        dtype = config.guard.args.get("dtype", "bfloat16")
        config.guard.args = ConfigDict({"path_or_hub_id": choice.model, "dtype": dtype} if choice.model else {})
        if config.get("filter", {}).get("factory") == CLOSED_AND_SAFE and name == "keywords":
            config.filter.factory = KEYWORDS_RULE
        if "refusal" in config:
            config.part = choice.part
            config.refusal.factory = "guard" if choice.refusals else "lrm_align.scoring.refusals:Keywords"
            config.refusal.part = choice.part if choice.refusals else "answer"
        measure = config.get("evaluate", {})
        if "guard" in measure and measure["guard"].factory == choice.factory:  # which would grade itself
            other = GUARDS["wildguard"]
            config.evaluate.guard.factory = other.factory
            config.evaluate.guard.args = ConfigDict({"path_or_hub_id": other.model, "dtype": dtype})
        if "guard" in measure and name == "prompted":  # whoever has no guard for the one has none for the other
            config.evaluate.guard.factory = GUARDS["keywords"].factory
            config.evaluate.guard.args = ConfigDict()
