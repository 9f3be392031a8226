"""Clients that are too many, too slow or too long never keep others out."""

import collections
import contextlib
import ctypes
import gc
import http.client
import json
import os
import pathlib
import socket
import threading
import time

import pytest

from lrm_align.serving import http as ours
from lrm_align.serving.service import READERS
from tests.serving.servers import QUESTION, chat, serving


def body(**fields):
    return json.dumps({"model": "lab", "messages": QUESTION, **fields}).encode()


def request(data):
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(data)}\r\n\r\n".encode() + data


def connected(port, room=4096):
    """A client in whose socket there is little room."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    found.settimeout(60)
    found.connect(("127.0.0.1", port))
    return found


def soon(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize(
    "sent",
    [request(body(stream=True, n=8, temperature=2)), b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" * 3000],
    ids=["stream", "pipelined"],
)
def test_readers_that_stall_lose_their_connection(monkeypatch, sent):
    monkeypatch.setattr(ours, "LAST_WORDS", 0.3)
    monkeypatch.setattr(ours, "KEEP_ALIVE", 1)  # for a machine so busy that there is little to send yet
    with serving() as server:
        assert server.ask()[0] == 200  # all is compiled
    with serving(connections=4, request_timeout=2, buffer=4096) as server, contextlib.ExitStack() as open_:
        stalled = [open_.enter_context(connected(server.port)) for _ in range(4)]
        writers = [threading.Thread(target=_send, args=(one, sent)) for one in stalled]
        for writer in writers:
            writer.start()
        time.sleep(0.5)  # whoever asks meanwhile would be one too many, and take a place
        status, told, headers = server.call("GET", "/health")
        assert (status, told["error"]["code"], headers["connection"]) == (503, "server_full", "close")
        began = time.monotonic()
        assert soon(lambda: server.call("GET", "/health")[0] == 200)
        assert time.monotonic() - began < 10 and server.idle()
        for writer in writers:
            writer.join()


def _send(client, sent):
    with contextlib.suppress(OSError):
        client.sendall(sent)


def test_slow_readers_get_all_of_it():
    with serving(buffer=16384) as server, connected(server.port, room=16384) as client:
        client.sendall(request(body(stream=True, n=4)))
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            time.sleep(0.001)
            found += client.recv(2048)
        assert b"[DONE]" in found


def test_absurd_lengths_are_refused_unread(monkeypatch):
    with serving() as server:
        monkeypatch.setattr(chat(), "prompt_ids", None)
        status, told, _ = server.ask(messages=[{"role": "user", "content": "a " * 400_000}])
        assert (status, told["error"]["code"]) == (400, "context_length_exceeded")
        assert "at least" in told["error"]["message"]


@pytest.fixture
def reading(monkeypatch):
    """Lets conversations be read only once it is set."""
    go, read = threading.Event(), chat().prompt_ids

    def slowly(messages):
        assert go.wait(60)
        return read(messages)

    monkeypatch.setattr(chat(), "prompt_ids", slowly)
    yield go
    go.set()


def test_the_queue_of_those_to_be_read(reading):
    with serving(queue=3) as server, contextlib.ExitStack() as open_:
        waiting = [open_.enter_context(connected(server.port)) for _ in range(READERS + 3)]
        for client in waiting:
            client.sendall(request(body(max_tokens=1)))
        assert soon(lambda: server.service._unread._value == 0)
        status, told, headers = server.ask(max_tokens=1)
        assert (status, told["error"]["code"]) == (429, "queue_full") and headers["retry-after"]
        waiting[-1].close()  # one that hangs up makes room
        assert soon(lambda: server.service._unread._value == 1)
        reading.set()
        assert all(client.recv(20)[9:12] == b"200" for client in waiting[:-1])
        assert soon(lambda: server.service._unread._value == READERS + 3)
        assert server.live.counts().finished == READERS + 2


@pytest.mark.parametrize("limit", ["queue_timeout", "request_timeout"])
def test_being_read_counts_as_waiting(reading, limit):
    with serving(**{limit: 0.2}) as server:
        status, told, _ = server.ask(max_tokens=1)
        assert (status, told["error"]["code"]) == (503, "queue_timeout")
        assert not server.live.counts().finished
        reading.set()


def memory():
    """Bytes in use, without what is free and only kept at hand."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="only where /proc tells the memory in use")
def test_memory_is_flat_over_2000_requests():
    """Ten times more clients than slots, of all kinds; after the first thousand nothing more is kept."""
    with serving(queue=16) as server:
        counted = crowd(server, 300)  # what is made once
        start = memory()
        counted += crowd(server, 1000)
        half = memory()
        counted += crowd(server, 1000)
        end = memory()
        assert min(counted[kind] for kind in ("whole", "stream", "hang-up", "429")) > 100, counted
        assert end - half < max(half - start, 0) / 2 + 4 * 2**20, (start, half, end)
        assert server.idle() and not server.live._tickets and server.service._unread._value == READERS + 16


def crowd(server, count):
    """So many requests of 40 clients, each with a connection of its own for each; (kind or status, how many)."""
    numbers, counted, lock = iter(range(count)), collections.Counter(), threading.Lock()

    def client():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            kind = ("whole", "stream", "hang-up")[number % 3]
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            with contextlib.closing(connection):
                data = body(stream=kind != "whole", seed=number, max_tokens=40 if kind == "hang-up" else 8)
                connection.request("POST", "/v1/chat/completions", data, {"content-type": "application/json"})
                answer = connection.getresponse()
                if answer.status == 200 and kind == "hang-up":
                    answer.read(10)
                    connection.sock and connection.sock.close()
                else:
                    answer.read()
            with lock:
                counted[kind if answer.status == 200 else str(answer.status)] += 1
            if answer.status != 200:
                time.sleep(0.02)

    threads = [threading.Thread(target=client) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counted
