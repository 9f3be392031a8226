import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lrm_align.traces import Trace, write_shard
from lrm_align.traces.__main__ import main
from lrm_align.traces.show import bracketed, coloured, escaped, header
from tests.tokenizer_families import small

NAN = float("nan")
HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]markup[/bold] :smile: \x9b2J \u202egnp.exe\u2028 \ud800 \r\b end\n"
HOSTILE += "[sampled] │ forged"


def printed(text, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, color_system="standard" if terminal else None, markup=False,
                      emoji=False, highlight=False, width=300)  # fmt: skip
    console.print(text, soft_wrap=True)
    return file.getvalue()


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text):
    assert escaped(text).isprintable()
    assert escaped(text, keep="\n").replace("\n", "").isprintable()


def test_ordinary_text_stays_as_it_is():
    text = 'Grüße, "quotes" [brackets] \\ 数学 😀 x² ≤ 3'
    assert escaped(text) == text


@pytest.mark.parametrize("show", [coloured, bracketed])
def test_hostile_model_output_is_spelled_out(show):
    trace = Trace([1], [2, 3, 4], [1, 2, 3], [-1.0, NAN, NAN])
    text = printed(show(trace, lambda ids: HOSTILE if ids == [2] else f"<{ids}>"), terminal=False)
    assert text.replace("\n", "").isprintable()
    for shown in ("\\x1b[31mred", "[bold]markup[/bold]", ":smile:", "\\x9b2J", "\\u202e", "\\u2028", "\\ud800", "\\r"):
        assert shown in text
    # A line that imitates a label stays behind the margin.
    assert not any(line.startswith("[sampled] │ forged") for line in text.splitlines())


def test_colours_come_from_us_alone():
    text = printed(coloured(Trace([1], [2], [2]), lambda ids: HOSTILE), terminal=True)
    assert "\x1b[36m" in text and "\x1b[1;35m" in text  # prompt and injected
    assert "\x1b[31m" not in text and "\x1b]" not in text and "\x07" not in text


def test_sources_stand_in_brackets_where_there_is_no_terminal():
    trace = Trace([1, 2], [3, 4, 5, 6], [2, 1, 3, 1], [NAN, -1.0, NAN, -1.0])
    text = printed(bracketed(trace, lambda ids: " ".join(map(str, ids))), terminal=False)
    assert [line.split() for line in text.splitlines()] == [
        ["[prompt]", "│", "1", "2"],
        ["[injected]", "│", "3"],
        ["[sampled]", "│", "4"],
        ["[tool]", "│", "5"],
        ["[sampled]", "│", "6"],
    ]


def test_strings_of_the_record_are_hostile_too():
    trace = Trace([1], [2], [2], prompt_id="a\x1b[2J\n", tags=("\x07",), scores={"\x9b": {"value": "\x1b"}})
    assert header(trace, 0).isprintable()


def test_the_command_prints_and_counts(tmp_path, make_trace, capsys):
    shard = write_shard(tmp_path, "a", [make_trace(i) for i in range(3)], "recipe")
    for path in (tmp_path, shard.path, tmp_path / shard.manifest.file_name):
        main([str(path), "--limit", "2"])
        out = capsys.readouterr().out
        assert "3 traces, verified" in out and "trace 1" in out and "trace 2" not in out
        assert "[injected]" in out and "\x1b" not in out
    for limit in ("0", "3", "9"):
        main([str(tmp_path), "--limit", limit])
        assert "trace 2" in capsys.readouterr().out


def test_the_command_decodes_with_a_tokenizer(tmp_path, capsys):
    tokenizer = small("qwen3")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    ids = tokenizer.encode("Wait, \x1b[0m think <|im_end|>\nmore")
    write_shard(tmp_path / "shards", "a", [Trace(ids, [*ids, 2_000_000_000], [2] * (len(ids) + 1))], "recipe")
    main([str(tmp_path / "shards"), "--tokenizer", str(tmp_path / "tokenizer")])
    out = capsys.readouterr().out
    assert "[prompt]   │ Wait, \\x1b[0m think <|im_end|>\n           │ more" in out and "more<token 2000000000>" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["/absent/shard"], "no such shard"),
        ([], "required"),
        (["--limit", "x", "."], "invalid int"),
        (["--limit", "-1", "."], "--limit is -1; it must be a whole number of at least 0"),
        (["--tokenizer", "/absent", "."], "/absent"),
        (["--colour", "."], "--colour"),
    ],
)
def test_mistakes_end_in_one_line(arguments, named, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and named in error and error.count("\n") == 1
