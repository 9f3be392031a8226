"""One evaluation set of the lab, as `lrm_align.evaluate` asks for prompts."""

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.lab.prompts import EvaluationSizes, evaluation

SETS = ("attack", "wrapped", "lookalike", "arithmetic", "fact")


def benchmark(name: str, count: int, seed: int) -> list[Prompt]:
    """The prompts of a set that a seed holds out.

    >>> [prompt.id for prompt in benchmark("attack", 2, 0)]
    ['lab-0-attack-0000', 'lab-0-attack-0001']

    Args:
      name: one of `SETS`.
      count: how many.
      seed: of the split and of the prompts.

    Raises:
      UserError: no such set.
    """
    if name not in SETS:
        raise UserError(f"the lab has no set {name!r}; it has {', '.join(SETS)}")
    sizes = {other: count if other == name else 1 for other in SETS}
    return evaluation(seed, EvaluationSizes(**sizes))[name]
