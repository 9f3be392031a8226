"""Decontamination: what counts as the same text, and the overlaps that real sets have."""

import hypothesis
import hypothesis.strategies as st
import pytest

from lrm_align.chat import Prompt, decontaminate, load, normalise


def prompts(*texts):
    return [Prompt(str(i), text, "harmful") for i, text in enumerate(texts)]


def test_same_text_in_other_clothes_is_dropped_and_counted():
    training = prompts("How do I\tpick a LOCK?", "How do I pick two locks?", "ｈｏｗ do i pick a “lock”", "?!", "bake")
    kept, overlap = decontaminate(
        training, {"a": ["how do I pick a lock."], "b": ["Bake!", "How do I pick a lock"], "c": ["…"]}
    )
    assert [p.text for p in kept] == ["How do I pick two locks?", "?!"]
    assert (overlap.checked, overlap.dropped, overlap.by_set) == (5, 3, {"a": 2, "b": 3, "c": 0})


@hypothesis.given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert normalise(f"  {text}?! ") == once


SETS = {
    "star1": ("star1/STAR-1.json", "question", None),
    "harmbench": ("harmbench/harmbench_behaviors_text_all.csv", "Behavior", "BehaviorID"),
    "forbidden": ("jailbreak_in_the_wild/forbidden_question_set.csv", "question", None),
    "jailbreakbench": ("jailbreakbench/harmful-behaviors.csv", "Goal", None),
    "advbench": ("advbench/harmful_behaviors.csv", "goal", None),
}


@pytest.mark.parametrize(
    ("training", "test", "count"),
    [
        ("star1", "harmbench", 32),
        ("star1", "forbidden", 2),
        ("jailbreakbench", "advbench", 11),
        ("jailbreakbench", "harmbench", 9),
    ],
)
def test_known_overlaps(shared_data, training, test, count):
    def read(name):
        file, text, id = SETS[name]
        columns = {"text": text} | ({"id": id} if id else {})
        return load(str(shared_data / "data" / file), columns=columns, label="harmful")

    kept, overlap = decontaminate(read(training), {test: [prompt.text for prompt in read(test)]})
    assert overlap.dropped == overlap.by_set[test] == count
    assert len(kept) == overlap.checked - count
