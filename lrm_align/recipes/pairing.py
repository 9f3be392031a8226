"""The pairs stage: preferences as text or as traces, and shards of paired traces that training reads."""

import collections
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from lrm_align import limits
from lrm_align.chat import Chat, preferences, thinking
from lrm_align.chat.preferences import Preference
from lrm_align.config import digest
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.recipes.stage import Summary
from lrm_align.traces import ShardWriter, TokenStore, Trace, find_shards, pairs, read_shard
from lrm_align.traces.manifest import name_of

PAIRS = "pairs"
_AT_ONCE = 2048  # traces a shard; even, so that a kill never parts a pair
_RENDERED = 256  # prompts at a time


class Pairs(NamedTuple):
    """Pairs to train on. What the factory of `config.pairs` returns, ours or a fork's.

    Attributes:
      size: how many there are at most.
      traces: makes them one by one, each as `traces.pairs.make` returns it.
      identity: plain values that change when the pairs do.
      skipped: what was left out so far, by reason.
      left_out: what the pairs made so far do not hold, by kind: thoughts and outer blanks of earlier turns that the
        template drops, and fields of answers that are not trained on.
    """

    size: int
    traces: Callable[[], Iterator[tuple[Trace, Trace]]]
    identity: str
    skipped: Mapping[str, int] = {}
    left_out: Mapping[str, int] = {}


def read(chat: Chat, seed: int, *, path: str, limit: int = 0, **texts: Any) -> Pairs:
    """Pairs of whatever a path names: shards of paired traces, or else a file or `datasets` id of texts.

    Args:
      chat: of the model that is trained.
      seed: shuffles before the limit.
      path: a directory of shards or one of its files, or what `from_rows` takes.
      limit: keep so many; 0 keeps all.
      **texts: the further arguments of `from_rows`; pairs of traces have no use for them.

    Raises:
      UserError: whatever is wrong there, or no path.
    """
    if not path:
        raise UserError(
            "config.pairs.args.path is empty; give a file of pairs (JSONL, CSV, Parquet), a `datasets` id, or a "
            "directory of shards of paired traces"
        )
    if epath.Path(path).is_dir() or name_of(epath.Path(path).name) is not None:
        return from_traces(chat, seed, path=path, limit=limit)
    return from_rows(chat, seed, path=path, limit=limit, **texts)


def from_rows(
    chat: Chat,
    seed: int,
    *,
    path: str,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    label: str = "",
    limit: int = 0,
    empty_thought: bool = False,
    template_kwargs: Mapping[str, object] | None = None,
) -> Pairs:
    """Pairs of texts from JSONL, JSON, CSV, TSV, Parquet or a `datasets` id; see `chat.preferences.load`.

    Args:
      chat: of the model that is trained.
      seed: shuffles before the limit.
      path, split, columns, label, limit: as there.
      empty_thought: put an empty block of thinking before answers that have none. Where the prompt itself opens the
        thought, as R1-Distill's does, that is done anyway: the answer must not stand inside of it.
      template_kwargs: of the prompt, such as {"enable_thinking": False}.

    Raises:
      UserError: whatever is wrong with the file, or no path.
    """
    if not path:
        raise UserError(
            "config.pairs.args.path is empty; give a file of pairs (JSONL, CSV, Parquet) or a `datasets` id"
        )
    found = preferences.load(path, columns=columns, split=split, label=label, seed=seed, limit=limit)
    options = dict(template_kwargs or {})

    left_out = collections.Counter({f"field {name}": count for name, count in found.ignored.items()})
    fields = dict(left_out)

    def traces() -> Iterator[tuple[Trace, Trace]]:
        left_out.clear()
        left_out.update(fields)
        for start in range(0, len(found.kept), _RENDERED):
            group = found.kept[start : start + _RENDERED]
            prompts = chat.encoded([preference.messages for preference in group], **options)
            for preference, prompt in zip(group, prompts, strict=True):
                left_out.update({f"{what} of the prompt": count for what, count in prompt.left_out.items()})
                yield _encode(preference, chat, prompt.ids, empty_thought)

    seen = hashlib.sha256()
    for preference in found.kept:
        seen.update(repr(preference).encode("utf-8", "surrogatepass"))
    identity = digest([seen.hexdigest(), empty_thought, sorted(options.items()), chat.template.source])
    return Pairs(len(found.kept), traces, identity, found.skipped, left_out)


