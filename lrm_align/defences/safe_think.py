"""SafeThink: the growing thought is watched, and an unsafe early step is drawn again after "Wait, think safely".

Ghosal et al. 2026, arXiv 2602.11096. Safety is a threshold to reach, not a quantity to maximise: step t of the thought
is accepted when R(prompt, thought with the step) ≥ τ, with R = 1 - 2 p(unsafe) in [-1, 1]. An unsafe one of the first m
is taken back, the words are put in, and the step is drawn again, up to B times; the first safe one is taken. What the
paper leaves open is marked as ours below.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lrm_align.chat import Chat
from lrm_align.defences import steps as steps_
from lrm_align.defences.defence import Defence
from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Action, Continue, Inject, Moment, Rewind, Stop, Trigger
from lrm_align.scoring import Guard, Score

WORDS = "Wait, think safely."  # section 3 has "Wait, think safely"; the stop is ours, so that a sentence is whole
FALLBACKS = ("last", "best", "stop")

Scorer = Callable[[Sequence[tuple[str, str]]], list[Score]]


@dataclasses.dataclass(frozen=True, eq=False)
class SafeThink:
    """The intervention.

    Its state keeps `scores`, [position, R or None] of every candidate; `injected`, how often the words were put in; and
    of the step at hand: its number, where it begins, draws after the first, ids of words at its head, and candidates.

    Attributes:
      score: (prompt, text so far) pairs to R.
      text: ids of a completion to what the guard reads.
      opening: ids of the mark of a thought's beginning, before which nothing is put.
      steps: where they end.
      words: ids put in after white space, and ids put in after anything else.
      threshold: τ.
      early: m, steps that are watched.
      resamples: B, draws of a step after the first.
      keep_words: they stay in the thought; else an accepted step is put in their place.
      fallback: what becomes of a step that is never safe: the "last" draw, the "best", or "stop".
    """

    score: Scorer
    text: Callable[[Sequence[int]], str]
    opening: tuple[int, ...]
    steps: steps_.Steps
    words: tuple[tuple[int, ...], tuple[int, ...]]
    threshold: float
    early: int
    resamples: int
    keep_words: bool
    fallback: str

    @property
    def ask_at(self) -> tuple[Trigger, ...]:
        """Wherever a step may have ended."""
        return self.steps.ask_at

    def on_tokens(self, trace: Moment, state: dict[str, Any]) -> Action:
        """Accepts a step, or has it drawn again."""
        return self.on_batch([trace], [state])[0]

    def on_batch(self, traces: Sequence[Moment], states: Sequence[dict[str, Any]]) -> list[Action]:
        """As `on_tokens`, with one call of the guard for all."""
        for trace, state in zip(traces, states, strict=True):
            if not state:
                state |= {"step": 0, "begin": after_opening(trace.ids.tolist(), self.opening), "tries": 0, "put": 0}
                state |= {"candidates": [], "scores": [], "injected": 0}
        watched = [i for i, state in enumerate(states) if state["step"] < self.early and self._says(traces[i], state)]
        pairs = [(traces[i].meta["prompt"], self.text(traces[i].ids.tolist())) for i in watched]
        scores = dict(zip(watched, self.score(pairs) if pairs else [], strict=True))
        return [
            self._decide(trace, state, scores[i]) if i in scores else Continue(again=state["step"] < self.early)
            for i, (trace, state) in enumerate(zip(traces, states, strict=True))
        ]

    def settled(self, length: int, state: dict[str, Any]) -> int:
        """What stays, for those who show a completion as it grows: all but the step at hand."""
        return length if state and state["step"] >= self.early else state.get("begin", 0)

    def _says(self, trace: Moment, state: dict[str, Any]) -> bool:
        """Whether a step has ended: white space alone is none."""
        ids = trace.ids[state["begin"] :].tolist()
        return bool(self.text(ids).strip()) and self.steps.ended(ids, trace.trigger)

    def _decide(self, trace: Moment, state: dict[str, Any], score: Score) -> Action:
        begin, value = state["begin"], score.value
        drawn = trace.ids[begin:].tolist()
        kept = drawn if self.keep_words else drawn[state["put"] :]
        state["scores"].append([int(trace.ids.size), value])
        # A guard that can't say is no reason to interfere: the step stands, and the report counts it.
        if value is not None and value < self.threshold:
            state["candidates"].append([value, kept])
            if state["tries"] < self.resamples:
                words = self.words[in_a_line(self.text, trace.ids.tolist(), begin)]
                state |= {"tries": state["tries"] + 1, "put": len(words), "injected": state["injected"] + 1}
                return Rewind(begin, Inject(words))
            if self.fallback == "stop":
                return Stop()
            if self.fallback == "best":
                kept = max(state["candidates"], key=lambda candidate: candidate[0])[1]
        state |= {"step": state["step"] + 1, "begin": begin + len(kept), "tries": 0, "put": 0, "candidates": []}
        if self.steps.closed(kept):
            state["step"] = self.early
        if kept != drawn:
            return Rewind(begin, Inject(kept))
        return Continue(again=state["step"] < self.early)


def safe_think(
    chat: Chat,
    guard: Callable[[], Guard],
    *,
    text: str = WORDS,
    steps: str = "paragraph",
    step_tokens: int = 64,
    threshold: float = 0.0,
    early: int = 3,
    resamples: int = 4,
    keep_words: bool = True,
    fallback: str = "last",
) -> Defence:
    """SafeThink (arXiv 2602.11096).

    Args:
      chat: of the model.
      guard: builds the guard, whose p(unsafe) of (prompt, thought so far) gives R; built when first asked.
      text: the words that are put in.
      steps: where a step ends, "paragraph", "sentence" or "tokens"; the paper is silent, the choice is ours.
      step_tokens: length of a step where `steps` is "tokens"; ours.
      threshold: τ on R in [-1, 1]; the paper has 0.
      early: m; the paper's curve is flat from 3 on. 0 is the model as it is.
      resamples: B; the paper is silent, the choice is ours.
      keep_words: whether they stay in the thought; the paper's text injects them, its pseudo-code drops them. What was
        drawn under words that are dropped counts as injected: its log-probability belongs to another context.
      fallback: "last" (the pseudo-code's), "best" by R, or "stop", which ends the completion.

    Raises:
      UserError: a value out of its range.
    """
    sound = {
        "text": (text, bool(text.strip()), "words"),
        "threshold": (threshold, -1 <= threshold <= 1, "from -1 to 1"),
        "early": (early, early >= 0, "0 (off) or more"),
        "resamples": (resamples, resamples >= 1, "at least 1"),
        "fallback": (fallback, fallback in FALLBACKS, f"one of {', '.join(FALLBACKS)}"),
    }
    for name, (value, right, wanted) in sound.items():
        if not right:
            raise UserError(f"config.defence.args.{name} is {value!r}; it must be {wanted}")
    moments = steps_.steps(chat, steps, step_tokens, early)
    if early == 0:
        return Defence("safe_think")
    built: list[Guard] = []

    def score(pairs: Sequence[tuple[str, str]]) -> list[Score]:
        if not built:
            built.append(guard())
        prompts, thoughts = zip(*pairs, strict=True)
        return [signed(one) for one in built[0].score(prompts, thoughts)]

    intervention = SafeThink(
        score,
        lambda ids: chat.decode(ids),
        tuple(chat.encode_trusted(chat.opening)) if chat.thinking.thinks else (),
        moments,
        (tuple(chat.encode_plain(text)), tuple(chat.encode_plain(f" {text}"))),
        threshold,
        early,
        resamples,
        keep_words,
        fallback,
    )
    return Defence("safe_think", intervention=intervention)


def after_opening(ids: Sequence[int], opening: Sequence[int]) -> int:
    """Where a completion's first step begins: after the mark of a thought's beginning, as far as it has that.

    >>> after_opening([7, 8, 3], [7, 8]), after_opening([3], [7, 8])
    (2, 0)
    """
    head = list(ids[: len(opening)])
    return next((i for i, (one, mark) in enumerate(zip(head, opening)) if one != mark), len(head))


def in_a_line(text: Callable[[Sequence[int]], str], ids: Sequence[int], begin: int) -> bool:
    """Whether what is put in at a position stands behind a character that is no white space."""
    before = text(ids[max(0, begin - 1) : begin])
    return bool(before) and not before[-1].isspace()


def signed(score: Score) -> Score:
    """p(unsafe) in [0, 1] to R = 1 - 2 p(unsafe) in [-1, 1].

    >>> signed(Score(0.25)).value
    0.5
    """
    return score if score.value is None else dataclasses.replace(score, value=1 - 2 * score.value)
