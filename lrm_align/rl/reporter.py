"""Shows the steps of a run: metrics, the table of sample rollouts, warnings, and a progress line."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from lrm_align.chat import Chat
from lrm_align.errors import UserError
from lrm_align.rl import gap, watch
from lrm_align.rl.collect import text_of
from lrm_align.rl.credit import Credit
from lrm_align.rl.group import Taken
from lrm_align.rl.settings import RLSettings
from lrm_align.rl.table import RolloutTable
from lrm_align.rl.task import Tickets
from lrm_align.training.metrics import SKIPPED, Saved, Window, Writer, skipped

MOST_UNREWARDED = 20  # steps in a row in which no sample has a reward, after which the run ends: ours
_SECONDS_BETWEEN_LINES = 5.0

Row = dict[str, float]


class Clock:
    """Where the wall time of a step goes.

    >>> clock = Clock()
    >>> clock.lap("rollout", grading=0.0)
    >>> list(clock.seconds)
    ['rollout', 'grading']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = self._begin = time.perf_counter()

    def lap(self, name: str, **within: float) -> None:
        """Gives the time since the last lap to an activity, but for what went to others within it."""
        now = time.perf_counter()
        self.seconds |= {name: now - self._since - sum(within.values()), **within}
        self._since = now

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begin


class Reporter:
    """Makes a row of each step, and tells people.

    Args:
      settings: of the run.
      tickets: which prompt a group asked.
      chat: turns samples into text.
      workdir: of the files; None writes none.
      begin: the first step that this process does.
      log: takes lines.

    Attributes:
      rows: of all steps, with their step.
    """

    def __init__(
        self,
        settings: RLSettings,
        tickets: Tickets,
        chat: Chat,
        workdir: epath.Path | None,
        begin: int,
        log: Callable[[str], None],
    ):
        self.rows: list[Row] = []
        self._settings, self._tickets, self._chat, self._log = settings, tickets, chat, log
        self._writer = None if workdir is None else Writer(workdir, begin)
        self._table = None if workdir is None else RolloutTable(workdir, begin)
        self._begin, self._since, self._line_at = begin, time.monotonic(), 0.0
        self._unrewarded = 0

    def add(self, step: int, taken: Taken, credit: Credit, window: Window, clock: Clock) -> None:
        """Reports a step.

        Raises:
          UserError: no sample had a reward in many steps in a row.
        """
        settings, seconds = self._settings, clock.total()
        row = window.row(0, lambda tokens, attended: 0.0, None)
        for name in ("slot_tokens_per_s", "trained_tokens_per_s", "tokens_per_s"):
            del row[name]
        row |= gap.tail(np.array(window.counts[f"{gap.NAME}/histogram"])) if f"{gap.NAME}/mean" in row else {}
        row |= {"groups/trained": float(len(taken.groups)), "groups/dropped": float(len(taken.dropped))}
        more: dict[str, Any] = {}
        if taken.groups:
            row |= watch.metrics(step, taken.groups, taken.dropped, credit.group) | watch.part_means(credit.rewards)
            more = {"lengths": watch.lengths(taken.groups, settings.longest)._asdict()}
        samples = (len(taken.groups) + len(taken.dropped)) * settings.samples
        row |= {"step_s": seconds, "completions_per_s": samples / seconds, **watch.time_shares(clock.seconds, seconds)}
        row |= taken.facts
        self.rows.append({"step": step, **row})
        if self._writer is not None:
            self._writer.write(step, row, window.counts, more)
        self._warn(step, taken, credit, row)
        last = step + 1 == settings.steps
        if taken.groups and self._table is not None and ((step + 1) % settings.log_every == 0 or last):
            self._table.add(self._rollouts(step, taken, credit))
        if last or time.monotonic() - self._line_at > _SECONDS_BETWEEN_LINES:
            self._log(progress(step + 1, settings.steps, self._left(step), row))
            self._line_at = time.monotonic()

    def saved(self) -> Saved:
        """Writes what was reported, and gives what a checkpoint keeps of the rest.

        Raises:
          CannotWriteError: the files could not be written.
        """
        if self._writer is not None:
            self._writer.flush()
        if self._table is not None:
            self._table.flush()
        return {"unrewarded": self._unrewarded}

    def restore(self, saved: Saved | None) -> None:
        """Goes on from a checkpoint, of whatever version."""
        self._unrewarded = (saved or {}).get("unrewarded", 0)

    def close(self) -> None:
        """Writes what was reported."""
        if self._writer is not None:
            self._writer.close()
        if self._table is not None:
            self._table.flush()

    def _rollouts(self, step: int, taken: Taken, credit: Credit) -> list[dict[str, Any]]:
        return watch.sample_rows(
            step,
            taken.groups,
            credit.rewards,
            credit.advantage_GxN,
            self._tickets.prompt,
            lambda trace: text_of(self._chat, trace),
            self._settings.keep_rollouts,
        )

    def _warn(self, step: int, taken: Taken, credit: Credit, row: Row) -> None:
        if not taken.groups:
            self._log(
                f"warning: step {step}: none of {len(taken.dropped)} groups has spread; {skipped(row)}; "
                "other prompts, a higher temperature, a finer reward or more config.rl.max_refills would help"
            )
            return
        found = watch.warnings(step, taken.groups, credit.rewards, credit.group, row.get(f"{gap.NAME}/mean"))
        if row[SKIPPED]:
            found["skipped"] = f"of {self._settings.updates}, {skipped(row)}"
        for warning in found.values():
            self._log(f"warning: step {step}: {warning}")
        self._unrewarded = self._unrewarded + 1 if "unscored" in found else 0
        if self._unrewarded == MOST_UNREWARDED:
            raise UserError(f"no sample had a reward in {MOST_UNREWARDED} steps in a row: {found['unscored']}")

    def _left(self, step: int) -> float:
        each = (time.monotonic() - self._since) / (step + 1 - self._begin)
        return each * (self._settings.steps - step - 1)


def progress(done: int, steps: int, left: float, row: Mapping[str, float]) -> str:
    """One line for people.

    >>> progress(3, 60, 95.0, {"reward/mean": 0.4, "length/mean": 40.2, "gap/mean": 1e-5, "completions_per_s": 210.0})
    'step 3/60  reward 0.400  length 40  gap 1.0e-05  210 completions/s  1m35s left'
    """
    shown = [
        f"step {done}/{steps}",
        f"reward {row['reward/mean']:.3f}" if "reward/mean" in row else "no reward",
        f"length {row['length/mean']:.0f}" if "length/mean" in row else "",
        f"gap {row['gap/mean']:.1e}" if "gap/mean" in row else "",
        f"staleness {row['staleness/mean']:.1f}" if row.get("staleness/max") else "",
        f"{row['completions_per_s']:,.0f} completions/s",
        f"{int(left) // 60}m{int(left) % 60:02}s left",
    ]
    return "  ".join(part for part in shown if part)
