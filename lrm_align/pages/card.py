"""The model card that lies in every export: Markdown with the hub's metadata.

It is written with the export, when nothing is measured yet, and once more with the run's report. What a local file
system calls things stays out of it: cards are published.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath
from huggingface_hub import EvalResult, ModelCardData

import lrm_align
from lrm_align import atomic_files, processes
from lrm_align.evals.statistics import wilson
from lrm_align.pages import licences, rates, safe
from lrm_align.pages.run import Run, read_object

CARD, FACTS = "README.md", "card.json"
KINDS = {"model": "finetune", "adapters": "adapter"}  # directories of an export, and what the hub calls them
_SETTINGS = ("sample", "guard", "filter", "train", "preference", "lora", "rl", "reward", "export")
# Which measurement is of the model that a stage wrote.
_MEASURED = {"export": "after", "export_sft": "after_sft", "weaken": "before"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

LIMITS = (
    "Text only, and English as far as the prompts were: other languages and media are untested.",
    "A low attack success rate is measured on the prompts named above and by the judge named above; it says nothing of "
    "attacks that adapt to this model. Intervals cover the sampling of prompts, not the judge's own mistakes.",
    "Training shifts what a model refuses. Look at the rates of harmless prompts refused before it is deployed, and "
    "measure it on prompts of your own.",
    "The thought of a reasoning model may still hold what its answer declines to say.",
)


def write(export: epath.Path, config: Mapping[str, Any], source: epath.PathLike) -> list[epath.Path]:
    """Writes the card into every directory of an export, without results; `complete` adds them. One host does.

    Args:
      export: of the stage; holds model/, and perhaps adapters/.
      config: of the run, plain; `model.path` is the base model.
      source: the directory of the model that was trained, the base model's or an earlier stage's.
    """
    if not processes.primary():
        return []
    base = str(config["model"]["path"])
    licence = _stated(epath.Path(source)) or licences.of_model(base)
    facts = {"config": dict(config), "base": base, "licence": licence}
    atomic_files.write_text(export / FACTS, json.dumps(facts, indent=1, default=str))
    return _write(export, facts, {}, None)


def complete(run: Run) -> list[epath.Path]:
    """Writes the cards of a run's exports again, with its results; those of several seeds have their own already."""
    written: list[epath.Path] = []
    if "seeds" in run.report:
        return written
    for part in run.parts:
        for stage, directory in part.stages.items():
            facts = read_object(directory / FACTS)
            # Of a comparison's methods only the last model was measured.
            if facts is not None and not ("methods" in run.report and stage != "export"):
                written += _write(directory, facts, run.report, _MEASURED.get(stage, "after"), part.name)
    return written


def model_card(
    facts: Mapping[str, Any],
    kind: str,
    report: Mapping[str, Any],
    measured: str | None,
    method: str = "",
) -> str:
    """The card.

    Args:
      facts: `config`, `base` and `licence`, as `write` keeps them.
      kind: "model" or "adapters".
      report: of the run; {} before there is one.
      measured: which measurement of the report is of this model.
      method: its name in the report of a comparison.
    """
    config, base = facts["config"], str(facts["base"])
    title = _title(config, report, method)
    results = _results(report, measured, method)
    name = f"{_short(base)}, aligned with {title}" + (" (adapters)" if kind == "adapters" else "")
    sections = [
        f"---\n{_metadata(facts, kind, title, results, report)}\n---",
        f"# {_words(name)}",
        f"{_words(_short(base))} after safety alignment with {_words(title)} by lrm_align "
        f"{lrm_align.__version__}. " + _use(kind),
        "## Base model\n\n" + _base(base, facts.get("licence")),
        "## Data\n\n" + _data(config),
        "## Settings\n\n" + _settings(config),
        "## Results\n\n" + _table_of(results, _unjudged(report, measured, method), report),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in (*_own_limits(report, results), *LIMITS)),
    ]
    return "\n\n".join(sections) + "\n"


def data_sources(config: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """(where in the config, path or hub id) of every set of prompts that a config names.

    >>> list(data_sources({"prompts": {"args": {"sources": {"a": {"path": "u/s", "columns": {"text": "q"}}}}}}))
    [('prompts.args.sources.a', 'u/s')]
    """
    for key, value in config.items():
        if not isinstance(value, Mapping):
            continue
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value.get("path"), str) and value["path"] and ("columns" in value or "benchmark" in value):
            yield place, value["path"]
        else:
            yield from data_sources(value, place)


