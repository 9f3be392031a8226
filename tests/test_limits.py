"""A limit of 0 means all, and a negative count is refused, wherever one is taken."""

import ast
import json
import pathlib

import pytest
from ml_collections import ConfigDict

import lrm_align
from lrm_align.chat import Chat, load, preferences
from lrm_align.data import reading
from lrm_align.errors import UserError
from lrm_align.evals import answered, benchmark_files, consulted, guarded, levelled, statistics, triggered
from lrm_align.evals.subject import Answer, Subject
from lrm_align.lab import CHECKPOINT, benchmark, levels, prompts, trigger
from lrm_align.recipes import evaluating, pairing
from lrm_align.sampling import Request
from lrm_align.scoring import Score, framed
from lrm_align.scoring.math_answers import Checker
from lrm_align.traces import write_shard

ROWS = 3


class Guard:
    name, version = "test", "1"

    def score(self, prompts, responses):
        return [Score(0.0) for _ in responses]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"p {i}", "chosen": f"yes {i}", "rejected": f"no {i}", "answer": str(i)} for i in range(ROWS)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def source(file):
    return {"set": {"path": file, "columns": {"text": "prompt"}, "label": "harmful", "given": {"level": 1}}}


def answers(file):
    return {"set": {"path": file, "columns": {"text": "prompt"}, "label": "benign", "meta": ["answer"]}}


def measured(evaluate, **sets):
    """How many prompts an evaluation asks."""

    def counted(limit):
        asked = []

        def answer(name, prompts):
            asked.extend(prompts)
            return [Answer("<think>\na\n</think>\n\nb", True) for _ in prompts]

        evaluate(Subject(answer, Guard, 0), **sets, limit=limit)
        return len(asked)

    return counted


def one_set(file, **settings):
    args = {"path": file, "columns": {"text": "prompt"}, "label": "harmful"}
    given = evaluating.one_set(factory="tests.test_limits:loaded", args=args, aim="harmful", **settings)
    return evaluating.read("set", ConfigDict(given), ConfigDict({"seed": 0, "sample": {}}))


def loaded(seed, **arguments):
    return load(**arguments)


def of_traces(file):
    chat = Chat.from_pretrained(str(CHECKPOINT))
    directory = pathlib.Path(file).with_suffix("")
    pairs = pairing.from_rows(chat, 0, path=file)
    write_shard(directory, "pairs", [trace for pair in pairs.traces() for trace in pair], "recipe")
    return lambda limit: pairing.read(chat, 0, path=str(directory), limit=limit, columns={}, label="").size


# How many come of a file of `ROWS` rows under a limit.
TAKERS = {
    "chat/prompts.py": lambda file: (
        lambda limit: len(load(file, columns={"text": "prompt"}, label="benign", limit=limit))
    ),
    "chat/preferences.py": lambda file: lambda limit: len(preferences.load(file, limit=limit).kept),
    "recipes/pairing.py": of_traces,
    "data/reading.py": lambda file: (
        lambda limit: len(reading.read(file, columns={"completion": "chosen"}, limit=limit).kept)
    ),
    "evals/benchmark_files.py": lambda file: lambda limit: len(benchmark_files.load("oktest", path=file, limit=limit)),
    "evals/guarded.py": lambda file: measured(guarded.evaluate, sources=source(file)),
    "evals/answered.py": lambda file: measured(answered.evaluate, sources=answers(file)),
    "evals/levelled.py": lambda file: measured(levelled.evaluate, sources={}, levelled=source(file), column="level"),
    "evals/triggered.py": lambda file: measured(triggered.evaluate, risky=source(file), general={}),
    "evals/consulted.py": lambda file: measured(consulted.evaluate, risky=source(file)),
    "recipes/evaluating.py": lambda file: lambda limit: len(one_set(file, limit=limit).prompts),
}
# Where the word is about something else: a cap, a budget, a helper of those above.
OTHERS = {
    "advantages/presets.py", "advantages/shaping.py", "chat/tool_calls.py", "defences/more_think.py", "limits.py",
    "rl/watch.py", "untrusted.py",
}  # fmt: skip


@pytest.mark.parametrize("taker", TAKERS)
def test_0_is_all_and_a_negative_limit_is_refused(file, taker):
    take = TAKERS[taker](file)
    assert [take(limit) for limit in (0, 1, 2, ROWS, 99)] == [ROWS, 1, 2, ROWS, ROWS]
    with pytest.raises(UserError, match="limit is -1; it must be a whole number of at least 0"):
        take(-1)


def test_nobody_else_takes_a_limit():
    root = pathlib.Path(lrm_align.__file__).parent
    takers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                names = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                takers |= {str(path.relative_to(root))} if "limit" in names else set()
    assert takers - OTHERS == set(TAKERS) - {"recipes/evaluating.py"}


COUNTS = {
    "samples of a set": lambda file: one_set(file, samples=-1),
    "evaluation prompts": lambda file: prompts.EvaluationSizes(attack=-1),
    "training prompts": lambda file: prompts.training_sizes({"fact": -1}),
    "adversarial prompts": lambda file: prompts.adversarial(0, -1),
    "benchmark prompts": lambda file: benchmark("attack", -1, 0),
    "nested prompts": lambda file: levels.nested(0, -1),
    "levelled prompts": lambda file: levels.training_prompts(0, "a", 1, -1, 1, 1),
    "jailbreak prompts": lambda file: trigger.training_prompts(0, 1, -1),
    "resamples": lambda file: statistics.bootstrap([0.0, 1.0], resamples=-1),
    "samples of a request": lambda file: Request("a", [1], samples=-1),
    "processes that compare": lambda file: Checker(workers=0),
    "tokens of a guard's batch": lambda file: framed.check_sizes("g", 1, -1, 0.5),
    "tokens of a guard's prompt": lambda file: framed.check_sizes("g", 0, 1, 0.5),
    "no resample": lambda file: statistics.bootstrap([0.0, 1.0], resamples=0),
}


@pytest.mark.parametrize("count", COUNTS)
def test_negative_counts_are_refused(file, count):
    with pytest.raises(UserError, match=r"is (-1|0); it must be a whole number of at least [01]"):
        COUNTS[count](file)


def test_a_size_that_the_lab_has_not_is_named():
    with pytest.raises(UserError, match="the lab has no attacks prompts; it has attack, wrapped"):
        prompts.evaluation_sizes({"attacks": 3})
