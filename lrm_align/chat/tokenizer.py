"""The tokenizer files of a model directory or hub id."""

import json
import pathlib

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lrm_align.errors import UserError, one_line

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model")


def load_tokenizer(path_or_hub_id: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory or hub id; code that comes with a model is never run.

    Raises:
      UserError: there is none, or it does not load.
    """
    path = pathlib.Path(path_or_hub_id)
    if path.is_dir() and not any((path / name).is_file() for name in FILES):
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:12]) or "nothing"
        raise UserError(f"no tokenizer in {path}: expected tokenizer.json, found {found}")
    if (path / "tokenizer.json").is_file():
        _read_json(path / "tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(str(path_or_hub_id), trust_remote_code=False)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        reason = one_line(error)[:300]
        raise UserError(
            f"no tokenizer at {str(path_or_hub_id)!r}, neither a directory nor a hub id: {reason}"
        ) from None


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
    """The end-of-sequence ids that a directory's `generation_config.json` lists; [] without the file."""
    path = pathlib.Path(path_or_hub_id) / "generation_config.json"
    if not path.is_file():
        return []
    eos = _read_json(path).get("eos_token_id")
    return [] if eos is None else [eos] if isinstance(eos, int) else list(eos)


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


def _read_json(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {one_line(error)}") from None
