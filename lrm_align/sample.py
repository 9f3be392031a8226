"""`python -m lrm_align.sample --config=FILE.py[:PRESET]`: the sampler alone.

Without more it fills the directory of a method's sample stage with trace shards, as `lrm_align.main` does, which then
goes on from there.

With `--follow` it samples for a run of `lrm_align.main` whose config says `rl.mode = "separate"`, started before or
after it on the same workdir: it reads the policies that the trainer publishes there and writes groups, until the run
needs no more. Any number of them work at once, `--sampler=0/2` and `--sampler=1/2`, on any machines; one that was
killed is started again with the same number.
"""

import sys
from collections.abc import Sequence

from etils import epath

from lrm_align import main as main_
from lrm_align import processes
from lrm_align.config import DRY_RUN, WORKDIR, Invocation, Usage
from lrm_align.errors import UserError, command
from lrm_align.recipes import following
from lrm_align.recipes import stage as stages
from lrm_align.recipes.recipe import Recipe

USAGE = Usage(
    "python -m lrm_align.sample",
    "The sampler alone: fills the sample stage of a method, or follows a run that trains at the same time.",
    {
        **WORKDIR,
        "--follow": "sample for the run on this workdir (rl.mode = 'separate') until it needs no more",
        "--sampler=I/N": "with --follow: which of how many samplers this is",
        **DRY_RUN,
    },
    (
        "python -m lrm_align.sample --config=configs/quickstart.py",
        "python -m lrm_align.sample --config=configs/rapo_tpu.py:qwen3_8b --config.rl.mode=separate \\",
        "    --config.rl.sampler_count=2 --workdir=gs://BUCKET/run --follow --sampler=0/2",
    ),
)


@processes.together
@command
def main(argv: Sequence[str]) -> None:
    """Samples, and says where the traces lie."""
    invocation = main_.invoked(argv, USAGE)
    workdir = epath.Path(invocation.options["workdir"] or main_.default_workdir(invocation.name))
    if invocation.options["follow"]:
        _follow(invocation, workdir)
        return
    if invocation.options["sampler"]:
        raise UserError(f"--sampler={invocation.options['sampler']} says nothing without --follow")
    for one, directory in main_.runs(invocation.config, workdir):
        if not invocation.options["dry_run"]:
            main_.make(directory)
            with main_.working(directory):
                _sample(main_.built(one, directory, invocation), directory)
            continue
        main_.describe(main_.built(one, directory, invocation), one, directory)
        return


def _sample(recipe: Recipe, workdir: epath.Path) -> None:
    stages.run(recipe.stages, workdir, ["sample"])
    (planned,) = [planned for planned in stages.plan(recipe.stages, workdir) if planned.stage.name == "sample"]
    print(f"traces: {planned.directory} (python -m lrm_align.traces {planned.directory})")


def _follow(invocation: Invocation, workdir: epath.Path) -> None:
    config = invocation.config
    if "rl" not in config:
        raise UserError(f"--follow: {invocation.name} does not learn from rollouts: its config has no rl")
    mine = following.share(invocation.options["sampler"], config.rl.sampler_count)
    for one, directory in main_.runs(config, workdir):
        recipe = main_.built(one, directory, invocation)
        if invocation.options["dry_run"]:
            main_.describe(recipe, one, directory)
            return
        groups = following.follow(recipe.stages, one, directory, mine)
        print(f"sampler {mine[0]}/{mine[1]} wrote {groups:,} groups for {directory}")


if __name__ == "__main__":
    main(sys.argv)
