"""The same judge at an OpenAI-compatible endpoint: `POST {url}/chat/completions`, one greedy token with alternatives.

    config.guard.factory = "lrm_align.judging.endpoint:load"
    config.guard.args = {"url": "http://127.0.0.1:8000/v1", "model": "Qwen2.5-7B-Instruct"}

Where the endpoint gives the probabilities of alternatives, the verdict is p(yes) / (p(yes) + p(no)) as here; where it
does not, the words are read, strictly. A key is taken from the environment, LRM_ALIGN_JUDGE_KEY, and goes nowhere else.
"""

import concurrent.futures
import http.client
import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_align import untrusted
from lrm_align.errors import UserError
from lrm_align.judging.question import NO, QUESTIONS, YES, decided, read
from lrm_align.scoring import Score, framed
from lrm_align.settings import made, takes
from lrm_align.settings.guard_options import EndpointOptions

KEY = "LRM_ALIGN_JUDGE_KEY"
ALTERNATIVES = 20  # the most that the API allows
WORDS = 8  # tokens of an answer: a judge that thinks first is cut, and says nothing
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


class Endpoint:
    """A judge behind HTTP.

    Unscored: as `Prompted`, and "answers in prose", "says nothing", "no answer from the endpoint" where every try of a
    pair failed while others came through.

    Args:
      url: up to and with /v1.
      model: its name there.
      options: the question, and how it is asked.

    Raises:
      UserError: no HTTP address.
    """

    def __init__(self, url: str, model: str, options: EndpointOptions):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"judge's url is {url!r}; it must be an address such as http://127.0.0.1:8000/v1")
        self._url, self._model, self._options = url.rstrip("/"), model, options
        self.question = QUESTIONS[options.question]
        self.name = f"{model} asked about {options.question}"
        self.version = f"{self.question.version},longest:{options.longest},part:{options.part}"

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """How surely the question is answered by yes, of every pair.

        Raises:
          UserError: the endpoint answered none of them, or refuses what it is asked.
        """
        options = self._options
        judged = [framed.part_of(response, options.part, options.opened) or "" for response in responses]
        asked = [number for number, text in enumerate(judged) if text.strip()]
        scores = [Score.unscored(framed.nothing(options.part)) for _ in judged]
        texts = [self.question.text(prompts[number], self._cut(judged[number])) for number in asked]
        with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
            found = list(pool.map(self._ask, texts))
        failed = [fault for _, fault in found if fault]
        if failed and len(failed) == len(found):
            raise UserError(f"judge at {self._url}: {failed[0]}; start it, or name another as config.guard")
        for number, (score, _) in zip(asked, found, strict=True):
            scores[number] = score
        return scores

    def _cut(self, text: str) -> str:
        half = self._options.longest // 2
        return text if len(text) <= self._options.longest else text[:half] + framed.CUT + text[-half:]

    def _ask(self, text: str) -> tuple[Score, str]:
        """(score, what went wrong on the way there every time, or "")."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": WORDS,
            "logprobs": True,
            "top_logprobs": ALTERNATIVES,
        }
        fault = ""
        for turn in range(self._options.tries):
            if turn:
                time.sleep(min(0.25 * 2**turn, 8.0))
            try:
                return self._read(self._post(body)), ""
            except urllib.error.HTTPError as error:
                fault = f"answered {error.code} {error.reason}"
                if error.code == 400 and "logprobs" in body:  # it gives none
                    del body["logprobs"], body["top_logprobs"]
                elif error.code not in _AGAIN:
                    break
            except (OSError, http.client.HTTPException) as error:
                fault = f"cannot be reached: {getattr(error, 'reason', None) or error}"
            except UserError as error:
                fault = str(error)
        return Score.unscored("no answer from the endpoint"), fault

    def _post(self, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {os.environ[KEY]}"
        request = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self._options.seconds) as reply:
            return untrusted.parse_json(reply.read(untrusted.LARGEST), f"answer of {self._url}")

    def _read(self, reply: Any) -> Score:
        try:
            choice = reply["choices"][0]
            content, tops = choice["message"]["content"], (choice.get("logprobs") or {}).get("content") or []
            if tops:
                p = dict.fromkeys((YES, NO), 0.0)
                for one in tops[0]["top_logprobs"]:
                    word = str(one["token"]).strip().lower()
                    if word in p:
                        p[word] += math.exp(float(one["logprob"]))
                return decided(p[YES], p[NO], self._options.least_mass)
            return read(None if content is None else str(content))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            raise UserError(f"answers with something that is no chat completion: {untrusted.shown(reply)}") from None


@takes(EndpointOptions)
def load(url: str, model: str, **options: Any) -> Endpoint:
    """The judge of an address.

    Args:
      url: up to and with /v1.
      model: its name there.
      **options: `EndpointOptions`.

    Raises:
      UserError: no HTTP address, or an option that there is not.
    """
    return Endpoint(url, model, made(EndpointOptions, options, "config.guard.args"))


def check(url: str, model: str, **options: Any) -> None:
    """Asks the judge one question, before anything slow: it must answer, whatever it says.

    Raises:
      UserError: it cannot be reached, or does not answer as a chat model does.
    """
    load(url, model, **{**options, "tries": 1}).score(["Hello"], ["Good morning! How can I help you?"])
