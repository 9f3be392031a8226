"""The tokenizer files of a model directory or hub id. Where there is a `tokenizer.json`, its ids are the model's."""

import os
import pathlib
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lrm_align import untrusted
from lrm_align.errors import UserError, one_line
from lrm_align.models import generation

JSON = "tokenizer.json"
FILES = (JSON, "vocab.json", "merges.txt", "tokenizer.model")
SMALL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")
_LARGEST, _LARGEST_OTHER = 1 << 29, 1 << 25  # bytes; published ones have some tens of millions, and some thousands
# What tokenizers' and transformers' readers raise on files that are damaged or lie.
_FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RecursionError, OverflowError)
# Digits, leading blanks, newlines, scripts with and without spaces, emoji, and forms that a normaliser would change.
_TEXTS = (
    "Hello world", " leading blank", "  two  blanks  ", "trailing \n", "\n\nnew\nlines\r\n\ttabs",
    "1234567890 12,345.67", "日本語と中文，한국어", "مرحبا שלום", "Ünïcödé ñ ß ℕ — “quotes” … ﬁ ½ e\u0301 \u00a0",
    "🙂👩\u200d👩\u200d👧 🇩🇪", "don't DON'T we'll",
    "def f(x):\n    return x**2  # <b>&amp;</b>", "▁ \u2581low Ġ Ċ", " .,!? ' n't 's", "a" * 40, "",
)  # fmt: skip


def resolve(path_or_hub_id: str) -> pathlib.Path:
    """The directory itself, or the local snapshot of a hub id's tokenizer files, fetched if need be.

    Raises:
      UserError: it is neither.
    """
    path = pathlib.Path(path_or_hub_id)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    try:
        return pathlib.Path(snapshot_download(str(path_or_hub_id), allow_patterns=[*FILES, *SMALL, *TEMPLATES]))
    except _FAULTS as error:
        raise UserError(
            f"no tokenizer at {str(path_or_hub_id)!r}, neither a directory nor a hub id: {one_line(error)[:300]}"
        ) from None


