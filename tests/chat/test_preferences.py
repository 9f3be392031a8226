"""Preference pairs in every form that people have them; what cannot be used is counted or named."""

import csv
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from lrm_align.chat import preferences
from lrm_align.errors import UserError

USER, SYSTEM = {"role": "user", "content": "Why?"}, {"role": "system", "content": "Be brief."}
SAID = {"role": "assistant", "content": "Before."}


def assistant(text):
    return {"role": "assistant", "content": text}


PLAIN = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
ROWS = {
    "plain": PLAIN,
    "messages": {"prompt": [USER], "chosen": [assistant("Because.")], "rejected": [assistant("No.")]},
    "plain prompt, messages": {"prompt": "Why?", "chosen": [assistant("Because.")], "rejected": [assistant("No.")]},
    "implicit prompt": {"chosen": [USER, assistant("Because.")], "rejected": [USER, assistant("No.")]},
    "conversations beside their prompt": {
        "prompt": "Why?",
        "chosen": [USER, assistant("Because.")],
        "rejected": [USER, assistant("No.")],
    },
    "conversations beside their messages": {
        "prompt": [USER],
        "chosen": [USER, assistant("Because.")],
        "rejected": [USER, assistant("No.")],
    },
}


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


def table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows([{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows])
    return str(path)


WRITERS = {".jsonl": jsonl, ".parquet": parquet, ".csv": table, ".tsv": table}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("form", ROWS)
def test_all_forms_in_all_files(tmp_path, form, suffix):
    path = WRITERS[suffix](tmp_path / f"pairs{suffix}", [ROWS[form]])
    (kept,), skipped, _ = preferences.load(path)
    assert (kept.messages, kept.chosen, kept.rejected) == ((USER,), "Because.", "No.")
    assert (kept.id, skipped, kept.label) == ("pairs-1", {}, "")


def test_datasets_ids(monkeypatch):
    rows = datasets.Dataset.from_list([ROWS["implicit prompt"]] * 2)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: {"test": rows}[split])
    kept, _, _ = preferences.load("someone/pairs", split="test")
    assert [pair.id for pair in kept] == ["pairs-1", "pairs-2"]
    assert kept[0].messages == (USER,)


def test_longer_conversations_keep_their_beginning(tmp_path):
    before = [SYSTEM, USER, SAID, {"role": "user", "content": "And?"}]
    rows = [
        {"chosen": [*before, assistant("a")], "rejected": [*before, assistant("b")]},
        {"prompt": "And?", "chosen": [*before, assistant("a")], "rejected": [*before, assistant("b")]},
        {"prompt": before, "chosen": "a", "rejected": "b"},
    ]
    kept, _, _ = preferences.load(jsonl(tmp_path / "pairs.jsonl", rows))
    assert [list(pair.messages) for pair in kept] == [before] * 3


def test_columns_labels_ids_seed_and_limit(tmp_path):
    rows = [
        {"q": f"Why {i}?", "good": "a", "bad": "b", "kind": "harmful" if i % 2 else "benign", "name": f"n{i}"}
        for i in range(8)
    ]
    path = jsonl(tmp_path / "pairs.jsonl", rows)
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad", "label": "kind", "id": "name"}
    kept, _, _ = preferences.load(path, columns=columns)
    assert [(pair.id, pair.label) for pair in kept][:2] == [("n0", "benign"), ("n1", "harmful")]
    drawn, _, _ = preferences.load(path, columns=columns, seed=3, limit=5)
    assert len(drawn) == 5 and {pair.id for pair in drawn} < {pair.id for pair in kept}
    assert drawn == preferences.load(path, columns=columns, seed=3, limit=5).kept
    assert drawn != kept[:5]


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path):
    rows = [
        PLAIN,
        {**PLAIN, "chosen": "No."},
        {**PLAIN, "chosen": " No.\n"},
        {**PLAIN, "rejected": "  "},
        {**PLAIN, "chosen": None},
        {**PLAIN, "chosen": [], "rejected": []},
        {**PLAIN, "rejected": "<think>\nI wonder"},
        {"prompt": None, "chosen": [USER, assistant("a")], "rejected": [SYSTEM, USER, assistant("b")]},
    ]
    path = jsonl(tmp_path / "pairs.jsonl", rows)
    kept, skipped, first = preferences.load(path)
    assert len(kept) == 1
    assert skipped == {
        "equal answers": 2,
        "empty side": 3,
        "thinking not closed": 1,
        "conversations differ before their last answer": 1,
    }
    assert first["empty side"] == f"{path}, row 4"
    with pytest.raises(UserError, match=r"no row of .* can be used; left out: 1 for equal answers"):
        preferences.load(jsonl(tmp_path / "equal.jsonl", [{**PLAIN, "chosen": "No."}]))


THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")


def thinking(text, thought, field):
    return {**assistant(text), field: thought}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("field", THOUGHT_FIELDS)
