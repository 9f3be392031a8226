"""Text to ids where control tokens come from us alone."""

import functools
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

from lrm_align.errors import UserError, one_line
from lrm_align.rendering.user_text import Marker


class SpanEncoder:
    """Splits text at trusted control tokens and encodes each whole span by a copy of the tokenizer without them.

    A span, template and user text together, is one piece for the pre-tokeniser, so the ids equal those of the usual
    encoding wherever user text is harmless.

    Args:
      tokenizer: a fast tokenizer; it is not changed.

    Attributes:
      control: every control token's id.
      split: pattern that finds control tokens in a text; where it has a group, that is the token.

    Raises:
      UserError: the tokenizer is a slow one, or plain text could still give one of its control ids.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        if not tokenizer.is_fast:
            raise UserError(
                f"tokenizer {type(tokenizer).__name__} is a slow one; a fast tokenizer (tokenizer.json) is needed"
            )
        self.tokenizer = tokenizer
        self._backend: tokenizers.Tokenizer = tokenizer.backend_tokenizer
        added = self._backend.get_added_tokens_decoder()
        self.control: dict[str, int] = {token.content: id for id, token in added.items() if token.content}
        longest_first = sorted(added.values(), key=lambda token: len(token.content), reverse=True)
        self.split = re.compile("|".join(map(_pattern, longest_first)) or "(?!)")
        self._plain = _without_added_tokens(self._backend, self.control)
        self._going_on = _without_blank_in_front(self._plain)
        self._later = self._going_on if _blank_at_the_start_alone(self._plain) else self._plain
        self._marker = Marker(self.control, avoid="")
        # A word-level model answers with its unknown token, which is no forgery.
        unknown = {tokenizer.unk_token_id}
        forbidden = set(self.control.values()) - unknown
        for content in self.control:
            if forbidden & set(self.plain(content)):
                raise UserError(f"tokenizer: plain text {content!r} still gives a control id, so users could forge it")

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @functools.cached_property
    def _longest(self) -> int:
        return _longest_id(self._plain, self._backend.get_added_tokens_decoder().values())

    def plain(self, text: str, goes_on: bool = False) -> list[int]:
        """Ids of text in which nothing is a control token.

        Args:
          text: any.
          goes_on: whether it follows other text of the same turn; SentencePiece puts no blank before such.
        """
        return _ids(self._going_on if goes_on else self._plain, _encodable(text))

    def trusted(self, text: str, goes_on: bool = False) -> list[int]:
        """Ids of text whose control tokens are meant; see `plain`."""
        return self._spans(_encodable(text), Marker((), ""), self._going_on if goes_on else self._plain)

    def fewest(self, text: str) -> int:
        """A number that the ids of a text cannot fall short of, without encoding it: its bytes / those of the longest.

        0 where text may get lost on the way to ids, as by a tokenizer that drops space or has one id for all that it
        does not know.
        """
        if not self._longest:
            return 0
        text, normalizer = _encodable(text), self._plain.normalizer
        return -(-len((normalizer.normalize_str(text) if normalizer else text).encode()) // self._longest)

    def mixed(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Ids of (text, trusted) parts in a row: only trusted parts hold control tokens."""
        marker = self.marker("".join(text for text, _ in parts))
        return self.marked("".join(text if trusted else marker.mark(text) for text, trusted in parts), marker)

    def marker(self, avoid: str) -> Marker:
        """A `Marker` against this tokenizer's control tokens whose stand-ins do not occur in `avoid`."""
        return self._marker if self._marker.stands_apart_from(avoid) else Marker(self.control, avoid)

    def marked(self, text: str, marker: Marker) -> list[int]:
        """Ids of a text in which the marker's stand-ins protect what users wrote."""
        return self._spans(_encodable(text), marker, self._plain)

    def joined(self, texts: Sequence[str], control: Sequence[str]) -> list[int]:
        """Ids of texts without control tokens, and of the control token after each but the last."""
        ids = _ids(self._plain, _encodable(texts[0]))
        for token, text in zip(control, texts[1:], strict=True):
            ids = [*ids, self.control[token], *_ids(self._later, _encodable(text))]
        return ids

    def decode(self, ids: Sequence[int], keep_control: bool = True) -> str:
        """Text of ids; special tokens are left out unless `keep_control`."""
        return self._backend.decode([int(id) for id in ids], skip_special_tokens=not keep_control)

    def _spans(self, text: str, marker: Marker, first: tokenizers.Tokenizer) -> list[int]:
        ids: list[int] = []
        end = 0
        for match in self.split.finditer(text):
            ids += _ids(first if end == 0 else self._later, marker.unmark(text[end : match.start()]))
            ids.append(self.control[match.group(match.lastindex or 0)])  # a group where a token eats its neighbours
            end = match.end()
        return ids + _ids(first if end == 0 else self._later, marker.unmark(text[end:]))


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    return backend.encode(text, add_special_tokens=False).ids


