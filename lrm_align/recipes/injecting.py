"""Where SafeThink would step in, and how safe the step is that follows words which are put there."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrm_align.chat import Chat
from lrm_align.config import digest
from lrm_align.defences.safe_think import SafeThink, after_opening, in_a_line
from lrm_align.defences.steps import Steps
from lrm_align.provenance import Source
from lrm_align.sampling import Request, SamplingParams
from lrm_align.sampling.interventions import Action, Continue, Inject, Moment, Start, Stop, Trigger
from lrm_align.scoring import Score
from lrm_align.traces import Trace

WITHOUT = ""  # the candidate that is no words: what a gain is measured against


class Place(NamedTuple):
    """A moment of a thought at which words can be put in.

    Attributes:
      id: of the prompt.
      prompt: its text.
      prompt_ids: as the model reads it.
      before: ids of the completion up to there, the beginning of a step.
      after: ids that followed.
      step: number of the step, from 0.
      in_a_line: whether the words stand behind a character that is no white space.
    """

    id: str
    prompt: str
    prompt_ids: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    step: int
    in_a_line: bool

    def words(self, chat: Chat, text: str) -> list[int]:
        """Ids of words as SafeThink puts them in here."""
        return chat.encode_plain(f" {text}" if self.in_a_line else text) if text else []


def watching(defence: SafeThink, label: str) -> SafeThink:
    """SafeThink that looks and never steps in: a harmful prompt's completion ends where it would.

    On other prompts nothing is asked of the guard; the state says where the steps end.
    """
    if label == "harmful":
        return dataclasses.replace(defence, resamples=0, fallback="stop")
    return dataclasses.replace(defence, resamples=0, score=lambda pairs: [Score(1.0)] * len(pairs))


def places(traces: Sequence[Trace], defence: SafeThink) -> list[Place]:
    """The beginning of every step of watched completions, in order; of an unsafe step the beginning comes last."""
    return [place for trace in traces for place in _places(trace, defence)]


def _places(trace: Trace, defence: SafeThink) -> list[Place]:
    ids = [int(i) for i in trace.completion_ids]
    ends = [end for end, _ in trace.meta.get("intervention", {}).get("scores", [])]
    begins = [after_opening(ids, defence.opening), *ends]
    inside = [begin for begin in begins if begin < len(ids) and not defence.steps.closed(ids[:begin])]
    prompt = tuple(int(i) for i in trace.prompt_ids)
    return [
        Place(
            trace.prompt_id,
            trace.meta["prompt"],
            prompt,
            tuple(ids[:begin]),
            tuple(ids[begin:]),
            step,
            in_a_line(defence.text, ids, begin),
        )
        for step, begin in enumerate(inside)
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class NextStep:
    """Puts the ids of `meta["words"]` in at once, and ends the completion after a number of steps, or the thought.

    Attributes:
      moments: where steps end.
      text: ids to text.
      steps: how many; white space alone is none, and neither is the stop that ends the words.
    """

    moments: Steps
    text: Callable[[Sequence[int]], str]
    steps: int

    @property
    def ask_at(self) -> tuple[Trigger, ...]:
        """The beginning, and wherever a step may have ended."""
        return (Start(), *self.moments.ask_at)

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Injects, counts, stops."""
        words = list(trace.meta["words"])
        if isinstance(trace.trigger, Start):
            state |= {"step": 0, "begin": len(words)}
            return Inject(words) if words else Continue()
        drawn = trace.ids[state["begin"] :].tolist()
        if not self.moments.ended(drawn, trace.trigger):
            return Continue()
        if any(character.isalnum() for character in self.text(drawn)):
            state |= {"step": state["step"] + 1, "begin": int(trace.ids.size)}
        return Stop() if state["step"] >= self.steps or self.moments.closed(drawn) else Continue()


def requests(
    places: Sequence[Place], texts: Sequence[str], chat: Chat, step: NextStep, params: SamplingParams, samples: int
) -> list[Request]:
    """Every text at every place."""
    return [
        Request(
            f"{place.id}:{digest(text)[:8]}",
            [*place.prompt_ids, *place.before],
            samples,
            params,
            step,
            group_id=place.id,
            tags=("harmful", text or "without"),
            meta={"prompt": place.prompt, "words": place.words(chat, text), "candidate": text, "step": place.step},
        )
        for text in texts
        for place in places
    ]


def safety(
    traces: Sequence[Trace], places: Sequence[Place], texts: Sequence[str], defence: SafeThink, with_words: bool
) -> dict[str, np.ndarray]:
    """R of the steps that were drawn, by text; NaN where the guard cannot say.

    Args:
      traces: of `requests`.
      places: of them.
      texts: of them.
      defence: whose guard it is.
      with_words: whether the guard reads the words, too; without them they can't pass for a safe thought themselves.

    Returns:
      {text: R_PxN}: places, samples of each.
    """
    by_id = {place.id: number for number, place in enumerate(places)}
    samples = 1 + max((trace.sample for trace in traces), default=0)
    found = {text: np.full((len(places), samples), np.nan) for text in texts}
    wanted = [trace for trace in traces if trace.meta["candidate"] in found]
    pairs = [(t.meta["prompt"], defence.text(_read(t, places[by_id[t.group_id]], with_words))) for t in wanted]
    for trace, score in zip(wanted, defence.score(pairs) if pairs else [], strict=True):
        if score.value is not None:
            found[trace.meta["candidate"]][by_id[trace.group_id], trace.sample] = score.value
    return found


def _read(trace: Trace, place: Place, with_words: bool) -> list[int]:
    shown = trace.completion_ids if with_words else trace.completion_ids[trace.source != Source.INJECTED]
    return [*place.before, *shown.tolist()]


def gain(with_PxN: np.ndarray, without_PxN: np.ndarray) -> np.ndarray:
    """Mean R with words minus mean R without, a place each; places that lack one of the two are left out.

    >>> gain(np.array([[1.0, 0.5], [np.nan, np.nan]]), np.array([[-1.0, -1.0], [0.0, 0.0]])).tolist()
    [1.75]
    """
    both = ~(np.isnan(with_PxN).all(1) | np.isnan(without_PxN).all(1))
    return np.nanmean(with_PxN[both], 1) - np.nanmean(without_PxN[both], 1)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error; 0 for the error of a single value.

    >>> mean_and_error(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    size = values.size
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(size)) if size > 1 else 0.0
