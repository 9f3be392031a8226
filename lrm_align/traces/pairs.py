"""Preference pairs as traces: two answers to one prompt, of one group, tagged with their side."""

import numpy as np

from lrm_align.errors import UserError
from lrm_align.traces.record import Trace
from lrm_align.traces.store import TokenStore

CHOSEN, REJECTED = "chosen", "rejected"
SIDES = (CHOSEN, REJECTED)


def make(chosen: Trace, rejected: Trace, pair_id: str) -> tuple[Trace, Trace]:
    """Two traces as a pair, ready for shards: a trace may serve in several pairs.

    The pair's id becomes their group and prompt id, 0 and 1 their sample numbers; what they were called stands in
    `meta["from"]`. Other tags stay.

    Args:
      chosen, rejected: answers to the same prompt.
      pair_id: distinct in a run.

    Raises:
      UserError: no id, or prompts that differ.

    >>> first, second = make(Trace([1], [2], [2]), Trace([1], [3, 4], [2, 2]), "p")
    >>> first.key, second.key, second.tags
    (('p', 0), ('p', 1), ('rejected',))
    """
    if not pair_id:
        raise UserError("pair: a pair of traces needs an id, found an empty one")
    if not np.array_equal(chosen.prompt_ids, rejected.prompt_ids):
        raise UserError(
            f"pair {pair_id!r}: its answers are to different prompts, of {chosen.prompt_ids.size} and "
            f"{rejected.prompt_ids.size} tokens; a preference compares answers to one prompt"
        )
    return _side(chosen, pair_id, 0), _side(rejected, pair_id, 1)


def fault(chosen: Trace, rejected: Trace) -> str | None:
    """Why a pair teaches nothing: "empty side" or "equal answers"; None for a sound one."""
    if not chosen.completion_ids.size or not rejected.completion_ids.size:
        return "empty side"
    if np.array_equal(chosen.completion_ids, rejected.completion_ids):
        return "equal answers"
    return None


def find(store: TokenStore) -> np.ndarray:
    """(P, 2) numbers of the (chosen, rejected) traces of a store, in the order of their chosen ones.

    Traces without either tag stand alone.

    Raises:
      UserError: a pair with a side missing or there twice, or no pair at all.
    """
    sides: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for number, (group, tags) in enumerate(zip(store.groups, store.tags, strict=True)):
        for side, found in zip(SIDES, sides):
            if side not in tags:
                continue
            if not group or group in found:
                problem = "belongs to no pair: it has no group id" if not group else f"is a second {side} answer of it"
                raise UserError(f"pair {group!r}: {store.name(number)} {problem}")
            found[group] = number
    chosen, rejected = sides
    if chosen.keys() != rejected.keys():
        group = min(chosen.keys() ^ rejected.keys())
        number = chosen.get(group, rejected.get(group, -1))
        raise UserError(
            f"pair {group!r}: {store.name(number)} is {'chosen' if group in chosen else 'rejected'} over nothing; "
            "a pair has one trace tagged chosen and one tagged rejected, with one group id"
        )
    if not chosen:
        raise UserError(
            f"no pair among {len(store)} traces: wanted two of one group id, tagged {CHOSEN} and {REJECTED}"
        )
    return np.array([(number, rejected[group]) for group, number in chosen.items()], np.int64)


def _side(trace: Trace, pair_id: str, side: int) -> Trace:
    others = tuple(tag for tag in trace.tags if tag not in SIDES)
    return trace.replace(
        prompt_id=pair_id,
        group_id=pair_id,
        sample=side,
        tags=(*others, SIDES[side]),
        meta={**trace.meta, "from": [trace.prompt_id, trace.sample]},
    )
