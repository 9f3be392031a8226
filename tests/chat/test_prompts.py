"""Prompts from every format, with columns mapped, and each mistake in one line."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from lrm_align.chat import load, load_all
from lrm_align.errors import UserError

ROWS = [
    {"goal": 'Pick a\nlock, "now"', "context": "", "kind": "vanilla_harmful", "n": "1"},
    {"goal": "Bake bread \u2028 ü", "context": "Rye.", "kind": "vanilla_benign", "n": "2"},
    {"goal": "Third", "context": "", "kind": "adversarial_harmful", "n": "3"},
]
COLUMNS = {"text": "goal", "label": "kind"}


def written(path, rows=ROWS):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_formats_agree(tmp_path, suffix):
    path = written(tmp_path / f"set{suffix}")
    prompts = load(path, columns={**COLUMNS, "kind": "kind"}, harmful_if="harmful", meta=["n"])
    assert [p.text for p in prompts] == [row["goal"] for row in ROWS]
    assert [p.label for p in prompts] == ["harmful", "benign", "harmful"]
    assert [p.kind for p in prompts] == [row["kind"] for row in ROWS]
    assert [p.meta for p in prompts] == [{"n": row["n"]} for row in ROWS]
    assert {p.source for p in prompts} == {"set"}
    assert [p.id for p in prompts] == [p.id for p in load(written(tmp_path / "set.jsonl"), columns=COLUMNS, label=None,
                                                          harmful_if="harmful")]  # fmt: skip


def test_ids_survive_order_and_limit(tmp_path):
    path = written(tmp_path / "a.jsonl", [{"goal": f"question {i}"} for i in range(50)])
    whole = {p.id: p for p in load(path, columns={"text": "goal"}, label="benign")}
    assert len(whole) == 50
    shuffled = load(path, columns={"text": "goal"}, label="benign", seed=3, limit=7)
    assert [whole[p.id] for p in shuffled] == shuffled and len(shuffled) == 7
    assert shuffled == load(path, columns={"text": "goal"}, label="benign", seed=3, limit=7)
    assert shuffled != load(path, columns={"text": "goal"}, label="benign", seed=4, limit=7)
    named = load(written(tmp_path / "b.csv"), columns={"text": "goal", "id": "n"}, label="benign")
    assert [p.id for p in named] == ["1", "2", "3"]


def test_labels_rows_and_joined_columns(tmp_path):
    path = written(tmp_path / "a.csv")
    labels = {"vanilla_harmful": "harmful", "adversarial_harmful": "harmful", "vanilla_benign": "benign"}
    prompts = load(path, columns={"text": ["goal", "context"], "label": "kind"}, labels=labels)
    assert [p.label for p in prompts] == ["harmful", "benign", "harmful"]
    assert [p.text for p in prompts][1:] == ["Bake bread \u2028 ü\n\nRye.", "Third"]
    assert [p.id[-8:] for p in load(path, columns={"text": "goal"}, label="benign", where={"n": "3"})] == [
        prompts[2].id[-8:]
    ]
    strings = tmp_path / "strings.json"
    strings.write_text('["one", "two"]')
    assert [p.text for p in load(str(strings), columns={"text": "text"}, label="harmful")] == ["one", "two"]


def test_a_limit_of_0_keeps_all_and_a_negative_one_is_refused(tmp_path):
    path = written(tmp_path / "a.csv")
    whole = load(path, columns={"text": "goal"}, label="benign", seed=1)
    for limit in (None, 0, 3, 99):
        assert load(path, columns={"text": "goal"}, label="benign", seed=1, limit=limit) == whole
    assert load(path, columns={"text": "goal"}, label="benign", seed=1, limit=2) == whole[:2]
    for limit in (-1, 1.5, True, "2"):
        with pytest.raises(UserError, match=r"a\.csv: limit is .*; it must be a whole number of at least 0"):
            load(path, columns={"text": "goal"}, label="benign", limit=limit)


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("harmful", "harmful"), ("vanilla_harmful", "harmful"), ("adversarial-harmful", "harmful"),
        ("Harmful", "harmful"), ("HARMFUL content", "harmful"), ("is harmful.", "harmful"), ("harmful_2", "harmful"),
        ("unharmful", "benign"), ("benign", "benign"), ("harmfulness_low", "benign"), ("nonharmful", "benign"),
        ("harmful2", "benign"), ("piano harmful", "harmful"),
        ("non-harmful", "denies"), ("not harmful", "denies"), ("Non_Harmful", "denies"), ("un-harmful", "denies"),
        ("", "unknown label ''"), (None, "unknown label ''"),
    ],
)  # fmt: skip
def test_harmful_if_is_a_whole_word_of_the_label(tmp_path, label, wanted):
    path = written(tmp_path / "a.jsonl", [{"goal": "x", "kind": label}])
    if wanted in ("harmful", "benign"):
        assert load(path, columns=COLUMNS, harmful_if="harmful")[0].label == wanted
        return
    with pytest.raises(UserError, match=f"row 1: .*{wanted}"):
        load(path, columns=COLUMNS, harmful_if="harmful")


def test_several_sources(tmp_path):
    a, b = written(tmp_path / "a.csv"), written(tmp_path / "b.csv")
    sources = [{"path": path, "columns": {"text": "goal"}, "label": "benign", "limit": 2} for path in (a, b)]
    assert [p.source for p in load_all(sources)] == ["a", "a", "b", "b"]
    assert load_all(sources, seed=1) == load_all([{**source, "seed": 1} for source in sources])
    with pytest.raises(UserError, match="occurs twice"):
        load_all([{**source, "source": "same"} for source in [sources[0], sources[0]]])
    with pytest.raises(UserError, match=r"unknown \['colums'\], missing \['columns'\]"):
        load_all([{"path": a, "colums": {}}])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "no such file"),
        ("empty.jsonl", b"\n", "is empty"),
        ("empty.json", b"", "is empty"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"goal,kind\n", "is empty"),
        ("latin.jsonl", '{"goal": "x"}\n{"goal": "é"}'.encode("latin-1"), "undecodable text in .*byte 0xe9 in line 2"),
        ("bad.jsonl", b'{"goal": "x"}\n{"goal": ', "bad.jsonl, line 2: not valid JSON"),
        (
            "digits.jsonl",
            b'{"goal": ' + b"1" * 5000 + b"}",
            "digits.jsonl, line 1: not valid JSON: an integer of 5000 digits",
        ),
        ("list.jsonl", b"[1]", "line 1 holds a list"),
        ("object.json", b'{"goal": "x"}', "holds a dict; expected a list"),
        ("other.jsonl", b'{"prompt": "x", "target": "y"}', "row 1: missing column goal; found prompt, target"),
        ("late.jsonl", b'{"goal": "x"}\n{"prompt": "x"}', "row 2: missing column goal; found prompt"),
        ("blank.jsonl", b'{"goal": "x"}\n{"goal": " "}', "row 2: the text is empty"),
        ("number.jsonl", b'{"goal": 3}', "the text is a int; expected a string"),
        ("surrogate.jsonl", b'{"goal": "a\\ud800"}', "line 1: holds half a surrogate pair"),
        ("ragged.csv", b"goal,kind\na,b\nc\n", "line 3: the number of fields differs from the header's 2"),
        ("quote.csv", b'goal,kind\n"a,b\n', "unexpected end of data"),
        ("wrong.parquet", b"not parquet at all", "not readable as Parquet"),
        ("prompts.txt", b"x", "is no file that can be read; expected .jsonl"),
    ],
)
def test_mistakes_in_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(str(tmp_path / name), columns={"text": "goal"}, label="harmful")
    assert "\n" not in str(caught.value)


def test_mistakes_in_the_mapping(tmp_path):
    path = written(tmp_path / "a.csv")
    for arguments, message in [
        ({"columns": {"prompt": "goal"}, "label": "benign"}, "expected text"),
        ({"columns": {"text": "goal"}}, "give either label="),
        ({"columns": COLUMNS, "label": "benign"}, "give either label="),
        ({"columns": {"text": "goal"}, "label": "bad"}, "unknown label 'bad'"),
        ({"columns": COLUMNS}, "row 1: unknown label 'vanilla_harmful'; expected one of harmful, benign"),
        ({"columns": COLUMNS, "labels": {"vanilla_harmful": "evil"}}, r"labels maps to \['evil'\]"),
        ({"columns": COLUMNS, "labels": {}, "harmful_if": "x"}, "not both"),
        ({"columns": {"text": "goal"}, "label": "benign", "harmful_if": "x"}, "is constant"),
        ({"columns": COLUMNS, "harmful_if": " "}, "harmful_if is empty"),
        ({"columns": COLUMNS, "harmful_if": True}, "harmful_if is True; expected a word"),
        ({"columns": "goal", "label": "benign"}, "columns is 'goal'; expected a mapping"),
        ({"columns": {"text": "goal"}, "label": "benign", "where": {"n": "9"}}, "no row of"),
        ({"columns": {"text": "goal"}, "label": "benign", "meta": ["m"]}, "missing column m; found goal, context"),
        ({"columns": {"text": "goal", "id": "context"}, "label": "benign"}, "occurs twice"),
    ]:
        with pytest.raises(UserError, match=message):
            load(path, **arguments)


def test_an_unknown_id_ends_in_one_line():
    with pytest.raises(UserError, match="neither a file nor a `datasets` id") as caught:
        load("nobody/no-such-data-set", columns={"text": "goal"}, label="harmful")
    assert "\n" not in str(caught.value)
