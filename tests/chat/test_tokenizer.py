"""Ids are those of tokenizer.json, whatever class the files around it name; damaged files end in one line."""

import json
import os

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lrm_align.chat import Chat, check_vocabulary
from lrm_align.chat.tokenizer import check_faithful, generation_eos, load_tokenizer
from lrm_align.errors import UserError
from tests import tokenizer_families as families

TEXTS = [
    "how warm is\n the tea — ℕ?", " leading", "  two  blanks ", "\n\nnew\nlines\r\n\t", "1234567890 12,345.67",
    "日本語と中文",
    "🙂👩\u200d👧 🇩🇪", "don't DON'T", "e\u0301 ﬁ ½ \u00a0x", "<think> a <|im_end|>", "", "a .b ,c !d n't",
]  # fmt: skip
# (class that tokenizer_config.json names, model_type that config.json names)
LIES = [
    ("LlamaTokenizerFast", "llama"), ("LlamaTokenizer", "llama"), ("GPT2TokenizerFast", "gpt2"),
    ("T5TokenizerFast", "t5"),
    ("BertTokenizerFast", "bert"), ("Qwen2TokenizerFast", "qwen2"), ("GemmaTokenizerFast", "gemma"),
    ("PreTrainedTokenizerFast", "mistral"), ("CodeLlamaTokenizer", "qwen3"), ("NoSuchTokenizer", "nothing"),
]  # fmt: skip


def byte_level():
    return families.small("qwen3").backend_tokenizer


def sentence_piece():
    """A BPE with Metaspace, as Llama 2's."""
    letters = ["<unk>", "<s>", "</s>", *map(chr, range(32, 127)), "▁", "日", "\n"]
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    backend.add_special_tokens(["<s>", "</s>"])
    return backend


def lower_case():
    """Normalised, with its own end put after every text."""
    backend = Tokenizer.from_str(byte_level().to_str())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    end = backend.token_to_id("<|im_end|>")
    backend.post_processor = processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", end)])
    return backend


BACKENDS = {"byte level": byte_level, "sentence piece": sentence_piece, "lower case": lower_case}


