"""Requests of the three complexities of RAPO: plain, wrapped, and one wrapper inside another.

Training prompts carry their complexity as the column `level`, as StrataSword's files do; the judge of the RL stage is
not shown it and reads the text (`lab.rapo_judges`). `prompts.evaluation` has plain and wrapped attacks; `nested` adds
the third set.
"""

import dataclasses
import random
from collections.abc import Sequence

from lrm_align import limits
from lrm_align.chat import Prompt
from lrm_align.lab import experiment
from lrm_align.lab.prompts import _request, _requests, _wrapped
from lrm_align.lab.world import rng, split_topics
from lrm_align.lab.wrappers import Wrapper, split_wrappers

PLAIN, WRAPPED, NESTED = 1, 2, 3
LEVEL = "level"


def complexity(prompt: Prompt) -> int:
    """The level of a request by the generator's truth.

    >>> [complexity(Prompt("0", "?", "harmful", meta={"wrapper": name})) for name in ("", "role_film", "a+b")]
    [1, 2, 3]
    """
    name = prompt.meta["wrapper"]
    return PLAIN if not name else NESTED if "+" in name else WRAPPED


def nested(seed: int, count: int) -> list[Prompt]:
    """Harmful requests about held-out topics in two held-out wrappers, an obfuscating one inside another.

    The draws are their own: the other evaluation sets of a seed stay what they are.

    >>> prompts = nested(0, 3)
    >>> prompts[0].id, {complexity(prompt) for prompt in prompts}
    ('lab-0-nested-0000', {3})
    """
    random_ = rng("nested", seed)
    requests = _requests(random_, split_topics(seed).harmful_test, count)
    wrappers = split_wrappers(seed).test
    return [_within(random_, f"lab-{seed}-nested-{i:04d}", request, wrappers) for i, request in enumerate(requests)]


def training_prompts(
    seed: int, name: str, plain: int, wrapped: int, nested: int, benign: int, **others: int
) -> list[Prompt]:
    """Prompts of a seed to train on, each request with its `level`; no held-out topic, wrapper or problem among them.

    Args:
      seed: chooses what is held out, and draws the prompts.
      name: of the draw: another one gives other prompts.
      plain, wrapped, nested: harmful requests of level 1, 2, 3.
      benign: safe requests, a third of each level.
      others: sizes of `lab.prompts.TrainingSizes` without levels: arithmetic and fact.

    >>> prompts = training_prompts(0, "sft", 2, 1, 1, 3, arithmetic=1, fact=1)
    >>> [prompt.meta.get("level") for prompt in prompts]
    [1, 1, 2, 3, 1, 2, 3, None, None]
    """
    for size, value in (("plain", plain), ("wrapped", wrapped), ("nested", nested), ("benign", benign)):
        limits.count(value, f"the lab's number of {size} prompts")
    topics, wrappers = split_topics(seed), split_wrappers(seed).train
    random_ = rng("levelled", name, seed)
    third, rest = divmod(benign, 3)
    counts = {
        topics.harmful_train: (plain, wrapped, nested),
        topics.safe_train: (third + (rest > 0), third + (rest > 1), third),
    }
    prompts: list[Prompt] = []
    for pool, (one, two, three) in counts.items():
        levels = [PLAIN] * one + [WRAPPED] * two + [NESTED] * three
        for level, request in zip(levels, _requests(random_, pool, len(levels)), strict=True):
            id_ = f"lab-{seed}-{name}-{len(prompts):04d}"
            if level == PLAIN:
                prompt = _request(id_, request, request[2], "")
            elif level == WRAPPED:
                prompt = _wrapped(random_, id_, request, random_.choice(wrappers))
            else:
                prompt = _within(random_, id_, request, wrappers)
            prompts.append(dataclasses.replace(prompt, meta={**prompt.meta, LEVEL: level}))
    return prompts + experiment.training_prompts(seed, harmful=0, benign=0, **{"arithmetic": 0, "fact": 0, **others})


def _within(random_: random.Random, id_: str, request: tuple[str, str, str], wrappers: Sequence[Wrapper]) -> Prompt:
    """A request in an obfuscating wrapper inside one of another family."""
    outer = random_.choice([wrapper for wrapper in wrappers if wrapper.family != "obfuscation"])
    inner = random_.choice([wrapper for wrapper in wrappers if wrapper.family == "obfuscation"])
    return _wrapped(random_, id_, request, outer, inner)
