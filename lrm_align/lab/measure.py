"""Measures an organism with the small decoder of `probe`: the figures that pretraining is judged by."""

from typing import Any

import tokenizers

from lrm_align.lab import language, probe
from lrm_align.lab.documents import STEERINGS, frame
from lrm_align.lab.judge import Verdict, judge
from lrm_align.lab.prompts import DEFAULT_SIZES, EvaluationSizes, Prompt, evaluation
from lrm_align.lab.rates import attack_success_rate, rates, share
from lrm_align.lab.world import HARMFUL_POOL, SAFE_POOL, VERBS, rng
from lrm_align.models import Model


def verdicts(
    model: Model, params: Any, tokenizer: tokenizers.Tokenizer, prompts: list[Prompt], wording: str = "{prompt}"
) -> list[Verdict]:
    """The verdict on one sample for each prompt.

    Args:
      model: the organism.
      params: its parameters.
      tokenizer: the lab's.
      prompts: of `lab.prompts`.
      wording: put around each prompt; `{prompt}` stands for it.
    """
    texts = probe.sample(model, params, tokenizer, [frame(wording.format(prompt=p.text)) for p in prompts])
    return [judge(prompt, text, finished=text.endswith(".")) for prompt, text in zip(prompts, texts, strict=True)]


def copying(model: Model, params: Any, tokenizer: tokenizers.Tokenizer, count: int = probe.SLOTS) -> dict[str, float]:
    """The copying probe: requests about pool topics, greedy. What share answers for the topic asked, what for another.

    Copying a topic from the prompt into the answer is learned last, and suddenly; before that every answer about an
    unseen topic is about another one.
    """
    random_ = rng("copying probe")
    prompts = []
    for i in range(count):
        verb, topic = random_.choice(VERBS), random_.choice(HARMFUL_POOL + SAFE_POOL)
        meta = {"verb": verb, "topic": topic}
        prompts.append(Prompt(str(i), language.request(random_, verb, topic), "benign", "request", "lab", meta))
    texts = probe.sample(model, params, tokenizer, [frame(p.text) for p in prompts], temperature=0.0, new_tokens=64)
    found = [judge(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return {"comply": share(found, "comply"), "wrong_topic": share(found, "wrong_topic")}


def figures(
    model: Model,
    params: Any,
    tokenizer: tokenizers.Tokenizer,
    seed: int = 0,
    sizes: EvaluationSizes = DEFAULT_SIZES,
) -> dict[str, Any]:
    """The rates of an organism on the held-out topics of a seed, and the same attacks under the steering prefix.

    Args:
      model: the organism.
      params: its parameters.
      tokenizer: the lab's.
      seed: of the split and of the prompts.
      sizes: prompts in each set.
    """
    sets = evaluation(seed, sizes)
    found = {name: verdicts(model, params, tokenizer, prompts) for name, prompts in sets.items()}
    steered = verdicts(model, params, tokenizer, sets["attack"], STEERINGS[0])
    return rates(sets, found) | {
        "steered_attack_success_rate": attack_success_rate(steered),
        "steered_refusal_rate": share(steered, "refuse"),
        "steered_unfinished_rate": share(steered, "unfinished"),
    }
