"""The page: one HTML file without network, whose script and style are the only ones that a browser lets it have.

The policy in its head names script and style by their hashes, forbids everything else, and forbids scripts to make
markup of text. What models and prompts wrote stands in escaped elements, in images, and in a block of data.
"""

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align.pages import comparison, rates, safe, subjects, words
from lrm_align.pages.book import Book
from lrm_align.pages.run import Run

_SCRIPTS = ("book.js", "list.js", "trace.js", "reader.js")
_NO_TRACES: dict[str, Any] = {"sources": [], "shelves": [], "wide": False, "vocabulary": [], "traces": []}
_FILTERS = ("method", "stage", "set", "tag", "verdict", "ended", "holds")
_KEYS = {
    "j k": "next and previous trace",
    "g G": "first and last",
    "/": "search; Esc clears",
    "c": "colours: source, log-prob, none",
    "b": "another answer beside, or not",
    "n p": "which answer is beside",
    "space": "scroll both",
    "?": "this list",
}


def render(runs: Sequence[Run], plots: str = "", book: Book | None = None) -> str:
    """The page of runs.

    Args:
      runs: what workdirs hold; several are shown side by side.
      plots: elements of `drawing.element`.
      book: their traces; None for a page without a reader.
    """
    title = safe.text(" · ".join(str(run.report.get("title", run.name)) for run in runs))
    tables = _side_by_side(runs) if len(runs) > 1 else _alone(runs[0])
    written = book is not None and book.shown > 0
    links = "<nav><a href='#results'>Results</a><a href='#plots'>Plots</a>"
    links += "<a href='#reader'>Traces</a></nav>" if written else "</nav>"
    settings = "".join(_settings(run, len(runs) > 1) for run in runs)
    body = (
        f"<header class=top><h1>{title}</h1>{settings}{links}</header>"
        f"<main><h2 id=results>Results</h2>{tables}"
        + (f"<h2 id=plots>Plots</h2>{plots}" if plots else "")
        + "".join(_examples(run) for run in runs)
        + (f"<h2>Traces</h2><p>{_about(book)}</p>" if book is not None and written else "")
        + "</main>"
        + (_reader() if written else "")
    )
    end = ""
    if book is not None and written:
        end = f'<script type="application/json" id=book>{safe.data(book.data)}</script><script>{script()}</script>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style()}</style></head><body>{body}{end}</body></html>\n"
    )


@functools.cache
def style() -> str:
    """The style sheet."""
    return _file("page.css")


@functools.cache
def script() -> str:
    """The script of the reader."""
    return "(() => {\n'use strict';\n" + "".join(map(_file, _SCRIPTS)) + "})();\n"


@functools.cache
def policy() -> str:
    """What the browser allows the page: its own script and style, images in it, and nothing else."""
    return (
        f"default-src 'none'; script-src '{_hash(script())}'; style-src '{_hash(style())}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _file(name: str) -> str:
    return (importlib.resources.files("lrm_align.pages") / "static" / name).read_text("utf-8")


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode('ascii')}"


def _settings(run: Run, named: bool) -> str:
    report = run.report
    seeds = ", ".join(str(one.get("seed")) for one in report["seeds"]) if "seeds" in report else report.get("seed")
    facts = {"config": report.get("config"), "seed": seeds, "model": report.get("model")}
    shown = "; ".join(f"{name} {safe.text(value)}" for name, value in facts.items() if value is not None)
    front = f"<b>{safe.text(run.name)}</b>: {safe.text(report.get('title', ''))}; " if named else ""
    return f"<p class=soft>{front}{shown}</p>"


def _alone(run: Run) -> str:
    report = run.report
    sections = [comparison.page(report) if "methods" in report else _rate_table(report)]
    if "prefix_search" in report:
        found = report["prefix_search"]
        sections = [_table(words.note(found), words.HEADINGS, words.rows(found))]
    if "evaluation" in report:
        sections.append(_evaluation(report["evaluation"]))
    sections += [f"<p>{safe.text(fact[0].upper() + fact[1:])}</p>" for fact in rates.facts(report)]
    return "".join(sections)


