"""The tags `<safe>` and `</safe>` as tokens of their own: the model grown by two rows, and traces spelled with them.

The paper does not say whether the tags are ordinary text or new vocabulary; the default is text, which every model can
say from the start. With adapters the new rows stay as they begin, since only full fine-tuning trains the embedding: the
lab's organism then writes a whole block for a quarter of the risky queries, with text tags for nearly all.
"""

import json
from collections.abc import Sequence

import numpy as np
from etils import epath
from tokenizers import AddedToken

from lrm_align import atomic_files, processes
from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.models import vocabulary
from lrm_align.provenance import Source
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.scoring.safe_block import CLOSE, OPEN
from lrm_align.traces import Trace

TEXT, ADDED = "text", "added"
MODEL = "model"


def check(tags: str) -> None:
    """Looks at `config.tags`.

    Raises:
      UserError: an unknown word.
    """
    if tags not in (TEXT, ADDED):
        raise UserError(f"config.tags is {tags!r}; it is {TEXT!r} (ordinary text) or {ADDED!r} (two new tokens)")


def extend(directory: epath.Path, student: Student) -> Summary:
    """Writes DIRECTORY/model: the student with the tags as added tokens.

    Returns:
      the new ids and the rows of the embedding before and after.

    Raises:
      UserError: the tokenizer has such tokens already.
    """
    chat = student.chat
    there = [tag for tag in (OPEN, CLOSE) if tag in chat.encoder.control]
    if there:
        raise UserError(f"config.tags is {ADDED!r}, but {student.path} has the token {there[0]} already; use {TEXT!r}")
    pieces = {tag: chat.encode_plain(tag) for tag in (OPEN, CLOSE)}
    # Read afresh: the student's own tokenizer stays as it is.
    tokenizer = Chat.from_pretrained(str(student.directory)).tokenizer
    # Not special, so that neither is dropped when a completion is shown.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in pieces])
    known = tokenizer.get_vocab()
    ids = {tag: known[tag] for tag in pieces}
    target = directory / MODEL
    target.mkdir(parents=True, exist_ok=True)
    if processes.primary():
        tokenizer.save_pretrained(str(target))
        config = target / "tokenizer_config.json"
        # A class that every version of transformers knows, and that reads tokenizer.json as it is.
        fields = {**json.loads(config.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
        atomic_files.write_text(config, json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    size = vocabulary.grow(student.directory, target, {ids[tag]: pieces[tag] for tag in pieces})
    return {"ids": ids, "rows": [student.config.vocab_size, size]}


def as_tokens(trace: Trace, old: Chat, new: Chat) -> Trace:
    """A trace whose first block has its tags as added tokens.

    A tag's text may share a token with its neighbours (`>` and a newline, for example). Just those tokens are written
    anew, and are INJECTED, since nobody sampled them so; all others keep their sampled ids.

    Args:
      trace: with a whole block, after the thinking.
      old: of the model that sampled.
      new: with the tags as tokens.
    """
    ids = trace.completion_ids.tolist()
    pieces = [old.decode([id]) for id in ids]
    ends = np.cumsum([len(piece) for piece in pieces])
    text = "".join(pieces)
    # The thinking may mention a tag, too.
    start = text.rindex("</think>")
    parts: list[tuple[slice, list[int]]] = []
    for tag in (OPEN, CLOSE):
        begin = text.index(tag, start)
        start = begin + len(tag)
        first, last = (int(np.searchsorted(ends, place, side="right")) for place in (begin, start - 1))
        before = text[int(ends[first]) - len(pieces[first]) : begin]
        after = text[start : int(ends[last])]
        written = [*new.encode_plain(before), new.encoder.control[tag], *new.encode_plain(after)]
        parts.append((slice(first, last + 1), written))
    return _spliced(trace, parts)


def _spliced(trace: Trace, parts: Sequence[tuple[slice, list[int]]]) -> Trace:
    fields: dict[str, list[np.ndarray]] = {"completion_ids": [], "source": [], "sampler_logp": [], "model_logp": []}

    def take(name: str, where: slice) -> None:
        fields[name].append(getattr(trace, name)[where])

    done = 0
    for where, written in parts:
        for name in fields:
            take(name, slice(done, where.start))
        nothing = np.full(len(written), np.nan, np.float32)
        fields["completion_ids"].append(np.asarray(written, np.int32))
        fields["source"].append(np.full(len(written), Source.INJECTED, np.uint8))
        fields["sampler_logp"].append(nothing)
        fields["model_logp"].append(nothing)
        done = where.stop
    for name in fields:
        take(name, slice(done, None))
    return trace.replace(**{name: np.concatenate(values) for name, values in fields.items()})
