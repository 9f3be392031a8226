"""Prints the traces of shards readably, and verifies the shards.

    python -m lrm_align.traces SHARD… [--tokenizer DIR] [--limit N]

SHARD is the data file or the manifest of a shard, or a directory of shards.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Sequence

from etils import epath
from rich.console import Console
from rich.text import Text

from lrm_align import limits
from lrm_align.arguments import Parser
from lrm_align.errors import UserError, command
from lrm_align.traces.shards import find_shards, read_shard, verify
from lrm_align.traces.show import STYLES, Decode, bracketed, coloured, escaped, header, ids_as_text


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "python -m lrm_align.traces",
        "Verifies shards of traces, then prints them: who wrote each stretch of tokens, tags, settings.",
        "python -m lrm_align.traces runs/quickstart/sample-*/ --tokenizer=lrm_align/lab/checkpoint --limit=5",
    )
    parser.add_argument("shards", nargs="+", metavar="SHARD", help="a data file, a manifest, or a directory of them")
    parser.add_argument("--tokenizer", metavar="DIR", help="directory with tokenizer.json; token ids are shown without")
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="print at most N traces, 0 for all; all are verified"
    )
    parsed = parser.parse_args(arguments)
    limits.count(parsed.limit, "--limit")
    return parsed


def _decoder(directory: str | None) -> Decode:
    if directory is None:
        return ids_as_text
    place = epath.Path(directory).expanduser()
    if not place.is_dir():
        raise UserError(f"--tokenizer: {directory} is not a directory")
    from lrm_align.chat.tokenizer import load_tokenizer  # seconds to import, and needed here only

    tokenizer = load_tokenizer(str(place))
    known = set(tokenizer.get_vocab().values())

    def decode(ids: Sequence[int]) -> str:
        text = ""
        for there, some in itertools.groupby(ids, known.__contains__):
            stretch = list(some)
            # An id that the tokenizer lacks would vanish from its output.
            text += str(tokenizer.decode(stretch)) if there else "".join(f"<token {token}>" for token in stretch)
        return text

    return decode


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Verifies every shard named, then prints their traces."""
    parsed = _arguments(sys.argv[1:] if arguments is None else arguments)
    decode = _decoder(parsed.tokenizer)
    shards = [shard for path in parsed.shards for shard in find_shards(path)]
    for shard in shards:
        verify(shard)
    console = Console(highlight=False, emoji=False, markup=False)
    if console.is_terminal:
        console.print(Text(" ").join(Text(source.name.lower(), style) for source, style in STYLES.items()))
    left = parsed.limit or None
    for shard in shards:
        listed = shard.manifest
        tags = ", ".join(f"{tag} {count}" for tag, count in listed.tags.items())
        about = f"{shard.path}: {listed.count} traces, verified; recipe {listed.recipe_hash[:12]}"
        console.print(Text(escaped(about + (f"; tags {tags}" if tags else "")), "bold"), soft_wrap=True)
        for number, trace in enumerate(read_shard(shard)):
            if left == 0:
                return
            left = None if left is None else left - 1
            console.print(Text(header(trace, number), "bold"), soft_wrap=True)
            console.print((coloured if console.is_terminal else bracketed)(trace, decode), soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # `… | head` closed the pipe: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
