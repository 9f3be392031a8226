"""Runs for tests of pages, made in no time: traces whose tokens are bytes, reports, metrics, rollouts."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from lrm_align.provenance import Source
from lrm_align.traces import Trace, write_shard

FINGERPRINT = "0123456789"
NAN = float("nan")


def _alphabet() -> dict[int, str]:
    """The letters that stand for bytes in byte-level tokenizers: printable ones for themselves, others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(rest)}


def tokenizer(more: Sequence[str] = ()) -> tokenizers.Tokenizer:
    """A tokenizer whose ids are bytes, and from 256 on whole texts."""
    letters = _alphabet()
    made = tokenizers.Tokenizer(tokenizers.models.BPE({letters[byte]: byte for byte in range(256)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in more])
    return made


def trace(text: str | bytes, prompt: str = "why?", injected: str = "", **fields: Any) -> Trace:
    """A prompt, what was sampled, 0 to 8 nats less likely than certain in turns, and what was injected after it."""
    said = text.encode() if isinstance(text, str) else text
    put = injected.encode()
    count = len(said)
    return Trace(
        list(prompt.encode()),
        [*said, *put],
        [Source.SAMPLED] * count + [Source.INJECTED] * len(put),
        [*(-(i % 9.0) for i in range(count)), *[NAN] * len(put)],
        **{"meta": {"prompt": prompt}, **fields},
    )


def stage(workdir: pathlib.Path, name: str, summary: Mapping[str, Any] | None = None, at: str = "2026") -> pathlib.Path:
    """The directory of a stage, finished where it has a summary."""
    directory = workdir / f"{name}-{FINGERPRINT}"
    directory.mkdir(parents=True, exist_ok=True)
    if summary is not None:
        (directory / "finished.json").write_text(json.dumps({"stage": name, "at": at, "summary": summary}))
    return directory


def answered(workdir: pathlib.Path, name: str, sets: Mapping[str, Sequence[Trace]], verdict: str = "comply") -> None:
    """A stage that measured: traces, answers and verdicts of each set."""
    directory = stage(workdir, name, {}, {"before": "2025", "after": "2027"}.get(name, "2026"))
    for set_, traces in sets.items():
        write_shard(directory / set_, "traces-00000", traces, "x")
        rows = [{"id": trace.prompt_id, "verdict": verdict} for trace in traces]
        (directory / f"{set_}.verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def exported(workdir: pathlib.Path) -> pathlib.Path:
    """A stage that wrote a model: its tokenizer alone, and adapters."""
    directory = stage(workdir, "export")
    for kind in ("model", "adapters"):
        (directory / kind).mkdir(exist_ok=True)
    tokenizer().save(str(directory / "model" / "tokenizer.json"))
    return directory


def rates(attack: float, accuracy: float = 0.9) -> dict[str, Any]:
    """What an evaluation found."""
    names = ("attack_success_rate", "over_refusal_rate", "reasoning_accuracy")
    return dict(zip(names, (attack, 0.05, accuracy))) | {"counts": dict.fromkeys(names, 100)}


def report(**fields: Any) -> dict[str, Any]:
    """A report of a method."""
    found = {"title": "A method", "config": "quickstart", "seed": 0, "model": "lab", "before": rates(0.9)}
    found |= {"after": rates(0.02), "traces": {"kept": {"harmful": 5}, "dropped": {"harmful: unsafe": 2}}}
    return {**found, **fields}


def finished(workdir: pathlib.Path, found: Mapping[str, Any] | None = None, count: int = 4) -> pathlib.Path:
    """A whole small run: two measurements, a sample stage with its filter, metrics, rollouts, an export."""
    workdir.mkdir(parents=True, exist_ok=True)
    for name, text in (("before", "First melt it."), ("after", "Sorry, no.")):
        traces = [trace(f"{text} {i}", f"how {i}?", prompt_id=f"p{i}", tags=("harmful",)) for i in range(count)]
        answered(workdir, name, {"attack": traces}, "comply" if name == "before" else "refuse")
    sample = stage(workdir, "sample", {"traces": count})
    steered = {"prompt": "how?", "intervention": {"scores": [[2, -0.5], [6, None], [9, 0.75]], "injected": 1}}
    more = {"meta": steered, "tags": ("harmful",)}
    sampled = [trace("I melt it", "how?", " Wait.", prompt_id=f"s{i}", **more) for i in range(count)]
    write_shard(sample, "traces-00000", sampled, "x")
    rows = [
        [one.prompt_id, 0, "unsafe" if i % 2 else "keep", 0.9 if i % 2 else 0.1, None] for i, one in enumerate(sampled)
    ]
    judged = stage(workdir, "filter", {})
    (judged / "traces-00000.verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = stage(workdir, "train", {})
    rows = [{"step": i, "loss": 2.0 / (i + 1), "lr": 0.1, "time/train": i} for i in range(20)]
    (train / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = {"step": 3, "ticket": 1, "prompt_id": "r0", "label": "benign", "prompt": "1+1?", "text": "It is 2 .",
           "stop_reason": "stop", "scores": {"answer": {"value": 1.0, "parts": {}, "reason": None}}, "reward": 1.0,
           "advantage": 0.5}  # fmt: skip
    (stage(workdir, "reinforce", {}) / "rollouts.jsonl").write_text(json.dumps(row) + "\n" + '{"cut": ')
    exported(workdir)
    (workdir / "report.json").write_text(json.dumps(found if found is not None else report()))
    return workdir