def _pattern(token: tokenizers.AddedToken) -> str:
    pattern = re.escape(token.content)
    if token.single_word:
        pattern = rf"(?<!\w){pattern}(?!\w)"
    if token.lstrip or token.rstrip:
        pattern = (r"\s*" if token.lstrip else "") + f"({pattern})" + (r"\s*" if token.rstrip else "")
    # No group elsewhere: hundreds of plain alternatives share a literal start, which `re` then searches for.
    return pattern


def _longest_id(plain: tokenizers.Tokenizer, added: Collection[tokenizers.AddedToken]) -> int:
    """Most bytes of text behind one id, where ids spell out every byte; else 0."""
    first = json.loads(plain.pre_tokenizer.__getstate__()) if plain.pre_tokenizer is not None else {}
    steps = first.get("pretokenizers", [first])
    spelled = any(step.get("type") == "ByteLevel" for step in steps)
    kept = all(step.get("type") in ("ByteLevel", "Digits", "Split") for step in steps)
    kept = kept and not any(step.get("behavior") == "Removed" for step in steps)
    kept = kept and not any(token.lstrip or token.rstrip for token in added)
    vocab = plain.get_vocab()  # a byte is one character there
    known = isinstance(plain.model, BPE) and vocab.keys() >= set(ByteLevel.alphabet())
    if not (spelled and kept and known) or not (plain.normalizer is None or isinstance(plain.normalizer, NFC)):
        return 0
    return max(*map(len, vocab), *(len(token.content.encode()) for token in added))


def _without_added_tokens(backend: tokenizers.Tokenizer, control: dict[str, int]) -> tokenizers.Tokenizer:
    """A tokenizer of the same model, normaliser and pre-tokeniser that knows no added token."""
    if all(backend.model.token_to_id(content) is None for content in control):
        plain = tokenizers.Tokenizer(backend.model)
        if backend.normalizer is not None:
            plain.normalizer = backend.normalizer
        if backend.pre_tokenizer is not None:
            plain.pre_tokenizer = backend.pre_tokenizer
        return plain
    # Some files list control tokens among the ordinary ones as well: take them out there too.
    described = json.loads(backend.to_str())
    model = described["model"]
    if not isinstance(model.get("vocab"), dict):
        raise UserError(
            f"tokenizer: a {model['type']} model that holds control tokens in its vocabulary is unsupported"
        )
    removed = set(control) - {model.get("unk_token")}
    model["vocab"] = {token: id for token, id in model["vocab"].items() if token not in removed}
    if "merges" in model:
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if not removed & {*pair, "".join(pair)}]
    described.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return tokenizers.Tokenizer.from_str(json.dumps(described))


def _blank_at_the_start_alone(plain: tokenizers.Tokenizer) -> bool:
    """Whether SentencePiece's blank stands where a whole text begins, and not after a control token."""
    splits = plain.pre_tokenizer
    return isinstance(splits, tokenizers.pre_tokenizers.Metaspace) and splits.prepend_scheme == "first"


def _without_blank_in_front(plain: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """For what follows other text: no step of it puts a blank before the first word."""
    found = [part for part in (plain.normalizer, plain.pre_tokenizer) if part is not None]
    steps = [json.loads(part.__getstate__()) for part in found]
    changed = [_no_blank(step) for step in steps]
    if changed == steps:
        return plain
    later = tokenizers.Tokenizer(plain.model)
    for part, step in zip(found, changed, strict=True):
        normalizes = isinstance(part, tokenizers.normalizers.Normalizer)
        made = (tokenizers.normalizers if normalizes else tokenizers.pre_tokenizers).Sequence([])
        made.__setstate__(json.dumps(step).encode())  # before it is handed over, for that copies it
        setattr(later, "normalizer" if normalizes else "pre_tokenizer", made)
    return later


def _no_blank(step: dict[str, Any]) -> dict[str, Any]:
    """A step of `tokenizer.json`, or a sequence of such, that puts nothing in front."""
    if step["type"] == "Prepend":
        return {"type": "Sequence", "normalizers": []}
    off = {"prepend_scheme": "never", "add_prefix_space": False}
    changed = {key: off.get(key, value) for key, value in step.items()}
    for key in {"normalizers", "pretokenizers"} & step.keys():
        changed[key] = [_no_blank(one) for one in step[key]]
    return changed


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        bad = one_line(repr(text[max(0, error.start - 20) : error.end + 20]))
        raise UserError(f"undecodable text: a lone surrogate at character {error.start}, near {bad}") from None
    return text
