"""The prompts of a seed: evaluation sets on held-out topics and wrappers, and the prompts that a method trains on.

All are pure functions of the seed and of sizes; ids are the same in every run, so before and after meet the same
prompts and the sampler draws with the same noise.
"""

import dataclasses
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrm_align import limits
from lrm_align.chat.prompts import BENIGN, HARMFUL, Prompt
from lrm_align.errors import UserError
from lrm_align.lab import language
from lrm_align.lab.world import VERBS, is_harmful, rng, split_topics
from lrm_align.lab.wrappers import WRAPPERS, Wrapper, split_wrappers, wrap
from lrm_align.settings import setting

REQUEST, WRAPPED, ARITHMETIC, FACT = "request", "wrapped", "arithmetic", "fact"
NESTED = 0.15

MOST = 100_000  # prompts of a kind: the language has not many more that differ


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationSizes:
    """How many prompts each evaluation set has; the defaults are those of the committed table.

    Of 288 distinct questions more are asked again, with other sampling noise.
    """

    attack: int = setting(504, "plain harmful requests about held-out topics", least=0, most=MOST)
    wrapped: int = setting(504, "the same in held-out wrappers, spread evenly over them", least=0, most=MOST)
    lookalike: int = setting(504, "safe requests about held-out topics, half of them wrapped", least=0, most=MOST)
    arithmetic: int = setting(1008, "held-out problems", least=0, most=MOST)
    fact: int = setting(504, "questions about held-out topics", least=0, most=MOST)

    def __post_init__(self) -> None:
        _check(self)


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingSizes:
    """How many prompts of each kind a method trains on; half of the first two are wrapped."""

    harmful: int = setting(600, "requests about harmful topics", least=0, most=MOST)
    benign: int = setting(600, "requests about safe topics", least=0, most=MOST)
    arithmetic: int = setting(300, "problems", least=0, most=MOST)
    fact: int = setting(150, "questions about topics", least=0, most=MOST)

    def __post_init__(self) -> None:
        _check(self)


def _check(sizes: EvaluationSizes | TrainingSizes) -> None:
    for field in dataclasses.fields(sizes):
        limits.count(getattr(sizes, field.name), f"the lab's number of {field.name} prompts")


def evaluation_sizes(given: Mapping[str, Any]) -> EvaluationSizes:
    """The sizes that a config gives, with the defaults for the rest.

    Raises:
      UserError: a set that there isn't, or a negative size.
    """
    return EvaluationSizes(**_known(given, EvaluationSizes))


def training_sizes(given: Mapping[str, Any]) -> TrainingSizes:
    """The same, of the prompts to train on.

    Raises:
      UserError: a kind that there isn't, or a negative size.
    """
    return TrainingSizes(**_known(given, TrainingSizes))


def _known(given: Mapping[str, Any], kind: type) -> Mapping[str, Any]:
    known = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(set(given) - set(known)):
        raise UserError(f"the lab has no {', '.join(unknown)} prompts; it has {', '.join(known)}")
    return given


DEFAULT_SIZES = EvaluationSizes()
DEFAULT_TRAINING_SIZES = TrainingSizes()


def _request(id_: str, request: tuple[str, str, str], text: str, wrapper: str) -> Prompt:
    verb, topic, plain = request
    meta: dict[str, Any] = {"verb": verb, "topic": topic, "wrapper": wrapper, "plain": plain}
    label = HARMFUL if is_harmful(topic) else BENIGN
    return Prompt(id_, text, label, WRAPPED if wrapper else REQUEST, "lab", meta)


def _wrapped(random_: random.Random, id_: str, request: tuple[str, str, str], wrapper: Wrapper, inner=None) -> Prompt:
    verb, topic, plain = request
    name = wrapper.name if inner is None else f"{wrapper.name}+{inner.name}"
    return _request(id_, request, wrap(random_, wrapper, verb, topic, plain, inner), name)


def _dressed(random_: random.Random, id_: str, request: tuple[str, str, str], wrappers: Sequence[Wrapper]) -> Prompt:
    """A request in one of the wrappers, at times with an obfuscating one inside another."""
    wrapper, inner = random_.choice(wrappers), None
    if wrapper.family != "obfuscation" and random_.random() < NESTED:
        inner = random_.choice([other for other in wrappers if other.family == "obfuscation"])
    return _wrapped(random_, id_, request, wrapper, inner)


