"""A judge made of any chat model: it is asked a question about each response, and the first word of its answer is read.

    config.guard.factory = "lrm_align.judging.prompted:load"
    config.guard.args = {"path_or_hub_id": "Qwen/Qwen2.5-1.5B-Instruct"}

How well it judges depends on the model: measure it (`python -m lrm_align.judging.agreement`) before it decides what is
trained on.
"""

from collections.abc import Sequence
from typing import Any

import jax

from lrm_align.chat import Chat, check_vocabulary
from lrm_align.errors import UserError
from lrm_align.judging import prefix
from lrm_align.judging.question import NO, QUESTIONS, YES, decided, spellings
from lrm_align.models import Model, hf, hf_files
from lrm_align.scoring import Score, framed
from lrm_align.settings import made, takes
from lrm_align.settings.guard_options import PromptedOptions


class Prompted:
    """A chat model as a guard or as a judge of refusals.

    value = p(yes) / (p(yes) + p(no)), each summed over the first tokens of the word's spellings; parts are `p_yes` and
    `p_no`, and `cut_tokens` where a long response lost its middle. 1 is unsafe for the question "harm", and a refusal
    for "refusal". Unscored: "empty response" or "no answer", "undecidable" where the two words hold less than
    `least_mass`, "prompt too long for the judge". A model that thinks is given an empty thought.

    Args:
      model: static.
      params: its parameters.
      chat: its template and tokenizer.
      options: the question and the sizes; a prompt is no longer than the model's context.
      name: for records.
      version: for records.
      mesh: rows of a batch come in multiples of its data and fsdp axes.

    Raises:
      UserError: words that begin alike in the tokenizer.
    """

    def __init__(
        self,
        model: Model,
        params: Any,
        chat: Chat,
        options: PromptedOptions,
        *,
        name: str = "prompted",
        version: str = "",
        mesh: jax.sharding.Mesh | None = None,
    ):
        self.name = f"{name} asked about {options.question}"
        self.question = QUESTIONS[options.question]
        self._model, self._params, self._chat, self._mesh = model, params, chat, mesh
        self._options, self._longest = options, min(options.max_length, model.config.max_positions)
        self._yes, self._no = first_tokens(chat)
        self.version = f"{version}{self.question.version},max_length:{self._longest},part:{options.part}"

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        """How surely the question is answered by yes, of every pair."""
        options = self._options
        judged = [framed.part_of(response, options.part, options.opened) or "" for response in responses]
        scores: list[Score | None] = [None] * len(judged)
        asked: list[tuple[int, list[int], int]] = []
        for number, (prompt, response) in enumerate(zip(prompts, judged, strict=True)):
            fitted = self._fitted(prompt, response) if response.strip() else None
            if fitted is None:
                reason = "prompt too long for the judge" if response.strip() else framed.nothing(options.part)
                scores[number] = Score.unscored(reason)
            else:
                asked.append((number, *fitted))
        with framed.on(self._mesh):
            p_BxW = prefix.probabilities(
                self._model,
                self._params,
                [ids for _, ids, _ in asked],
                [*self._yes, *self._no],
                longest=self._longest,
                tokens=options.batch_tokens,
                multiple=framed.ways(self._model, self._mesh),
            )
        for (number, _, cut), p_W in zip(asked, p_BxW.tolist(), strict=True):
            score = decided(sum(p_W[: len(self._yes)]), sum(p_W[len(self._yes) :]), options.least_mass)
            parts = {**score.parts, "cut_tokens": float(cut)} if cut else dict(score.parts)
            scores[number] = Score(score.value, parts, score.reason)
        return [score for score in scores if score is not None]

    def ids(self, prompt: str, response: str) -> list[int]:
        """Ids of what the judge is shown, up to where its answer begins."""
        ids = self._chat.prompt_ids(self.question.text(prompt, response))
        if not self._chat.thinking.thinks:
            return ids
        empty = self._chat.completion_ids("", "")
        return ids + empty[: self._chat.thought_ends(empty)[-1]] + self._chat.encode_plain("\n\n")

    def _fitted(self, prompt: str, response: str) -> tuple[list[int], int] | None:
        return framed.fitted(lambda text: self.ids(prompt, text), response, self._chat.encoder, self._longest)


def first_tokens(chat: Chat) -> tuple[list[int], list[int]]:
    """Ids of the tokens that an answer "yes" and an answer "no" may begin with.

    Raises:
      UserError: some are the same, as in a vocabulary of letters.
    """
    yes, no = ({chat.encode_plain(spelling)[0] for spelling in spellings(word)} for word in (YES, NO))
    blank = set(chat.encode_plain(" ")[:1])  # a tokenizer may write the blank as a token of its own
    yes, no = yes - blank, no - blank
    if yes & no or not yes or not no:
        raise UserError("a judge's answers yes and no begin with the same token in its tokenizer; take another model")
    return sorted(yes), sorted(no)


def check(path_or_hub_id: str) -> None:
    """Refuses a directory or hub id that is no chat model, before any weight is read.

    Raises:
      UserError: no such model, no chat template, or a tokenizer that cannot tell yes from no.
    """
    _chat(path_or_hub_id)


@takes(PromptedOptions)
def load(
    path_or_hub_id: str, mesh: jax.sharding.Mesh | None = None, dtype: str | None = None, **options: Any
) -> Prompted:
    """The judge of a model directory or hub id.

    Args:
      path_or_hub_id: of any chat model.
      mesh: shards the parameters.
      dtype: of parameters and activations; parameters as stored and float32 activations where None.
      **options: `PromptedOptions`.

    Raises:
      UserError: as `check`.
    """
    asked = made(PromptedOptions, options, "config.guard.args")
    chat, directory = _chat(path_or_hub_id), hf_files.resolve(path_or_hub_id)
    model, params = hf.load(directory, mesh=mesh, **hf.dtypes(directory, dtype, mesh))
    name = str(path_or_hub_id).rstrip("/").rsplit("/", 1)[-1]
    version = f"model:{framed.fingerprint(directory)},"
    return Prompted(model, params, chat, asked, name=name, version=version, mesh=mesh)


def _chat(path_or_hub_id: str) -> Chat:
    directory = hf_files.resolve(path_or_hub_id)
    config = hf.check(directory)
    chat = Chat.from_pretrained(str(directory))
    check_vocabulary(chat.tokenizer, config.vocab_size)
    first_tokens(chat)
    return chat