def test_a_thought_beside_its_answer_is_part_of_it(tmp_path, field, suffix):
    sides = {
        "chosen": [thinking("Because.", "I wonder.", field)],
        "rejected": [thinking("Because.", "Why not?", field)],
    }
    path = WRITERS[suffix](tmp_path / f"pairs{suffix}", [{"prompt": "Why?", **sides}, {"prompt": "So?", **sides}])
    kept, skipped, _ = preferences.load(path)
    assert (len(kept), skipped) == (2, {})  # they differ in their thoughts only, and are no equal answers
    assert kept[0].chosen == "<think>\nI wonder.\n</think>\n\nBecause."
    assert kept[0].rejected == "<think>\nWhy not?\n</think>\n\nBecause."


def test_equal_thoughts_and_answers_are_equal_whatever_they_stand_in(tmp_path):
    inside = assistant("<think>\nI wonder.\n</think>\n\nBecause.")
    row = {"prompt": "Why?", "chosen": [inside], "rejected": [thinking("Because.", "I wonder.", "thinking")]}
    bare = {**row, "chosen": [thinking("", "I wonder.", "reasoning")]}
    empty = {
        "prompt": "Why?",
        "chosen": [thinking("a", "", "reasoning")],
        "rejected": [thinking("b", None, "thinking")],
    }
    kept, skipped, _ = preferences.load(jsonl(tmp_path / "pairs.jsonl", [row, bare, empty]))
    assert skipped == {"equal answers": 1, "empty side": 1}
    assert [(pair.chosen, pair.rejected) for pair in kept] == [("a", "b")]


def test_fields_that_are_not_trained_on_are_counted_by_name(tmp_path):
    scored = {**assistant("a"), "score": 0.5, "name": "A", "tool_calls": [], "refusal": None, "annotations": []}
    row = {"prompt": "Why?", "chosen": [scored], "rejected": [{**assistant("b"), "score": 0}]}
    found = preferences.load(jsonl(tmp_path / "pairs.jsonl", [row, row, PLAIN]))
    assert found.ignored == {"name": 2, "score": 2} and found.skipped == {}


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"prompt": "Why?", "chosen": "a"}, "row 2: missing column rejected; found prompt, chosen"),
        ({"chosen": "a", "rejected": "b"}, "row 2: no prompt: column prompt is missing"),
        ({**PLAIN, "prompt": " "}, "row 2: no prompt"),
        ({**PLAIN, "chosen": 3}, "row 2: column chosen holds a int"),
        ({**PLAIN, "chosen": [{"role": "robot", "content": "a"}]}, "a role out of"),
        ({**PLAIN, "chosen": ["a"]}, "expected messages with a role"),
        ({**PLAIN, "chosen": [{"role": "assistant", "content": 5}]}, "no text as its content"),
        ({**PLAIN, "prompt": [{"role": "user", "content": None}]}, "a message of column prompt has no text"),
        (
            {side: [{"role": "user", "content": None}, assistant(side)] for side in ("chosen", "rejected")},
            "row 2: a message of column chosen has no text as its content",
        ),
        ({**PLAIN, "chosen": "a\ud800"}, "line 2: holds half a surrogate pair"),
        ({**PLAIN, "prompt": [{"role": "user", "content": "\udfff"}]}, "line 2: holds half a surrogate pair"),
        ({**PLAIN, "chosen": [USER]}, "ends with the turn of user"),
        ({**PLAIN, "prompt": [USER, SAID]}, "the prompt ends with the assistant's turn"),
        *(
            (
                {**PLAIN, "chosen": [{**assistant("a"), field: value}]},
                f"row 2: the answer of column chosen holds {field}",
            )
            for field, value in [("tool_calls", [{"name": "f"}]), ("refusal", "No."), ("function_call", {"name": "f"})]
        ),
        ({**PLAIN, "chosen": [thinking("a", ["b"], "reasoning")]}, "column chosen has a list as its reasoning"),
        (
            {**PLAIN, "chosen": [{**thinking("a", "b", "reasoning"), "thinking": "c"}]},
            "row 2: the answer of column chosen has different thoughts in reasoning and thinking; keep one",
        ),
        (
            {**PLAIN, "chosen": [thinking("x</think>a", "b", "thinking")]},
            "column chosen has one thought in its content and another in thinking",
        ),
        ({**PLAIN, "chosen": [thinking("a", "\ud800", "thinking")]}, "line 2: .* no character"),
        ({"prompt": "Other?", **ROWS["implicit prompt"]}, "column prompt is not the beginning of the conversations"),
    ],
)
def test_mistakes_name_the_row(tmp_path, row, named):
    path = jsonl(tmp_path / "pairs.jsonl", [PLAIN, row])
    with pytest.raises(UserError, match=named):
        preferences.load(path)


def test_mistaken_arguments_are_named(tmp_path):
    path = jsonl(tmp_path / "pairs.jsonl", [PLAIN, PLAIN])
    for options, named in [
        ({"columns": {"answer": "x"}}, "columns names answer; known are prompt, chosen, rejected, label, id"),
        ({"label": "rude"}, "label is 'rude'"),
        ({"columns": {"label": "prompt"}}, "unknown label 'Why\\?'"),
        ({"columns": {"id": "prompt"}}, "id 'Why\\?' occurs 2 times"),
    ]:
        with pytest.raises(UserError, match=named):
            preferences.load(path, **options)
    with pytest.raises(UserError, match="no such file"):
        preferences.load(str(tmp_path / "other.jsonl"))
