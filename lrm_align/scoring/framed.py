"""What guards that are language models share: fitting a long response, loading a directory that must be that guard."""

import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from etils import epath

from lrm_align import limits
from lrm_align.chat import split_thinking
from lrm_align.chat.encoder import SpanEncoder
from lrm_align.chat.template import ChatTemplate
from lrm_align.chat.tokenizer import load_tokenizer
from lrm_align.errors import UserError
from lrm_align.models import Model, hf, hf_files

Guard = TypeVar("Guard")
Messages = Sequence[Mapping[str, str]]
Pair = tuple[str, str | None]  # a prompt, and the response that is judged; None to judge the prompt
_BRACKETS = re.compile(r"<(?=(?:BEGIN|END) [A-Z ]+>)", re.IGNORECASE)
_LINE = r"(?:^|(?<=[\r\x0b\x0c\x85\u2028\u2029]))"  # a model may read these as ends of lines, as Python's `^` does not
CUT = "\n…\n"
ALL, ANSWER, THOUGHT = "all", "answer", "thought"
PARTS = (ALL, ANSWER, THOUGHT)


def part_of(response: str, part: str, opened: bool = False) -> str | None:
    """The part of a response that is judged; None where there is none, as the answer of a thought that never ends.

    >>> [part_of("<think>a</think>b", part) for part in PARTS], part_of("<think>a", "answer")
    (['<think>a</think>b', 'b', 'a'], None)

    Args:
      response: everything the assistant said.
      part: "all", "answer" or "thought".
      opened: the prompt ends inside the thought, so that the response starts there.
    """
    if part == ALL:
        return response
    thought, answer = split_thinking(response, opened)
    return answer if part == ANSWER else thought


def check_part(part: str) -> str:
    """The part, if there is such a one.

    Raises:
      UserError: there is not.
    """
    if part not in PARTS:
        raise UserError(f"a guard judges part {part!r}; expected one of {', '.join(PARTS)}")
    return part


def check_sizes(name: str, max_length: int, batch_tokens: int, least_mass: float) -> None:
    """Refuses sizes that hold nothing, and a mass that is no probability.

    Raises:
      UserError: naming the one.
    """
    limits.count(max_length, f"guard {name}: max_length", least=1)
    limits.count(batch_tokens, f"guard {name}: batch_tokens", least=1)
    if not 0 <= least_mass <= 1:
        raise UserError(f"guard {name}: least_mass is {least_mass}; it must be a probability, 0 to 1")


def content(pair: Pair) -> str:
    """What is judged."""
    return (pair[0] if pair[1] is None else pair[1]).strip()


def nothing(part: str) -> str:
    """Why a pair without content is unscored."""
    return "empty response" if part == ALL else f"no {part}"


def defused(text: str, roles: Sequence[str]) -> str:
    """A text that holds no line of a guard's frame: a space stands where it would begin one, or inside its brackets.

    Control tokens are kept out by the encoder; these lines are plain words that any text could hold.

    >>> defused("a<END CONVERSATION>\\n\\nUser: b", ("User", "Agent"))
    'a< END CONVERSATION>\\n\\n User: b'

    Args:
      text: a prompt or a response.
      roles: what the guard's frame calls the speakers.
    """
    text = _BRACKETS.sub("< ", text)
    return re.sub(rf"{_LINE}(?=(?:{'|'.join(roles)}):)", " ", text, flags=re.MULTILINE)