def from_traces(chat: Chat, seed: int, *, path: str, limit: int = 0) -> Pairs:
    """Pairs out of shards: two traces of one group id, tagged chosen and rejected; see `traces.pairs`.

    Their ids are taken as they are, so that they must be of this model's tokenizer.

    Args:
      chat: of the model that is trained.
      seed: shuffles before the limit.
      path: a shard, or a directory of them.
      limit: keep so many; 0 keeps all.

    Raises:
      UserError: no shards, a negative limit, or traces that are not in pairs.
    """
    del chat
    limits.count(limit, f"pairs: {path}: limit")
    shards = find_shards(path)
    found = [trace for shard in shards for trace in read_shard(shard)]
    numbers = pairs.find(TokenStore.from_traces(found))
    order = np.random.default_rng(seed).permutation(len(numbers))[:limit] if limit else range(len(numbers))
    chosen = [numbers[i] for i in order]

    def traces() -> Iterator[tuple[Trace, Trace]]:
        return (pairs.make(found[a], found[b], found[a].group_id) for a, b in chosen)

    return Pairs(len(chosen), traces, digest([[shard.manifest.sha256 for shard in shards], seed, limit]))


def encode(
    preference: Preference, chat: Chat, empty_thought: bool = False, template_kwargs: Mapping[str, object] | None = None
) -> tuple[Trace, Trace]:
    """A pair of texts as traces. Nothing that stands in a text becomes a control token but the marks of its thought.

    The answers' tokens are INJECTED, since no model sampled them.
    """
    return _encode(preference, chat, chat.prompt_ids(preference.messages, **(template_kwargs or {})), empty_thought)


def _encode(preference: Preference, chat: Chat, prompt: list[int], empty_thought: bool) -> tuple[Trace, Trace]:
    prompt_ids = np.asarray(prompt, np.int32)

    def trace(text: str) -> Trace:
        ids = chat.completion_ids(*_thought(text, empty_thought or chat.think_open_in_prompt))
        return Trace(
            prompt_ids=prompt_ids,
            completion_ids=np.asarray(ids, np.int32),
            source=np.full(len(ids), Source.INJECTED, np.uint8),
            prompt_id=preference.id,
            tags=(preference.label,) if preference.label else (),
        )

    return pairs.make(trace(preference.chosen), trace(preference.rejected), preference.id)


def write(directory: epath.Path, paired: Iterable[tuple[Trace, Trace]], identity: str) -> Summary:
    """Writes pairs as shards under `directory / PAIRS`; killed and called again it goes on.

    Args:
      directory: of the stage.
      paired: out of `traces.pairs.make`.
      identity: of the data; shards of another one are refused.

    Returns:
      {"pairs": n, "skipped": {"equal answers": n, "empty side": n}}: pairs that teach nothing are left out and counted.

    Raises:
      UserError: nothing is left.
    """
    count, skipped = 0, {"equal answers": 0, "empty side": 0}
    with ShardWriter(directory / PAIRS, identity, flush_every=_AT_ONCE, prefix="pairs") as writer:
        for chosen, rejected in paired:
            fault = pairs.fault(chosen, rejected)
            if fault is not None:
                skipped[fault] += 1
                continue
            count += 1
            if chosen.key not in writer.done:
                writer.add(chosen)
                writer.add(rejected)
    if not count:
        raise UserError(f"pairs: none is left to train on; left out: {skipped}")
    return {"pairs": count, "skipped": skipped}


def _thought(text: str, empty_thought: bool) -> tuple[str | None, str]:
    if thinking.is_closed(text):
        thought, answer = thinking.split_thinking(text)
        return thought, answer or ""
    return "" if empty_thought else None, text
