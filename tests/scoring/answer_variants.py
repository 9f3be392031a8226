r"""Gold answers rewritten as people write them, and changed so that they are wrong."""

import re
from collections.abc import Iterator
from fractions import Fraction

from lrm_align.scoring.math_text import normal, rational, words

_NUMBER = re.compile(r"(?<![\\a-zA-Z])\d+")


def rewritten(gold: str) -> Iterator[str]:
    """The same answer in other spellings."""
    plain = normal(gold)
    yield gold
    yield f"  {gold} "
    yield f"{gold}."
    yield plain
    yield gold.replace(" ", "") if "\\cot" not in gold else gold
    yield gold.replace(r"\frac", r"\dfrac").replace(r"\dd", r"\d")
    yield gold.replace(r"\dfrac", r"\frac").replace(r"\frac{", r"\tfrac{")
    yield gold.replace(r"\left", "").replace(r"\right", "").replace(r"\!", "")
    yield (
        gold.replace("(", r"\left(")
        .replace(")", r"\right)")
        .replace(r"\left\left", r"\left")
        .replace(r"\right\right", r"\right")
        if r"\left" not in gold and "]" not in gold and "[" not in gold
        else gold
    )
    yield gold.replace("pmatrix", "bmatrix")
    yield gold.replace(r"\sqrt{", r"\sqrt {").replace("+", " + ").replace(",", ", ")
    yield gold.replace(r"^\circ", "").replace(r"\$", "")
    yield gold.replace(r"^\circ", r"^{\circ}")
    value = rational(plain)
    if value is not None:
        yield from _numbers(value)
    elif words(plain) is not None:
        inner = re.sub(r"\\text\{(.*)\}", r"\1", gold)
        yield inner
        yield inner.lower() if len(inner) > 3 else inner
        yield inner.strip("()")
        yield rf"\textbf{{{inner}}}"
    else:
        yield from _expressions(plain)


def _numbers(value: Fraction) -> Iterator[str]:
    sign, size = "-" if value < 0 else "", abs(value)
    yield f"x = {sign}{size}"
    yield rf"{sign}{size}\text{{ units}}"
    yield rf"\${sign}{size}"
    if size.denominator == 1:
        yield f"{sign}{size.numerator:,}"
        yield f"{sign}{size.numerator:,}".replace(",", r",\!")
        yield f"{sign}{size}.0"
        yield rf"{sign}\frac{{{3 * size}}}{{3}}"
        return
    over, under = size.numerator, size.denominator
    yield f"{sign}{over}/{under}"
    yield rf"{sign}\dfrac{{{over}}}{{{under}}}"
    yield rf"{sign}\frac {{{over}}} {{{under}}}"
    yield rf"{sign}\frac{{{2 * over}}}{{{2 * under}}}"
    if sign:
        yield rf"\frac{{-{over}}}{{{under}}}"
    if over > under:
        yield rf"{sign}{over // under}\frac{{{over % under}}}{{{under}}}"
    left = under
    for prime in (2, 5):
        while left % prime == 0:
            left //= prime
    if left == 1:
        digits = f"{over * 10**20 // under:021d}"
        decimal = f"{digits[:-20]}.{digits[-20:]}".rstrip("0")
        yield sign + decimal
        yield sign + decimal.removeprefix("0")


