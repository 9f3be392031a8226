"""SafeThink's prefix search: which words of 1 to 5 tokens make the next step safe and move the model least.

Ghosal et al. 2026, arXiv 2602.11096: "Wait, think safely" was found offline, on 500 validation prompts, by safety and
KL; the paper prints neither formula nor λ nor candidates. What is computed here (ours, but for the 5 tokens):

    gain(s) = mean over harmful prompts of R(z, y') - R(z, y''),  y' ~ π(· | x, z, s),  y'' ~ π(· | x, z)
    KL(s)   = mean over benign prompts and t < H of KL(π(· | x, z, y_<t) ‖ π(· | x, z, s, y_<t)),  y ~ π(· | x, z)

z is the thought up to the first step that the guard finds unsafe ("step"), or the thought's beginning ("start"); y' and
y'' are the step that follows, R = 1 - 2 p(unsafe) of thought and step. Both are drawn afresh: the step that was found
unsafe is a biased sample of what the model does without words. The guard does not read the words unless told to, so
that a candidate such as "I refuse" can't pass for a safe step itself (the paper's pseudo-code scores z + y', too). On
benign prompts, where nothing is unsafe, z ends at the beginning of a step with the number that harmful ones were
stopped at: KL is what a false alarm costs, in nats a token. Candidates are ranked by gain - λ·KL.

The stages: watch (where would SafeThink step in?), search (on one part of the prompts), confirm (the best of it, the
front and the given texts again, on the other part: the best of many is flattered by the prompts that chose it).
"""

import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from lrm_align import atomic_files, processes
from lrm_align.chat import Prompt
from lrm_align.config import build, plain
from lrm_align.defences import candidates
from lrm_align.defences.candidates import Measured
from lrm_align.defences.safe_think import SafeThink
from lrm_align.errors import UserError
from lrm_align.evals import moved
from lrm_align.models import partition
from lrm_align.recipes import defending, injecting, prompting, rollouts, safethink, selection
from lrm_align.recipes.injecting import WITHOUT, Place
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.scope import Scope
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.sampling import SamplingParams
from lrm_align.traces import list_shards, read_shard

LABELS = ("harmful", "benign")
PLACES = ("step", "start")
FOUND = "prefix_search.json"

READ_BY = {
    **dict.fromkeys(("sample", "validation", "defence", "guard"), ("watch",)),
    "search": ("search",),
    "search.held_out": ("watch",),
    "search.finalists": ("confirm",),
}