def _write(
    export: epath.Path, facts: Mapping[str, Any], report: Mapping[str, Any], measured: str | None, method: str = ""
) -> list[epath.Path]:
    written = []
    for kind in KINDS:
        if (export / kind).is_dir():
            written.append(export / kind / CARD)
            atomic_files.write_text(written[-1], model_card(facts, kind, report, measured, method))
    return written


def _metadata(
    facts: Mapping[str, Any], kind: str, title: str, results: list[dict[str, Any]], report: Mapping[str, Any]
) -> str:
    """The hub's YAML."""
    base, sources = str(facts["base"]), dict(data_sources(facts["config"]))
    trained = sorted({path for where, path in sources.items() if _role(where) == "training" and _is_hub_id(path)})
    evaluations = [
        EvalResult(
            task_type="text-generation",
            task_name="Safety and reasoning",
            dataset_type="lrm_align",
            dataset_name=one["on"],
            metric_type=one["name"],
            metric_name=one["name"].replace("_", " "),
            metric_value=round(one["value"], 6),
        )
        for one in results
    ]
    hub: Any = {"base_model": base, "base_model_relation": KINDS[kind]} if _is_hub_id(base) else {}
    data = ModelCardData(
        license=facts.get("licence") or "unknown",
        library_name="peft" if kind == "adapters" else "transformers",
        pipeline_tag="text-generation",
        tags=["safety", "alignment", "reasoning", "lrm_align", _slug(title)],
        datasets=trained or None,
        model_name=_slug(f"{_short(base)}-{title}"),
        eval_results=evaluations or None,
        **hub,
    )
    return data.to_yaml().strip()


def _results(report: Mapping[str, Any], measured: str | None, method: str) -> list[dict[str, Any]]:
    """Every rate of this model, with the same of the untrained one where it was measured; none of nothing."""
    part = _part(report, measured, method)
    before = report.get("before") if measured != "before" and isinstance(report.get("before"), dict) else {}
    known = rates.intervals(dict(report))
    counts = part.get("counts", {})
    return [
        {
            "name": name,
            "on": f"{counts[name]} prompts" if name in counts else "all prompts",
            "value": value,
            "before": (before or {}).get(name) if rates.is_counted(before or {}, name) else None,
            "count": counts.get(name),
            "interval": known.get(name) or (wilson(value, counts[name]) if counts.get(name) else None),
        }
        for name, value in rates.rates(part).items()
        if rates.is_share(name) and rates.is_counted(part, name)
    ]


def _unjudged(report: Mapping[str, Any], measured: str | None, method: str) -> list[str]:
    """The rates of which nothing was judged, such as those of a guard that decides nothing."""
    part = _part(report, measured, method)
    return [name for name in rates.rates(part) if rates.is_share(name) and not rates.is_counted(part, name)]


def _part(report: Mapping[str, Any], measured: str | None, method: str) -> Mapping[str, Any]:
    """The measurement of this model; {} before there is one."""
    part = (report.get("methods") or {}).get(method) if "methods" in report else report.get(measured or "")
    return part if isinstance(part, dict) else {}


def _table_of(results: list[dict[str, Any]], unjudged: list[str], report: Mapping[str, Any]) -> str:
    if unjudged:
        names = ", ".join(_words(name.replace("_", " ")) for name in unjudged)
        return f"{_table_of(results, [], report) if results else ''}\n\nNot judged: {names}.".strip()
    if not results:
        return "Not measured yet: the run had not come to its evaluation when this was written."
    lines = ["| rate | this model | 95 % interval | base model | prompts |", "|---|---:|---:|---:|---:|"]
    for one in results:
        bounds = "" if one["interval"] is None else f"{100 * one['interval'][0]:.1f} to {100 * one['interval'][1]:.1f}"
        before = "" if one["before"] is None else f"{100 * one['before']:.1f} %"
        value = f"{100 * one['value']:.1f} %"
        lines.append(
            f"| {_words(one['name'].replace('_', ' '))} | {value} | {bounds} | {before} | {one['count'] or ''} |"
        )
    lines += ["", *(_words(fact[0].upper() + fact[1:]) + "." for fact in rates.facts(dict(report)))]
    return "\n".join(lines).strip()


