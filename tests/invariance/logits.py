"""Logits of a policy and its reference that scores must be right on: of a standard normal distribution, and far apart.

A new kind joins with a line, as (policy, reference) from noise and marks: what a score makes of it is tested against
float64 at every gap.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

VOCAB, DRAWS = 12, 16
GAPS = (10.0, 90.0, 200.0, 1e4)  # float32 has no e^-104
TEMPERATURES = (0.2, 0.7, 1.0, 2.0)


class Noise(NamedTuple):
    """Arrays of DRAWS x VOCAB.

    Attributes:
      p, r: standard normal.
      one, other: 1 at a token of each draw, not the same; `two` at both.
      wide, wider: uniform from -1 to 1.
    """

    p: np.ndarray
    r: np.ndarray
    one: np.ndarray
    other: np.ndarray
    wide: np.ndarray
    wider: np.ndarray

    @property
    def two(self) -> np.ndarray:
        """1 at both marks."""
        return self.one + self.other


KINDS: dict[str, Callable[[Noise, float], tuple[np.ndarray, np.ndarray]]] = {
    "normal": lambda n, gap: (n.p, n.r),
    "equal": lambda n, gap: (n.p * gap**0.5, n.p * gap**0.5),
    "nearly equal": lambda n, gap: (n.p + 1e-3 * n.r, n.p),
    "policy sure": lambda n, gap: (n.p + gap * n.one, n.r),
    "reference sure": lambda n, gap: (n.p, n.r + gap * n.one),
    "both sure, of other tokens": lambda n, gap: (n.p + gap * n.one, n.r + gap * n.other),
    "both sure, of one token": lambda n, gap: (n.p + gap * n.one, n.r + gap * n.one),
    "policy torn": lambda n, gap: (n.p + gap * n.two, n.r),
    "reference torn": lambda n, gap: (n.p, n.r + gap * n.two),
    "a token lost": lambda n, gap: (n.p - gap * n.one, n.r),
    "a token new": lambda n, gap: (n.p, n.r - gap * n.one),
    "an offset": lambda n, gap: (n.p + gap, n.r - gap),
    "anywhere": lambda n, gap: (gap * n.wide, gap * n.wider),
}


def drawn(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{kind: (policy, reference)}, float32, GAPS x DRAWS x VOCAB."""
    rng = np.random.default_rng(seed)

    def noise() -> Noise:
        marks = np.array([rng.permutation(VOCAB)[:2] for _ in range(DRAWS)])
        one, other = np.moveaxis(np.eye(VOCAB)[marks], 1, 0)
        wide, wider = rng.uniform(-1, 1, (2, DRAWS, VOCAB))
        return Noise(*rng.standard_normal((2, DRAWS, VOCAB)), one, other, wide, wider)

    pairs = {kind: [make(noise(), gap) for gap in GAPS] for kind, make in KINDS.items()}
    return {kind: (np.float32([p for p, _ in rows]), np.float32([r for _, r in rows])) for kind, rows in pairs.items()}