def load_tokenizer(path_or_hub_id: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory or hub id; code that comes with a model is never run.

    `tokenizer.json` decides how text becomes ids and ids become text, whatever class the other files name: a class may
    put another normaliser, pre-tokeniser or decoder in place, and the model would read text as it never saw it. Special
    tokens are those that `tokenizer_config.json` and its like declare.

    Raises:
      UserError: there is none, or it does not load, or it would read or write text otherwise than `tokenizer.json`.
    """
    directory = resolve(path_or_hub_id)
    if not any((directory / name).is_file() for name in FILES):
        found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:12]) or "nothing"
        raise UserError(f"no tokenizer in {directory}: expected {JSON}, found {found}")
    _check_files(directory)
    if not (directory / JSON).is_file():
        return _guarded(lambda: AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False), directory)
    file = _guarded(lambda: Tokenizer.from_file(str(directory / JSON)), directory / JSON)
    tokenizer = _guarded(lambda: PreTrainedTokenizerFast.from_pretrained(str(directory)), directory)
    for one in (file, tokenizer.backend_tokenizer):  # both are a caller's business, and may be of any length
        one.no_padding()
        one.no_truncation()
    tokenizer.clean_up_tokenization_spaces = False  # it would take blanks out of what the file decodes
    _guarded(lambda: check_faithful(tokenizer, file, str(directory)), directory)
    _check_declared(tokenizer, directory)
    return tokenizer


def check_faithful(tokenizer: PreTrainedTokenizerBase, file: Tokenizer, where: str) -> None:
    """Compares a loaded tokenizer with its `tokenizer.json` on texts that differing parts would read apart.

    Raises:
      UserError: naming the first text, and both ids or decoded texts.
    """
    loaded: Tokenizer = tokenizer.backend_tokenizer
    added = file.get_added_tokens_decoder()
    for number, token in added.items():
        if (found := loaded.token_to_id(token.content)) != number:
            raise UserError(f"{where}: {JSON} gives {token.content!r} the id {number}, the loaded tokenizer {found}")
    declared = loaded.get_added_tokens_decoder()
    texts = [*_TEXTS, *(f"a {token.content} b{token.content}c" for token in added.values())]
    for text in texts:
        if any(token.content in text for number, token in declared.items() if number not in added):
            continue  # a special token that only the other files declare
        for special in (False, True):
            ids, expected = (t.encode(text, add_special_tokens=special).ids for t in (loaded, file))
            _same(where, f"the ids of {text!r}", ids, expected)
        _same(where, f"ids {expected[:40]} as text", loaded.decode(ids, False), file.decode(ids, False))


def _check_declared(tokenizer: PreTrainedTokenizerBase, directory: pathlib.Path) -> None:
    """Tokens that other files declare must have the ids that these give them."""
    for name in ("tokenizer_config.json", "added_tokens.json"):
        fields = untrusted.read_object(directory / name, _LARGEST_OTHER) if (directory / name).is_file() else {}
        if name == "added_tokens.json":
            declared = [(content, number) for content, number in fields.items()]
        else:
            tokens = fields.get("added_tokens_decoder") or {}
            declared = [(token["content"], int(number)) for number, token in tokens.items()]
        for content, number in declared:
            found = tokenizer.backend_tokenizer.token_to_id(content)
            if found is not None and found != number:
                raise UserError(f"{directory / name} gives the token {content!r} the id {number!r}, but it is {found}")


def _same(where: str, what: str, found: Any, expected: Any) -> None:
    if found != expected:
        shown = [repr(value[:40])[:200] for value in (expected, found)]
        raise UserError(
            f"{where}: the tokenizer that is loaded differs from {JSON} in {what}: {shown[0]} there, {shown[1]} here; "
            "the other tokenizer files contradict it"
        )


def template_source(tokenizer: PreTrainedTokenizerBase, name: str = "the tokenizer") -> str:
    """The Jinja source of the tokenizer's own chat template.

    Raises:
      UserError: it has none.
    """
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default")
    if not source:
        raise UserError(f"no chat template in {name}: expected chat_template.jinja, or one in tokenizer_config.json")
    return source


def generation_eos(path_or_hub_id: str) -> list[int]:
    """The end-of-sequence ids that `generation_config.json` lists; [] without the file.

    Raises:
      UserError: they are no ids.
    """
    return generation.directory_eos_ids(resolve(path_or_hub_id))


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Refuses a model whose embedding has fewer rows than the tokenizer has ids.

    Raises:
      UserError: naming both sizes.
    """
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise UserError(
            f"the model's vocabulary is smaller than the tokenizer: vocab_size is {vocab_size}, the tokenizer's ids go "
            f"up to {largest}; use the tokenizer that belongs to the model"
        )


def _guarded(load: Any, path: pathlib.Path) -> Any:
    """What `load` gives; whatever a damaged file makes the libraries raise becomes one line."""
    try:
        return load()
    except UserError:
        raise
    except BaseException as error:
        # The tokenizers library raises bare exceptions, and panics, which are no exceptions to Python.
        if not isinstance(error, _FAULTS) and type(error) is not Exception and "Panic" not in type(error).__name__:
            raise
        if path.name == JSON:
            untrusted.read_object(path, _LARGEST)  # says what is wrong with the JSON, if that is it
        raise UserError(f"{path}: no tokenizer that can be loaded: {one_line(error)[:300]}") from None


def _check_files(directory: pathlib.Path) -> None:
    """The small files are read here first: the libraries' own words name neither file nor fault."""
    for name in (*FILES, *SMALL, *TEMPLATES):
        path, largest = directory / name, _LARGEST if name in FILES else _LARGEST_OTHER
        if os.path.lexists(path):
            untrusted.open_file(path).close()
            if path.stat().st_size > largest:
                raise UserError(f"{path} has {path.stat().st_size} bytes; at most {largest} are read")
    for name in SMALL:
        if (directory / name).is_file():
            _check_values(untrusted.read_object(directory / name, _LARGEST_OTHER), directory / name)
    if (directory / "added_tokens.json").is_file():
        for content, number in untrusted.read_object(directory / "added_tokens.json", _LARGEST_OTHER).items():
            if type(number) is not int or number < 0:
                path = directory / "added_tokens.json"
                raise UserError(f"{path}: {content[:40]!r} has {one_line(repr(number))[:80]}; expected an id")
    if (directory / TEMPLATES[0]).is_file():
        untrusted.read_text(directory / TEMPLATES[0], _LARGEST_OTHER)


def _check_values(fields: dict[str, Any], path: pathlib.Path) -> None:
    """What is a token must be told as one."""
    for name, value in fields.items():
        if name.endswith("_token") and name[:4] not in ("add_", "use_"):
            text = value.get("content") if isinstance(value, dict) else value
            if text is not None and not isinstance(text, str):
                raise UserError(f"{path}: {name} is {one_line(repr(value))[:80]}; expected a token's text")
