"""The frozen model as its own judge, on an engine of the policy's shape: greedy, and best without thinking."""

from collections.abc import Sequence
from typing import Any

from lrm_align.chat import Chat
from lrm_align.chat.chat import Messages
from lrm_align.models import Model
from lrm_align.sampling import Engine, EngineShape, Request, SamplingParams
from lrm_align.scoring.judge import Ask


def engine_ask(model: Model, params: Any, chat: Chat, shape: EngineShape, max_new_tokens: int, mesh: Any = None) -> Ask:
    """A function from conversations to what the model answers, thinking left out.

    None where the model did not finish, or where a conversation does not fit: a sample may be as long as it likes.

    Args:
      model: static.
      params: a function without arguments that gives the frozen parameters; called on first use.
      chat: of the judge; give it `template_kwargs` that switch the thinking off.
      shape: of the engine.
      max_new_tokens: of a verdict.
      mesh: where the parameters lie.
    """
    engines: list[Engine] = []

    def ask(conversations: Sequence[Messages]) -> list[str | None]:
        if not engines:
            single = mesh is None or mesh.size == 1
            engine = Engine(model, params(), shape, stop_ids=chat.stop_ids, mesh=None if single else mesh)
            engines.append(engine)
        # Equal questions get equal answers, and are asked once; one that leaves no room for an answer gets none.
        ids = [tuple(prompt) for prompt in chat.prompts_ids(conversations)]
        asked = [one for one in dict.fromkeys(ids) if len(one) < shape.max_length]
        greedy = SamplingParams(temperature=0.0, max_new_tokens=max_new_tokens)
        requests = [Request(str(number), list(one), params=greedy) for number, one in enumerate(asked)]
        answers: dict[tuple[int, ...], str] = {}
        for completion in engines[0].run(requests):
            answer = chat.split_thinking(chat.completion_text(completion.ids))[1]
            if completion.stop_reason == "stop" and answer is not None:
                answers[tuple(completion.request.prompt_ids)] = answer
        return [answers.get(one) for one in ids]

    return ask
