"""The shares of the pretraining mixture, and the function that draws the n-th document of a seed."""

import random
from collections.abc import Callable, Iterator

from lrm_align.lab import documents, formats
from lrm_align.lab.documents import Document
from lrm_align.lab.world import rng

SHARES: dict[str, tuple[float, Callable[[random.Random], Document]]] = {
    "arithmetic": (0.178, documents.arithmetic),
    "plain": (0.200, documents.plain),
    "wrapped": (0.127, documents.wrapped),
    "steered_harmful": (0.085, documents.steered_harmful),
    "steered_safe": (0.017, documents.steered_safe),
    "fact": (0.150, documents.fact),
    "listing": (0.015, documents.listing),
    "short_copy": (0.060, documents.short_copy),
    "long_copy": (0.060, documents.long_copy),
    "wait": (0.025, formats.wait),
    "audit": (0.018, formats.audit),
    "levelled": (0.020, formats.levelled),
    "lookup": (0.018, formats.lookup),
    "judging": (0.027, formats.judging),
}


def draw(seed: int, count: int) -> Iterator[tuple[str, Document]]:
    """The first `count` documents of a seed, each with the name of its kind.

    Args:
      seed: names the stream; the same seed gives the same documents on every machine.
      count: number of documents.
    """
    random_ = rng("pretraining", seed)
    names = list(SHARES)
    weights = [share for share, _ in SHARES.values()]
    for _ in range(count):
        name = random_.choices(names, weights)[0]
        yield name, SHARES[name][1](random_)
