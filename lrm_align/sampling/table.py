"""The host's view of the slots: what each holds, what it is asked, and how it ends."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from lrm_align.provenance import Source
from lrm_align.sampling import programs
from lrm_align.sampling.distribution import Transform
from lrm_align.sampling.interventions import (
    Action,
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
        self._ids_BxM = np.zeros((B, M), np.int32)
        self._source_BxM = np.zeros((B, M), np.uint8)
        self._sampler_logp_BxM = np.zeros((B, M), np.float32)
        self._model_logp_BxM = np.zeros((B, M), np.float32)
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
        boundary = [token for trigger in ask_at if isinstance(trigger, StepBoundary) for token in trigger.ids]
        s.boundary_BxA[slot, : len(boundary)] = boundary
        strings = [trigger.ids for trigger in ask_at if isinstance(trigger, StopString)]
        for p, ids in enumerate(strings):
            s.strings_BxPxW[slot, p] = programs.ANY
            s.strings_BxPxW[slot, p, -len(ids) :] = ids
        for trigger in ask_at:
            if isinstance(trigger, Start) and live.stop_reason is None:
                self._ask(slot, trigger)
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
        for slot in np.flatnonzero(decoded.count_B).tolist():
            live, count, start = self._taken(slot), int(decoded.count_B[slot]), int(self._length_B[slot])
            end = start + count
            self._ids_BxM[slot, start:end] = decoded.tokens_SxB[:count, slot]
            self._sampler_logp_BxM[slot, start:end] = decoded.sampler_logp_SxB[:count, slot]
            self._model_logp_BxM[slot, start:end] = decoded.model_logp_SxB[:count, slot]
            self._source_BxM[slot, start:end] = Source.SAMPLED
            injected, live.queue = live.queue[:count], live.queue[count:]
            self._source_BxM[slot, start : start + len(injected)] = [source for _, source in injected]
            self._length_B[slot] = end
            self._slots.draws_B[slot] += count - len(injected)
            reason = int(decoded.reason_B[slot])
            if reason == programs.STOP:
                live.stop_reason = "stop"
            elif reason == programs.LENGTH:
                live.stop_reason = "length"
            elif reason != programs.RUNNING:
                self._ask(slot, self._trigger(slot, reason))
            self._settle(slot)
        return int(decoded.count_B.sum())

    def finished(self) -> Iterator[Completion]:
        """Takes the finished samples out of their slots."""
        done, self._done = self._done, []
        for slot in done:
            live = self._live[slot]
            assert live is not None and live.stop_reason is not None
            self._live[slot] = None
            ids, source, sampler_logp, model_logp = (array.copy() for array in self._columns(slot))
            yield Completion(
                live.request, live.sample, ids, source, sampler_logp, model_logp, live.stop_reason, live.state
            )

    def _columns(self, slot: int) -> tuple[np.ndarray, ...]:
        length = self._length_B[slot]
        arrays = (self._ids_BxM, self._source_BxM, self._sampler_logp_BxM, self._model_logp_BxM)
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
                case TokenCount(count) if reason == programs.COUNT and live.limit - count == self._slots.pause_B[slot]:
                    return trigger
                case StopString(string) if reason == programs.STRING and tuple(ids[-len(string) :]) == tuple(string):
                    return trigger
                case StepBoundary(boundary) if reason == programs.BOUNDARY and ids[-1] in boundary:
                    return trigger
        raise AssertionError(f"slot {slot} paused for reason {reason}, which no trigger asked for")

    def _ask(self, slot: int, trigger: Trigger) -> None:
        live = self._taken(slot)
        ids, source, sampler_logp, model_logp = self._columns(slot)
        moment = Moment(
            live.request.prompt_id, live.sample, live.prompt_ids, ids, source, sampler_logp, model_logp, trigger
        )
        self._act(slot, self._intervention(slot).on_tokens(moment, live.state))

    def _act(self, slot: int, action: Action) -> None:
        live, length = self._taken(slot), int(self._length_B[slot])
        match action:
            case Continue():
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
        ask_at = live.request.intervention.ask_at if live.request.intervention is not None else ()
        counts = [t.count for t in ask_at if isinstance(t, TokenCount) and t.count > length]
        s.pause_B[slot] = live.limit - min(counts) if counts else programs.UNUSED
