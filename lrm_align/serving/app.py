"""The routes, and who may use them how: key, sizes, time-outs, and clients that hang up."""

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lrm_align.serving import protocol
from lrm_align.serving.protocol import Asked, RefusedError
from lrm_align.serving.service import Begun, Piece, Service, usage
from lrm_align.serving.text import ANSWER, THOUGHT

log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)  # of the header, in lower case


def application(service: Service, name: str, key: str, hosts: set[str] | None = None) -> Starlette:
    """The web application.

    Args:
      service: the model with its defence.
      name: of the model to clients.
      key: that clients must send as `Authorization: Bearer KEY`; any is accepted, and none, where it is empty.
      hosts: names under which clients may call; None: any. Without a key, a page in the user's own browser must not
        reach the model under a name of its own.
    """
    began = int(time.time())

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            if hosts is not None and _host(request) not in hosts:
                raise RefusedError(403, f"this server answers to {', '.join(sorted(hosts))} only", code="wrong_host")
            if key and not hmac.compare_digest(_key(request), key.encode("utf-8", "surrogateescape")):
                raise RefusedError(401, "the API key is missing or wrong", code="invalid_api_key")
            return await endpoint(request)

        return answer

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [protocol.model(name, began)]})

    async def model(request: Request) -> Response:
        wanted = request.path_params["model"]
        if wanted != name:
            text = f"the model {wanted[:200]!r} is not served; it is {name!r}"
            raise RefusedError(404, text, "model", "model_not_found")
        return JSONResponse(protocol.model(name, began))

    async def chat(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedError(415, f"the content-type is {kind[:100]!r}; it must be application/json")
        body = await _body(request, service.settings.body_bytes, service.settings.read_timeout)
        asked = protocol.parse(body, name, service.settings, service.max_length - 1)
        id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        return _Answer(service.pieces(asked), asked, (id, created, name))

    async def health(request: Request) -> Response:
        defence = service.defence.name
        return JSONResponse({"status": "ok", "model": name, "defence": defence, **service.live.counts()._asdict()})

    routes = [
        Route("/health", guarded(health)),
        Route("/v1/models", guarded(models)),
        Route("/v1/models/{model:path}", guarded(model)),
        Route("/v1/chat/completions", guarded(chat), methods=["POST"]),
    ]
    handlers: Any = {RefusedError: _refused, HTTPException: _no_route, ClientDisconnect: _gone, Exception: _failed}
    return Starlette(routes=routes, exception_handlers=handlers)


class _Answer(Response):
    """An answer as JSON or as a stream of events; the client may hang up at any moment, which frees its slots.

    Nothing is sent before the request has a slot: until then it can still be refused with a status of its own. A whole
    answer is cut into thought and answer as judges read it, a stream as `Parts` can tell at the time.
    """

    def __init__(self, pieces: AsyncIterator[Begun | Piece], asked: Asked, head: tuple[str, int, str]):
        self._pieces, self._asked, self._head = pieces, asked, head
        self._prompt = 0  # tokens
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.ensure_future(self._answer(scope, receive, send))
        leaving = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not answering.done():
                answering.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            # The slots are free now, not when the collector comes by.
            await self._pieces.aclose()  # type: ignore[attr-defined]
        if not answering.cancelled() and (error := answering.exception()) is not None:
            raise error

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            begun = await anext(self._pieces)
        except RefusedError as error:
            await _error(error)(scope, receive, send)
            return
        assert isinstance(begun, Begun)
        self._prompt = begun.prompt_tokens
        await (self._stream(send) if self._asked.stream else self._whole(scope, receive, send))

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        ends: dict[int, Piece] = {}
        try:
            async for piece in self._pieces:
                if isinstance(piece, Piece) and piece.finish is not None:
                    ends[piece.sample] = piece
        except RefusedError as error:
            await _error(error)(scope, receive, send)
            return
        choices = [
            {"index": i, "message": _message(ends[i]), "logprobs": None, "finish_reason": ends[i].finish}
            for i in self._numbers()
        ]
        counted = usage(self._prompt, list(ends.values()))
        await JSONResponse(protocol.completion(*self._head, choices, counted))(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def tell(what: Any) -> None:
            text = what if isinstance(what, str) else json.dumps(what, ensure_ascii=False, separators=(",", ":"))
            await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})

        async def delta(number: int, delta: dict[str, str], finish: str | None = None) -> None:
            choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": finish}
            await tell(protocol.chunk(*self._head, [choice], None if self._asked.usage else protocol.ABSENT))

        ends = []
        try:
            for number in self._numbers():
                await delta(number, {"role": "assistant", "content": ""})
            async for piece in self._pieces:
                assert isinstance(piece, Piece)
                if piece.finish is not None:
                    ends.append(piece)
                await delta(piece.sample, {piece.part: piece.text} if piece.text else {}, piece.finish)
            if self._asked.usage:
                await tell(protocol.chunk(*self._head, [], usage(self._prompt, ends)))
            await tell("[DONE]")
        except RefusedError as error:
            await tell(error.body)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _numbers(self) -> range:
        return range(self._asked.samples)


def _message(end: Piece) -> dict[str, str]:
    thought = {THOUGHT: end.thought} if end.thought else {}
    return {"role": "assistant", ANSWER: end.answer or "", **thought}


def _key(request: Request) -> bytes:
    """The key that a client sends; the scheme is in any case (RFC 9110, section 11.1)."""
    sent = request.headers.get("authorization", "").encode("latin-1")  # the bytes that came
    scheme, _, key = sent.strip(b" \t").partition(b" ")
    return key.strip(b" \t") if scheme.lower() == b"bearer" else b""


def _host(request: Request) -> str:
    """The name under which a client calls; "" where the header has no form that a browser sends."""
    found = _HOST.fullmatch(request.headers.get("host", "").lower())
    return found[1].strip("[]") if found else ""


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """The body, of at most so many bytes, in at most so many seconds."""
    too_long = RefusedError(413, f"the body is longer than {most:,} bytes", code="body_too_large")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise RefusedError(408, f"the body did not come in {seconds:g} s", code="timeout") from None
    return bytes(body)


def _error(error: RefusedError) -> Response:
    headers = dict(error.headers)
    if error.status in (408, 413, 415):
        headers["connection"] = "close"  # the rest of the body is not wanted
    return JSONResponse(error.body, error.status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _error(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    there = "POST /v1/chat/completions, GET /v1/models, GET /health"
    return _error(RefusedError(error.status_code, f"{request.method} {request.url.path[:200]}: there is {there}"))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    return _error(RefusedError(500, "the server failed on this request", code="internal_error"))
