"""From messages to a request of the engine, and from its events to pieces of text."""

import asyncio
import concurrent.futures
import contextlib
import threading
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
from lrm_align.serving.text import THOUGHT, Parts, TextStream
from lrm_align.settings.serving import ServeSettings

READERS = 2  # threads that turn conversations into ids


class Begun(NamedTuple):
    """The request has its slot, and a prompt of so many tokens."""

    prompt_tokens: int


class Piece(NamedTuple):
    """Something new of a sample: text of a part, or why it ended, what it took, and all of it as judges read it."""

    sample: int
    part: str = ""
    text: str = ""
    finish: str | None = None
    tokens: int = 0
    thought_tokens: int = 0
    injected_tokens: int = 0
    thought: str | None = None
    answer: str | None = None


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
        self._unread = threading.Semaphore(READERS + settings.queue)

    async def request(self, asked: Asked) -> Request:
        """What the engine is asked. Leaving early takes a conversation that still waits for a reader out of the queue.

        Raises:
          RefusedError: a conversation that the template refuses, or that is longer than a slot; or too many are being
            read.
        """
        if not self._unread.acquire(blocking=False):
            raise _full("too many conversations are being read")
        reading = self._readers.submit(self._request, asked)
        reading.add_done_callback(lambda _: self._unread.release())
        return await asyncio.wrap_future(reading)

    def _request(self, asked: Asked) -> Request:
        try:
            messages = self.defence.messages(asked.messages)
            self._check_length(self.chat.encoder.fewest(self.chat.prompt_text(messages)), "at least ")
            ids = self.chat.prompt_ids(messages)
        except UserError as error:
            raise RefusedError(400, str(error), "messages") from None
        self._check_length(len(ids))
        # The prompt's name chooses the noise: with a seed the same request is answered alike.
        name = uuid.uuid4().hex if asked.seed is None else f"seed {asked.seed} {np.asarray(ids, np.int32).tobytes()!r}"
        # A guard reads all that the client wrote, in whatever turn, and not what a defence made of it.
        written = "\n\n".join(turn["content"] for turn in asked.messages if turn["role"] != "assistant")
        return Request(name, ids, asked.samples, asked.params, self.defence.intervention, meta={"prompt": written})

    def _check_length(self, tokens: int, about: str = "") -> None:
        if tokens >= self.max_length:
            raise RefusedError(
                400,
                f"the conversation has {about}{tokens} tokens; with room for an answer at most {self.max_length - 1} "
                "fit",
                "messages",
                "context_length_exceeded",
            )

    async def pieces(self, asked: Asked) -> AsyncIterator[Begun | Piece]:
        """`Begun`, then the pieces of the answer as they come. Leaving early frees the slots.

        Raises:
          RefusedError: as `request`; no slot in time, no answer in time, or a failure of ours.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        limits = self.settings
        end = loop.time() + limits.request_timeout
        begin = min(end, loop.time() + limits.queue_timeout)
        started = False

        def hear(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            async with asyncio.timeout_at(begin):
                request = await self.request(asked)
        except TimeoutError:
            raise self._late(started) from None
        try:
            try:
                self.live.submit(request, hear)
            except FullError as error:
                raise _full(str(error)) from None
            except UserError as error:
                raise RefusedError(400, str(error), "messages") from None
            samples = {number: _Sample(self.chat, asked) for number in request.numbers}
            while samples:
                limit = end if started else begin
                try:
                    if loop.time() >= limit:  # also where a slow reader left events behind
                        raise TimeoutError
                    async with asyncio.timeout_at(limit):
                        event = await events.get()
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
                    yield Begun(len(request.prompt_ids))
        finally:
            self.live.cancel(request)

    def _late(self, started: bool) -> RefusedError:
        limits = self.settings
        if started:
            text = f"the answer took more than {limits.request_timeout:g} s; ask for fewer tokens"
            return RefusedError(504, text, code="timeout")
        waited = min(limits.queue_timeout, limits.request_timeout)
        return RefusedError(503, f"no slot was free for {waited:g} s", code="queue_timeout", retry=5)


def _full(what: str) -> RefusedError:
    return RefusedError(429, f"{what}; come again later", code="queue_full", retry=1)


class _Sample:
    """One sample on its way to text."""

    def __init__(self, chat: Chat, asked: Asked):
        self._text, self._parts = TextStream(chat), Parts(chat.thinking, asked.stops)
        self._tokens = self._thought = self._injected = 0

    def hear(self, event: Grown | Ended) -> list[Piece]:
        """The pieces that an event brings; the last one has a finish."""
        found: list[tuple[str, str]] = []
        for id, source in zip(event.ids, event.source, strict=True):
            if self._parts.stopped:
                break
            closes = self._parts.closes
            found += self._parts.feed(self._text.feed([id]))
            if self._parts.closes > closes:
                self._thought = self._tokens  # all before this mark
            self._tokens += 1
            self._injected += source == Source.INJECTED
            if self._parts.part == THOUGHT:
                self._thought = self._tokens
        if isinstance(event, Ended) and not self._parts.stopped:
            found += self._parts.feed(self._text.end(), last=True)
        pieces = [Piece(0, part, text) for part, text in _joined(found)]
        finish = FINISH[event.completion.stop_reason] if isinstance(event, Ended) else None
        finish = "stop" if self._parts.stopped else finish
        if finish is not None:
            counts = (self._tokens, self._thought, self._injected)
            pieces.append(Piece(0, "", "", finish, *counts, *self._parts.whole()))
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
