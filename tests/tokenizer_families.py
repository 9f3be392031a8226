"""Tokenizers for tests: the three real families from their files, and stand-ins of our own that need no file."""

import base64
import copy
import functools
import itertools
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_SPLIT = _WORDS + r"\p{N}" + _REST
LLAMA3_SPLIT = _WORDS + r"\p{N}{1,3}" + _REST

QWEN3_CONTROL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
]  # fmt: skip
R1_CONTROL = [
    "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<|EOT|>",
    "<think>", "</think>",
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
]  # fmt: skip
LLAMA3_CONTROL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", *(f"<|reserved_special_token_{n}|>" for n in range(3, 248)),
]  # fmt: skip
R1_LLAMA_CONTROL = [
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", *LLAMA3_CONTROL[2:11], "<｜User｜>", "<｜Assistant｜>",
    "<think>", "</think>", "<｜▁pad▁｜>", *LLAMA3_CONTROL[16:],
]  # fmt: skip

# In the style of each family: what its template does to thoughts, whitespace and the generation prompt.
QWEN3_TEMPLATE = """
{%- set ns = namespace(last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and not message.content.startswith('<tool_response>') and ns.seen is not defined %}
        {%- set ns.seen = true %}
        {%- set ns.last = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {%- set content = '<think>\\n' + thought + '\\n</think>\\n\\n' + content %}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""
R1_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'system' %}{{ content }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '<｜User｜>' + content }}{% endif %}{% if message['role'] == 'assistant' %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
LLAMA3_TEMPLATE = (
    "{{- bos_token }}{% for message in messages %}{% set role = message['role'] %}"
    "{{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
# As Llama 2 and Mistral write turns, which they open with text, not with control tokens.
INST_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] }}"
    "{{ eos_token }}{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
SENTENCE_PIECE = {"llama2": "normalizer", "mistral": "first"}
SMALL = ("qwen3", "r1", "llama3", *SENTENCE_PIECE)
TEXT = (
    "the user asks how to think about safe answers, so let me think step by step: 12 + 30 is 42. I cannot help.\n\n" * 3
)
VERDICTS = "safe\n\nunsafe\n\n" * 50  # a guard's answers are single tokens in its vocabulary


def wrap(
    backend: Tokenizer, control: list[AddedToken], template: str | None, **specials: str
) -> PreTrainedTokenizerFast:
    """A fast tokenizer with control tokens added in order."""
    backend.add_tokens(control)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=template, clean_up_tokenization_spaces=False, **specials
    )


def byte_level(backend: Tokenizer, pattern: str) -> Tokenizer:
    """Gives a model the byte-level pre-tokeniser and decoder of all three families."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    return backend


def sentence_piece(prefix: str) -> Tokenizer:
    """SentencePiece's BPE with bytes to fall back on; its blank in front as a "normalizer" (Llama 2) or "first"."""
    pairs = [("t", "h"), ("i", "n"), ("th", "in"), ("▁", "th"), ("k", ">"), ("▁", "is"), ("i", "s")]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", *map(chr, range(33, 127)), *map("".join, pairs)]
    vocabulary = {piece: id for id, piece in enumerate(["<unk>", "<s>", "</s>", *pieces])}
    backend = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if prefix == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    backend.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    return backend


def _added(names: list[str], plain: tuple[str, ...] = ()) -> list[AddedToken]:
    return [AddedToken(name, special=name not in plain, normalized=False) for name in names]


@functools.cache
def small(family: str) -> PreTrainedTokenizerFast:
    """A stand-in of about 400 ids for a family of SMALL: bytes, a few merges, the family's control tokens."""
    if family in SENTENCE_PIECE:
        control = _added(["<unk>", "<s>", "</s>"])
        eos = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        return wrap(sentence_piece(SENTENCE_PIECE[family]), control, INST_TEMPLATE, **eos)
    backend = byte_level(Tokenizer(models.BPE()), LLAMA3_SPLIT if family == "llama3" else QWEN_SPLIT)
    if family != "llama3":
        backend.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([TEXT, QWEN3_TEMPLATE, VERDICTS], trainer)
    if family == "qwen3":
        thinking = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
        eos = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        return wrap(backend, _added(QWEN3_CONTROL, thinking), QWEN3_TEMPLATE, **eos)
    if family == "r1":
        return wrap(backend, _added(R1_CONTROL), R1_TEMPLATE, bos_token=R1_CONTROL[3], eos_token=R1_CONTROL[0])
    return wrap(
        backend, _added(LLAMA3_CONTROL[:20]), LLAMA3_TEMPLATE, bos_token=LLAMA3_CONTROL[0], eos_token="<|eot_id|>"
    )


