"""The host's view of the slots: what each holds, what it is asked, and how it ends."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lrm_align.provenance import Source
from lrm_align.sampling import programs
from lrm_align.sampling.distribution import Transform
from lrm_align.sampling.interventions import (
    Action,
    BatchIntervention,
    Continue,
    Inject,
    Intervention,
    Moment,
    Rewind,
    Start,
    StepBoundary,
    Stop,
    StopString,
    TokenCount,
    Trigger,
)
from lrm_align.sampling.request import Completion, Request
from lrm_align.sampling.settled import Growing, settled
from lrm_align.sampling.shape import EngineShape


@dataclasses.dataclass
class _Live:
    """A sample in a slot."""

    request: Request
    sample: int
    prompt_ids: np.ndarray
    limit: int
    state: dict[str, Any]
    queue: list[tuple[int, int]]  # tokens to inject, with their source
    stop_reason: str | None = None
    quiet: bool = False  # its intervention wants to be asked no more


class _Asking(NamedTuple):
    """A moment: why an intervention is asked, and how long the completion was then."""

    slot: int
    trigger: Trigger
    length: int


class SlotTable:
    """Samples in slots. The device gets `slots()` and `forced()` before each call; its answer goes to `advance`.

    Args:
      shape: of the engine.
      stop_ids: tokens that end a completion.
    """

    def __init__(self, shape: EngineShape, stop_ids: tuple[int, ...]):
        self._shape, self._stop_ids = shape, frozenset(stop_ids)
        B, W, M = shape.slots, shape.stop_string_length, shape.max_length
        self._live: list[_Live | None] = [None] * B
        self._done: list[int] = []
        # Of an intervention, kept alive by its place here: the triggers that slots don't wait at, and their ids.
        self._unwaited: dict[int, tuple[Intervention, list[tuple[StepBoundary, frozenset[int]]]]] = {}
        self._ids_BxM = np.zeros((B, M), np.int32)
        self._source_BxM = np.zeros((B, M), np.uint8)
        self._sampler_logp_BxM = np.zeros((B, M), np.float32)
        self._model_logp_BxM = np.zeros((B, M), np.float32)
        self._entropy_BxM = np.zeros((B, M), np.float32)
        self._length_B = np.zeros(B, np.int32)
        zeros_B = np.zeros(B, np.int32)
        self._slots = programs.Slots(
            token_B=zeros_B.copy(),
            position_B=zeros_B.copy(),
            remaining_B=zeros_B.copy(),
            pause_B=zeros_B.copy(),
            draws_B=zeros_B.copy(),
            running_B=np.zeros(B, bool),
            prompt_B=np.zeros(B, np.uint32),
            sample_B=zeros_B.copy(),
            transform=Transform(
                np.ones(B, np.float32), zeros_B.copy(), np.ones(B, np.float32), np.zeros(B, np.float32)
            ),
            recent_BxW=np.full((B, W), programs.UNUSED, np.int32),
            boundary_BxA=np.full((B, shape.boundary_ids), programs.UNUSED, np.int32),
            strings_BxPxW=np.full((B, shape.stop_strings, W), programs.UNUSED, np.int32),
        )

    def free(self) -> list[int]:
        """Slots without a sample."""
        return [slot for slot, live in enumerate(self._live) if live is None]

    def occupied(self) -> bool:
        """Whether any slot has a sample."""
        return any(live is not None for live in self._live)

    def start(self, slot: int, request: Request, sample: int, prompt_hash: int) -> None:
        """Puts a sample into a free slot, and asks its intervention if that wants to be asked at the start."""
        prompt_ids = np.asarray(request.prompt_ids, np.int32)
        params = request.params
        limit = min(params.max_new_tokens, self._shape.max_length - prompt_ids.size)
        live = self._live[slot] = _Live(request, sample, prompt_ids, limit, {}, [])
        s = self._slots
        s.draws_B[slot], s.prompt_B[slot], s.sample_B[slot] = 0, prompt_hash, sample
        values = (params.temperature, params.top_k, params.top_p, params.min_p)
        for array_B, value in zip(s.transform, values):
            array_B[slot] = value
        s.boundary_BxA[slot], s.strings_BxPxW[slot] = programs.UNUSED, programs.UNUSED
        self._length_B[slot] = 0
        ask_at = request.intervention.ask_at if request.intervention is not None else ()
        boundary = [
            token for trigger in ask_at if isinstance(trigger, StepBoundary) and trigger.wait for token in trigger.ids
        ]
        s.boundary_BxA[slot, : len(boundary)] = boundary
        strings = [trigger.ids for trigger in ask_at if isinstance(trigger, StopString)]
        for p, ids in enumerate(strings):
            s.strings_BxPxW[slot, p] = programs.ANY
            s.strings_BxPxW[slot, p, -len(ids) :] = ids
        for trigger in ask_at:
            if isinstance(trigger, Start) and live.stop_reason is None:
                self._ask([_Asking(slot, trigger, 0)])
        self._settle(slot)

    def slots(self) -> programs.Slots:
        """What the device must know."""
        return self._slots

    def forced(self) -> np.ndarray:
        """(steps_per_call, slots) tokens to inject, −1 for none."""
        forced_SxB = np.full((self._shape.steps_per_call, self._shape.slots), -1, np.int32)
        for slot, live in enumerate(self._live):
            if live is not None and live.queue:
                tokens = [token for token, _ in live.queue[: self._shape.steps_per_call]]
                forced_SxB[: len(tokens), slot] = tokens
        return forced_SxB

    def advance(self, decoded: programs.Decoded) -> int:
        """Takes in what a call decoded, and asks the interventions whose moment has come; returns the tokens."""
        asking: list[_Asking] = []
        passed: dict[int, list[_Asking]] = {}
        for slot in np.flatnonzero(decoded.count_B).tolist():
            live, count, start = self._taken(slot), int(decoded.count_B[slot]), int(self._length_B[slot])
            end = start + count
            self._ids_BxM[slot, start:end] = decoded.tokens_SxB[:count, slot]
            self._sampler_logp_BxM[slot, start:end] = decoded.sampler_logp_SxB[:count, slot]
            self._model_logp_BxM[slot, start:end] = decoded.model_logp_SxB[:count, slot]
            self._entropy_BxM[slot, start:end] = decoded.entropy_SxB[:count, slot]
            self._source_BxM[slot, start:end] = Source.SAMPLED
            injected, live.queue = live.queue[:count], live.queue[count:]
            self._source_BxM[slot, start : start + len(injected)] = [source for _, source in injected]
            self._length_B[slot] = end
            self._slots.draws_B[slot] += count - len(injected)
            if not live.quiet and (moments := self._passed(slot, start + len(injected), start)):
                passed[slot] = moments
            reason = int(decoded.reason_B[slot])
            if reason == programs.STOP:
                live.stop_reason = "stop"
            elif reason == programs.LENGTH:
                live.stop_reason = "length"
            elif reason != programs.RUNNING:
                asking.append(_Asking(slot, self._trigger(slot, reason), end))
        changed = self._look_back(passed)
        for moment in asking:
            if self._taken(moment.slot).quiet:  # it said so at an earlier moment of this call
                self._act(moment.slot, Continue())
        self._ask([one for one in asking if one.slot not in changed and not self._taken(one.slot).quiet])
        for slot in np.flatnonzero(decoded.count_B).tolist():
            self._settle(slot)
        return int(decoded.count_B.sum())

    def finished(self) -> Iterator[Completion]:
        """Takes the finished samples out of their slots."""
        done, self._done = self._done, []
        for slot in done:
            live = self._live[slot]
            assert live is not None and live.stop_reason is not None
            self._live[slot] = None
            ids, source, sampler_logp, model_logp, _ = (array.copy() for array in self._columns(slot))
            yield Completion(
                live.request, live.sample, ids, source, sampler_logp, model_logp, live.stop_reason, live.state
            )

    def growing(self) -> Iterator[Growing]:
        """The samples that go on; their arrays are views that the next `advance` changes."""
        for slot, live in enumerate(self._live):
            if live is not None and live.stop_reason is None:
                ids, source, *_ = self._columns(slot)
                sure = settled(live.request, live.quiet, ids.size, live.state)
                yield Growing(live.request, live.sample, ids, source, sure)

    def drop(self, unwanted: Callable[[Request], bool]) -> None:
        """Empties the slots of requests that nobody wants any more."""
        for slot, live in enumerate(self._live):
            if live is not None and unwanted(live.request):
                self._live[slot] = None
                self._slots.running_B[slot] = False
                self._done = [done for done in self._done if done != slot]

    def _columns(self, slot: int) -> tuple[np.ndarray, ...]:
        length = self._length_B[slot]
        arrays = (self._ids_BxM, self._source_BxM, self._sampler_logp_BxM, self._model_logp_BxM, self._entropy_BxM)
        return tuple(array[slot, :length] for array in arrays)

    def _taken(self, slot: int) -> _Live:
        live = self._live[slot]
        if live is None:
            raise AssertionError(f"slot {slot} is free")
        return live

    def _intervention(self, slot: int) -> Intervention:
        intervention = self._taken(slot).request.intervention
        if intervention is None:
            raise AssertionError(f"slot {slot} has no intervention to ask")
        return intervention

    def _trigger(self, slot: int, reason: int) -> Trigger:
        live = self._taken(slot)
        ids = self._ids_BxM[slot, : self._length_B[slot]].tolist()
        for trigger in self._intervention(slot).ask_at:
            match trigger:
                case TokenCount(count, wait=True) if (
                    reason == programs.COUNT and live.limit - count == self._slots.pause_B[slot]
                ):
                    return trigger
                case StopString(string) if reason == programs.STRING and tuple(ids[-len(string) :]) == tuple(string):
                    return trigger
                case StepBoundary(boundary, wait=True) if reason == programs.BOUNDARY and ids[-1] in boundary:
                    return trigger
        raise AssertionError(f"slot {slot} paused for reason {reason}, which no trigger asked for")

    def _passed(self, slot: int, first: int, start: int) -> list[_Asking]:
        """The moments that a slot did not wait at, among its tokens from `first` on, the first sampled of a call."""
        intervention, end = self._taken(slot).request.intervention, int(self._length_B[slot])
        found: list[_Asking] = []
        if intervention is None:
            return found
        if id(intervention) not in self._unwaited:
            unwaited = [
                (t, frozenset(t.ids)) for t in intervention.ask_at if isinstance(t, StepBoundary) and not t.wait
            ]
            self._unwaited[id(intervention)] = intervention, unwaited
        for trigger, ids in self._unwaited[id(intervention)][1]:
            tokens = self._ids_BxM[slot, first:end].tolist()
            found += [_Asking(slot, trigger, first + i + 1) for i, token in enumerate(tokens) if token in ids]
        counts = [t for t in intervention.ask_at if isinstance(t, TokenCount) and not t.wait and start < t.count <= end]
        found += [_Asking(slot, count, max(count.count, first + 1)) for count in counts if first < end]
        return sorted(found, key=lambda moment: moment.length)

    def _look_back(self, passed: dict[int, list[_Asking]]) -> set[int]:
        """Asks about moments that are past, in order; returns the slots where tokens were taken back."""
        changed = set()
        while passed:
            for moment, action in self._answers([moments.pop(0) for moments in passed.values()]):
                slot, live = moment.slot, self._taken(moment.slot)
                if isinstance(action, Continue):
                    live.quiet = live.quiet or not action.again
                    if live.quiet or not passed[slot]:
                        del passed[slot]
                    continue
                # As if it had waited there: what came after was never drawn.
                self._slots.draws_B[slot] -= self._length_B[slot] - moment.length
                self._length_B[slot], live.stop_reason = moment.length, None
                self._act(slot, action)
                changed.add(slot)
                del passed[slot]
        return changed

    def _ask(self, asking: list[_Asking]) -> None:
        for moment, action in self._answers(asking):
            self._act(moment.slot, action)

    def _answers(self, asking: list[_Asking]) -> list[tuple[_Asking, Action]]:
        """Asks about slots, an intervention about all of its own at a time."""
        by_intervention: dict[int, list[_Asking]] = {}
        for one in asking:
            by_intervention.setdefault(id(self._intervention(one.slot)), []).append(one)
        answers: list[tuple[_Asking, Action]] = []
        for group in by_intervention.values():
            intervention = self._intervention(group[0].slot)
            moments = [self._moment(*one) for one in group]
            states = [self._taken(one.slot).state for one in group]
            if isinstance(intervention, BatchIntervention):
                actions = intervention.on_batch(moments, states)
            else:
                actions = [intervention.on_tokens(*one) for one in zip(moments, states)]
            answers += zip(group, actions, strict=True)
        return answers

    def _moment(self, slot: int, trigger: Trigger, length: int) -> Moment:
        live = self._taken(slot)
        request = live.request
        ids, source, sampler_logp, model_logp, entropy = (column[:length] for column in self._columns(slot))
        known = (request.prompt_id, live.sample, live.prompt_ids, ids, source, sampler_logp, model_logp, entropy)
        return Moment(*known, trigger, request.meta)

    def _act(self, slot: int, action: Action) -> None:
        live, length = self._taken(slot), int(self._length_B[slot])
        match action:
            case Continue(again):
                live.quiet = live.quiet or not again
                # The moment may have been the end: the device asks first.
                sampled = length > 0 and self._source_BxM[slot, length - 1] == Source.SAMPLED
                if sampled and int(self._ids_BxM[slot, length - 1]) in self._stop_ids:
                    live.stop_reason = "stop"
            case Inject(ids, source):
                live.queue += [(int(token), int(source)) for token in ids]
            case Stop():
                live.stop_reason = "intervention"
            case Rewind(to, then):
                if not 0 <= to <= length:
                    raise ValueError(f"Rewind(to={to}) in a completion of {length} tokens")
                self._length_B[slot] = to
                live.queue.clear()
                if not isinstance(then, Continue):
                    self._act(slot, then)
            case _:
                raise TypeError(f"{type(live.request.intervention).__name__}.on_tokens returned {action!r}")

    def _settle(self, slot: int) -> None:
        """Brings the device's view of a slot up to date with its text."""
        live, length, s = self._taken(slot), int(self._length_B[slot]), self._slots
        remaining = live.limit - length
        if live.stop_reason is None and remaining <= 0:
            live.stop_reason = "length"
        s.running_B[slot] = live.stop_reason is None
        if live.stop_reason is not None:
            self._done.append(slot)
            return
        s.token_B[slot] = self._ids_BxM[slot, length - 1] if length else live.prompt_ids[-1]
        s.position_B[slot] = live.prompt_ids.size + length - 1
        s.remaining_B[slot] = remaining
        W = self._shape.stop_string_length
        recent = self._ids_BxM[slot, max(0, length - W) : length]
        s.recent_BxW[slot] = programs.UNUSED
        s.recent_BxW[slot, W - recent.size :] = recent
        if live.quiet:
            s.boundary_BxA[slot], s.strings_BxPxW[slot], s.pause_B[slot] = [programs.UNUSED] * 3
            return
        ask_at = live.request.intervention.ask_at if live.request.intervention is not None else ()
        counts = [t.count for t in ask_at if isinstance(t, TokenCount) and t.wait and t.count > length]
        s.pause_B[slot] = live.limit - min(counts) if counts else programs.UNUSED