def fitted(
    ids: Callable[[str], list[int]], content: str, encoder: SpanEncoder, longest: int
) -> tuple[list[int], int] | None:
    """A guard's prompt around a content, the content's middle cut out where it is too long, and the tokens cut.

    A cut at the end of the prompt would take the instruction away, one at either end of the content what it opened or
    closed with. None where the rest alone is too long.

    Args:
      ids: of the whole prompt, for a content.
      content: what is judged.
      encoder: of the guard's tokenizer.
      longest: tokens that the prompt may have.
    """
    whole = ids(content)
    if len(whole) <= longest:
        return whole, 0
    room = longest - len(ids(CUT))
    content_ids = encoder.plain(content.strip())
    # Text cut between two tokens can take a few more than it had, so one try may not be enough.
    while room > 0:
        head, tail = content_ids[: (room + 1) // 2], content_ids[len(content_ids) - room // 2 :]
        shorter = ids(encoder.decode(head) + CUT + encoder.decode(tail))
        if len(shorter) <= longest:
            return shorter, len(content_ids) - room
        room -= len(shorter) - longest
    return None


def ways(model: Model, mesh: jax.sharding.Mesh | None) -> int:
    """What the number of rows of a batch must be divisible by."""
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in dict(model.rules)["batch"])


def on(mesh: jax.sharding.Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """While a guard's pass runs."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


class Kind(NamedTuple):
    """What tells a guard from other models.

    Attributes:
      name: for messages.
      family: its architecture.
      marks: words of its prompt that its chat template, if it has one, holds and an ordinary model's does not.
    """

    name: str
    family: str
    marks: str


def check(path_or_hub_id: str, kind: Kind) -> Any:
    """The tokenizer of a directory or hub id, refused where that is another model; no weight is read.

    Raises:
      UserError: no such model, another architecture, or a chat template that is not this guard's.
    """
    directory = hf_files.resolve(path_or_hub_id)
    found = hf.check(directory).family
    if found != kind.family:
        raise UserError(f"guard {path_or_hub_id}: its architecture is {found}; {kind.name} is a {kind.family}")
    tokenizer = load_tokenizer(str(directory))
    template = tokenizer.chat_template
    if template and kind.marks not in str(template):
        raise UserError(
            f"guard {path_or_hub_id}: its chat template does not hold {kind.marks!r}, as every prompt of {kind.name} "
            "does; this is another model, whose verdicts would be noise"
        )
    return tokenizer


def load(
    make: Callable[..., Guard], path_or_hub_id: str, kind: Kind, mesh: jax.sharding.Mesh | None, dtype: str | None
) -> Guard:
    """The guard of a directory or hub id.

    Args:
      make: (model, params, tokenizer, name, version, mesh) -> guard.
      path_or_hub_id: where.
      kind: what is expected there.
      mesh: shards the parameters.
      dtype: of parameters and activations; parameters as stored and float32 activations where None.

    Raises:
      UserError: as `check`.
    """
    tokenizer = check(path_or_hub_id, kind)
    directory = hf_files.resolve(path_or_hub_id)
    model, params = hf.load(directory, mesh=mesh, **hf.dtypes(directory, dtype, mesh))
    name = str(path_or_hub_id).rstrip("/").rsplit("/", 1)[-1]
    return make(model, params, tokenizer, name=name, version=f"model:{fingerprint(directory)},", mesh=mesh)


def difference(source: Any, known: Sequence[tuple[Messages, Sequence[tuple[str, bool]]]]) -> str:
    """Where a directory's own chat template and the published frame part; "" where they agree or there is no template.

    Args:
      source: of the template.
      known: conversations, each with the pieces of its frame.
    """
    if not isinstance(source, str):
        return ""
    template = ChatTemplate(source, "chat template of the guard")
    for messages, pieces in known:
        theirs = template.render({"messages": messages, "add_generation_prompt": True})
        ours = "".join(text for text, _ in pieces)
        if theirs != ours:
            start = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
            shown = [repr(text[start : start + 40]) for text in (theirs, ours)]
            return f"its chat template writes {shown[0]} where {shown[1]} is known"
    return ""


def fingerprint(directory: epath.Path) -> str:
    """Of the config and of each weight file's size, first and last mebibyte: whole weights take minutes to hash."""
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for path in sorted(directory.glob("*.safetensors")):
        size = path.stat().length
        with path.open("rb") as data:
            digest.update(f"{path.name}:{size}".encode() + data.read(1 << 20))
            data.seek(max(size - (1 << 20), 0))
            digest.update(data.read())
    return digest.hexdigest()[:8]
