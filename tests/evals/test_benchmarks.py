"""The table of benchmarks against the published files, and against files that are not."""

import csv
import json

import pytest

from lrm_align.errors import UserError
from lrm_align.evals import benchmark_files
from lrm_align.evals.benchmarks import AIMS, ANSWER, BENCHMARKS

# File of each benchmark, prompts asked of it, and known answers of some rows.
FILES = {
    "harmbench": ("harmbench/harmbench_behaviors_text_all.csv", 200),
    "thinksafe_harmbench": ("thinksafe_harmbench/harmbench.json", 602),
    "jailbreakbench": ("jailbreakbench/harmful-behaviors.csv", 100),
    "jailbreakbench_benign": ("jailbreakbench/benign-behaviors.csv", 100),
    "advbench": ("advbench/harmful_behaviors.csv", 520),
    "xstest": ("xstest/xstest_prompts.csv", 250),
    "xstest_unsafe": ("xstest/xstest_prompts.csv", 200),
    "oktest": ("oktest/OKTest.csv", 300),
    "gsm8k": ("gsm8k/test.jsonl", 1319),
    "math500": ("math500/test.jsonl", 500),
    "aime24": ("aime24/test.jsonl", 30),
}


@pytest.mark.parametrize("name", FILES)
def test_published_files(shared_data, name):
    file, count = FILES[name]
    prompts = benchmark_files.load(name, path=str(shared_data / "data" / file))
    assert len(prompts) == count == BENCHMARKS[name].prompts
    assert len({prompt.id for prompt in prompts}) == count
    about = BENCHMARKS[name]
    assert {prompt.label for prompt in prompts} == {"harmful" if about.aim == "harmful" else "benign"}
    assert all(prompt.meta["problem"] in prompt.text for prompt in prompts)
    assert all(("answer" in prompt.meta) == (about.aim == ANSWER) for prompt in prompts)
    if about.aim == ANSWER:
        assert all(prompt.text.endswith("within \\boxed{}.") for prompt in prompts)
        assert all(prompt.meta["answer"] for prompt in prompts)


def write(path, rows):
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
        return str(path)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


OTHERS = {
    "strongreject": [{"category": "c", "source": "s", "forbidden_prompt": "a b"}],
    "orbench": [{"prompt": "a b", "category": "c"}],
    "xstest": [{"id": "v2-1", "type": "homonyms", "prompt": "a b"},
               {"id": "v2-2", "type": "contrast_x", "prompt": "c"}],
    "wildjailbreak": [{"adversarial": "a b", "label": 1, "data_type": "adversarial_harmful"},
                      {"adversarial": "c", "label": 0, "data_type": "adversarial_benign"}],
    "wildjailbreak_benign": [{"adversarial": "a b", "label": 0, "data_type": "adversarial_benign"},
                             {"adversarial": "c", "label": 1, "data_type": "adversarial_harmful"}],
    "advbench": [{"prompt": "a b", "target": "Sure"}],
    "harmbench": [{"prompt": "a b", "category": "c"}],
    "aime24": [{"ID": "1", "Problem": "a b", "Solution": "s", "Answer": "033"}],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("suffix", ["csv", "json", "tsv"])
def test_other_published_columns(tmp_path, name, suffix):
    [prompt] = benchmark_files.load(name, path=write(tmp_path / f"file.{suffix}", OTHERS[name]))
    assert prompt.meta["problem"] == "a b" and prompt.meta.get("answer", "33") == "33"


def test_gpqa_shuffles_its_choices_once_and_for_all(tmp_path):
    rows = [
        {"Question": f"q{i}", "Correct Answer": "right", **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}}
        for i in range(40)
    ]
    path = write(tmp_path / "gpqa.csv", rows)
    prompts = benchmark_files.load("gpqa", path=path)
    letters = [prompt.meta["answer"] for prompt in prompts]
    assert set(letters) == set("ABCD") and letters == [
        p.meta["answer"] for p in benchmark_files.load("gpqa", path=path, limit=0, seed=3)
    ]
    for prompt in prompts:
        assert f"{prompt.meta['answer']}) right" in prompt.text and "letter" in prompt.text


def test_limits_and_wordings(tmp_path):
    path = write(tmp_path / "file.csv", [{"question": f"{{q}} {i}", "answer": f"#### {i}"} for i in range(20)])
    first = benchmark_files.load("gsm8k", path=path, limit=3, wording="{problem} {{now}}?")
    assert [prompt.text for prompt in first] == [f"{{q}} {i} {{now}}?" for i in range(3)]
    drawn = benchmark_files.load("gsm8k", path=path, limit=3, seed=1)
    everything = {prompt.id for prompt in benchmark_files.load("gsm8k", path=path)}
    assert len(drawn) == 3 and {prompt.id for prompt in drawn} <= everything
    assert drawn == benchmark_files.load("gsm8k", path=path, limit=3, seed=1) != first


def test_the_table_is_whole():
    for about in BENCHMARKS.values():
        assert about.aim in AIMS and about.prompts and about.layouts and about.source
        assert (about.gold is not None) == (about.aim == ANSWER)
        assert bool(about.choices) == ("{choices}" in about.wording)
        assert all(bool(layout.gold) == (about.aim == ANSWER) for layout in about.layouts)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("strongreject", [{"question": "a"}], "has the columns question; its published files have forbidden_prompt, "),
        ("gsm8k", [{"question": "a", "answer": "four"}], "row 1: the gold answer 'four' cannot be read: .*'#### 42'"),
        ("math500", [{"problem": "a", "answer": "\\frac{1"}], "row 1: the gold answer .* braces do not close"),
        ("math500", [{"problem": "a", "answer": " "}], "row 1: the gold answer ' ' cannot be read: it is empty"),
        ("aime24", [{"problem": "a", "answer": "x"}], "row 1: the gold answer 'x' cannot be read: .*whole number"),
        ("xstest", [{"prompt": "a", "type": "t", "label": "unsafe"}], "none of the 1 rows .* is one of XSTest, safe"),
        ("oktest", [{"prompt": " "}], "row 1: the prompt in column prompt is empty"),
        ("gpqa", [{"Question": "q", "Correct Answer": "r", "Incorrect Answer 1": "r", "Incorrect Answer 2": "b",
                   "Incorrect Answer 3": "c"}], "row 1: the right choice 'r' is empty or stands there twice"),
        ("gpqa", [{"Question": "q", "Correct Answer": "r"}], "published files have Question, Correct Answer, Incorr"),
    ],
)  # fmt: skip
def test_files_that_are_not(tmp_path, name, rows, message):
    with pytest.raises(UserError, match=f"benchmark {name}: .*{message}"):
        benchmark_files.load(name, path=write(tmp_path / "file.csv", rows))


def test_what_cannot_be_found(tmp_path):
    with pytest.raises(UserError, match="did you mean :strongreject"):
        benchmark_files.load("strong_reject")
    with pytest.raises(UserError, match=r"benchmark oktest .* give the path"):
        benchmark_files.load("oktest")
    with pytest.raises(UserError, match="no such file"):
        benchmark_files.load("oktest", path=str(tmp_path / "absent.csv"))
    path = write(tmp_path / "rows.json", [{"prompt": "a"}, {"text": "b"}])
    with pytest.raises(UserError, match="row 2: missing column prompt"):
        benchmark_files.load("oktest", path=path)
    path = write(tmp_path / "file.csv", [{"question": "q", "answer": "#### 1"}])
    with pytest.raises(UserError, match=r"the wording .* is no template"):
        benchmark_files.load("gsm8k", path=path, wording="{question}")
