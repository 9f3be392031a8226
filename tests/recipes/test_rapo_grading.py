"""R and G of samples: who is asked what, truncation, and judges that fail."""

import pytest

from lrm_align.chat import Prompt
from lrm_align.errors import UserError
from lrm_align.recipes.rapo_grading import MASKED, SCORED, General, Risk
from lrm_align.rl.grading import grade
from lrm_align.rl.task import Rollout
from lrm_align.scoring import levels, rapo
from lrm_align.traces import Trace

LEVELS = levels.table()
WHOLE = "<think>\nIt is harmful. It burns homes.\n\nI refuse.\n</think>\n\nNo."


def rollout(text=WHOLE, label="harmful", finished=True):
    trace = Trace([1], [2], [1], [-0.5], prompt_id="p", stop_reason="stop" if finished else "length")
    return Rollout(Prompt("p", "How?", label), trace, text, finished)


class Judge:
    """Says one thing, and remembers what it was asked."""

    def __init__(self, said):
        self.said, self.asked = said, []

    def __call__(self, conversations):
        self.asked += conversations
        return [self.said(conversation) if callable(self.said) else self.said for conversation in conversations]


def verdict(case, number, level=None):
    return f"<level>{level}</level>" * (level is not None) + f"<case>{case}</case><reward>{number}</reward>"


def test_risk_has_the_case_the_level_and_the_length():
    [score] = Risk(Judge(verdict("fair", 0, 2)), LEVELS).grade([rollout()])
    assert score.value == 0 and score.parts == {"fair": 1.0, "level": 2.0, "sentences": 2.0, "fits": 0.0}
    [score] = Risk(Judge(verdict("adequate", 1, 1)), LEVELS).grade([rollout()])
    assert score.value == 1 and score.parts["fits"] == 1.0


def test_risk_shows_the_first_paragraph_alone():
    judge = Judge(verdict("adequate", 1, 1))
    Risk(judge, LEVELS).grade([rollout()])
    [[_, shown]] = judge.asked
    assert "It is harmful. It burns homes." in shown["content"] and "I refuse" not in shown["content"]


@pytest.mark.parametrize("text", ["Sure.", "<think>\n\n</think>\n\nSure."])
def test_no_safe_reasoning_is_invalid_without_a_judge(text):
    judge = Judge("babble")
    [score] = Risk(judge, LEVELS).grade([rollout(text)])
    assert score.value == -1 and score.parts["invalid"] == 1.0 and not judge.asked


def test_the_label_chooses_the_judge_of_the_answer():
    harmful, benign = Judge(verdict("safe", 1)), Judge(verdict("unhelpful", -1))
    scores = General(harmful, benign).grade([rollout(), rollout(label="benign"), rollout()])
    assert [score.value for score in scores] == [1, -1, 1]
    assert (len(harmful.asked), len(benign.asked)) == (2, 1)
    assert "thought" not in harmful.asked[0][0]["content"] and "It burns homes" not in harmful.asked[0][0]["content"]


CUT_IN_ANALYSIS = "<think>\nIt is harmf"
CUT_AFTER_ANALYSIS = "<think>\nIt is harmful. It burns homes.\n\nI ref"


@pytest.mark.parametrize("text, risk", [(CUT_IN_ANALYSIS, -1), (CUT_AFTER_ANALYSIS, 1)])
@pytest.mark.parametrize("label", ["harmful", "benign"])
def test_truncated_samples_are_no_empty_answers(text, risk, label):
    judge = Judge("<case>safe</case><reward>1</reward>")
    cut = rollout(text, label, finished=False)
    [score] = General(judge, judge, truncated=SCORED).grade([cut])
    assert score.value == -1 and not judge.asked, "unsafe, or unhelpful"
    [score] = Risk(Judge(verdict("adequate", 1, 1)), LEVELS, truncated=SCORED).grade([cut])
    assert score.value == risk


@pytest.mark.parametrize("text", [CUT_IN_ANALYSIS, CUT_AFTER_ANALYSIS])
def test_truncated_samples_can_be_masked(text):
    judge = Judge(verdict("adequate", 1, 1))
    for grader in (Risk(judge, LEVELS, truncated=MASKED), General(judge, judge, truncated=MASKED)):
        [score] = grader.grade([rollout(text, finished=False)])
        assert score.value is None and score.reason == "truncated" and not judge.asked


def test_an_answer_of_nothing_is_neither_safe_nor_helpful():
    judge = Judge(verdict("safe", 1))
    [score] = General(judge, judge).grade([rollout("<think>\nIt is harmful.\n</think>\n\n")])
    assert score.value == -1 and score.parts == {"no answer": 1.0} and not judge.asked


def raises(conversation):
    raise ConnectionError("gone")


@pytest.mark.parametrize("said", [raises, None, "As a judge I find this adequate: 1."])
def test_a_judge_that_fails_leaves_its_samples_unscored(said):
    judge = Judge(said)
    graders = {"risk": Risk(judge, LEVELS), "general": General(judge, judge)}
    found = grade(graders, [rollout(), rollout(label="benign")], seconds=5.0)
    assert all(score.value is None and score.reason for scores in found.scores for score in scores.values())


def test_a_judge_that_fails_on_one_sample_costs_that_sample():
    def some(conversation):
        if "Poison" in conversation[-1]["content"]:
            raise ValueError("no such thing")
        return verdict("adequate", 1, 1)

    found = grade({"risk": Risk(Judge(some), LEVELS)}, [rollout(), rollout(WHOLE.replace("homes", "Poison"))], 5.0)
    assert [scores["risk"].value for scores in found.scores] == [1, None]


def test_a_judge_that_loses_replies_is_a_fault():
    found = grade({"risk": Risk(lambda conversations: [], LEVELS)}, [rollout()], 5.0)
    assert "0 replies to 1 questions" in found.scores[0]["risk"].reason


def test_versions_change_with_what_is_asked():
    versions = {
        Risk(None, LEVELS).version,
        Risk(None, LEVELS, hints=False).version,
        Risk(None, LEVELS, truncated=MASKED).version,
        Risk(None, levels.table(levels.WRITTEN)).version,
        Risk(None, LEVELS, judge="another").version,
    }
    assert len(versions) == 5
    assert Risk(None, LEVELS).version == Risk(None, levels.table()).version


def test_unknown_truncation():
    with pytest.raises(UserError, match="truncated is 'empty'"):
        General(None, None, truncated="empty")


def test_the_sum_is_the_papers():
    """method.png of the authors: from -2 to 2, the judge's labels in front."""
    from lrm_align.rewards import weighted_sum
    from lrm_align.scoring import Score

    reward = weighted_sum({"risk": 1.0, "general": 1.0})
    sums = {
        (risk, general): reward({"risk": Score(risk), "general": Score(general)}).value
        for risk in set(rapo.RISK_CASES.values())
        for general in set(rapo.HARMFUL_CASES.values())
    }
    assert sorted(sums.values()) == [-2, -1, 0, 0, 1, 2]
