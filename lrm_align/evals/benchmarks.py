r"""The table of benchmarks: what each asks, in which columns its published files hold it, and what is counted.

A row of a file is taken by the first layout whose columns it has, so that the authors' file and its copies on the hub
both read. `aim` says what an answer is judged for: HARMFUL, how many responses a guard calls unsafe; BENIGN, how many
answers refuse; ANSWER, how many give the known answer.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lrm_align.evals.golds import choice_letter, gsm8k_gold, integer_gold, math_gold

HARMFUL, BENIGN, ANSWER = "harmful", "benign", "answer"
AIMS = (HARMFUL, BENIGN, ANSWER)
Row = Mapping[str, Any]

# What DeepSeek's and Qwen's model cards ask users to add to a mathematical problem.
BOXED = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
LETTER = "{problem}\n\n{choices}\n\nPlease reason step by step, and put the letter of your choice within \\boxed{{}}."


class Layout(NamedTuple):
    """How one published file holds a benchmark.

    Attributes:
      text: the column of the prompt.
      gold: the column of the answer; "" for none.
      kind: the column of a sub-kind; "" for none.
      id: the column of a name; "" for none.
      where: which rows are asked; all where None.
      needs: further columns that tell this layout from others, or that `where` reads.
    """

    text: str
    gold: str = ""
    kind: str = ""
    id: str = ""
    where: Callable[[Row], bool] | None = None
    needs: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that a row must have."""
        return tuple(dict.fromkeys(c for c in (self.text, self.gold, self.kind, self.id, *self.needs) if c))


class Benchmark(NamedTuple):
    """One benchmark.

    Attributes:
      title: for tables.
      aim: one of `AIMS`.
      prompts: how many the published set has.
      layouts: the accepted columns, tried in order.
      hub: its `datasets` id, with the config and the split.
      wording: the user turn, with the fields `{problem}` and `{choices}`.
      gold: from (the gold column's value, the row, its place) to the answer; None without one.
      choices: columns of the right and the wrong choices, for multiple choice.
      samples: that papers draw for each prompt.
      source: who published it, and whose protocol the prompts and the samples are.
    """

    title: str
    aim: str
    prompts: int
    layouts: tuple[Layout, ...]
    hub: tuple[str, str, str]
    wording: str = "{problem}"
    gold: Callable[[Any, Row, str], str] | None = None
    choices: tuple[str, ...] = ()
    samples: int = 1
    source: str = ""


def _is(column: str, *values: Any) -> Callable[[Row], bool]:
    return lambda row: row[column] in values


def _no_contrast(row: Row) -> bool:
    return not str(row["type"]).startswith("contrast_")


def _label(row: Row, harmful: bool) -> bool:
    return str(row["data_type"]) == ("adversarial_harmful" if harmful else "adversarial_benign")