def _evaluation(found: Mapping[str, Any]) -> str:
    """How each rate of an evaluation came about."""
    head = (
        "set",
        "metric",
        "rate",
        "pass@k",
        "prompts × samples",
        "undecided",
        "cut",
        "open thoughts",
        "no thought",
        "part judged",
        "judge",
    )
    body = []
    for one in found["results"]:
        rate = "nothing judged" if one["rate"] is None else f"{100 * one['rate']:.1f} %"
        if one.get("interval"):
            rate += f" [{100 * one['interval'][0]:.1f}, {100 * one['interval'][1]:.1f}]"
        best = [f"{k}: {100 * at['value']:.1f} %" for k, at in (one.get("pass_at_k") or {}).items()]
        counts = f"{one['judged_prompts']} × {one['samples']}"
        undecided = ", ".join(f"{count} {reason}" for reason, count in one["undecided"].items()) or "0"
        metric = f"{one['metric'].replace('_', ' ')} {one.get('estimate', '')}".strip()
        cells = (one["set"], metric, rate, ", ".join(best), counts, undecided)
        thoughts = (one["truncated"], one["unfinished_thoughts"], one["no_thought"])
        body.append((*cells, *thoughts, one["part"], one["judge"]))
    lines = []
    for one in found.get("results", []):
        if one.get("categories"):
            named = ", ".join(f"{count} {category}" for category, count in one["categories"].items())
            lines.append(f"{one['set']}: harmful responses by category: {named}")
    for one in found.get("averages", {}).values():
        low, high = one["interval"]
        differs = "; ".join(f"{name}: {', '.join(what)}" for name, what in one.get("differs", {}).items())
        note = f" (not measured as in the paper: {differs})" if differs else ""
        lines.append(f"{one['title']}: {100 * one['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]{note}")
    lines += [f"Perplexity of {name}: {one['perplexity']:.3f}" for name, one in found.get("perplexity", {}).items()]
    shown = "".join(f"<p>{safe.text(line)}</p>" for line in lines)
    return f"<h3>How each came about</h3>{_table('95 % intervals', head, body)}{shown}" if body or lines else ""


def _rate_table(report: rates.Report) -> str:
    note = "mean ± standard deviation over seeds" if "seeds" in report else "95 % interval in brackets"
    body = [(row[0].replace("_", " "), *row[1:]) for row in rates.rows(report)]
    return _table(note, ("", *(name.replace("_", " ") for name in rates.parts(report)), "n"), body)


def _side_by_side(runs: Sequence[Run]) -> str:
    """A row a rate, a column a model at a moment."""
    found = subjects.of(runs)
    body = [(name.replace("_", " "), *(s.cell(name) for s in found)) for name in subjects.names(found)]
    costs = [s.part.get("tokens_per_answer") for s in found]
    if any(cost is not None for cost in costs):
        body.append(("tokens an answer", *("-" if cost is None else f"{cost:.1f}" for cost in costs)))
    note = "95 % interval in brackets, or ± deviation over seeds"
    facts = [f"<p>{safe.text(run.name)}: {safe.text(fact)}</p>" for run in runs for fact in rates.facts(run.report)]
    return _table(note, ("", *(s.name for s in found)), body) + "".join(facts)


def _table(note: str, head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    cells = "".join(f"<th>{safe.text(cell)}</th>" for cell in head)
    rows = "".join("<tr>" + "".join(map(safe.cell, row)) + "</tr>" for row in body)
    shown = f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<p><small>{safe.text(note)}</small></p><div class=wide>{shown}</div>"


def _examples(run: Run) -> str:
    """A few prompts with both models' answers, for readers without a script."""
    shown = []
    for example in run.report.get("examples", ()):
        parts = "".join(
            f"<p><b>{safe.text(name)}</b></p><pre dir=auto>{safe.text(words)}</pre>"
            for name, words in example.items()
            if name != "title"
        )
        shown.append(f"<details><summary>{safe.text(example['title'])}</summary>{parts}</details>")
    return f"<h2>Examples</h2>{''.join(shown)}" if shown else ""


def _about(book: Book) -> str:
    less = "" if book.shown == book.found else f" of {book.found}, evenly of every set"
    return f"{book.shown} traces{less}. <kbd>?</kbd> lists the keys."


def _reader() -> str:
    selects = "".join(f"<label>{name}<select id=filter-{name}></select></label>" for name in _FILTERS)
    keys = "".join(f"<div><kbd>{safe.text(key)}</kbd> {safe.text(says)}</div>" for key, says in _KEYS.items())
    nats = ("0", "", "", "-1", "", "-3", "", "-6")
    shades = "".join(f"<span class=q{i}>{text}</span>" for i, text in enumerate(nats))
    sources = "".join(
        f"<span class=s{i}>{name}</span>" for i, name in enumerate(("prompt", "sampled", "injected", "tool"))
    )
    return (
        "<section id=reader hidden aria-label='trace reader'><div class=bar>"
        "<input id=search type=search placeholder='search ( / )' aria-label='search'>"
        f"{selects}<label>order<select id=order></select></label>"
        "<label>colours<select id=colour><option value=source>source</option><option value=logp>log-prob</option>"
        "<option value=none>none</option></select></label>"
        "<label>beside<select id=beside></select></label><button id=clear type=button>clear</button>"
        f"<span class='key by-source' id=key-source>{sources}</span>"
        f"<span class='key by-logp' id=key-logp hidden>{shades} nats</span>"
        "<span class=count id=count role=status></span></div>"
        "<div class=body><div class=list id=list tabindex=0 role=listbox aria-label='traces'></div>"
        "<div class=panes><article class=pane id=left tabindex=0></article>"
        "<article class=pane id=right tabindex=0 hidden></article></div></div>"
        f"<div class=status id=status></div><div class=help id=help hidden>{keys}</div></section>"
    )
