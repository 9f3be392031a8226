"""The numbers of an RL run that are neither the optimizer's nor the sampler's."""

import dataclasses

from lrm_align.errors import UserError

OLD_LOGP = ("recomputed", "sampler", "none")


@dataclasses.dataclass(frozen=True)
class RLSettings:
    """One step is one policy: roll out, give credit, update `inner_epochs` · `minibatches` times.

    Attributes:
      steps: policies.
      groups: G of a step.
      samples: N of a group.
      inner_epochs: μ, passes over the groups of a step.
      minibatches: updates of a pass; each takes groups / minibatches whole groups.
      old_logp: what ratios are taken against: "recomputed" by the learner before the updates of a step; the
        "sampler"'s, which saves that pass and wants samples of the whole distribution and no correction (see
        `rl.against_sampler`); or "none", where a step is one update by the policy that sampled, and the ratio is 1.
        The gap between sampler and learner is measured on all tokens of a step, but with "sampler" on those of its
        first minibatch, with the learner's own log-probabilities.
      kl_in_reward: whether the advantages read log π - log π_ref of each sample (`advantages.kl_in_reward`).
      dynamic: whether groups without spread are dropped, and replaced as far as the source can.
      temperature: of sampling; divides the learner's logits.
      longest: tokens of a prompt with its completion at most.
      row_length, piece_rows, max_segments: of the packed rows, see `rl.batches.Rows`.
      chunk: positions whose logits are in memory at a time.
      sync_every, mixup: the reference of the KL follows the policy, see `training.synced`; 0 for a fixed one.
      checkpoint_every: steps between checkpoints; the last step is always saved. 0 saves none.
      keep: checkpoints kept.
      log_every: steps between progress lines and files of sample rollouts.
      keep_rollouts: sample rollouts in such a file.
      seed: of adapters, and of the order of prompts.

    Raises:
      UserError: a number out of its range, or options that exclude each other.
    """

    steps: int
    groups: int
    samples: int
    inner_epochs: int = 1
    minibatches: int = 1
    old_logp: str = "recomputed"
    kl_in_reward: bool = False
    dynamic: bool = False
    temperature: float = 1.0
    longest: int = 1024
    row_length: int = 1024
    piece_rows: int = 8
    max_segments: int = 8
    chunk: int = 512
    sync_every: int = 0
    mixup: float = 0.6
    checkpoint_every: int = 0
    keep: int = 2
    log_every: int = 1
    keep_rollouts: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "groups", "inner_epochs", "minibatches", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"config.rl.{name} is {getattr(self, name)}; it must be at least 1")
        if self.samples < 2:
            raise UserError(
                f"config.rl.samples is {self.samples}; a group needs at least 2 samples to be compared with each other"
            )
        if self.groups % self.minibatches:
            raise UserError(
                f"config.rl.minibatches is {self.minibatches}, which does not divide config.rl.groups, {self.groups}"
            )
        if self.old_logp not in OLD_LOGP:
            raise UserError(f"config.rl.old_logp is {self.old_logp!r}; supported are {', '.join(OLD_LOGP)}")
        if self.old_logp == "none" and self.updates > 1:
            raise UserError(
                f'config.rl.old_logp is "none" with {self.updates} updates a step; the ratio of the later ones needs '
                '"recomputed" or "sampler"'
            )
        if self.temperature <= 0:
            raise UserError(
                f"config.rl.sampling.temperature is {self.temperature}; greedy samples of a prompt are all alike, it "
                "must be above 0"
            )

    @property
    def updates(self) -> int:
        """Optimizer steps of one step."""
        return self.inner_epochs * self.minibatches
