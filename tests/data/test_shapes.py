"""Every shape in every kind of file gives the same conversation; what cannot be learned from is counted or named."""

import csv
import json
import random

import pyarrow
import pyarrow.parquet
import pytest

from lrm_align import data
from lrm_align.data import detect
from lrm_align.errors import UserError, one_line
from lrm_align.settings import data as settings

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "Because."}
MORE = [{"role": "user", "content": "Really?"}, {"role": "assistant", "content": "Yes."}]
TOOL = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]},
    {"role": "tool", "content": "found"},
    SAID,
]
# What a row holds, and what is made of it.
ROWS = {
    "messages": ({"messages": [SYSTEM, USER, SAID, *MORE]}, [SYSTEM, USER, SAID, *MORE]),
    "sharegpt": (
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}],
        },
        [SYSTEM, USER, SAID],
    ),
    "prompt_completion": ({"prompt": "Why?", "completion": "Because."}, [USER, SAID]),
    "prompt_completion of messages": ({"prompt": [SYSTEM, USER], "completion": [SAID]}, [SYSTEM, USER, SAID]),
    "alpaca": (
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        [{"role": "user", "content": "Add.\n\n1 2"}, {"role": "assistant", "content": "3"}],
    ),
    "star1": ({"id": "7", "question": "Why?", "response": "Because.", "score": "10"}, [USER, SAID]),
    "safechain": (
        {"instruction": "Why?", "label": "vanilla_benign", "response": "Well\n</think>\n\nBecause."},
        [USER, {"role": "assistant", "content": "<think>\nWell\n</think>\n\nBecause."}],
    ),
}  # fmt: skip


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def listed(path, rows):
    path.write_text(json.dumps(rows))


def parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows([{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows])


WRITERS = {".jsonl": jsonl, ".json": listed, ".parquet": parquet, ".csv": table, ".tsv": table}


def written(tmp_path, rows, suffix=".jsonl"):
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, rows)
    return str(path)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", ROWS)
def test_a_shape_in_a_file(name, suffix, tmp_path):
    row, messages = ROWS[name]
    found = data.read(written(tmp_path, [row, row], suffix))
    assert found.shape == name.split()[0] and not found.dropped
    assert [list(one.messages) for one in found.kept] == [messages, messages]
    assert [one.id for one in found.kept] == ["rows-1", "rows-2"]


def test_every_shape_is_tested_and_may_be_named_in_a_config():
    assert {name.split()[0] for name in ROWS} == {*detect.SHAPES}
    assert settings.FORMATS == detect.FORMATS


def test_tool_turns_and_tools_are_kept(tmp_path):
    tools = [{"type": "function", "function": {"name": "find"}}]
    (one,) = data.read(written(tmp_path, [{"messages": TOOL, "tools": tools}])).kept
    assert list(one.messages) == TOOL and list(one.tools) == tools


def test_columns_that_have_other_names(tmp_path):
    path = written(tmp_path, [{"q": "Why?", "a": "Because.", "prompt": "of something else"}])
    (one,) = data.read(path, columns={"prompt": "q", "completion": "a"}).kept
    assert list(one.messages) == [USER, SAID]


DROPPED = {
    "no assistant turn": [USER],
    "no user turn before the answer": [SAID],
    "empty prompt": [SYSTEM, {"role": "user", "content": " \n"}, SAID],
    "empty answer": [USER, {"role": "assistant", "content": "<think>\nWell\n</think>\n\n"}],
    "thinking not closed": [USER, {"role": "assistant", "content": "<think>\nWell"}],
    "two different thoughts": [USER, {**SAID, "reasoning_content": "a", "thinking": "b"}],
}


@pytest.mark.parametrize("reason", DROPPED)
def test_what_cannot_be_learned_from_is_counted_with_its_reason(reason, tmp_path):
    path = written(tmp_path, [{"messages": [USER, SAID]}, {"messages": DROPPED[reason]}])
    found = data.read(path)
    assert len(found.kept) == 1 and found.dropped == {reason: 1} and found.first == {reason: f"{path}, row 2"}
    with pytest.raises(UserError) as error:
        data.read(written(tmp_path, [{"messages": DROPPED[reason]}] * 3))
    assert f"none of the 3 rows of {path} (messages) can be learned from: 3 for {reason}" in one_line(error.value)


MISTAKES = {
    "two shapes": ([{"prompt": "a", "completion": "b"}, {"messages": [USER, SAID]}],
                   "has two shapes: row 1 is prompt_completion, row 2 is messages"),
    "no shape": ([{"text": "a"}], "row 1 has columns of no known shape: 'text'"),
    "several shapes": ([{"prompt": "a", "completion": "b", "messages": [USER]}],
                       "row 1 has the columns of messages and of prompt_completion"),
    "a missing cell": ([{"prompt": "a", "completion": "b"}, {"prompt": "a"}], "row 2 has nothing in column completion"),
    "an unknown role": ([{"messages": [USER, {"role": "bot", "content": "a"}]}],
                        "row 1: message 2 of column messages has role 'bot'; expected one of system"),
    "an unknown speaker": ([{"conversations": [{"from": "bard", "value": "a"}]}],
                           "row 1: turn 1 of column conversations is from 'bard'; expected one of human"),
    "content in parts": ([{"messages": [{"role": "user", "content": [{"type": "text"}]}, SAID]}],
                         "row 1: message 1 of column messages has"),
    "a number": ([{"prompt": 3, "completion": "b"}], "row 1: column prompt holds"),
    "a thought that is none": ([{"messages": [USER, {**SAID, "reasoning_content": 3}]}], "as its reasoning_content"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_that_names_the_row(name, tmp_path):
    rows, says = MISTAKES[name]
    with pytest.raises(UserError) as error:
        data.read(written(tmp_path, rows))
    assert says in one_line(error.value) and "rows.jsonl" in one_line(error.value)


def test_no_path_and_a_negative_limit(tmp_path):
    with pytest.raises(UserError, match="path is empty"):
        data.read("")
    with pytest.raises(UserError, match="limit"):
        data.read(written(tmp_path, [ROWS["star1"][0]]), limit=-1)


def conversations(tmp_path, count=40):
    rows = [{"prompt": f"question {n // 2}", "completion": f"answer {n}"} for n in range(count)]
    return rows, data.read(written(tmp_path, rows)).kept


def texts(part):
    return {(one.messages[0]["content"], one.messages[-1]["content"]) for one in part}


def test_the_same_prompts_are_held_out_whatever_the_order_and_never_trained_on(tmp_path):
    rows, found = conversations(tmp_path)
    train, out = data.held_out(found, 0.2)
    assert len(out) == 8 and not {q for q, _ in texts(train)} & {q for q, _ in texts(out)}
    random.Random(1).shuffle(rows)
    again, moved = data.held_out(data.read(written(tmp_path, rows)).kept, 0.2)
    assert texts(moved) == texts(out) and texts(again) == texts(train)


def test_a_small_share_holds_out_one_prompt_and_all_of_them_is_refused(tmp_path):
    _, found = conversations(tmp_path)
    assert len(data.held_out(found, 0.001)[1]) == 2 and data.held_out(found, 0.0) == (found, [])
    with pytest.raises(UserError, match="nothing is left to train on"):
        data.held_out(found, 0.99)