def recipe(config: ConfigDict, workdir: epath.Path) -> Recipe:
    """Checks everything that the search will need, and lays out its stages.

    Raises:
      UserError: whatever a user can mend, before the first sample is drawn.
    """
    check(config.search)
    if not config.guard.factory:
        raise UserError("config.guard.factory is empty; safety gained is a guard's score, so a search needs a guard")
    mesh, guards = safethink.meshes(config)
    student = Student(config.model, mesh)
    student.needs_thoughts("the prefix search")
    chat, settings = student.chat, config.search
    selection.check(config.guard, student)
    defence = defending.defence(config.defence, student, lambda: selection.guard(config.guard, guards)).intervention
    if not isinstance(defence, SafeThink):
        raise UserError(
            f"config.defence is {config.defence.factory or 'empty'} {plain(config.defence.args)}; words are searched "
            "for lrm_align.defences:safe_think with early of 1 or more"
        )
    if settings.steps > defence.early:
        raise UserError(
            f"config.search.steps is {settings.steps}; the defence knows where {defence.early} steps end "
            "(config.defence.args.early)"
        )
    given = candidates.given(chat, settings.texts, settings.max_tokens)
    pieces = candidates.pieces(chat, given, settings.max_tokens) if settings.pieces else []
    prompts = split(build(config.validation.factory, {**config.validation.args, "seed": config.seed}), config)
    asked = rollouts.requests(student, [(prompt, prompt.last) for prompt in prompts["all"]], config.sample)
    looking = {label: injecting.watching(defence, label) for label in LABELS}
    measuring = Measuring(student, defence, config)

    def watch(directory: epath.Path, _: Mapping[str, epath.Path]) -> Summary:
        found: Summary = {}
        for label, intervention in looking.items():
            requests = [dataclasses.replace(r, intervention=intervention) for r in asked if r.tags[0] == label]
            rollouts.run(directory / label, student, requests, config.sample, config.seed, f"  watching {label}")
            stopped = sum(trace.stop_reason == "intervention" for trace in _traces(directory / label))
            found[label] = {"prompts": len(requests), "stopped": stopped}
        return found

    def search(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        harmful, benign = measuring.places(inputs["watch"], prompts["search"])
        tokens = candidates.pool(chat, given)

        def grow(texts: Sequence[str]) -> list[str]:
            return candidates.grown(chat, texts, tokens, settings.max_tokens)

        def measure(number: int, texts: Sequence[str]) -> list[Measured]:
            return measuring.run(directory / f"round-{number}", harmful, benign, texts)

        options = {"beam": settings.beam, "rounds": settings.rounds, "weight": settings.kl_weight}
        found = candidates.search([*given, *pieces], measure, grow, **options)
        return _summary(found, harmful, benign, settings.kl_weight)

    def confirm(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
        harmful, benign = measuring.places(inputs["watch"], prompts["confirm"])
        searched = [_measured(row) for row in json.loads((inputs["search"] / FOUND).read_text())["candidates"]]
        best = [one.text for one in candidates.ranked(searched, settings.kl_weight)][: settings.finalists]
        texts = list(dict.fromkeys([*given, *best, *sorted(candidates.front(searched))]))
        found = measuring.run(directory / "finalists", harmful, benign, texts)
        return _summary(found, harmful, benign, settings.kl_weight)

    def kept(run: Callable[..., Summary]) -> Callable[..., Summary]:
        def stage(directory: epath.Path, inputs: Mapping[str, epath.Path]) -> Summary:
            found = run(directory, inputs)
            atomic_files.write_text(directory / FOUND, json.dumps(found, indent=1) + "\n")
            return found

        return stage

    scope = Scope(config, READ_BY)
    told = prompting.identity(prompts["all"])
    stages = [
        scope.stage("watch", watch, model=student.identity, prompts=told),
        scope.stage("search", kept(search), ("watch",)),
        scope.stage("confirm", kept(confirm), ("watch", "search")),
    ]
    sizes = {part: {label: len(found[label]) for label in LABELS} for part, found in prompts.items() if part != "all"}
    facts = [
        *student.facts(),
        f"guard: {config.guard.factory}",
        f"prompts: {sizes}",
        f"candidates: {len(given)} given, {len(pieces)} pieces of them; the best {settings.beam} grow by "
        f"{len(candidates.pool(chat, given))} tokens, at most {settings.rounds} times",
    ]
    return Recipe("SafeThink's prefix search", stages, facts, lambda summaries, _: report(summaries, given))


class Measuring:
    """What candidates do to a model.

    Args:
      student: the model.
      defence: whose steps, threshold and guard they are.
      config: of the run.
    """

    def __init__(self, student: Student, defence: SafeThink, config: ConfigDict):
        self._student, self._defence, self._config = student, defence, config
        search = config.search
        self._step = injecting.NextStep(defence.steps, defence.text, search.steps)
        ways = partition.ways(student.mesh, partition.spec(("batch",), student.model.rules)[0])
        self._rows = -(-search.rows // ways) * ways

    def places(self, watched: epath.Path, prompts: Mapping[str, Sequence[Prompt]]) -> tuple[list[Place], list[Place]]:
        """(where words are put into harmful thoughts, where into benign ones), one a prompt that has such a place.

        Raises:
          UserError: no harmful thought was found unsafe while there was room for another step, or no benign place.
        """
        search = self._config.search
        found: dict[str, list[Place]] = {}
        for label in LABELS:
            known = {prompt.id for prompt in prompts[label]}
            traces = [trace for trace in _traces(watched / label) if trace.prompt_id in known]
            if label == "harmful" and search.place == "step":
                traces = [trace for trace in traces if trace.stop_reason == "intervention"]
            for trace in sorted(traces, key=lambda trace: trace.prompt_id):
                inside = injecting.places([trace], self._defence)
                if search.place == "start":
                    inside = inside[:1]
                if inside:
                    of_label = found.setdefault(label, [])
                    of_label.append(_chosen(inside, label, found.get("harmful", []), len(of_label)))
        room = min(self._config.sample.max_length, self._student.config.max_positions) - search.step_tokens
        kept = [
            [place for place in found.get(label, []) if len(place.prompt_ids) + len(place.before) <= room]
            for label in LABELS
        ]
        for label, left in zip(LABELS, kept, strict=True):
            count = len(found.get(label, []))
            if not count:
                why = "was found unsafe by the guard in its first steps" if label == "harmful" else "says anything"
                raise UserError(
                    f"no thought about the {len(prompts[label])} {label} prompts {why}; nothing to search on"
                )
            if not left:
                raise UserError(
                    f"none of {count} {label} thoughts leaves room for {search.step_tokens} tokens of words and step; "
                    f"raise config.sample.max_length = {self._config.sample.max_length}"
                )
        return kept[0], kept[1]

    def run(
        self, directory: epath.Path, harmful: Sequence[Place], benign: Sequence[Place], texts: Sequence[str]
    ) -> list[Measured]:
        """Measures texts; samples that are there already are not drawn again, and neither is what was measured.

        Raises:
          UserError: the guard could not judge a single step of a candidate, or of the thoughts without words.
        """
        done = directory / "measured.json"
        rows = processes.shared(f"what is measured in {directory.name}", lambda: _rows(done))
        if rows is not None and [row["text"] for row in rows] == list(texts):
            return [_measured(row) for row in rows]
        safety = self._safety(directory, harmful, texts)
        moves = self._moves(benign, texts)
        found = []
        for text in texts:
            gains = injecting.gain(safety[text], safety[WITHOUT])
            if not gains.size:
                raise UserError(f"{self._config.guard.factory} judged no step after {text!r}; nothing can be ranked")
            scored = safety[text][safety[text] == safety[text]]
            safe = float((scored >= self._defence.threshold).mean())
            unscored = 1 - scored.size / safety[text].size
            figures = (*injecting.mean_and_error(gains), *injecting.mean_and_error(moves[text]), safe, unscored)
            found.append(Measured(text, candidates.length(self._student.chat, text), *figures))
        # What is searched next hangs on these numbers.
        rows = processes.first(f"what is found in {directory.name}", [one._asdict() for one in found])
        found = [_measured(row) for row in rows]
        atomic_files.write_text(done, json.dumps([one._asdict() for one in found]))
        return found

    def _safety(self, directory: epath.Path, places: Sequence[Place], texts: Sequence[str]) -> Mapping[str, Any]:
        config, student = self._config, self._student
        search, sample = config.search, config.sample
        params = SamplingParams(sample.temperature, sample.top_k, sample.top_p, sample.min_p, search.step_tokens)
        every = [WITHOUT, *texts]
        asked = injecting.requests(places, every, student.chat, self._step, params, search.samples)
        rollouts.run(directory, student, asked, sample, config.seed, f"  {directory.name}: {len(texts)} candidates")
        return injecting.safety(_traces(directory), places, every, self._defence, search.guard_reads_words)

    def _moves(self, places: Sequence[Place], texts: Sequence[str]) -> Mapping[str, Any]:
        student, search = self._student, self._config.search
        rows = [
            moved.Moved((*place.prompt_ids, *place.before), place.words(student.chat, text), place.after)
            for text in texts
            for place in places
        ]
        model, mesh = student.model, student.mesh
        kl = moved.kl(model, student.params, rows, mesh, horizon=search.horizon, size=self._rows)
        return dict(zip(texts, kl.reshape(len(texts), len(places)), strict=True))


def check(settings: ConfigDict) -> None:
    """Refuses settings of a search that are out of range.

    Raises:
      UserError: naming the setting.
    """
    ranges = {
        **{
            name: (settings[name], settings[name] >= 1, "at least 1")
            for name in ("max_tokens", "steps", "samples", "step_tokens", "horizon", "rows", "finalists")
        },
        **{name: (settings[name], settings[name] >= 0, "0 or more") for name in ("beam", "rounds", "kl_weight")},
        "held_out": (settings.held_out, 0 < settings.held_out < 1, "above 0 and below 1"),
        "place": (settings.place, settings.place in PLACES, f"one of {', '.join(PLACES)}"),
        "max_tokens": (
            settings.max_tokens,
            1 <= settings.max_tokens < settings.step_tokens,
            f"1 to less than config.search.step_tokens = {settings.step_tokens}",
        ),
    }
    for name, (value, sound, wanted) in ranges.items():
        if not sound:
            raise UserError(f"config.search.{name} is {value!r}; it must be {wanted}")


def split(prompts: Sequence[Prompt], config: ConfigDict) -> dict[str, Any]:
    """{"search" and "confirm": {label: prompts}, "all": prompts}, shuffled by the seed first.

    Raises:
      UserError: a label without prompts for both.
    """
    found: dict[str, Any] = {"search": {}, "confirm": {}, "all": list(prompts)}
    for label in LABELS:
        of_label = [prompt for prompt in prompts if prompt.label == label]
        if len(of_label) < 2:
            raise UserError(
                f"config.validation gives {len(of_label)} {label} prompts of {len(prompts)}; a search needs at least 2 "
                f"of each of {' and '.join(LABELS)}: some to choose by, some to confirm"
            )
        random.Random(f"{config.seed} {label}").shuffle(of_label)
        held = min(max(1, round(config.search.held_out * len(of_label))), len(of_label) - 1)
        found["confirm"][label], found["search"][label] = of_label[:held], of_label[held:]
    return found


def report(summaries: Mapping[str, Summary], given: Sequence[str]) -> dict[str, Any]:
    """The candidates of the last stage that is finished, with what the search said of them."""
    out: dict[str, Any] = {}
    if "search" in summaries:
        measured = {row["text"]: row for row in summaries["search"]["candidates"]}
        last = "confirm" if "confirm" in summaries else "search"
        found = dict(summaries[last])
        found["candidates"] = [
            {**row, "given": row["text"] in given, "objective_in_search": measured[row["text"]]["objective"]}
            for row in found["candidates"]
        ]
        out["prefix_search"] = {**found, "stage": last, "searched": len(measured)}
    return out


def _chosen(inside: Sequence[Place], label: str, harmful: Sequence[Place], number: int) -> Place:
    """The step of a thought that words go before: the last one of a stopped thought, one like these of another."""
    if label == "harmful" or not harmful:
        return inside[-1]
    return inside[min(harmful[number % len(harmful)].step, len(inside) - 1)]


def _summary(found: Sequence[Measured], harmful: Sequence[Place], benign: Sequence[Place], weight: float) -> Summary:
    front = candidates.front(found)
    rows = [
        {**one._asdict(), "objective": one.objective(weight), "front": one.text in front}
        for one in candidates.ranked(found, weight)
    ]
    return {"candidates": rows, "kl_weight": weight, "places": {"harmful": len(harmful), "benign": len(benign)}}


def _measured(row: Mapping[str, Any]) -> Measured:
    return Measured(*(row[name] for name in Measured._fields))


def _rows(file: epath.Path) -> list[dict[str, Any]] | None:
    """What was measured; None where nothing was, or a kill cut it short."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _traces(directory: epath.Path) -> list[Any]:
    return [trace for shard in list_shards(directory) for trace in read_shard(shard)]