def _requests(random_: random.Random, topics: Sequence[str], count: int) -> list[tuple[str, str, str]]:
    """`count` requests, all different while the combinations last, every topic about equally often."""
    limits.count(count, "the lab's number of requests")
    topics = random_.sample(topics, len(topics))
    combinations = {topic: _shuffled(random_, itertools.product(VERBS, language.REQUESTS)) for topic in topics}
    out = []
    for i in range(count):
        topic = topics[i % len(topics)]
        verb, form = combinations[topic][(i // len(topics)) % len(combinations[topic])]
        out.append((verb, topic, form.format(verb=verb, topic=topic)))
    return out


def _shuffled(random_: random.Random, items: Iterable[Any]) -> list[Any]:
    items = list(items)
    random_.shuffle(items)
    return items


def _problems(random_: random.Random, id_: str, count: int, held_out: bool) -> list[Prompt]:
    prompts = []
    for i in range(count):
        drawn = language.problem(random_, held_out)
        meta = {"answer": drawn.answer()}
        prompts.append(Prompt(f"{id_}-{i:04d}", language.ask_problem(random_, drawn), BENIGN, ARITHMETIC, "lab", meta))
    return prompts


def _facts(random_: random.Random, id_: str, topics: Sequence[str], count: int) -> list[Prompt]:
    pairs = _shuffled(random_, itertools.product(topics, range(len(language.FACT_QUESTIONS))))
    prompts = []
    for i, (topic, form) in enumerate(itertools.islice(itertools.cycle(pairs), count)):
        text = language.FACT_QUESTIONS[form].format(topic=topic)
        meta = {"topic": topic, "answer": language.answer_fact(form, topic).answer}
        prompts.append(Prompt(f"{id_}-{i:04d}", text, BENIGN, FACT, "lab", meta))
    return prompts


def evaluation(seed: int, sizes: EvaluationSizes = DEFAULT_SIZES) -> dict[str, list[Prompt]]:
    """The evaluation sets of a seed: "attack", "wrapped", "lookalike", "arithmetic" and "fact".

    Args:
      seed: chooses held-out topics and wrappers, and draws the prompts.
      sizes: prompts in each set.

    >>> sets = evaluation(0, EvaluationSizes(2, 2, 2, 2, 2))
    >>> [prompt.id for prompt in sets["attack"]]
    ['lab-0-attack-0000', 'lab-0-attack-0001']
    """
    topics, wrappers = split_topics(seed), split_wrappers(seed)
    random_ = rng("evaluation", seed)
    name = f"lab-{seed}"
    attack = _requests(random_, topics.harmful_test, sizes.attack)
    wrapped = _requests(random_, topics.harmful_test, sizes.wrapped)
    lookalike = _requests(random_, topics.safe_test, sizes.lookalike)
    return {
        "attack": [_request(f"{name}-attack-{i:04d}", r, r[2], "") for i, r in enumerate(attack)],
        "wrapped": [
            _wrapped(random_, f"{name}-wrapped-{i:04d}", r, wrappers.test[i % len(wrappers.test)])
            for i, r in enumerate(wrapped)
        ],
        "lookalike": [
            _request(f"{name}-lookalike-{i:04d}", r, r[2], "")
            if i % 2 == 0
            else _wrapped(random_, f"{name}-lookalike-{i:04d}", r, random_.choice(WRAPPERS))
            for i, r in enumerate(lookalike)
        ],
        "arithmetic": _problems(random_, f"{name}-arithmetic", sizes.arithmetic, held_out=True),
        "fact": _facts(random_, f"{name}-fact", topics.harmful_test + topics.safe_test, sizes.fact),
    }


def adversarial(seed: int, count: int) -> list[Prompt]:
    """Further harmful prompts for a second stage of training, all of them wrapped; `training` draws others.

    Args:
      seed: chooses what is held out, and draws the prompts.
      count: how many.

    >>> {prompt.kind for prompt in adversarial(0, 8)}
    {'wrapped'}
    """
    topics, wrappers = split_topics(seed), split_wrappers(seed)
    random_ = rng("adversarial", seed)
    requests = _requests(random_, topics.harmful_train, count)
    return [
        _dressed(random_, f"lab-{seed}-adversarial-{i:04d}", request, wrappers.train)
        for i, request in enumerate(requests)
    ]


def training(seed: int, sizes: TrainingSizes = DEFAULT_TRAINING_SIZES) -> list[Prompt]:
    """The prompts that a method trains on: no held-out topic, wrapper or problem of the seed.

    Args:
      seed: chooses what is held out, and draws the prompts.
      sizes: prompts of each kind.

    Returns:
      harmful, then benign requests (half of both wrapped, some of those twice), arithmetic, and fact questions.
    """
    topics, wrappers = split_topics(seed), split_wrappers(seed)
    random_ = rng("training", seed)
    prompts: list[Prompt] = []
    for label, pool, count in (
        (HARMFUL, topics.harmful_train, sizes.harmful),
        (BENIGN, topics.safe_train, sizes.benign),
    ):
        for i, request in enumerate(_requests(random_, pool, count)):
            id_ = f"lab-{seed}-train-{label}-{i:04d}"
            if i % 2 == 0:
                prompts.append(_request(id_, request, request[2], ""))
                continue
            prompts.append(_dressed(random_, id_, request, wrappers.train))
    prompts += _problems(random_, f"lab-{seed}-train-arithmetic", sizes.arithmetic, held_out=False)
    prompts += _facts(random_, f"lab-{seed}-train-fact", topics.harmful_train + topics.safe_train, sizes.fact)
    return prompts
