"""PEFT adapters and their base model become one model directory.

python -m lrm_align.merge ADAPTERS MODEL              ADAPTERS names its base model
python -m lrm_align.merge ADAPTERS MODEL --base=DIR   the base model lies elsewhere
"""

import argparse
import sys
from collections.abc import Sequence

from etils import epath

from lrm_align import processes
from lrm_align.arguments import Parser
from lrm_align.errors import UserError, command
from lrm_align.models import exports, hf, hf_files, lora, peft, peft_config


def merge(adapters: epath.PathLike, directory: epath.PathLike, base: str = "", dtype: str | None = None) -> epath.Path:
    """Writes the model W + scale·A·B, added in float32, one kernel at a time, in the base's dtype.

    Args:
      adapters: a directory with adapter_config.json; a tokenizer or chat template in it takes the place of the base's.
      directory: where to; new or empty.
      base: directory or hub id of the base model; the one that adapter_config.json names where "".
      dtype: of the written weights; the base's where None.

    Returns:
      The directory.

    Raises:
      UserError: no adapters, adapters that are not plain LoRA, a base that is not to be had or not theirs, or a
        directory that holds something.
    """
    source, target = exports.named(epath.Path(adapters), exports.ADAPTERS), epath.Path(directory)
    config = peft_config.read(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: exists and is not empty; the merged model goes to a new directory")
    if not base and config.base is None:
        raise UserError(f"{source / peft_config.CONFIG}: names no base model; give it: --base=DIR")
    try:
        origin = hf_files.resolve(base or str(config.base))
    except UserError as error:
        hint = "" if base else f"; {source} names it as its base model: --base=DIR names another place"
        raise UserError(f"{error}{hint}") from None
    model, params = hf.load(origin)
    found, _ = peft.load_adapters(source, model.config)
    own = any((source / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    return hf.save(
        target, model, lora.attach(params, found, config.scale), origin, dtype, tokenizer=source if own else None
    )


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "python -m lrm_align.merge",
        "Merges adapters in PEFT's format into their base model, and writes a model directory.",
        "python -m lrm_align.merge runs/mine/adapters merged",
        "python -m lrm_align.merge someones_adapters merged --base=Qwen/Qwen3-0.6B --dtype=bfloat16",
    )
    parser.add_argument("adapters", metavar="ADAPTERS", help="a directory with adapter_config.json")
    parser.add_argument("model", metavar="MODEL", help="a new directory")
    parser.add_argument("--base", default="", metavar="DIR", help="or hub id; by default the one that ADAPTERS names")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights; default: the base's"
    )
    return parser.parse_args(arguments)


@command
def main(argv: Sequence[str]) -> None:
    """Merges adapters into their base model."""
    processes.one("python -m lrm_align.merge")
    parsed = _arguments(argv[1:])
    print(f"merged model: {merge(parsed.adapters, parsed.model, parsed.base, parsed.dtype)}")


if __name__ == "__main__":
    main(sys.argv)
