"""What the backward pass keeps of a layer, by name."""

from collections.abc import Callable

import jax

from lrm_align.errors import UserError

# Each name lists the tensors that stay in memory; everything else of a layer is computed again.
# `context` saved means that attention is not run twice, `out_proj` that the residual stream is rebuilt cheaply.
SAVED: dict[str, tuple[str, ...]] = {
    "full": (),
    "context": ("context",),
    "attention": ("query", "key", "value", "context", "out_proj"),
    "minimal": ("query", "key", "value", "context", "out_proj", "mlp_gate", "mlp_up", "mlp_down"),
}
OFFLOADED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # (saved on the device, moved to the host's memory)
    "offload": (("context",), ("query", "key", "value", "out_proj")),
}
POLICIES = ("none", *SAVED, *OFFLOADED)


def rematerialised(layer: Callable, policy: str) -> Callable:
    """Wraps a scanned layer in `jax.checkpoint` under a named policy; "none" keeps every intermediate.

    Raises:
      UserError: an unknown policy.
    """
    policies = jax.checkpoint_policies
    if policy == "none":
        return layer
    if policy in SAVED:
        rule = policies.save_only_these_names(*SAVED[policy])
    elif policy in OFFLOADED:
        saved, moved = OFFLOADED[policy]
        rule = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=saved,
            names_which_can_be_offloaded=moved,
            offload_src="device",
            offload_dst="pinned_host",
        )
    else:
        raise UserError(f"model.remat is {policy!r}; supported are {', '.join(POLICIES)}")
    return jax.checkpoint(layer, policy=rule, prevent_cse=False)
