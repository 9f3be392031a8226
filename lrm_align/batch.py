"""The one batch format of every objective: packed rows with segment ids."""

import dataclasses
from typing import Any

import jax

Array = Any  # a NumPy array on the host, a jax.Array in the step


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of packed traces.

    Attributes:
      tokens_BxT: int32 token ids.
      segment_ids_BxT: int32, 0 for padding, 1… for the traces of a row in order.
      positions_BxT: int32 positions, restarting at 0 in every segment.
      loss_mask_BxT: float32, 1 where a token is trained on; a segment's first token is always 0.
      tag_BxS: int32 index into `tag_names` of each segment's tag (segment s stands at s - 1), -1 for none.
      advantage_BxT: a trace's advantage, broadcast over its tokens.
      old_logp_BxT: log-probabilities of the policy that the update started from.
      ref_logp_BxT: precomputed log-probabilities of the reference.
      sampler_logp_BxT: log-probabilities recorded by the sampler.
      pair_BxS: preference pairs: chosen 2k, rejected 2k + 1, -1 unpaired.
      truncated_BxS: float32, 1 where a trace's completion hit the limit of its length.
      tag_names: the names that `tag_BxS` indexes; static.
    """

    tokens_BxT: Array
    segment_ids_BxT: Array
    positions_BxT: Array
    loss_mask_BxT: Array
    tag_BxS: Array | None = None
    advantage_BxT: Array | None = None
    old_logp_BxT: Array | None = None
    ref_logp_BxT: Array | None = None
    sampler_logp_BxT: Array | None = None
    pair_BxS: Array | None = None
    truncated_BxS: Array | None = None
    tag_names: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> "Batch":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


jax.tree_util.register_dataclass(
    Batch,
    data_fields=[f.name for f in dataclasses.fields(Batch) if f.name != "tag_names"],
    meta_fields=["tag_names"],
)