def _expressions(plain: str) -> Iterator[str]:
    if re.fullmatch(r"\d+\\sqrt\{\d+\}", plain):
        outer, inner = map(int, re.findall(r"\d+", plain))
        yield rf"{outer} \cdot \sqrt{{{inner}}}"
        yield rf"{outer}*\sqrt{{{inner}}}"
        yield rf"\sqrt{{{outer * outer * inner}}}"
        yield rf"\sqrt{{{inner}}} \cdot {outer}"
    if found := re.fullmatch(r"(\d+)\\pi", plain):
        yield rf"{found[1]} \cdot \pi"
        yield rf"\pi \cdot {found[1]}"
        yield rf"V = {found[1]}\pi"
    if re.fullmatch(r"-?\d+(,-?\d+)+", plain):
        yield ",".join(reversed(plain.split(",")))
        yield rf"\{{{plain}\}}"
    if found := re.fullmatch(r"(-?\d*)\\pm(.*)", plain):
        yield rf"{found[1]}+{found[2]}, {found[1]}-{found[2]}"
        yield rf"{found[1]}-{found[2]}, {found[1]}+{found[2]}"
    if found := re.fullmatch(r"(\d+_)(\d)", plain):
        yield f"{found[1]}{{{found[2]}}}"
    if re.fullmatch(r"[-+\w^]+", plain) and "_" not in plain and re.search("[a-z]", plain) and "=" not in plain:
        terms = re.findall(r"[-+]?[^-+]+", plain)
        yield "".join(term if term[0] in "+-" else f"+{term}" for term in reversed(terms)).removeprefix("+")
        yield re.sub(r"\^(\d)", r"^{\1}", plain)
    if plain.startswith("(a+5)"):
        yield "ab+2a+5b+10"
    if "[" in plain or "]" in plain or r"\cup" in plain or r"\infty" in plain:
        yield rf"x \in {plain.partition('=')[2] or re.sub(r'^x.in', '', plain)}"


def perturbed(gold: str) -> Iterator[str]:
    """Other answers that look like it."""
    plain = normal(gold)
    for found in _NUMBER.finditer(plain):
        tenfold = [] if found[0] == "0" or plain[: found.start()].endswith(".") else [int(found[0]) * 10]
        for other in (f"{int(found[0]) + 1:0{len(found[0])}}", *tenfold, abs(int(found[0]) - 1)):
            yield f"{plain[: found.start()]}{other}{plain[found.end() :]}"
    letters = words(plain)
    if letters is not None:
        yield "".join({"c": "B", "e": "D", "b": "A"}.get(letters, letters[::-1]))
        yield rf"\text{{not {letters}}}"
        yield letters[:-1]
        return
    value = rational(plain)
    if value is not None and value != 0:
        yield str(-value)
        yield str(value * 10)
        yield str(value * 100)
        yield str(value / 100)
        yield str(value + Fraction(1, 10**6))
        if value != 1 and value != -1:
            yield str(1 / value)
        yield rf"{value}\pi"
        yield f"{value}x"
        yield f"{value}, 0"
    for sign, other in (("+", "-"), ("-", "+")):
        for place, letter in enumerate(plain):
            if letter == sign and not (place == 0 and sign == "+"):
                yield plain[:place] + other + plain[place + 1 :]
    swaps = ((r"\pi", "3.14"), (r"\sqrt", r"2\sqrt"), (r"\cup", r"\cap"), (r"\cot", r"\tan"), ("i", ""), ("^2", "^3"))
    for old, new in swaps:
        if re.search(re.escape(old) + "(?![a-z])", plain) and not (old == "i" and "\\" in plain):
            yield re.sub(re.escape(old) + "(?![a-z])", lambda _, new=new: new, plain, count=1)
    if value is None and re.search(r"\\infty|\\cup|\]", plain):
        for old, new in (("(", "["), ("[", "("), ("]", ")"), (r"\infty", r"-\infty")):
            if old in plain and r"\infty" not in plain.partition(old)[2][:7]:
                yield plain.replace(old, new, 1)
    parts = re.fullmatch(r"([(\[]?)([^()\[\]{}]*,[^()\[\]{}]*)([)\]]?)", plain)
    if parts:
        items = parts[2].split(",")
        yield parts[1] + ",".join(items[:-1]) + parts[3]
        yield parts[1] + ",".join([*items, "77"]) + parts[3]
        if parts[1] and items != items[::-1]:
            yield parts[1] + ",".join(reversed(items)) + parts[3]
    if re.search(r"(?<![\\a-zA-Z])x(?![a-zA-Z])", plain):
        yield re.sub(r"(?<![\\a-zA-Z])x(?![a-zA-Z])", "y" if "y" not in plain else "w", plain)
    yield f"{plain}+1" if "=" not in plain else f"{plain}+1-7"
    yield ""
    yield "none of these"
