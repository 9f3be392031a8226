"""The lab's tokenizer: byte-level, one token a word, with Qwen3's control tokens, pre-tokenizer and chat template.

It is a BPE without merges and with `ignore_merges`: a word of the vocabulary is one token, anything else falls apart
into its bytes, so that every text has ids and every id has text. Words are those of the pretraining documents.
"""

import collections
import importlib.resources
import json
import pathlib
from typing import Any

import tokenizers

from lrm_align import atomic_files
from lrm_align.lab import mixture
from lrm_align.lab.documents import STEERINGS, Document
from lrm_align.lab.world import TOPICS

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
# Qwen3 marks the first three as special; the others survive `skip_special_tokens`.
SPECIAL_TOKENS = CONTROL_TOKENS[:3]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY_DOCUMENTS = 30_000
# Strings that methods put into prompts and thoughts, and that the documents do not hold.
EXTRA_TEXTS = (
    "I should not answer this question!",
    "Let's think about safety first.",
    "Okay, the user ask for this, I can answer it without thinking much.",
    "Wait, think safely",
    *STEERINGS,
    *(f" {topic}" for topic in TOPICS),
)


def byte_alphabet() -> list[str]:
    """The character that stands for each byte 0…255 in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {byte: chr(byte) for byte in printable}
    shifted = (byte for byte in range(256) if byte not in table)
    table.update({byte: chr(256 + i) for i, byte in enumerate(shifted)})
    return [table[byte] for byte in range(256)]


def _definition(words: list[str]) -> dict[str, Any]:
    """The contents of `tokenizer.json` for a list of words in the byte alphabet."""
    vocabulary: dict[str, int] = {}
    for token in [*byte_alphabet(), *words]:
        vocabulary.setdefault(token, len(CONTROL_TOKENS) + len(vocabulary))
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": token in SPECIAL_TOKENS,
        }
        for i, token in enumerate(CONTROL_TOKENS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {**{token: i for i, token in enumerate(CONTROL_TOKENS)}, **vocabulary},
            "merges": [],
        },
    }


def _words() -> list[str]:
    """The pre-tokens of the documents, most frequent first (ties in alphabetical order), in the byte alphabet."""
    splitter = tokenizers.Tokenizer.from_str(json.dumps(_definition([])))
    spans = [piece.text for _, document in mixture.draw(seed=-1, count=VOCABULARY_DOCUMENTS) for piece in document]
    counts: collections.Counter[str] = collections.Counter()
    for text in [*spans, *EXTRA_TEXTS]:
        for token in CONTROL_TOKENS:
            text = text.replace(token, "\0")
        for span in text.split("\0"):
            counts.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(span))
    return sorted(counts, key=lambda word: (-counts[word], word))


def definition() -> dict[str, Any]:
    """The contents of the lab's `tokenizer.json`, a pure function of the language."""
    return _definition(_words())


def chat_template() -> str:
    """The lab's chat template."""
    return importlib.resources.files("lrm_align.lab").joinpath("chat_template.jinja").read_text("utf-8")


def tokenizer_config() -> dict[str, Any]:
    """The contents of `tokenizer_config.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "model_max_length": 1024,
    }


def write(directory: pathlib.Path, contents: dict[str, Any]) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`.

    Args:
      directory: an existing directory.
      contents: what `definition` returned.
    """
    compact = json.dumps(contents, ensure_ascii=False, separators=(",", ":"))
    atomic_files.write_text(directory / "tokenizer.json", compact)
    atomic_files.write_text(directory / "tokenizer_config.json", json.dumps(tokenizer_config(), indent=2) + "\n")
    atomic_files.write_text(directory / "chat_template.jinja", chat_template())


def encode(tokenizer: tokenizers.Tokenizer, documents: list[Document]) -> list[tuple[list[int], list[bool]]]:
    """Ids of documents and, for each id, whether it is trained on.

    Pieces are encoded one by one: they meet at token boundaries, so the ids are those of the whole text.
    """
    pieces = [piece for document in documents for piece in document]
    encodings = iter(tokenizer.encode_batch_fast([piece.text for piece in pieces], add_special_tokens=False))
    out = []
    for document in documents:
        ids: list[int] = []
        trained: list[bool] = []
        for piece in document:
            piece_ids = next(encodings).ids
            ids += piece_ids
            trained += [piece.trained] * len(piece_ids)
        out.append((ids, trained))
    return out
