r"""What is written around an answer: typography, units, boxes, announcements; and what makes another answer of it."""

import time

import pytest

from lrm_align.scoring import math_final
from lrm_align.scoring.math_answers import Checker

NUMBERS = ("13", "-7", "0.5", "1200", r"\frac{3}{4}")
# One form to a line; @ stands for the number.
AROUND = r"""
\text{@}                \mathbf{@}          \textbf{@}          \mathrm{@}          \boldsymbol{@}      \mbox{@}
\bm{@}                  {\bf @}             \textbf{\text{@}}   \textcolor{red}{@}  \displaystyle @     \Large{@}
\emph{@}                \underline{@}       **@**               "@"                 `@`                 \text{$@$}
\(@\)                   \mathsf{@}          $@$                 \ensuremath{@}      @ dollars           \$@
@ \text{ dollars}       \text{@ dollars}    €@                  @€                  £@                  ¥@
@ percent               @ pct               @\%                 @ cm                @\text{ percent}
@cm                     @ cm^2              @ cm^{2}            @ cm²               @ square feet       @ sq. ft.
@ miles per hour        @ km/h              @ m/s               @ m/s^2             @ per day           USD @
Rs. @                   @ USD               @^\circ             @^{\circ}\text{C}   @ degrees Celsius   @°C
@ clips                 @ red marbles       @\ \mathrm{kg}      @ \, \text{m}       @\text{ cm}^3       x = @ hours
@ (cm)                  @ m                 @ cubic meters      @ ways.             @ degrees
@ percentage points     @ \text{ a.m.}          @ units squared     @ \text{ N}\cdot\text{m}
\mathbf{@} \text{ apples}                   @ \text{ miles}/\text{hour}                 @ \frac{\text{mi}}{\text{hr}}
"""
OTHERS = r"""
\text{@ or 14}          @ or 14             \text{@ and 14}     \text{@ is wrong}   @ is wrong          @x
@ x                     @t                  @ t                 @ \pi               @\pi                @ pi
@ sqrt 3                @\sqrt{3}           @ hours or 4        @ million           @ million dollars   @ dozen
@ dozen eggs            @ thirds            @ squared           @ factorial         @!                  @^2
@ more                  @ or more           @ \text{ or more}   @ is not it         not @               \text{not @}
@ ft 3 in               @ base six          \overline{@}        \sqrt{@}            @ mod 5             @ ab
@ab                     @:30                @%14                @ maybe             @\text{ times}      @ i
\mathbf{@}x             \text{@x}           @ remainder 2       @ e                 @ times             @, 14
\{@, 14\}               @ to 14             @ root three        @ divided by 2      @ hundred           @ log 3
@ one                   @ hours and 20 minutes                  @ \text{ hours}\cdot 2
"""
EXPRESSIONS = (  # gold, boxed, right
    (r"3\sqrt{13}", r"3\sqrt{13} units", 1), (r"8\pi", r"8\pi cm^2", 1), (r"8\pi", r"8\pi \text{ cm}^2", 1),
    (r"15\mbox{ cm}^2", "15", 1), (r"15\mbox{ cm}^2", "15 cm^2", 1), (r"5.4 \text{ cents}", "5.4", 1),
    ("28", r"28\%", 1), (r"28\%", "28 percent", 1), (r"\text{13}", "13", 1), (r"\textbf{x+1}", "1+x", 1),
    (r"\$18", "18 dollars", 1), ("18 dollars", "18", 1), ("5t", "5", 0), ("3m", "3", 0), ("0.28", r"28\%", 0),
    (r"28\%", "0.28", 0), (r"8\pi", "8 cm", 0), ("5x", "5 cm", 0), ("5", "5t", 0), (r"\text{Evelyn}", "Evelyn", 1),
    ("f'", "f'", 1),
)  # fmt: skip
BOXES = (  # gold, response, right
    ("1,2", r"\boxed{1}\boxed{2}", 1),
    ("1,2", r"So x = \boxed{2}, or x=\boxed{1}.", 1),
    ("1,2", "The solutions are:\n- $x_1 = \\boxed{1}$\n- $x_2 = \\boxed{2}$", 1),
    ("1,2,3", r"They are $\boxed{1}$, $\boxed{2}$, and $\boxed{3}$.", 1),
    (r"\frac{1}{2},2", r"\boxed{\frac{1}{2}} \text{ or } \boxed{2}", 1),
    ("0.5", r"It is \boxed{\frac{1}{2}} or \boxed{0.5}", 1),
    ("2", r"So x = \boxed{1} or x = \boxed{2}.", 0),
    ("1,2", r"x = \boxed{1}. No: x = \boxed{2}.", 0),
    ("2", r"x = \boxed{1}. No: x = \boxed{2}.", 1),
    ("7", r"The cost is \boxed{3} and the sum is \boxed{7}.", 1),
    ("400", r"That is \boxed{4} = \boxed{400}.", 1),
    ("C", r"\boxed{B} or \boxed{C}", 0),
    ("5", r"It is \boxed 5", 1),
    ("5", r"It is $\fbox{5}$.", 1),
    ("5", r"It is \boxed{\boxed{5}}.", 1),
    ("5", r"\boxed{5", 0),
    ("5", r"The answer is 5, \boxed{", 0),
    ("5", r"The answer is 5: \boxed", 0),
    ("5", r"\boxed{5}. Again: \boxed{\text{5", 0),
    ("5", r"\boxed{}", 0),
    ("5", "The answer is $\\frac{5", 0),
    ("1", "The answer is:\n\n\\[ 1", 0),
)
ANNOUNCED = (
    "The answer is @", "The answer is: @.", "So the final answer is\n@", "The answer is:\n\n@", "**Answer:** @",
    "**Answer**: @", "**Answer:**\n@", "### Final Answer\n\n@", "**Final Answer**\n@", "Final Answer: @",
    "The answer is:\n\n$$@$$", "The answer is:\n\n\\[\n@\n\\]\nDone in 3 steps.", "The answer is $@$ for 3 reasons.",
    "Answer:\n\n> @", "Answer:\r\n\r\n@", "The answer to the question is @.", "#### @", "The answer is **@**.",
    "The answers are @", "The answer is:\n- @", "The answer is \\(@\\), not 99.", "answer = @",
)  # fmt: skip
SAID = (  # gold, after "The answer is", right
    ("18", "18 dollars for 3 apples", 1), ("18", "18cm of rope", 1), ("18", "18, since 9 are sold", 1),
    ("18", "18 or 19", 0), ("19", "18 or 19", 0), ("3", "3 and 5", 0), ("18", "not 18 but 19", 0), ("3", "3π", 0),
    ("18", "18 is wrong", 0), ("2", r"$2\sqrt{3}$", 0), ("2", r"2\sqrt{3}", 0), ("3", r"\sqrt{3}", 0), ("5", "5x", 0),
    ("5", "5 million", 0), ("3", r"3 \pi", 0), ("18", "$18 or $19", 0), ("18", "$18 per day, $20 a night", 1),
    ("1,2", "$1$ and $2$", 1), ("1", "$1$ and $2$", 0), ("42", "x = 42", 1), ("2", "x^2", 0), ("18", "\n", 0),
    ("18", "**18** apples", 1), ("18", r"\textbf{18} apples", 1), ("18", ":", 0), ("x+1", r"\(x+1\) for all x", 1),
)  # fmt: skip