def guard(tokenizer: PreTrainedTokenizerFast, marks: str) -> PreTrainedTokenizerFast:
    """A copy whose chat template holds what a guard's does."""
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = f"{{# {marks} #}}{changed.chat_template or ''}"
    return changed


@functools.cache
def qwen(shared: pathlib.Path, family: str) -> PreTrainedTokenizerFast:
    """The real Qwen vocabulary: "qwen2_5", "qwen3" or "r1" (the control tokens of R1-Distill-Qwen)."""
    folder = shared / "data" / "tokenizer_qwen"
    model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    backend = byte_level(Tokenizer(model), QWEN_SPLIT)
    backend.normalizer = normalizers.NFC()
    if family == "r1":
        control = R1_CONTROL[:7] + QWEN3_CONTROL[8:22]
        return wrap(backend, _added(control), None, bos_token=R1_CONTROL[3], eos_token=R1_CONTROL[0])
    config = json.loads((folder / f"{family}_tokenizer_config.json").read_text())
    described = sorted((int(id), fields) for id, fields in config["added_tokens_decoder"].items())
    control = [AddedToken(**fields) for _, fields in described]
    return wrap(backend, control, config["chat_template"], eos_token=config["eos_token"], pad_token=config["pad_token"])


@functools.cache
def llama3(shared: pathlib.Path, r1: bool = False) -> PreTrainedTokenizerFast:
    """The real Llama 3 vocabulary, with its own control tokens or with those of R1-Distill-Llama."""
    backend = byte_level(Tokenizer(_llama3_model(shared)), LLAMA3_SPLIT)
    control = R1_LLAMA_CONTROL if r1 else LLAMA3_CONTROL
    return wrap(backend, _added(control), None, bos_token=control[0], eos_token=control[1] if r1 else "<|eot_id|>")


@functools.cache
def _llama3_model(shared: pathlib.Path) -> models.BPE:
    path = shared / "data" / "tokenizer_llama3" / "tokenizer_llama3.tiktoken"
    ranks = {base64.b64decode(word): int(rank) for word, rank in map(str.split, path.read_text().splitlines())}
    letters = bytes_to_letters()

    def spelled(word: bytes) -> str:
        return "".join(letters[byte] for byte in word)

    vocab = {spelled(word): rank for word, rank in ranks.items()}
    pairs = [halves(ranks, word, rank) for word, rank in ranks.items() if len(word) > 1]
    merges = [(spelled(pair[0]), spelled(pair[1])) for pair in pairs if pair is not None]
    return models.BPE(vocab, merges, ignore_merges=True)


def halves(ranks: dict[bytes, int], word: bytes, rank: int) -> list[bytes] | None:
    """The two parts that merge into `word`, found by merging its bytes with all earlier ranks; None if none do."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 2:
        joined = [ranks.get(a + b, rank) for a, b in itertools.pairwise(parts)]
        best = min(joined)
        if best >= rank:
            break
        at = joined.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts if len(parts) == 2 else None


def bytes_to_letters() -> dict[int, str]:
    """GPT-2's printable letter for every byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def vectors(shared: pathlib.Path, folder: str, name: str) -> list[tuple[str, list[int]]]:
    """llama.cpp's (text, ids) vectors."""
    base = shared / "data" / folder
    texts = (base / f"{name}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    ids = (base / f"{name}.out").read_text().split("\n")
    return [(text, [int(id) for id in line.split()]) for text, line in zip(texts, ids, strict=False)]
