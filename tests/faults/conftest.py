"""Places that jobs share."""

from tests.rl.conftest import shared

__all__ = ["shared"]
