"""From a store and a plan to batches: batch t is a pure function of (seed, t), on any number of hosts."""

from collections.abc import Iterator, Mapping, Sequence

import grain
import numpy as np

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.provenance import Source
from lrm_align.traces.plan import Layout, Plan
from lrm_align.traces.store import TokenStore

_TRACES_AT_ONCE = 4096
COLUMNS = ("ref_logp_BxT", "old_logp_BxT", "advantage_BxT", "sampler_logp_BxT")


class Loader:
    """Assembles the rows of a step for one host.

    The state is the step: nothing else has to be saved. The rows of the hosts, one below the other, are the same
    global batch for every number of hosts.

    Args:
      store: the tokens.
      plan: over the store's lengths.
      host, hosts: which part of the rows to make.
      train_sources: tokens of these sources are trained on; a segment's first token never is.
      tag_names: names that `tag_BxS` shall index; empty for no tags.
      sampler_logp: whether batches carry the sampler's log-probabilities (0 where a token is not sampled).
      columns: further columns of the batch, out of `COLUMNS`, as flat arrays in the store's order: one number a token,
        finite where it is trained on. Precomputed reference log-probabilities are one of them.
      truncated: whether batches carry `truncated_BxS`: 1 for traces that ended at their length limit, or that the plan
        cuts.
      vocab_size: size of the model's vocabulary; no id may reach it.

    Raises:
      UserError: if a trace has no token to train on, has two of the tags, or an id beyond the vocabulary; if the rows
        do not divide by the hosts; if the store has no log-probabilities that are asked for.
    """

    def __init__(
        self,
        store: TokenStore,
        plan: Plan,
        *,
        host: int = 0,
        hosts: int = 1,
        train_sources: Sequence[Source] = (Source.SAMPLED,),
        tag_names: Sequence[str] = (),
        sampler_logp: bool = False,
        columns: Mapping[str, np.ndarray] | None = None,
        truncated: bool = False,
        vocab_size: int | None = None,
    ):
        if len(store) != len(plan.planned_lengths):
            raise UserError(f"loader: the plan is for {len(plan.planned_lengths)} traces, the store has {len(store)}")
        if not 0 <= host < hosts or plan.rows % hosts:
            raise UserError(f"loader: {plan.rows} rows a batch cannot be shared by {hosts} hosts (this is host {host})")
        self._columns = dict(columns or {})
        if sampler_logp and store.sampler_logp is None:
            raise UserError("loader: sampler_logp is asked for, but the store was made without log-probabilities")
        if store.sampler_logp is not None and sampler_logp:
            self._columns["sampler_logp_BxT"] = store.sampler_logp
        if sampler_logp and set(train_sources) != {Source.SAMPLED}:
            raise UserError("loader: sampler_logp exists for sampled tokens only; train_sources must be SAMPLED alone")
        self.store, self.plan, self.host, self.hosts = store, plan, host, hosts
        self.tag_names = tuple(tag_names)
        self._rows = plan.rows // hosts
        self._weight = np.zeros(256, np.float32)  # a trace's sources were checked when it was read
        self._weight[[int(source) for source in train_sources]] = 1.0
        self._tag_of_trace = _tags(store, self.tag_names)
        self._unfinished = store.unfinished | (plan.planned_lengths < store.lengths) if truncated else None
        self._check(vocab_size)

    def __len__(self) -> int:
        return self.plan.num_steps

    def batch(self, step: int) -> Batch:
        """This host's rows of the batch of a step, as NumPy arrays."""
        layout = self.plan.batch(step, self.host, self.hosts)
        source_of, target_of, begins_K = self._gather(layout)

        def place(values: np.ndarray, dtype: type) -> np.ndarray:
            flat: np.ndarray = np.zeros(self._rows * self.plan.row_length, dtype)
            flat[target_of] = values
            return flat.reshape(self._rows, self.plan.row_length)

        length_K = layout.length_K
        weight = self._weight[self.store.source[source_of]]
        weight[begins_K] = 0.0
        return Batch(
            tokens_BxT=place(self.store.tokens[source_of], np.int32),
            segment_ids_BxT=place(np.repeat(layout.segment_K, length_K), np.int32),
            positions_BxT=place(np.arange(target_of.size) - np.repeat(begins_K, length_K), np.int32),
            loss_mask_BxT=place(weight, np.float32),
            tag_BxS=self._by_segment(layout, self._tag_of_trace[layout.trace_K]) if self.tag_names else None,
            pair_BxS=self._by_segment(layout, layout.pair_K) if self.plan.paired else None,
            truncated_BxS=self._cut(layout),
            tag_names=self.tag_names,
            **{name: place(np.nan_to_num(values[source_of]), np.float32) for name, values in self._columns.items()},
        )

    def steps(self, start: int = 0, stop: int | None = None, *, threads: int = 1, prefetch: int = 4) -> Iterator[Batch]:
        """Batches from a step on, made ahead of their use by Grain's threads.

        Args:
          start: the first step.
          stop: one past the last step; the plan's end where it is None.
          threads: threads that assemble. One is enough for a million tokens a second.
          prefetch: batches ahead.
        """
        end = len(self) if stop is None else min(stop, len(self))
        if start >= end:
            return
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
        batches = iter(grain.MapDataset.range(start, end).map(self.batch).to_iter_dataset(options))
        try:
            yield from batches
        finally:
            batches.close()

    def positions(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(in the store, in the rows laid end to end) of every token of this host's rows: to read scores back."""
        return self._gather(self.plan.batch(step, self.host, self.hosts))[:2]

    def _gather(self, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each token of the rows stands in the store and in the flat rows, and where each trace begins."""
        length_K = layout.length_K
        begins_K = np.cumsum(length_K, dtype=np.int64) - length_K
        count = np.arange(int(length_K.sum()))
        source_of = count + np.repeat(self.store.offsets[layout.trace_K] - begins_K, length_K)
        target_K = layout.row_K.astype(np.int64) * self.plan.row_length + layout.offset_K
        return source_of, count + np.repeat(target_K - begins_K, length_K), begins_K

    def _by_segment(self, layout: Layout, values_K: np.ndarray) -> np.ndarray:
        array_BxS = np.full((self._rows, self.plan.max_segments), -1, np.int32)
        array_BxS[layout.row_K, layout.segment_K - 1] = values_K
        return array_BxS

    def _cut(self, layout: Layout) -> np.ndarray | None:
        """1 for unfinished traces; 0 for others and where there is none."""
        if self._unfinished is None:
            return None
        return np.maximum(self._by_segment(layout, self._unfinished[layout.trace_K]), 0).astype(np.float32)

    def _check(self, vocab_size: int | None) -> None:
        """Looks at every planned trace once, some thousand at a time."""
        for name, values in self._columns.items():
            if name not in COLUMNS:
                raise UserError(f"loader: there is no column {name!r} to fill; there are {', '.join(COLUMNS)}")
            if values.shape != self.store.tokens.shape:
                raise UserError(
                    f"loader: column {name} has shape {values.shape}, the store has {self.store.tokens.size} tokens"
                )
        traces = self.plan.traces()
        for first in range(0, traces.size, _TRACES_AT_ONCE):
            some = traces[first : first + _TRACES_AT_ONCE]
            length = self.plan.planned_lengths[some]
            begins = np.cumsum(length, dtype=np.int64) - length
            index = np.arange(int(length.sum())) + np.repeat(self.store.offsets[some] - begins, length)
            weight = self._weight[self.store.source[index]]
            weight[begins] = 0.0
            trained = np.add.reduceat(weight, begins)
            if not trained.all():
                trace = int(some[np.flatnonzero(trained == 0)[0]])
                wanted = ", ".join(Source(i).name for i in np.flatnonzero(self._weight).tolist())
                raise UserError(
                    f"loader: all-zero loss mask: {self.store.name(trace)} has no token to train on among its "
                    f"{self.plan.planned_lengths[trace]} (train_sources: {wanted or 'none'})"
                )
            for name, values in self._columns.items():
                bad = np.flatnonzero((weight > 0) & ~np.isfinite(values[index]))
                if bad.size:
                    trace = int(some[np.searchsorted(begins, bad[0], side="right") - 1])
                    raise UserError(
                        f"loader: column {name} is not finite at a trained token of {self.store.name(trace)}"
                    )
            if vocab_size is not None and (top := int(self.store.tokens[index].max())) >= vocab_size:
                raise UserError(f"loader: token id {top} is beyond the model's vocabulary of {vocab_size}")


def _tags(store: TokenStore, tag_names: tuple[str, ...]) -> np.ndarray:
    """(traces,) int32 index of each trace's tag among the names, -1 for none."""
    index: dict[tuple[str, ...], int] = {}
    for number, tags in enumerate(store.tags):
        if tags not in index:
            found = [name for name in tag_names if name in tags]
            if len(found) > 1:
                raise UserError(f"loader: {store.name(number)} has the tags {found}; of tag_names only one can count")
            index[tags] = tag_names.index(found[0]) if found else -1
    return np.array([index[tags] for tags in store.tags], np.int32)