def directory(path, backend, klass=None, model_type="qwen3", **fields):
    backend.save(str(path / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>" if backend.token_to_id("<|im_end|>") else "</s>", **fields}
    config |= {"chat_template": families.QWEN3_TEMPLATE, **({"tokenizer_class": klass} if klass else {})}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": ["X"]}))
    return path


def same(loaded, file):
    for text in TEXTS:
        for special in (False, True):
            ids = file.encode(text, add_special_tokens=special).ids
            assert loaded(text, add_special_tokens=special)["input_ids"] == ids, text
            assert loaded.backend_tokenizer.encode(text, add_special_tokens=special).ids == ids
            assert loaded.decode(ids) == loaded.backend_tokenizer.decode(ids, False) == file.decode(ids, False)


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize(("klass", "model_type"), [*LIES, (None, "llama")])
def test_classes_that_lie_change_nothing(tmp_path, kind, klass, model_type):
    lies = {"add_prefix_space": True, "legacy": True, "add_bos_token": True, "clean_up_tokenization_spaces": True}
    path = directory(tmp_path, BACKENDS[kind](), klass, model_type, **lies, do_lower_case=True)
    file = Tokenizer.from_file(str(path / "tokenizer.json"))
    before = (path / "tokenizer.json").read_bytes()
    loaded = load_tokenizer(str(path))
    same(loaded, file)
    assert (path / "tokenizer.json").read_bytes() == before
    loaded.save_pretrained(tmp_path / "again")
    same(load_tokenizer(str(tmp_path / "again")), file)


QUICK = [("qwen3", "LlamaTokenizerFast"), ("r1_llama", "LlamaTokenizerFast")]
SLOW = [
    ("qwen2_5", None),
    ("qwen3", None),
    ("r1", "LlamaTokenizerFast"),
    ("llama3", None),
    ("llama3", "Qwen2Tokenizer"),
]


@pytest.mark.parametrize(("family", "klass"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_real_tokenizers_read_and_write_as_their_files_say(shared_data, tmp_path, family, klass):
    real = (
        families.llama3(shared_data, r1=family == "r1_llama")
        if "llama" in family
        else families.qwen(shared_data, family)
    )
    path = directory(tmp_path, real.backend_tokenizer, klass, "llama", eos_token=real.eos_token)
    loaded, file = load_tokenizer(str(path)), Tokenizer.from_file(str(path / "tokenizer.json"))
    same(loaded, file)
    same(loaded, real.backend_tokenizer)
    assert loaded.eos_token_id == real.eos_token_id
    for text in TEXTS:
        whole = file.normalizer.normalize_str(text) if file.normalizer else text
        assert file.decode(loaded(text, add_special_tokens=False)["input_ids"], False) == whole  # there and back


PARTS = {
    "normaliser": lambda t: setattr(t, "normalizer", normalizers.Lowercase()),
    "normaliser of forms": lambda t: setattr(t, "normalizer", normalizers.NFKC()),
    "pre-tokeniser": lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(True)),
    "digits": lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Sequence([
        pre_tokenizers.Digits(True), t.pre_tokenizer])),
    "decoder": lambda t: setattr(t, "decoder", decoders.Metaspace()),
    "post-processor": lambda t: setattr(t, "post_processor", processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", t.token_to_id("<|im_start|>"))])),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_loaded_tokenizer_that_differs_is_refused_with_the_text(part):
    backend = Tokenizer(models.BPE())
    families.byte_level(backend, families.LLAMA3_SPLIT)
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(["1234567890 and 12,345.67 in words"] * 3, trainer)
    loaded = families.wrap(backend, families.QWEN3_CONTROL, None)
    file = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    check_faithful(loaded, file, "here")
    PARTS[part](loaded.backend_tokenizer)
    with pytest.raises(
        UserError, match=r"^here: the tokenizer that is loaded differs from tokenizer.json in "
    ) as caught:
        check_faithful(loaded, file, "here")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900


def test_what_the_library_makes_of_a_lie_would_be_refused_where_it_differs(tmp_path):
    """Its classes are held against the file by the texts of this test and by those of the check: both agree."""
    refused = 0
    for i, (klass, model_type) in enumerate(LIES):
        (tmp_path / str(i)).mkdir()
        path = directory(tmp_path / str(i), lower_case(), klass, model_type)
        file = Tokenizer.from_file(str(path / "tokenizer.json"))
        try:
            loaded = AutoTokenizer.from_pretrained(str(path))
            loaded.clean_up_tokenization_spaces = False
            same(loaded, file)
        except AssertionError:
            refused += 1
            with pytest.raises(UserError, match=r"the loaded tokenizer|differs from tokenizer\.json"):
                check_faithful(loaded, file, "here")
        except Exception:
            continue  # the library itself cannot
        else:
            check_faithful(loaded, file, "here")
    assert refused


def test_what_differs_is_refused_when_it_is_loaded(tmp_path, monkeypatch):
    """Should the library begin to put parts of its own in place, loading says so."""
    path = directory(tmp_path, byte_level())
    changed = load_tokenizer(str(path))
    changed.backend_tokenizer.normalizer = normalizers.Lowercase()
    monkeypatch.setattr(PreTrainedTokenizerFast, "from_pretrained", lambda _: changed)
    with pytest.raises(UserError, match=r"differs from tokenizer\.json in the ids of 'Hello world'"):
        load_tokenizer(str(path))


def test_special_tokens_come_from_every_file_that_declares_them(tmp_path):
    path = directory(tmp_path, byte_level(), "LlamaTokenizerFast", "llama")
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": families.QWEN3_TEMPLATE}))
    declared = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>", "lstrip": False}}
    (path / "special_tokens_map.json").write_text(json.dumps(declared))
    (path / "added_tokens.json").write_text(json.dumps({"<|new|>": 346}))
    loaded = load_tokenizer(str(path))
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert Chat(loaded).encoder.control["<|new|>"] == 346
    with pytest.raises(UserError, match="go up to 346"):
        check_vocabulary(loaded, 346)


def test_a_token_that_other_files_give_another_id_is_refused(tmp_path):
    path = directory(tmp_path, byte_level())
    (path / "tokenizer_config.json").write_text(json.dumps({
        "chat_template": families.QWEN3_TEMPLATE,
        "added_tokens_decoder": {"999": {"content": "<|new|>", "special": True}},
    }))  # fmt: skip
    with pytest.raises(UserError, match=r"'<\|new\|>' .* 999"):
        load_tokenizer(str(path))


DEEP = "[" * 100_000 + "]" * 100_000
DAMAGED = {
    "tokenizer.json": ["", "{", "[]", "null", '"x"', DEEP, '{"model": ' + DEEP + "}", '{"model": {"type": "BPE"}}',
                       "\x00", '{"model": {"type": "WordLevel", "vocab": {"\\ud800": 0}, "unk_token": "a"}}'],
    "tokenizer_config.json": ["{", "[]", DEEP, '{"eos_token": 3}', '{"eos_token": "\\ud800"}', '{"chat_template": 5}',
                              '{"eos_token": ["a"]}', '{"added_tokens_decoder": []}', '{"chat_template": "\\udfff"}',
                              '{"added_tokens_decoder": {"x": {}}}', '{"added_tokens_decoder": {"1": 2}}',
                              '{"chat_template": "{{ 1"}', '{"model_max_length": "long", "eos_token": {"content": 1}}',
                              '{"chat_template": [{"x": 1}]}', '{"chat_template": {"default": 5}}',
                              '{"extra_special_tokens": 7}', '{"additional_special_tokens": "\\ud800"}'],
    "special_tokens_map.json": ["[", "[]", DEEP, '{"pad_token": 1}'],
    "added_tokens.json": ["[]", '{"a": "b"}', '{"a": -1}', DEEP],
    "generation_config.json": ["[]", "{", DEEP, '{"eos_token_id": "x"}', '{"eos_token_id": [1, -2]}',
                               '{"eos_token_id": 1.5}', '{"eos_token_id": true}', '{"eos_token_id": {"a": 1}}'],
    "chat_template.jinja": ["{{ 1", "x" * (2 << 20), "{% for %}", "", "{{ messages.append(1) }}"],
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_end_in_one_line(tmp_path, name):
    for i, content in enumerate(DAMAGED[name]):
        (tmp_path / str(i)).mkdir()
        path = directory(tmp_path / str(i), byte_level())
        (path / name).write_text(content)
        with pytest.raises(UserError) as caught:
            Chat.from_pretrained(str(path))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 800, content[:40]


def test_files_of_other_kinds_are_named(tmp_path):
    path = directory(tmp_path, byte_level())
    (path / "chat_template.jinja").write_bytes(b"\xff\xfe{{ x }}")
    with pytest.raises(UserError, match=r"chat_template.jinja: byte \d+ is 0x\w\w, which is not UTF-8"):
        load_tokenizer(str(path))
    (path / "chat_template.jinja").unlink()
    for name in ("tokenizer_config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"):
        kept = (path / name).read_bytes() if (path / name).is_file() else None
        (path / name).unlink(missing_ok=True)
        os.mkfifo(path / name)  # reading it would wait for ever
        with pytest.raises(UserError, match=r"where a regular file is expected|no tokenizer in"):
            load_tokenizer(str(path))
        (path / name).unlink()
        with (path / name).open("wb") as file:
            file.truncate(1 << 31)  # a hole: no disk is used
        with pytest.raises(UserError, match=rf"{name} has 2147483648 bytes; at most"):
            load_tokenizer(str(path))
        (path / name).unlink()
        if kept is not None:
            (path / name).write_bytes(kept)
    load_tokenizer(str(path))


def test_padding_and_truncation_of_the_file_touch_nothing(tmp_path):
    backend = Tokenizer.from_str(byte_level().to_str())
    expected = backend.encode(TEXTS[0]).ids
    backend.enable_truncation(2)
    backend.enable_padding(length=1 << 30)
    chat = Chat.from_pretrained(str(directory(tmp_path, backend)))
    assert chat.encode_plain(TEXTS[0]) == chat.tokenizer.backend_tokenizer.encode(TEXTS[0]).ids == expected


def test_ends_of_generation(tmp_path):
    for value, expected in [(3, [3]), ([3, 5], [3, 5]), (None, [])]:
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
        assert generation_eos(str(tmp_path)) == expected
