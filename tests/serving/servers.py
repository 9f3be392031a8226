"""A server of the lab model in a thread, which tests talk to over a real socket."""

import contextlib
import functools
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from lrm_align.chat import Chat
from lrm_align.defences import Defence
from lrm_align.lab import CHECKPOINT
from lrm_align.models import load
from lrm_align.sampling import Engine, EngineShape
from lrm_align.sampling.live import Live
from lrm_align.serving import app
from lrm_align.serving import http as ours
from lrm_align.serving.service import Service
from lrm_align.settings.serving import ServeSettings

SHAPE = EngineShape(slots=4, max_length=192, prompt_buckets=(48,), steps_per_call=4, prefill_rows=2)
QUESTION = [{"role": "user", "content": "What is 32+48-39?"}]


@functools.cache
def chat() -> Chat:
    """The lab model's."""
    return Chat.from_pretrained(str(CHECKPOINT))


@functools.cache
def engine() -> Engine:
    """One for the session, so that its programs compile once."""
    model, params = load(str(CHECKPOINT), dtype="float32")
    return Engine(model, params, SHAPE, stop_ids=chat().stop_ids)


class Server(NamedTuple):
    """Where it listens, and what is behind it."""

    port: int
    live: Live
    service: Service

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def idle(self, seconds: float = 30) -> bool:
        """Whether nothing runs or waits, soon."""
        end = time.monotonic() + seconds
        while any(self.live.counts()[:2]) and time.monotonic() < end:
            time.sleep(0.01)
        return not any(self.live.counts()[:2])

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of a plain request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, {"content-type": "application/json", **sent})
            response = connection.getresponse()
            found = response.read()
            return (
                response.status,
                json.loads(found) if found else None,
                {k.lower(): v for k, v in response.headers.items()},
            )

    def ask(self, **fields: Any) -> tuple[int, Any, dict[str, str]]:
        """A question to the model."""
        return self.call("POST", "/v1/chat/completions", {"model": "lab", "messages": QUESTION, **fields})


@contextlib.contextmanager
def serving(
    defence: Defence | None = None, key: str = "", hosts: set[str] | None = None, buffer: int = 0, **settings: Any
) -> Iterator[Server]:
    """A server with these settings of `config.serve`; `buffer`: bytes that the system sends ahead of a reader."""
    limits = ServeSettings(name="lab", top_p=1.0, **settings)
    listening = ours.bind("127.0.0.1", 0)
    if buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    live = Live(engine(), limits.queue)
    service = Service(live, chat(), defence or Defence("none"), limits, SHAPE.max_length)
    server = ours.server(app.application(service, "lab", key, hosts), limits)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield Server(listening.getsockname()[1], live, service)
    finally:
        server.should_exit = True
        thread.join()
        live.close()
        listening.close()
