"""Orders: how the trainer tells samplers which policy to use and how far to sample. The newest one counts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from lrm_align.errors import UserError
from lrm_align.rl import sealed

KIND = "lrm_align.order/1"
KEEP = 8


class Order(NamedTuple):
    """What samplers shall do.

    Attributes:
      policy: to sample with.
      first: tickets below it are settled; nobody waits for them.
      until: tickets below it may be sampled.
      samplers: how many share the tickets: sampler i of n takes those that leave i when divided by n.
      about: {part: digest} of what the policy belongs to.
      stop: whether the run is over.
    """

    policy: int
    first: int
    until: int
    samplers: int
    about: Mapping[str, str]
    stop: bool = False


def give(directory: epath.Path, order: Order) -> None:
    """Writes an order after all others; old ones are removed.

    Raises:
      UserError: another trainer gave an order at the same time, or the directory cannot be written.
    """
    known = sealed.numbers(directory)
    number = 1 + max(known, default=-1)
    try:
        sealed.create(directory / sealed.name(number), KIND, order._asdict())
    except sealed.TakenError:
        raise UserError(
            f"{directory}: another trainer gives orders here at the same time; one of them must go"
        ) from None
    for old in known:
        if old <= number - KEEP:
            sealed.remove(directory / sealed.name(old))


def newest(directory: epath.Path) -> Order | None:
    """The newest order that is whole; None where there is none.

    Raises:
      UserError: naming one that is damaged.
    """
    for number in reversed(sealed.numbers(directory)):
        place = directory / sealed.name(number)
        fields = sealed.read(place, KIND)
        if fields is not None:
            return _order(place, fields)
    return None


def _order(place: epath.Path, fields: dict[str, Any]) -> Order:
    numbers = ("policy", "first", "until", "samplers")
    sound = (
        fields.keys() == set(Order._fields)
        and all(type(fields[name]) is int and fields[name] >= 0 for name in numbers)
        and fields["samplers"] > 0
        and isinstance(fields["about"], dict)
        and type(fields["stop"]) is bool
    )
    if not sound:
        raise UserError(f"{place}: an order whose fields are missing or out of range")
    return Order(**fields)