LAST = (  # gold, response, right
    ("[2,5)", "So the domain is $[2,5)$.", 1),
    ("x+1", r"It costs $5 and $7, so that \[ x+1 \] remains.", 1),
    ("1,2", "We find $x=3$, then $1$ and $2$.", 1),
    ("2,3", "We find $1$. Then $2$ and $3$.", 1),
    ("x+1", "It is $x+2$.", 0),
    ("x+1", "We had $x+1$, and now $x+2$.", 0),
    ("2/3", "The probability is 2/3.", 1),
    ("3", "The probability is 2/3.", 0),
    (r"\frac{1}{3}", r"So it is $\frac13$.", 1),
    ("3", r"So it is $2\sqrt{3}$.", 0),
    ("11", r"So $x \approx 11$", 1),
    ("6", r"So $x = 2 \cdot 3 = 6$, as wanted.", 1),
    ("3", "There are $1, 2, 3$.", 0),
    ("14916", "It is $14{,}916$.", 1),
    ("18", "It is 18 or 19", 0),
    ("19", "It is not 19", 0),
    ("7", "not 3 but 7 eggs", 1),
    ("C", "The last energy is $C$.", 0),
    (r"\text{even}", r"It is $\text{even}$.", 0),
    ("18", "She pays $18", 1),
    ("1000.99", "which is 1,000.99€", 1),
    ("1000.99", "which is 1,000.99m²", 1),
    ("x+1", "no mathematics", 0),
    ("18", "#### Step 3: add\nShe sells 18.", 1),
    ("18", "#### 3. Add\nShe sells 18.", 1),
    ("18", "It makes 3.\n#### 18\nThat took 2 steps.", 1),
    ("18", "It makes 3.\n#### $18", 1),
)
SPELLED = (  # gold, boxed, right
    ("32349", "32,349", 1), ("32349", "32, 349", 1), ("32349", r"32,\! 349", 1), ("32349", "32{,}349", 1),
    ("32349", "32 349", 1), ("34", "3 4", 0), ("12", "3 4", 0), ("2.5", "2 1/2", 1), ("21/2", "2 1/2", 0),
    ("32349", r"32\,349", 1), (r"10,\!080", "10080", 1), ("11", r"x \approx 11", 1), ("11", "≈ 11", 1),
    ("19, 46, and 82", r"19, 46, \text{ and } 82", 1), (r"\frac{1}{3}", r"\frac{1}{3} \approx 0.33", 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def checker():
    with Checker(seconds=60.0) as checker:
        yield checker


def forms(table):
    """The forms of a table of columns, two blanks apart."""
    return [form.strip() for line in table.strip().splitlines() for form in line.split("  ") if form.strip()]


def misjudged(checker, cases):
    """The (gold, response, right) that are judged otherwise."""
    golds, responses, _ = zip(*cases, strict=True)
    scores = checker.score(golds, [f"<think>\n?\n</think>\n\n{response}" for response in responses])
    return [case for case, score in zip(cases, scores, strict=True) if score.value != case[2]]


@pytest.mark.parametrize("number", NUMBERS)
def test_what_stands_around_a_number_is_none_of_it(checker, number):
    around = [rf"So it is \boxed{{{form.replace('@', number)}}}." for form in forms(AROUND)]
    assert len(around) > 60
    assert not misjudged(checker, [(number, text, 1) for text in around] + [("5", text, 0) for text in around])


def test_what_makes_another_thing_of_a_number_does_so(checker):
    assert not misjudged(checker, [("13", rf"It is \boxed{{{form.replace('@', '13')}}}.", 0) for form in forms(OTHERS)])


def test_expressions_have_units_too_and_variables_are_none(checker):
    assert not misjudged(checker, [(gold, rf"\boxed{{{text}}}", right) for gold, text, right in EXPRESSIONS])


def test_near_boxes_are_one_answer_and_an_open_one_is_none(checker):
    assert not misjudged(checker, BOXES)


@pytest.mark.parametrize("gold", ["18", "-3", r"\frac{1}{2}", "x+1", r"3\sqrt{2}", "(3, 4)"])
def test_an_answer_stands_in_the_line_of_its_announcement_or_in_the_next(checker, gold):
    said = [f"She counts 7 of them.\n{form.replace('@', gold)}" for form in ANNOUNCED]
    assert not misjudged(checker, [(gold, text, 1) for text in said] + [("99", text, 0) for text in said])


def test_announced_numbers_that_go_on_or_are_denied_are_others(checker):
    assert not misjudged(checker, [(gold, f"It makes 18. The answer is {said}", right) for gold, said, right in SAID])


def test_what_nothing_announces_is_the_last_number_or_mathematics(checker):
    assert not misjudged(checker, LAST)


@pytest.mark.parametrize("sentence", ["The answer is @.", "**Answer:** @", "So we are left with @.", "#### @", "(@)"])
@pytest.mark.parametrize(
    "number",
    ["-5", "\N{MINUS SIGN}5", "\N{EN DASH}5", "-$5", "-\\$5", "\N{MINUS SIGN}$5", "$-5$", "negative 5", "minus 5"],
)
def test_the_sign_of_a_number_belongs_to_it(checker, number, sentence):
    said = sentence.replace("@", number)
    assert not misjudged(checker, [("-5", said, 1), ("5", said, 0)])


@pytest.mark.parametrize(
    "said", ["7 minus 2 is 5", "$7-$2=$5", "Total cost - $5", "pages 1\N{EN DASH}5", "3 of 8 \N{EN DASH} that is 5"]
)
def test_what_takes_away_is_no_sign(checker, said):
    assert not misjudged(checker, [("5", said, 1), ("-5", said, 0)])


def test_numbers_in_groups_and_about(checker):
    assert not misjudged(checker, [(gold, rf"\boxed{{{text}}}", right) for gold, text, right in SPELLED])


@pytest.mark.parametrize(
    "piece",
    [
        r"\boxed{",
        r"\boxed{1} or ",
        r"\text{",
        "answer is ",
        "answer for ",
        "answer:\n",
        "$",
        "5 ",
        " ",
        "(",
        "5 or ",
        r"\[",
        "$$",
        r"\( a",
        "$a or ",
        "1{,}",
    ],
)
def test_long_responses_are_read_in_time(piece):
    text = f"answer: {piece * (50_000 // len(piece))}5"
    start = time.perf_counter()
    math_final.final_answer(text, number=True)
    math_final.final_answer(text, expression=True)
    math_final.final_answer(text.removeprefix("answer: "), expression=True)
    math_final.final_answer(text.removeprefix("answer: "), number=True)
    assert time.perf_counter() - start < 5
