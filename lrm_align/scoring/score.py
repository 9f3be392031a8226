"""What a judge says of a trace: a number with named parts, or nothing with a reason."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Score:
    """A number, or *unscored* with a reason; a judge that cannot decide never counts as 0, as -1 or as "safe".

    >>> Score(0.25, {"p_safe": 0.72, "p_unsafe": 0.24}).scored, Score.unscored("empty response").scored
    (True, False)

    Attributes:
      value: the number; None where unscored.
      parts: what it was made of, by name; an unscored one may have some, too.
      reason: why there is no number; None where there is one.
    """

    value: float | None
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self):
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"a score has either a value or a reason, got {self.value!r} and {self.reason!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score is finite, got {self.value!r}; use Score.unscored")

    @classmethod
    def unscored(cls, reason: str, parts: Mapping[str, float] | None = None) -> "Score":
        """No number, for this reason."""
        return cls(None, dict(parts or {}), reason)

    @property
    def scored(self) -> bool:
        """Whether there is a number."""
        return self.value is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the record of a trace."""
        return {"value": self.value, "parts": dict(self.parts), "reason": self.reason}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Score":
        """The inverse of `to_dict`."""
        return cls(record["value"], dict(record["parts"]), record["reason"])
