"""Groups in a directory: a shard each, named by its ticket, so that no ticket can be there twice.

GROUPS/00000012/ticket-000000012345.manifest.json       1024 tickets a folder, to keep listings short
GROUPS/00000012/ticket-000000012345-CHECKSUM.array_record
"""

import re
from collections.abc import Iterator

from etils import epath

from lrm_align.errors import UserError
from lrm_align.rl.group import TraceGroup, group_id, ticket_of
from lrm_align.traces import Shard, find_shards, read_shard, write_shard
from lrm_align.traces.manifest import SUFFIX

PER_FOLDER = 1024
_NAME = re.compile(r"ticket-(\d{12,})" + re.escape(SUFFIX))


def write(directory: epath.Path, group: TraceGroup, recipe_hash: str) -> Shard:
    """Writes a whole group.

    Raises:
      UserError: a finished group of this ticket is there, or the directory cannot be written.
    """
    return write_shard(_folder(directory, group.ticket), group_id(group.ticket), group.traces, recipe_hash)


def tickets(directory: epath.Path, first: int, until: int) -> Iterator[int]:
    """The tickets from `first` up to `until` whose manifest is there, whole or not."""
    for number in range(first // PER_FOLDER, (until - 1) // PER_FOLDER + 1 if until > first else 0):
        folder = _folder(directory, number * PER_FOLDER)
        if not folder.exists():
            continue
        for path in list(folder.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match and first <= int(match[1]) < until:
                yield int(match[1])


def find(directory: epath.Path, ticket: int) -> Shard | None:
    """The shard of a ticket; None where there is none, or a manifest that a kill cut short.

    Raises:
      UserError: naming a damaged manifest.
    """
    place = _folder(directory, ticket) / (group_id(ticket) + SUFFIX)
    if not place.exists() or not place.read_bytes().endswith(b"}\n"):
        return None
    (shard,) = find_shards(place)
    return shard


def check(shard: Shard, samples: int, recipe_hash: str) -> None:
    """Refuses what the manifest of a shard alone gives away.

    Raises:
      UserError: it is not a whole group of one policy and of this recipe.
    """
    manifest = shard.manifest
    if manifest.recipe_hash != recipe_hash:
        raise UserError(
            f"{shard.path}: a group of another recipe ({manifest.recipe_hash}, this run's is {recipe_hash})"
        )
    if manifest.count != samples or len(manifest.policies) != 1:
        raise UserError(
            f"{shard.path}: not a whole group of one policy: {manifest.count} samples of {samples}, policies "
            f"{list(manifest.policies)}"
        )


def read(shard: Shard, ticket: int) -> TraceGroup:
    """The group of a shard, its checksum verified.

    Raises:
      UserError: it is damaged, or not the group of the ticket.
    """
    traces = sorted(read_shard(shard), key=lambda trace: trace.sample)
    found = [(ticket_of(trace), trace.sample) for trace in traces if trace.group_id.startswith("ticket-")]
    if found != [(ticket, sample) for sample in range(len(traces))]:
        raise UserError(f"{shard.path}: foreign: it does not hold the samples of ticket {ticket}")
    return TraceGroup(ticket, traces[0].policy, tuple(traces))


def finished(directory: epath.Path, first: int, until: int) -> set[int]:
    """The tickets whose group is there; a damaged one counts, for it is not sampled anew."""
    found = set()
    for ticket in tickets(directory, first, until):
        try:
            if find(directory, ticket) is not None:
                found.add(ticket)
        except UserError:
            found.add(ticket)
    return found


def _folder(directory: epath.Path, ticket: int) -> epath.Path:
    return directory / f"{ticket // PER_FOLDER:08d}"
