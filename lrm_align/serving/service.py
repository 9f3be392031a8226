"""From messages to a request of the engine, and from its events to pieces of text."""

import asyncio
import concurrent.futures
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import numpy as np

from lrm_align.chat import Chat
from lrm_align.defences import Defence
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.sampling import Request
from lrm_align.sampling.live import Ended, Event, Failed, FullError, Grown, Live
from lrm_align.serving.protocol import FINISH, Asked, RefusedError
from lrm_align.serving.settings import ServeSettings
from lrm_align.serving.text import THOUGHT, Parts, TextStream

READERS = 2  # threads that turn conversations into ids


class Piece(NamedTuple):
    """Something new of a sample: text of a part, or why it ended and what it took."""

    sample: int
    part: str = ""
    text: str = ""
    finish: str | None = None
    tokens: int = 0
    thought_tokens: int = 0
    injected_tokens: int = 0


class Service:
    """A model with its defence, as conversations see it.

    Args:
      live: the engine.
      chat: of the model.
      defence: what stands between the messages and the model.
      settings: `config.serve`.
      max_length: positions of a slot.
    """

    def __init__(self, live: Live, chat: Chat, defence: Defence, settings: ServeSettings, max_length: int):
        self.live, self.chat, self.defence, self.settings = live, chat, defence, settings
        self.max_length = max_length
        # Few: a megabyte of text takes seconds, of the core that the engine's host side needs too.
        self._readers = concurrent.futures.ThreadPoolExecutor(READERS)

    async def request(self, asked: Asked) -> Request:
        """What the engine is asked.

        Raises:
          RefusedError: a conversation that the template refuses, or that is longer than a slot.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._request, asked)

    def _request(self, asked: Asked) -> Request:
        try:
            ids = self.chat.prompt_ids(self.defence.messages(asked.messages))
        except UserError as error:
            raise RefusedError(400, str(error), "messages") from None
        if len(ids) >= self.max_length:
            raise RefusedError(
                400,
                f"the conversation has {len(ids)} tokens; with room for an answer at most {self.max_length - 1} fit",
                "messages",
                "context_length_exceeded",
            )
        # The prompt's name chooses the noise: with a seed the same request is answered alike.
        name = uuid.uuid4().hex if asked.seed is None else f"seed {asked.seed} {np.asarray(ids, np.int32).tobytes()!r}"
        # A guard reads all that the client wrote, in whatever turn, and not what a defence made of it.
        written = "\n\n".join(turn["content"] for turn in asked.messages if turn["role"] != "assistant")
        return Request(name, ids, asked.samples, asked.params, self.defence.intervention, meta={"prompt": written})

    async def pieces(self, asked: Asked, request: Request) -> AsyncIterator[Piece | None]:
        """None once the request has a slot, then its pieces as they come. Leaving early frees the slots.

        Raises:
          RefusedError: no slot in time, no answer in time, or a failure of ours.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        limits = self.settings
        end = loop.time() + limits.request_timeout
        started = False

        def hear(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            try:
                self.live.submit(request, hear)
            except FullError as error:
                raise RefusedError(429, f"{error}; come again later", code="queue_full", retry=1) from None
            except UserError as error:
                raise RefusedError(400, str(error), "messages") from None
            samples = {number: _Sample(self.chat, asked) for number in request.numbers}
            while samples:
                wait = end - loop.time() if started else min(end - loop.time(), limits.queue_timeout)
                try:
                    event = await asyncio.wait_for(events.get(), max(0.0, wait))
                except TimeoutError:
                    raise self._late(started) from None
                if isinstance(event, Failed):
                    raise RefusedError(500, "the server failed on this request", code="internal_error")
                if isinstance(event, Grown | Ended):
                    for piece in samples[event.sample].hear(event) if event.sample in samples else ():
                        yield piece._replace(sample=event.sample)
                        if piece.finish is not None:
                            del samples[event.sample]
                elif not started:
                    started = True
                    yield None
        finally:
            self.live.cancel(request)

    def _late(self, started: bool) -> RefusedError:
        limits = self.settings
        if started:
            text = f"the answer took more than {limits.request_timeout:g} s; ask for fewer tokens"
            return RefusedError(504, text, code="timeout")
        return RefusedError(503, f"no slot was free for {limits.queue_timeout:g} s", code="queue_timeout", retry=5)


class _Sample:
    """One sample on its way to text."""

    def __init__(self, chat: Chat, asked: Asked):
        self._text, self._parts = TextStream(chat), Parts(chat.think_open_in_prompt, asked.stops)
        self._tokens = self._thought = 0

    def hear(self, event: Grown | Ended) -> list[Piece]:
        """The pieces that an event brings; the last one has a finish."""
        found: list[tuple[str, str]] = []
        for id in event.ids:
            if self._parts.stopped:
                break
            self._tokens += 1
            found += self._parts.feed(self._text.feed([id]))
            self._thought += self._parts.part == THOUGHT
        if isinstance(event, Ended) and not self._parts.stopped:
            found += self._parts.feed(self._text.end(), last=True)
        pieces = [Piece(0, part, text) for part, text in _joined(found)]
        if self._parts.stopped:
            pieces.append(Piece(0, finish="stop", tokens=self._tokens, thought_tokens=self._thought))
        elif isinstance(event, Ended):
            completion = event.completion
            injected = int(np.sum(completion.source == Source.INJECTED))
            finish = FINISH[completion.stop_reason]
            pieces.append(Piece(0, "", "", finish, self._tokens, self._thought, injected))
        return pieces


def _joined(pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
    joined: list[tuple[str, str]] = []
    for part, text in pieces:
        if joined and joined[-1][0] == part:
            joined[-1] = (part, joined[-1][1] + text)
        else:
            joined.append((part, text))
    return joined


def usage(prompt: int, pieces: list[Piece]) -> dict[str, Any]:
    """Token counts of a request from the last pieces of its samples; a prompt is counted once."""
    done = sum(piece.tokens for piece in pieces)
    details = {
        "reasoning_tokens": sum(piece.thought_tokens for piece in pieces),
        "injected_tokens": sum(piece.injected_tokens for piece in pieces),  # ours: what a defence put in
    }
    return {
        "prompt_tokens": prompt,
        "completion_tokens": done,
        "total_tokens": prompt + done,
        "completion_tokens_details": details,
    }
