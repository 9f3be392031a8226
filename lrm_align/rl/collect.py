"""Sampling and grading whole groups: what one program does between two updates, and a sampler all the time."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from lrm_align.chat import Chat
from lrm_align.models import Model
from lrm_align.provenance import Source
from lrm_align.rl.grading import grade
from lrm_align.rl.group import TraceGroup, group_id, grouped
from lrm_align.rl.task import Rollout, Task, Tickets
from lrm_align.sampling import Engine, EngineShape, Request
from lrm_align.sampling.generate import to_trace
from lrm_align.traces import Trace


class Seconds(NamedTuple):
    """Where the time of collecting went."""

    sampling: float = 0.0
    grading: float = 0.0


class Collector:
    """Samples the groups of tickets and has them graded.

    A group depends on its ticket, the policy, the engine's shape and the seed alone: not on which others are collected
    with it, by whom, or when.

    Args:
      model: static.
      chat: turns ids into what graders read.
      task: what is asked and how it is graded.
      tickets: which prompt a ticket asks.
      shape: of the engine.
      seed: of the noise.
      grade_seconds: time limit of each grader for what is collected at a time.
      mesh: where the parameters lie; None for a single device.
      log: takes warnings.

    Attributes:
      seconds: of the last `collect`.
    """

    def __init__(
        self,
        model: Model,
        chat: Chat,
        task: Task,
        tickets: Tickets,
        shape: EngineShape,
        *,
        seed: int,
        grade_seconds: float = 60.0,
        mesh: jax.sharding.Mesh | None = None,
        log: Callable[[str], None] = print,
    ):
        mesh = None if mesh is None or mesh.size == 1 else mesh
        self.engine = Engine(model, None, shape, stop_ids=chat.stop_ids, seed=seed, mesh=mesh)
        self.task, self.tickets = task, tickets
        self.seconds = Seconds()
        self._chat, self._grade_seconds, self._log = chat, grade_seconds, log

    def request(self, ticket: int) -> Request:
        """What the engine is asked for a ticket.

        Raises:
          UserError: a prompt that leaves no room.
        """
        request = self.task.request(self.tickets.prompt(ticket), self.tickets.id(ticket))
        return dataclasses.replace(request, group_id=group_id(ticket))

    def collect(self, tickets: Sequence[int], params: Any, policy: int) -> list[TraceGroup]:
        """The groups of tickets, by ticket, with scores.

        Args:
          tickets: no two alike.
          params: of the policy, adapters attached.
          policy: its number.
        """
        started = time.perf_counter()
        self.engine.params = params
        requests = [self.request(ticket) for ticket in tickets]
        prompts = {request.prompt_id: self.tickets.prompt(ticket) for request, ticket in zip(requests, tickets)}
        try:
            traces = [to_trace(self.engine, completion, policy) for completion in self.engine.run(requests)]
        finally:
            self.engine.params = None  # the step donates what trains
        sampled = time.perf_counter()
        traces.sort(key=lambda trace: (trace.group_id, trace.sample))
        rollouts = [
            Rollout(prompts[trace.prompt_id], trace, text_of(self._chat, trace), trace.stop_reason != "length")
            for trace in traces
        ]
        graded = grade(self.task.graders, rollouts, self._grade_seconds)
        for fault in graded.faults:
            self._log(f"warning: {fault}")
        scored = [
            dataclasses.replace(trace, scores={name: score.to_dict() for name, score in scores.items()})
            for trace, scores in zip(traces, graded.scores, strict=True)
        ]
        groups = grouped(scored, len(requests[0].numbers)) if requests else []
        self.seconds = Seconds(sampled - started, time.perf_counter() - sampled)
        return groups


def text_of(chat: Chat, trace: Trace) -> str:
    """What graders read of a sample: the assistant's turns, each up to its end, with what tools said between them."""
    texts, begin = [], 0
    ids, tool = trace.completion_ids, trace.source == Source.TOOL
    for end in range(1, ids.size + 1):
        if end == ids.size or tool[end] != tool[begin]:
            run = ids[begin:end].tolist()
            texts.append(chat.decode(run, keep_control=False).strip() if tool[begin] else chat.completion_text(run))
            begin = end
    return chat.full_response("\n".join(texts))
