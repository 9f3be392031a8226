"""What RAPO is measured by: attack success by a guard, and whether safe reasoning grows with attack complexity."""

from collections.abc import Mapping
from typing import Any

from lrm_align import limits
from lrm_align.chat import load
from lrm_align.errors import UserError
from lrm_align.evals import guarded
from lrm_align.evals.statistics import rank_correlation
from lrm_align.evals.subject import Subject
from lrm_align.scoring import rapo
from lrm_align.scoring.sentences import count_sentences


def evaluate(
    subject: Subject,
    *,
    sources: Mapping[str, Mapping[str, Any]],
    levelled: Mapping[str, Mapping[str, Any]],
    column: str = "level",
    limit: int = 0,
) -> dict[str, Any]:
    """`evals.guarded.evaluate`, and the rank correlation of sentences in the safe reasoning with the level of a prompt.

    The correlation is Spearman's, over all prompts of the levelled sets; safe reasoning is the first paragraph of the
    thought (arXiv 2602.04224). The paper reports no such number: it is ours.

    Args:
      subject: the model and the guard.
      sources: sets of harmful prompts: name to arguments of `lrm_align.chat.load`.
      levelled: the same, of prompts whose `meta` has a level.
      column: of the level.
      limit: the first so many of each set; 0 takes all.

    Returns:
      the rates of `evals.guarded`; `length_rank_correlation`; `analysis_sentences`, the mean length by level.

    Raises:
      UserError: a prompt without a level.
    """
    result = guarded.evaluate(subject, sources=sources, limit=limit)
    lengths: dict[int, list[int]] = {}
    for name, source in levelled.items():
        prompts = limits.first(load(**source), limit)
        for prompt, answer in zip(prompts, subject.answer(name, prompts), strict=True):
            level = str(prompt.meta.get(column))
            if not level.isdecimal():
                raise UserError(
                    f"config.evaluate.args.levelled.{name}: prompt {prompt.id!r} has {column} {level}; wanted a whole "
                    f"number; add meta={(column,)!r}, or given={{{column!r}: 1}} for a whole file"
                )
            lengths.setdefault(int(level), []).append(count_sentences(rapo.parse(answer.text).analysis))
    pairs = [(level, count) for level, counts in lengths.items() for count in counts]
    result["length_rank_correlation"] = rank_correlation([level for level, _ in pairs], [count for _, count in pairs])
    result["counts"]["length_rank_correlation"] = len(pairs)
    result["analysis_sentences"] = {str(level): sum(n) / len(n) for level, n in sorted(lengths.items())}
    return result
