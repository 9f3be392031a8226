"""`python -m lrm_align.sample --config=FILE.py[:PRESET]`: the sampler alone, of a method's prompts into trace shards.

It fills the same directory as the sample stage of `lrm_align.main`, which then goes on from there.
"""

import sys
from collections.abc import Sequence

from etils import epath

from lrm_align import main as main_
from lrm_align.config import parse, resolve
from lrm_align.errors import UserError, command
from lrm_align.recipes import stage as stages

USAGE = "python -m lrm_align.sample --config=configs/quickstart.py [--workdir=DIR] [--dry_run]"


@command
def main(argv: Sequence[str]) -> None:
    """Samples, and says where the traces lie."""
    invocation = parse(argv, USAGE)
    if invocation.arguments:
        raise UserError(f"unexpected argument {invocation.arguments[0]!r}; usage: {USAGE}")
    workdir = epath.Path(invocation.options["workdir"] or main_.default_workdir(invocation.name))
    recipe = resolve(invocation.config.recipe)(invocation.config, workdir)
    if invocation.options["dry_run"]:
        main_.describe(recipe, invocation.config, workdir)
        return
    main_.make(workdir)
    stages.run(recipe.stages, workdir, ["sample"])
    (planned,) = [planned for planned in stages.plan(recipe.stages, workdir) if planned.stage.name == "sample"]
    print(f"traces: {planned.directory} (python -m lrm_align.traces {planned.directory})")


if __name__ == "__main__":
    main(sys.argv)
