"""The traces of runs as the reader of a page takes them: compact, harmless, and no more than a page can carry."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from etils import epath

from lrm_align.errors import UserError
from lrm_align.pages import safe, shelves
from lrm_align.pages.run import Run
from lrm_align.pages.shelves import Key, Shelf
from lrm_align.pages.units import Cutter, Decode, Vocabulary, of_text
from lrm_align.provenance import Source
from lrm_align.traces import Trace, read_shard
from lrm_align.traces.show import runs as stretches

TRACES, TOKENS = 5_000, 4_000_000  # ours: a page of about 20 MB, which a browser opens in a second or two
_UNKNOWN, _FINEST = 255, 16  # a log-probability is one byte: -logp in sixteenths of a nat, or unknown
_PROMPT_SHOWN = 600  # characters in the list; all of a prompt's tokens are in the trace


class Book(NamedTuple):
    """What the reader shows.

    Attributes:
      data: plain, for `safe.data`.
      shown, found: traces in it, and traces that the runs left.
    """

    data: dict[str, Any]
    shown: int
    found: int


def write(runs: Sequence[Run], traces: int = TRACES, tokens: int = TOKENS) -> Book:
    """Collects the traces of runs, evenly of every set where there are more than a page carries.

    Args:
      runs: what workdirs hold.
      traces: at most.
      tokens: at most, of prompts and completions.

    Raises:
      UserError: a damaged shard.
    """
    vocabulary = Vocabulary()
    found = [shelf for run in runs for shelf in shelves.of(run, len(runs) == 1)]
    chosen = shelves.chosen(found, traces, tokens)
    entries: list[dict[str, Any]] = []
    cutters = {run.directory: Cutter(vocabulary, decoder(run)) for run in runs if found}
    for number, (shelf, keys) in enumerate(zip(found, chosen, strict=True)):
        cut = cutters[shelf.run]
        made = _written(shelf, keys, vocabulary) if not shelf.shards else _read(shelf, keys, cut)
        entries += [{"h": number, **entry} for entry in made]
    data = {
        "sources": [source.name.lower() for source in Source],
        "shelves": [{name: safe.shown(getattr(s, name)) for name in ("method", "stage", "set")} for s in found],
        "wide": len(vocabulary.texts) > 0xFFFF,
        "vocabulary": vocabulary.texts,
        "traces": entries,
    }  # fmt: skip
    numbers = np.uint32 if data["wide"] else np.uint16
    for entry in entries:
        entry["u"] = _packed(np.array(entry["u"], numbers))
    return Book(data, len(entries), sum(shelf.size for shelf in found))


def stepped_in(book: Book) -> dict[str, tuple[int, int]]:
    """How often something that the model did not draw stands in a completion, by method, stage and first tag.

    Returns:
      `{name: (traces with it, traces)}`, for stages that have any.
    """
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    for entry in book.data["traces"]:
        shelf = book.data["shelves"][entry["h"]]
        there = {source for source, _ in entry["x"]}
        for source in (Source.INJECTED, Source.TOOL):
            key = (shelf["method"], shelf["stage"], entry["t"][0] if entry["t"] else "", source.name.lower())
            found = counts.setdefault(key, [0, 0])
            found[0] += source in there
            found[1] += 1
    stages = {(method, stage, source) for (method, stage, _, source), (some, _) in counts.items() if some}
    return {
        f"{method}, {stage}, {tag}: {source} tokens".replace(", :", ":"): (some, count)
        for (method, stage, tag, source), (some, count) in counts.items()
        if (method, stage, source) in stages
    }


def decoder(run: Run) -> Decode:
    """Ids of a run to text, by the tokenizer of its export or of its model; the numbers themselves without one."""
    places = [place / "model" for part in run.parts for name, place in part.stages.items() if name == "export"]
    for place in [*places, epath.Path((run.config.get("model") or {}).get("path") or "nowhere")]:
        file = place / "tokenizer.json"
        if file.is_file():
            try:
                return _decoder(tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8")))
            except Exception as error:  # what tokenizers raises is of no narrower class
                raise UserError(f"{file} is not a tokenizer: {str(error)[:200]}") from None
    return lambda ids: "".join(f"{token} " for token in ids)


def _decoder(tokenizer: tokenizers.Tokenizer) -> Decode:
    known = frozenset(tokenizer.get_vocab().values())

    def decode(ids: Sequence[int]) -> str:
        if all(token in known for token in ids):
            return str(tokenizer.decode(list(ids), skip_special_tokens=False))
        # An id that the tokenizer lacks would vanish from its output.
        return "".join(decode([token]) if token in known else f"<token {token}>" for token in ids)

    return decode


def _read(shelf: Shelf, keys: frozenset[tuple[str, int]], cutter: Cutter) -> Iterator[dict[str, Any]]:
    """The chosen traces of a shelf, with what judges said of them."""
    for shard in shelf.shards:
        reader = read_shard(shard)
        for index, key in enumerate(shard.manifest.keys):
            if key in keys:
                trace = reader[index]
                yield {**_entry(trace, cutter), **_judged(trace, shelf)}


def _entry(trace: Trace, cutter: Cutter) -> dict[str, Any]:
    numbers: list[int] = []
    sources: list[list[int]] = []
    logps: list[int] = []
    known = np.concatenate([np.full(trace.prompt_ids.size, np.nan, np.float32), _logp(trace)])
    begins: list[int] = []  # of units, in tokens
    at = 0
    for source, ids in stretches(trace):
        cut = cutter.units(ids)
        sources.append([int(source), len(cut)])
        for number, size in cut:
            numbers.append(number)
            begins.append(at)
            logps.append(_byte(known[at : at + size].sum()))
            at += size
    return {
        "i": safe.shown(trace.prompt_id),
        "n": trace.sample,
        "p": safe.shown(_prompt(trace)),
        "t": [safe.shown(tag) for tag in trace.tags],
        "e": trace.stop_reason,
        "k": int(trace.completion_ids.size),
        "u": numbers,
        "x": sources,
        "l": _packed(np.array(logps, np.uint8)) if min(logps, default=_UNKNOWN) < _UNKNOWN else "",
        "c": [
            [name, [[_unit(begins, trace.prompt_ids.size + place), value] for place, value in points]]
            for name, points in curves(trace.meta).items()
        ],
    }


def _judged(trace: Trace, shelf: Shelf) -> dict[str, Any]:
    """Verdict and scores: of the trace's own scores, and of the files that judges left beside it."""
    said = shelf.verdicts.get(trace.key, {})
    scores = _numbers({**{name: score.get("value") for name, score in trace.scores.items()}, **said})
    ended = "unfinished" if trace.stop_reason == "length" else "finished"
    return {"v": safe.shown(str(said.get("verdict", ended))), "s": scores}


