"""The static sizes of an engine: everything that its compiled programs depend on."""

import bisect
import dataclasses

from lrm_align.errors import UserError
from lrm_align.sampling.interventions import Intervention, StepBoundary, StopString


def asked_for(intervention: Intervention) -> dict[str, int]:
    """The sizes of an engine that an intervention's triggers need, by name."""
    waited = [trigger for trigger in intervention.ask_at if isinstance(trigger, StepBoundary) and trigger.wait]
    strings = [trigger.ids for trigger in intervention.ask_at if isinstance(trigger, StopString)]
    return {
        "boundary_ids": sum(len(trigger.ids) for trigger in waited),
        "stop_strings": len(strings),
        "stop_string_length": max(map(len, strings), default=0),
    }


@dataclasses.dataclass(frozen=True)
class EngineShape:
    """Sizes of the engine. Samples are reproducible to the bit for one shape, and to rounding across shapes.

    Attributes:
      slots: completions decoded at a time.
      max_length: positions of a slot: prompt and completion.
      prompt_buckets: lengths that prompts are padded to, ascending, a program each; empty: powers of two from 32.
      steps_per_call: most tokens a slot decodes between two looks of the host.
      prefill_rows: prompts that are read at a time; 0 takes an eighth of the slots.
      refill_at: idle slots at which the device returns to the host while prompts wait; 0 takes an eighth of the slots.
      boundary_ids: most ids in the `StepBoundary` triggers of a request.
      stop_strings: most `StopString` triggers of a request.
      stop_string_length: most tokens in one of them.
      lanes: threads, each with its part of the slots: a CPU decodes few slots on one core, however many it has. On a
        mesh or an accelerator there is one.
    """

    slots: int = 32
    max_length: int = 1024
    prompt_buckets: tuple[int, ...] = ()
    steps_per_call: int = 64
    prefill_rows: int = 0
    refill_at: int = 0
    boundary_ids: int = 64
    stop_strings: int = 2
    stop_string_length: int = 16
    lanes: int = 1

    def __post_init__(self) -> None:
        for name in (
            "slots",
            "max_length",
            "steps_per_call",
            "boundary_ids",
            "stop_strings",
            "stop_string_length",
            "lanes",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"sampling: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("prefill_rows", "refill_at"):
            if not 0 <= getattr(self, name) <= self.slots:
                raise UserError(f"sampling: {name} is {getattr(self, name)}; it must be 0 to slots = {self.slots}")
        if self.slots % self.lanes:
            raise UserError(f"sampling: {self.slots} slots do not divide into {self.lanes} lanes")
        if list(self.prompt_buckets) != sorted(set(self.prompt_buckets)) or min(self.prompt_buckets, default=1) < 1:
            raise UserError(f"sampling: prompt_buckets {self.prompt_buckets} must be ascending and above 0")

    @property
    def buckets(self) -> tuple[int, ...]:
        """The prompt lengths in use; the last is `max_length`.

        >>> EngineShape(max_length=100).buckets
        (32, 64, 100)
        """
        given = self.prompt_buckets or tuple(32 << i for i in range(27))
        return (*(length for length in given if length < self.max_length), self.max_length)

    @property
    def rows(self) -> int:
        """Prompts read at a time."""
        return self.prefill_rows or max(1, self.slots // 8)

    @property
    def idle(self) -> int:
        """Idle slots that bring the device back to the host."""
        return self.refill_at or max(1, self.slots // 8)

    @property
    def lane(self) -> "EngineShape":
        """The sizes of one lane.

        >>> EngineShape(slots=64, lanes=2, prefill_rows=1).lane.slots
        32
        """
        parts = {name: -(-getattr(self, name) // self.lanes) for name in ("slots", "prefill_rows", "refill_at")}
        return dataclasses.replace(self, lanes=1, **parts)

    def serving(self, intervention: Intervention) -> "EngineShape":
        """The sizes with room for what an intervention wants to be asked at."""
        needs = asked_for(intervention)
        return dataclasses.replace(self, **{name: max(getattr(self, name), need) for name, need in needs.items()})

    def bucket(self, length: int) -> int:
        """The padded length of a prompt."""
        return self.buckets[bisect.bisect_left(self.buckets, length)]
