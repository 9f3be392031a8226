"""What a trace is worth: each judge gives a `Score`; filters, rewards and evaluations read it."""

from lrm_align.scoring.guard import Guard
from lrm_align.scoring.score import Score

__all__ = ["Guard", "Score"]
