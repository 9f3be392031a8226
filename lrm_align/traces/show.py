"""A trace as text that is safe to print: model output is hostile, and terminals obey it."""

import unicodedata
from collections.abc import Callable, Sequence

from rich.text import Text

from lrm_align.provenance import Source
from lrm_align.traces.record import Trace

STYLES = {Source.PROMPT: "cyan", Source.SAMPLED: "default", Source.INJECTED: "bold magenta", Source.TOOL: "yellow"}
_MARGIN = max(len(source.name) for source in Source) + 2

Decode = Callable[[Sequence[int]], str]


def escaped(text: str, keep: str = "") -> str:
    r"""Spells out every character that could steer a terminal or hide text: controls, bidi marks, private use.

    >>> escaped("a\x1b[31mb\u202ec\n")
    'a\\x1b[31mb\\u202ec\\n'
    >>> escaped("two\nlines é", keep="\n")
    'two\nlines é'

    Args:
      text: any string, lone surrogates included.
      keep: characters to let through.
    """
    return "".join(
        char if char in keep or unicodedata.category(char)[0] not in "CZ" or char == " " else _spelled(char)
        for char in text
    )


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) != 0xA0 else "\\xa0"


def ids_as_text(ids: Sequence[int]) -> str:
    """What is shown where there is no tokenizer: the ids themselves."""
    return " ".join(str(token) for token in ids)


def runs(trace: Trace) -> list[tuple[Source, list[int]]]:
    """The trace cut where the source changes.

    >>> runs(Trace([1, 2], [3, 4], [2, 1], [float("nan"), -1.0]))
    [(<Source.PROMPT: 0>, [1, 2]), (<Source.INJECTED: 2>, [3]), (<Source.SAMPLED: 1>, [4])]
    """
    found: list[tuple[Source, list[int]]] = []
    for token, source in zip(trace.ids.tolist(), trace.sources.tolist()):
        if not found or found[-1][0] != source:
            found.append((Source(source), []))
        found[-1][1].append(token)
    return found


def header(trace: Trace, number: int) -> str:
    """One line about a trace, whatever its strings hold."""
    scores = [f"{name}={score.get('value')!r}" for name, score in trace.scores.items()]
    parts = [
        f"trace {number}",
        f"prompt {trace.prompt_id!r} sample {trace.sample}",
        f"group {trace.group_id!r}" if trace.group_id else "",
        f"policy {trace.policy}",
        f"{trace.prompt_ids.size} + {trace.completion_ids.size} tokens",
        f"ended by {trace.stop_reason}",
        f"tags {', '.join(trace.tags)}" if trace.tags else "",
        f"scores {', '.join(scores)}" if scores else "",
    ]
    return escaped(" · ".join(part for part in parts if part))


def coloured(trace: Trace, decode: Decode) -> Text:
    """The tokens as running text, coloured by source; for a terminal."""
    text = Text(no_wrap=False)
    for source, ids in runs(trace):
        text.append(escaped(decode(ids), keep="\n") + (" " if decode is ids_as_text else ""), STYLES[source])
    # A margin on every line: text that looks like our own headers can't pass for one.
    return Text("\n").join(Text.assemble(("│ ", "dim"), line) for line in text.split("\n", allow_blank=True))


def bracketed(trace: Trace, decode: Decode) -> Text:
    """The tokens with their source in brackets at the left of each stretch; for files and pipes."""
    lines = []
    for source, ids in runs(trace):
        label = f"[{source.name.lower()}]"
        for line in escaped(decode(ids), keep="\n").split("\n"):
            lines.append(f"{label:<{_MARGIN}} │ {line}".rstrip())
            label = ""
    return Text("\n".join(lines))