def _base(base: str, licence: str | None) -> str:
    shown = _code(base) if _is_hub_id(base) else f"{_code(_short(base))} (a local directory)"
    terms = f"licence {_code(licence)}" if licence else "its licence is not known here"
    return f"{shown}; {terms}. The licence of the base model binds this one."


def _data(config: Mapping[str, Any]) -> str:
    rows = [(_role(where), _short(path), licences.of_prompts(path)) for where, path in data_sources(config)]
    for where in ("prompts", "evaluate"):
        factory = (config.get(where) or {}).get("factory", "")
        if factory.startswith("lrm_align.lab"):
            what = "training" if where == "prompts" else "evaluation"
            rows.append((what, f"made by {factory}", "Apache-2.0, as the program that makes them"))
    if not rows:
        return "The config names no set of prompts."
    lines = ["| used for | prompts | licence |", "|---|---|---|"]
    lines += [f"| {_words(use)} | {_words(name)} | {_words(licence)} |" for use, name, licence in dict.fromkeys(rows)]
    return "\n".join(lines) + "\n\nLicences are those that the sets' repositories state; responses are the model's own."


def _settings(config: Mapping[str, Any]) -> str:
    rows = [
        (name, value)
        for section in _SETTINGS
        for name, value in _flat(config.get(section), section)
        if value not in ("", None, {}, [])
    ]
    rows = [("recipe", config.get("recipe", "")), ("seed", config.get("seed", "")), *rows]
    return "\n".join(["| setting | value |", "|---|---|", *(f"| {_code(n)} | {_code(_local(v))} |" for n, v in rows)])


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}")
    elif value is not None:
        yield name, value


def _own_limits(report: Mapping[str, Any], results: list[dict[str, Any]]) -> Iterator[str]:
    if not results:
        yield "No result stands here yet; do not deploy what nobody measured."
        return
    seeds = len(report.get("seeds", ())) or 1
    yield f"Measured with {seeds} seed{'s' if seeds > 1 else ''}."
    if "traces" in report and "guard" in report["traces"]:
        guard = _words(report["traces"]["guard"])
        yield f"Training data was filtered by {guard}: the model inherits what it overlooks."


def _use(kind: str) -> str:
    if kind == "adapters":
        return "Adapters in PEFT's format: `PeftModel.from_pretrained(base, directory)`."
    return "Merged weights: `AutoModelForCausalLM.from_pretrained(directory)`; the chat template is the base model's."


def _title(config: Mapping[str, Any], report: Mapping[str, Any], method: str) -> str:
    if "methods" in report and method in report["methods"]:
        return str(report["methods"][method].get("title", method))
    module = str(config.get("recipe", "")).partition(":")[0].rpartition(".")[2]
    return str(report.get("title") or module or "an unnamed recipe")


def _role(where: str) -> str:
    if "against" in where.split("."):
        return "decontamination"
    return "evaluation" if where.startswith(("evaluate", "sets")) else "training"


def _stated(source: epath.Path) -> str | None:
    """The licence in the metadata of the base model's own card."""
    path = source / CARD
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(10_000).decode("utf-8", "replace")
    found = re.match(r"---\n(?:.*\n)*?license: *['\"]?([A-Za-z0-9.-]{1,40})['\"]? *\n(?:.*\n)*?---", head)
    return found[1].lower() if found else None


def _is_hub_id(path: str) -> bool:
    return bool(_HUB_ID.fullmatch(path)) and not epath.Path(path).exists() and not path.endswith((".jsonl", ".csv"))


def _short(path: str) -> str:
    """A hub id as it is, and the last part of any other path."""
    return path if _is_hub_id(path) else path.rstrip("/").rpartition("/")[2] or path


def _local(value: Any) -> Any:
    return _short(value) if isinstance(value, str) and value.startswith(("/", "gs://", "~")) else value


def _words(value: object) -> str:
    """One line of Markdown in which nothing is markup."""
    line = re.sub(r"([\\`*_{}\[\]#|!~$])", r"\\\1", " ".join(safe.shown(str(value)).split()))
    return html.escape(line, quote=False)


def _code(value: object) -> str:
    line = " ".join(safe.shown(str(value)).split()).replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "model"
