"""The socket, and the connections on it: one that doesn't send its request or take its answer in time is closed."""

import asyncio
import errno
import os
import socket

import uvicorn
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from lrm_align.errors import UserError
from lrm_align.serving.protocol import RefusedError
from lrm_align.settings.serving import ServeSettings

HEADER_BYTES = 16 * 1024
KEEP_ALIVE = 15  # seconds between two requests on a connection
GOODBYE = 5  # seconds that running requests get at the end
LAST_WORDS = 2  # seconds in which a client can take in that its time is over


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, before anything slow.

    Raises:
      UserError: a port out of range or in use, a host that is not this machine's, or no right to the port.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port={port}: a port is 0 (any free one) to 65535")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host={host}: {getattr(error, 'strerror', None) or error}") from None
    found = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":  # a server that was stopped just now does not block its own port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(socket.SOMAXCONN)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use by another program; stop it or choose another --port (0: any free)"
            ) from None
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return found


def serve(app: ASGIApp, listening: socket.socket, settings: ServeSettings) -> None:
    """Serves until a signal ends it; running requests get `GOODBYE` seconds."""
    server(app, settings).run(sockets=[listening])


def server(app: ASGIApp, settings: ServeSettings) -> uvicorn.Server:
    """The server, for those who run it themselves."""

    class Impatient(_Impatient):
        most = settings.connections
        silence = settings.read_timeout
        answering = settings.request_timeout + LAST_WORDS
        full = _full(settings.connections)

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Impatient,
            ws="none",
            loop="asyncio",
            lifespan="off",
            access_log=False,  # prompts and answers are nobody's business, and addresses neither
            log_level="error",
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GOODBYE,
        )
    )


def _full(connections: int) -> Response:
    """What is told to a client for whom there is no connection; uvicorn's own limit answers in plain text."""
    error = RefusedError(503, f"all {connections:,} connections are taken; come again later", None, "server_full", 1)
    return JSONResponse(error.body, error.status, {**error.headers, "connection": "close"})


class _Impatient(H11Protocol):
    """Loses a connection that has not sent a request's headers in time, or has not taken in the answer.

    uvicorn itself waits for ever in both cases, also for a connection that it has closed, and a few hundred silent
    clients would take all connections. An answer's time runs from the end of the request's body, and as long as one is
    still due the body's own time is added. It is over when the last byte of the answer has left for the socket.
    """

    most: int
    silence: float
    answering: float
    full: Response
    _patience: asyncio.TimerHandle | None = None
    _due: asyncio.TimerHandle | None = None
    _known: tuple[object, bool] = (None, False)  # the request whose answer is due; whether more of its body is to come

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def handle_events(self) -> None:
        self.app = self.full if len(self.connections) > self.most else self.config.loaded_app
        super().handle_events()
        if not self._between() and self._known != (self.cycle, self.cycle.more_body):
            self._known = (self.cycle, self.cycle.more_body)
            self._over()
            seconds = self.answering + (self.silence if self.cycle.more_body else 0)
            self._due = self.loop.call_later(seconds, self._too_late)

    def on_response_complete(self) -> None:
        if not self.transport.get_write_buffer_size():
            self._over()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._over()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._between():
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
        elif self._patience is None:
            self._patience = self.loop.call_later(self.silence, self._lose_it)

    def _too_late(self) -> None:
        self._due = None
        if not self._between() or self.transport.get_write_buffer_size():
            self.transport.abort()  # what is still to be sent would keep it open

    def _over(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _between(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _lose_it(self) -> None:
        self._patience = None
        if self._between():
            self.transport.close()