def _written(shelf: Shelf, keys: frozenset[Key], vocabulary: Vocabulary) -> Iterator[dict[str, Any]]:
    """Samples that were kept as text: a table of rollouts."""
    for _, number in sorted(keys):
        row = shelf.rows[number]
        words = of_text(str(row.get("text", "")))
        numbers = {"reward": row.get("reward"), "advantage": row.get("advantage"), "step": row.get("step")}
        numbers |= {name: score.get("value") for name, score in (row.get("scores") or {}).items()}
        unscored = "unscored" if row.get("reward") is None else ""
        yield {
            "i": safe.shown(str(row.get("prompt_id", ""))),
            "n": int(row.get("ticket") or 0),
            "p": safe.shown(str(row.get("prompt", ""))),
            "t": [safe.shown(str(row.get("label", "")))],
            "e": safe.shown(str(row.get("stop_reason", ""))),
            "v": unscored or ("unfinished" if row.get("stop_reason") == "length" else "finished"),
            "k": len(words),
            "w": 1,  # these are words: the tokens were not kept
            "u": [vocabulary.number(word) for word in words],
            "x": [[int(Source.SAMPLED), len(words)]],
            "l": "",
            "c": [],
            "s": _numbers(numbers),
        }


def curves(meta: Mapping[str, Any], depth: int = 2) -> dict[str, list[tuple[int, float | None]]]:
    """What was measured along a completion: lists of [tokens so far, number or None] in the meta of a trace, by name.

    >>> curves({"prompt": "?", "intervention": {"scores": [[12, -0.5], [30, None]], "injected": 1}})
    {'intervention scores': [(12, -0.5), (30, None)]}
    """
    found: dict[str, list[tuple[int, float | None]]] = {}
    for name, value in meta.items():
        if isinstance(value, Mapping) and depth > 1:
            found |= {f"{safe.shown(name)} {inner}": points for inner, points in curves(value, depth - 1).items()}
        elif isinstance(value, list) and value and all(_is_point(point) for point in value):
            found[safe.shown(name)] = [
                (point[0], None if point[1] is None else round(float(point[1]), 4)) for point in value
            ]
    return found


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and type(value[0]) is int
        and value[0] >= 0
        and (value[1] is None or (isinstance(value[1], float) and bool(np.isfinite(value[1]))))
    )


def _unit(begins: Sequence[int], token: int) -> int:
    return int(np.searchsorted(begins, token))


def _prompt(trace: Trace) -> str:
    prompt = trace.meta.get("prompt")
    return prompt[:_PROMPT_SHOWN] if isinstance(prompt, str) else ""


def _logp(trace: Trace) -> np.ndarray:
    """(C,) of the model itself where it was recorded, else of the distribution that was drawn from."""
    return trace.model_logp if np.isfinite(trace.model_logp).any() else trace.sampler_logp


def _byte(logp: float) -> int:
    return _UNKNOWN if not np.isfinite(logp) else min(_UNKNOWN - 1, max(0, round(-float(logp) * _FINEST)))


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """What of these values is a number that JSON can hold, under harmless names."""
    return {
        safe.shown(name): round(float(value), 4)
        for name, value in values.items()
        if type(value) in (int, float) and np.isfinite(value)
    }
