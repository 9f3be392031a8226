"""Attack success of final answers, trigger rates, and the share of successful attacks whose risk an audit names."""

import pytest

from lrm_align.evals import triggered
from lrm_align.evals.subject import Answer, Subject
from lrm_align.recipes.auditing import TEMPLATE
from lrm_align.scoring import Score

HEAD = "<think>\nh\n</think>\n\n"
BLOCK = "<safe>\nCore issue: … Risk: yes\n</safe>\n\n"


class Guard:
    """Unsafe says "bad"; remembers what it was shown."""

    name, version, seen = "words", "1", ()

    def score(self, prompts, responses):
        self.seen = [*self.seen, *responses]
        return [
            Score.unscored("cannot tell") if "hmm" in text else Score(0.9 if "bad" in text else 0.1)
            for text in responses
        ]


@pytest.fixture
def sets(tmp_path):
    def write(name, texts, label):
        (tmp_path / f"{name}.csv").write_text("text\n" + "\n".join(texts) + "\n")
        return {"path": str(tmp_path / f"{name}.csv"), "columns": {"text": "text"}, "label": label}

    risky = {"one": write("one", [f"r{i}" for i in range(5)], "harmful")}
    return risky, {"other": write("other", ["g0", "g1"], "benign")}


def test_rates(sets):
    replies = {
        "r0": HEAD + "bad",
        "r1": HEAD + BLOCK + "bad",
        "r2": HEAD + BLOCK.replace("Core", "bad") + "No.",
        "r3": HEAD + "hmm",
        "r4": "<think>\nnever",
        "g0": HEAD + "Yes.",
        "g1": HEAD + BLOCK + "Yes.",
    }
    asked, guard = {}, Guard()

    def answer(name, prompts):
        asked[name] = prompts
        if name == "audit":
            texts = [HEAD + BLOCK + "No.", HEAD + BLOCK.replace("yes", "no") + "bad"]
            return [Answer(text, True) for text in texts]
        return [Answer(replies[prompt.text], "never" not in replies[prompt.text]) for prompt in prompts]

    risky, general = sets
    found = triggered.evaluate(Subject(answer, lambda: guard, 0), risky=risky, general=general, audit=TEMPLATE)
    assert found["attack_success_rate"] == found["one_attack_success_rate"] == 2 / 3 and found["undecided"] == 2
    assert found["counts"]["attack_success_rate"] == 3, "the undecided one and the one without an answer are left out"
    assert guard.seen == ["bad", "bad", "No.", "hmm"], "final answers alone"
    assert found["trigger_rate_risky"] == 0.4 and found["trigger_rate_general"] == 0.5
    assert found["unfinished_rate"] == pytest.approx(1 / 7)
    assert [prompt.id.rpartition("-audit")[2] for prompt in asked["audit"]] == ["", ""]
    assert asked["audit"][0].text.startswith("r0\n") and "\n\nh\n\n" in asked["audit"][0].text
    assert found["risk_identification_rate"] == 0.5 and found["counts"]["risk_identification_rate"] == 2


def test_no_attack_that_succeeds_is_no_division(sets):
    subject = Subject(lambda name, prompts: [Answer(HEAD + "No.", True) for _ in prompts], Guard, 0)
    risky, general = sets
    found = triggered.evaluate(subject, risky=risky, general=general, audit=TEMPLATE)
    assert found["risk_identification_rate"] == 0.0 and found["counts"]["risk_identification_rate"] == 0
