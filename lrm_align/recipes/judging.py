"""The verdicts on sampled responses, written in pieces: a run that is killed loses the piece it was at."""

from collections.abc import Sequence

from etils import epath

from lrm_align import json_lines, processes
from lrm_align.chat import Chat, Prompt
from lrm_align.errors import UserError
from lrm_align.evals.judging import Judge
from lrm_align.evals.summary import Verdict
from lrm_align.progress import Progress
from lrm_align.traces import Trace, find_shards, read_shard

PIECE = 256  # responses that are judged together


def run(
    directory: epath.Path, sampled: epath.Path, prompts: Sequence[Prompt], chat: Chat, judge: Judge, title: str
) -> list[Verdict]:
    """Every verdict in the order of the prompts; `verdicts-NNNNN.jsonl` keeps prompts, responses and verdicts.

    Args:
      directory: for the verdicts.
      sampled: the shards.
      prompts: of the set.
      chat: of the model that was sampled.
      judge: decides.
      title: stands before the progress.

    Raises:
      UserError: a prompt without a response there.
    """
    traces: dict[tuple[str, int], Trace] = {
        trace.key: trace for shard in find_shards(sampled) for trace in read_shard(shard)
    }
    order = {prompt.id: number for number, prompt in enumerate(prompts)}
    keys = sorted((key for key in traces if key[0] in order), key=lambda key: (order[key[0]], key[1]))
    if missing := order.keys() - {key[0] for key in keys}:
        raise UserError(f"{sampled}: no response to prompt {min(missing)!r} and {len(missing) - 1} more")
    verdicts: list[Verdict] = []
    pieces = [keys[start : start + PIECE] for start in range(0, len(keys), PIECE)]
    files = [directory / f"verdicts-{number:05d}.jsonl" for number in range(len(pieces))]
    kept = [_read(file, piece) for file, piece in zip(files, pieces)]
    processes.agree("finished verdicts", [found is not None for found in kept])
    done = sum(len(found) for found in kept if found is not None)
    with Progress(f"{title}, judging", len(keys), done, "responses") as progress:
        for piece, file, found in zip(pieces, files, kept):
            if found is None:
                asked = [prompts[order[key[0]]] for key in piece]
                mine = _judged(asked, [traces[key] for key in piece], chat, judge)
                rows = processes.first("verdicts", [verdict._asdict() for verdict in mine])
                found = [Verdict(**row) for row in rows]
                json_lines.write(file, rows)
                progress.add(len(piece))
            verdicts += found
    return verdicts


def _judged(asked: Sequence[Prompt], traces: Sequence[Trace], chat: Chat, judge: Judge) -> list[Verdict]:
    texts = [chat.full_response(chat.completion_text(trace.completion_ids)) for trace in traces]
    scores = judge.judge(asked, texts)
    categories = judge.categories(asked, texts, scores)
    return [
        Verdict(
            prompt.id,
            trace.sample,
            prompt.kind,
            prompt.text,
            None if "answer" not in prompt.meta else str(prompt.meta["answer"]),
            text,
            trace.stop_reason != "length",
            score.value,
            dict(score.parts),
            score.reason,
            named,
        )
        for prompt, trace, text, score, named in zip(asked, traces, texts, scores, categories, strict=True)
    ]


def _read(file: epath.Path, keys: Sequence[tuple[str, int]]) -> list[Verdict] | None:
    """The verdicts of a piece, or None where they are missing or a kill cut them short."""
    if not file.exists():
        return None
    try:
        found = [Verdict(**row) for row in json_lines.read(file)]
    except (UserError, TypeError):
        return None
    return found if [(verdict.id, verdict.sample) for verdict in found] == list(keys) else None
