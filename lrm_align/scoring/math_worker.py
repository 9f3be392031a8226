"""The process that asks math-verify: one JSON line in, `[gold, answer]`, one out, `[gold read, answer read, equal]`.

It is run as a file of its own, apart from the package, because nothing else can end a comparison: an alarm needs the
main thread, and a power tower in one bytecode holds the interpreter against every thread. Only LaTeX is read;
math-verify's reader of plain expressions ends in `eval`, and answers are texts of strangers.
"""

import dataclasses
import json
import logging
import resource
import signal
import sys

from math_verify import LatexExtractionConfig, parse, verify

MEMORY = 2 << 30  # bytes of address space, ours: a comparison has no use for more
# Units are gone before: the library takes letters for some, so that it reads 5t as 5.
SPELLING = dataclasses.replace(LatexExtractionConfig().normalization_config, units=False)
LATEX = (LatexExtractionConfig(boxed_match_priority=0, normalization_config=SPELLING),)


def read(text: str) -> list:
    """What math-verify makes of an expression; nothing where it makes nothing of it."""
    return parse(f"${text}$", LATEX, fallback_mode="no_fallback", parsing_timeout=0)


def compare(gold: str, answer: str) -> tuple[bool, bool, bool]:
    """(gold was read, answer was read, they are equal)."""
    try:
        golds, answers = read(gold), read(answer)
        equal = bool(golds and answers and verify(golds, answers, strict=True, timeout_seconds=0))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, MemoryError):
        return False, False, False  # its own faults on strange input: the caller compares the texts
    return bool(golds), bool(answers), equal


def main() -> None:
    """Answers until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; this one ends with it
    logging.disable(logging.WARNING)  # it warns that we took its alarm away
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not stand between the answers
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(compare(*json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
