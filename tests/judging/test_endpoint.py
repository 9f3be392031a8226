"""A judge at an endpoint, against a real HTTP server: with probabilities, with words, with neither, and down."""

import http.server
import json
import math
import socket
import threading

import pytest

from lrm_align.errors import UserError
from lrm_align.judging import endpoint
from lrm_align.scoring import Guard


def words(text):
    return {"choices": [{"message": {"content": text}}]}


def probabilities(**p):
    tops = [{"token": token, "logprob": math.log(value)} for token, value in p.items()]
    return words("whatever") | {
        "choices": [{"message": {"content": "Yes"}, "logprobs": {"content": [{"token": "Yes", "top_logprobs": tops}]}}]
    }


@pytest.fixture
def serve():
    """serve(answer) -> url; answer(body) gives (status, object or bytes). `serve.seen` holds bodies and headers."""
    servers = []

    def start(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                start.seen.append((self.path, body, dict(self.headers)))
                status, reply = answer(body)
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                """Quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    start.seen = []
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_probabilities_of_alternatives_are_the_verdict(serve):
    url = serve(lambda body: (200, probabilities(**{"Yes": 0.5, " yes": 0.1, "No": 0.2, "The": 0.1})))
    judge = endpoint.load(url, "m")
    score = judge.score(["How?"], ["So."])[0]
    assert score.value == pytest.approx(0.75) and score.parts == pytest.approx({"p_yes": 0.6, "p_no": 0.2})
    path, body, _ = serve.seen[0]
    assert path == "/v1/chat/completions" and body["temperature"] == 0 and body["top_logprobs"] == 20
    assert "Response: So." in body["messages"][0]["content"] and isinstance(judge, Guard)


def test_words_are_read_where_there_are_no_probabilities(serve):
    said = {"a": "No.", "b": "Yes", "c": "Well, it depends", "d": "", "e": None}
    url = serve(lambda body: (200, words(said[body["messages"][0]["content"].split("Response: ")[1][0]])))
    scores = endpoint.load(url, "m").score(["p"] * 6, [*said, "  "])
    assert [s.value for s in scores] == [0.0, 1.0, None, None, None, None]
    assert [s.reason for s in scores[2:]] == ["answers in prose", "says nothing", "says nothing", "empty response"]


def test_an_endpoint_that_knows_no_probabilities_is_asked_without(serve):
    url = serve(lambda body: (400, {"error": "logprobs"}) if "logprobs" in body else (200, words("no")))
    assert endpoint.load(url, "m").score(["p"], ["r"])[0].value == 0.0
    assert ["logprobs" in body for _, body, _ in serve.seen] == [True, False]


def test_a_pair_whose_every_try_failed_is_counted_where_others_came_through(serve, monkeypatch):
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)
    url = serve(lambda body: (500, {}) if "bad" in body["messages"][0]["content"] else (200, words("yes")))
    scores = endpoint.load(url, "m", tries=2).score(["p", "p"], ["bad", "good"])
    assert [s.reason for s in scores] == ["no answer from the endpoint", None] and scores[1].value == 1.0
    assert len(serve.seen) == 3, "two tries of the one"


@pytest.mark.parametrize(
    ("status", "reply", "message"),
    [
        (401, {"error": "key"}, "answered 401"),
        (404, {}, "answered 404"),
        (503, {}, "answered 503"),
        (200, b"<html>busy</html>", "no JSON|not JSON|JSON"),
        (200, {"choices": []}, "no chat completion"),
        (200, [1], "no chat completion"),
        (200, {"choices": [{"message": {"content": "yes"}, "logprobs": {"content": [{}]}}]}, "no chat completion"),
    ],
)
def test_one_that_answers_none_of_them_is_one_line(serve, monkeypatch, status, reply, message):
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)
    url = serve(lambda body: (status, reply))
    with pytest.raises(UserError, match=message) as error:
        endpoint.load(url, "m").score(["p"] * 2, ["r"] * 2)
    assert str(error.value).startswith(f"judge at {url}") and "\n" not in str(error.value)


def test_one_that_is_down_is_one_line_that_says_where(monkeypatch):
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=r"cannot be reached: .*refused; start it, or name another"):
        endpoint.load(url, "m").score(["p"], ["r"])


def test_a_key_comes_from_the_environment_and_stands_in_no_name(serve, monkeypatch):
    monkeypatch.setenv(endpoint.KEY, "s3cret")
    judge = endpoint.load(serve(lambda body: (200, words("yes"))), "m")
    judge.score(["p"], ["r"])
    assert serve.seen[0][2]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in judge.name + judge.version


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:8000"}, "judge's url is 'localhost:8000'"),
        ({"url": "file:///etc/passwd"}, "must be an address"),
        ({"question": "rude"}, "question is 'rude'; it must be one of 'harm', 'refusal'"),
        ({"workers": 0}, "workers"),
        ({"seconds": 0}, "seconds"),
        ({"least_mass": 2}, "least_mass is 2"),
        ({"part": "middle"}, "part is 'middle'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        endpoint.load(**{"url": "http://127.0.0.1:1/v1", "model": "m", **options})


def test_the_look_beforehand_asks_once(serve):
    url = serve(lambda body: (200, words("maybe")))
    endpoint.check(url, "m", question="refusal")
    assert len(serve.seen) == 1, "whatever it says, it answers"
    with pytest.raises(UserError, match="answered 503"):
        endpoint.check(serve(lambda body: (503, {})), "m")


def test_a_long_response_loses_its_middle(serve):
    url = serve(lambda body: (200, words("no")))
    endpoint.load(url, "m", longest=100).score(["p"], ["a" * 500 + "b" * 500])
    said = serve.seen[0][1]["messages"][0]["content"].split("Response: ")[1]
    assert said.startswith("a" * 50 + "\n…\n" + "b" * 50)