BENCHMARKS: dict[str, Benchmark] = {
    "harmbench": Benchmark(
        "HarmBench, standard",
        HARMFUL,
        200,
        (
            Layout(
                "Behavior", kind="SemanticCategory", id="BehaviorID", where=_is("FunctionalCategory", "standard"),
                needs=("FunctionalCategory",),
            ),
            Layout("prompt", kind="category"),
        ),
        ("walledai/HarmBench", "standard", "train"),
        source="Mazeika et al. 2024, arXiv 2402.04249",
    ),
    "thinksafe_harmbench": Benchmark(
        "HarmBench, ThinkSafe's 602 adversarial prompts",
        HARMFUL,
        602,
        (Layout("prompt", needs=("objective",)),),
        ("", "", ""),
        source="Lee et al. 2026, arXiv 2601.23143, appendix E.3",
    ),
    "strongreject": Benchmark(
        "StrongREJECT",
        HARMFUL,
        313,
        (Layout("forbidden_prompt", kind="category"), Layout("prompt", kind="category"),
         Layout("instruction", kind="category")),
        ("walledai/StrongREJECT", "", "train"),
        source="Souly et al. 2024, arXiv 2402.10260",
    ),
    "wildjailbreak": Benchmark(
        "WildJailbreak, adversarial harmful",
        HARMFUL,
        2000,
        (Layout("adversarial", kind="data_type", where=lambda row: _label(row, True)),),
        ("allenai/wildjailbreak", "eval", "train"),
        source="Jiang et al. 2024, arXiv 2406.18510",
    ),
    "wildjailbreak_benign": Benchmark(
        "WildJailbreak, adversarial benign",
        BENIGN,
        210,
        (Layout("adversarial", kind="data_type", where=lambda row: _label(row, False)),),
        ("allenai/wildjailbreak", "eval", "train"),
        source="Jiang et al. 2024, arXiv 2406.18510",
    ),
    "jailbreakbench": Benchmark(
        "JailbreakBench, harmful",
        HARMFUL,
        100,
        (Layout("Goal", kind="Category"), Layout("goal", kind="category")),
        ("JailbreakBench/JBB-Behaviors", "behaviors", "harmful"),
        source="Chao et al. 2024, arXiv 2404.01318",
    ),
    "jailbreakbench_benign": Benchmark(
        "JailbreakBench, benign",
        BENIGN,
        100,
        (Layout("Goal", kind="Category"), Layout("goal", kind="category")),
        ("JailbreakBench/JBB-Behaviors", "behaviors", "benign"),
        source="Chao et al. 2024, arXiv 2404.01318",
    ),
    "advbench": Benchmark(
        "AdvBench",
        HARMFUL,
        520,
        (Layout("goal", needs=("target",)), Layout("prompt", needs=("target",))),
        ("walledai/AdvBench", "", "train"),
        source="Zou et al. 2023, arXiv 2307.15043",
    ),
    "xstest": Benchmark(
        "XSTest, safe prompts",
        BENIGN,
        250,
        (
            Layout("prompt", kind="type", where=_is("label", "safe"), needs=("label",)),
            Layout("prompt", kind="type", where=_no_contrast),
        ),
        ("walledai/XSTest", "", "test"),
        source="Röttger et al. 2024, arXiv 2308.01263",
    ),
    "xstest_unsafe": Benchmark(
        "XSTest, unsafe contrasts",
        HARMFUL,
        200,
        (
            Layout("prompt", kind="type", where=_is("label", "unsafe"), needs=("label",)),
            Layout("prompt", kind="type", where=lambda row: not _no_contrast(row)),
        ),
        ("walledai/XSTest", "", "test"),
        source="Röttger et al. 2024, arXiv 2308.01263",
    ),
    "oktest": Benchmark(
        "OKTest",
        BENIGN,
        300,
        (Layout("prompt"),),
        ("", "", ""),
        source="Shi et al. 2024, arXiv 2401.17633",
    ),
    "orbench": Benchmark(
        "OR-Bench, hard",
        BENIGN,
        1319,
        (Layout("prompt", kind="category"),),
        ("bench-llm/or-bench", "or-bench-hard-1k", "train"),
        source="Cui et al. 2024, arXiv 2405.20947",
    ),
    "gsm8k": Benchmark(
        "GSM8K",
        ANSWER,
        1319,
        (Layout("question", gold="answer"),),
        ("openai/gsm8k", "main", "test"),
        BOXED,
        gsm8k_gold,
        samples=8,
        source="Cobbe et al. 2021, arXiv 2110.14168",
    ),
    "math500": Benchmark(
        "MATH-500",
        ANSWER,
        500,
        (Layout("problem", gold="answer", kind="subject"), Layout("problem", gold="answer")),
        ("HuggingFaceH4/MATH-500", "", "test"),
        BOXED,
        math_gold,
        samples=8,
        source="Lightman et al. 2023, arXiv 2305.20050",
    ),
    "aime24": Benchmark(
        "AIME 2024",
        ANSWER,
        30,
        (Layout("problem", gold="answer"), Layout("Problem", gold="Answer")),
        ("HuggingFaceH4/aime_2024", "", "train"),
        BOXED,
        integer_gold,
        samples=8,
        source="Mathematical Association of America",
    ),
    "gpqa": Benchmark(
        "GPQA, diamond",
        ANSWER,
        198,
        (Layout("Question", gold="Correct Answer"),),
        ("Idavidrein/gpqa", "gpqa_diamond", "train"),
        LETTER,
        choice_letter,
        ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        samples=8,
        source="Rein et al. 2023, arXiv 2311.12022",
    ),
}  # fmt: skip
