"""The manifest of a shard: the small JSON object whose existence makes the shard exist."""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lrm_align import untrusted
from lrm_align.errors import UserError
from lrm_align.traces.record import SCHEMA, Trace

FORMAT = "lrm_align.shard/1"
SUFFIX = ".manifest.json"
DATA_SUFFIX = ".array_record"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a shard holds, so that a plan or a resumed sampler need not open it.

    Attributes:
      name: name of the shard in its directory.
      data: file name of the ArrayRecord: the name, a part of its checksum, and the suffix. Two writers that take the
        same name therefore never write the same object; the manifest, created once, says whose counts.
      count: number of traces.
      bytes: size of the data file.
      sha256: checksum of the data file.
      recipe_hash: hash of the recipe that the traces come from.
      trace_schema: version of the records.
      policies: the policy numbers that occur, ascending.
      keys: (prompt id, sample) of each trace in order.
      lengths: (prompt tokens, completion tokens) of each trace in order.
      tags: how many traces carry each tag.
      stop_reasons: how many traces ended for each reason.
    """

    name: str
    data: str
    count: int
    bytes: int
    sha256: str
    recipe_hash: str
    trace_schema: int
    policies: tuple[int, ...]
    keys: tuple[tuple[str, int], ...]
    lengths: tuple[tuple[int, int], ...]
    tags: dict[str, int]
    stop_reasons: dict[str, int]

    @property
    def file_name(self) -> str:
        """File name of the manifest itself."""
        return self.name + SUFFIX

    @property
    def policy(self) -> int:
        """The oldest policy in the shard, 0 for an empty one: what a staleness limit looks at."""
        return min(self.policies, default=0)

    def to_json(self) -> str:
        """One line that ends in `}` and a line feed, so that a cut can be told from damage."""
        fields = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps({**fields, "seal": _seal(fields)}) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> "Manifest | None":
        """Reads a manifest; None for one that a killed writer left cut.

        Raises:
          UserError: for a whole object that is damaged or is not a manifest of ours.
        """
        if not text.endswith("}\n"):
            return None
        try:
            fields = untrusted.parse_json(text, where)
        except UserError as error:
            raise UserError(f"{error}; a damaged manifest") from None
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise UserError(f"{where}: not a shard manifest of this version (format {FORMAT})")
        seal = fields.pop("seal", None)
        if seal != _seal({"format": FORMAT, **fields}):
            raise UserError(f"{where}: damaged manifest: its contents do not match its own checksum")
        if fields.keys() != {field.name for field in dataclasses.fields(Manifest)}:
            raise UserError(f"{where}: manifest with missing or unknown fields: {sorted(fields)}")
        try:
            manifest = Manifest(
                **{
                    **fields,
                    "policies": tuple(int(policy) for policy in fields["policies"]),
                    "keys": tuple((str(prompt_id), int(sample)) for prompt_id, sample in fields["keys"]),
                    "lengths": tuple((int(prompt), int(completion)) for prompt, completion in fields["lengths"]),
                }
            )
            sound = len(manifest.keys) == len(manifest.lengths) == manifest.count
            # The data lies beside its manifest: a name from a stranger must not lead elsewhere.
            sound = sound and manifest.data == data_name(check_name(manifest.name), manifest.sha256)
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise UserError(f"{where}: manifest whose fields contradict each other")
        return manifest


def describe(name: str, traces: Sequence[Trace], sha256: str, size: int, recipe_hash: str) -> Manifest:
    """The manifest of traces whose ArrayRecord has this checksum and size in bytes."""
    return Manifest(
        name=name,
        data=data_name(name, sha256),
        count=len(traces),
        bytes=size,
        sha256=sha256,
        recipe_hash=recipe_hash,
        trace_schema=SCHEMA,
        policies=tuple(sorted({trace.policy for trace in traces})),
        keys=tuple(trace.key for trace in traces),
        lengths=tuple((trace.prompt_ids.size, trace.completion_ids.size) for trace in traces),
        tags=dict(sorted(Counter(tag for trace in traces for tag in trace.tags).items())),
        stop_reasons=dict(sorted(Counter(trace.stop_reason for trace in traces).items())),
    )


def check_name(name: str) -> str:
    """A shard's name, refused if it could leave its directory or upset a shell."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(f"shard name {name!r}: use letters, digits, dots, dashes and underscores")
    return name


def data_name(name: str, sha256: str) -> str:
    """File name of a shard's ArrayRecord.

    >>> data_name("traces-00000", "0123456789abcdef")
    'traces-00000-0123456789ab.array_record'
    """
    return f"{name}-{sha256[:12]}{DATA_SUFFIX}"


def name_of(file_name: str) -> str | None:
    """The shard's name from the file name of its data or its manifest; None for any other file.

    >>> name_of("a-0123456789ab.array_record"), name_of("a.manifest.json"), name_of("run.json")
    ('a', 'a', None)
    """
    if file_name.endswith(SUFFIX):
        return file_name.removesuffix(SUFFIX)
    match = re.fullmatch(r"(.+)-[0-9a-f]{12}" + re.escape(DATA_SUFFIX), file_name)
    return match[1] if match else None


def _seal(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
