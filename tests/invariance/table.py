"""Every objective that the invariances hold for. A new one joins with a line: the tests have all columns and scores."""

from lrm_align import objectives
from lrm_align.objectives import Objective, combine, kl_to_reference, policy_gradient, preference, schedules, sft, where
from lrm_align.objectives.kl import ESTIMATORS
from lrm_align.objectives.pair_losses import LOSSES

OBJECTIVES: dict[str, Objective] = {
    "sft": sft(),
    "kl_forward": kl_to_reference("forward"),
    "kl_reverse": kl_to_reference("reverse"),
    **{f"kl_{name}": kl_to_reference(name) for name in ESTIMATORS if name != "k1"},
    "where_batch": where("harmful", sft(), "batch"),
    "where_own": where("benign", kl_to_reference(), "own"),
    "where_grpo": where("harmful", objectives.grpo(kl_weight=0.1), "own"),
    "where_dpo": where("harmful", preference(), "own"),
    "combine": combine({"a": (schedules.linear(0.5, 1.0, steps=10), sft()), "b": (0.3, objectives.dapo())}),
    "combine_statistics": combine({"a": (0.5, policy_gradient(masks=[("top_entropy", 0.37)])), "b": (2.0, sft())}),
    # Policy gradients: the presets, then each piece that no preset has.
    "grpo": objectives.grpo(),
    "grpo_kl": objectives.grpo(kl_weight=0.1, entropy_weight=0.01),
    "grpo_kl_unbiased": objectives.grpo(kl="k3_unbiased", kl_weight=0.1, watch=["entropy"]),
    "dr_grpo": objectives.dr_grpo(max_length=8),
    "dapo": objectives.dapo(masks=["truncated"]),
    "gspo": objectives.gspo(0.05, 0.06),
    "cispo": objectives.cispo(1.1),
    "sapo": objectives.sapo(),
    "rloo": objectives.rloo(),
    "gmpo": objectives.gmpo(),
    "luspo": objectives.luspo(0.05, 0.06),
    "vespo": objectives.vespo(),
    "dual_clip": policy_gradient(surrogate=("dual_clip", 0.2, 0.28, 1.35)),
    "cispo_two_sided": policy_gradient(surrogate="cispo_two_sided"),
    "plain": policy_gradient(surrogate="plain"),
    "reinforce": policy_gradient(surrogate="reinforce", aggregate="sequence_sum"),
    "token_truncate": policy_gradient(correction="token_truncate"),
    "token_mask": policy_gradient(correction=("token_mask", 0.8, 1.2)),
    "sequence_truncate": policy_gradient(correction=("sequence_truncate", 0.0, 1.1)),
    "sequence_mask": policy_gradient(correction=("sequence_mask", 0.0, 1.1)),
    "geometric_filter": policy_gradient(correction=("geometric_filter", 0.9, 1.1)),
    "off_policy_sequence": policy_gradient(masks=[("off_policy_sequence", 0.05)]),
    "top_entropy": policy_gradient(masks=[("top_entropy", 0.37)]),
    # Preferences.
    **{f"preference_{name}": preference(name) for name in LOSSES},
    "preference_forward_kl": preference("sigmoid", divergence="forward_kl"),
    "preference_js": preference("hinge", divergence="js"),
    "preference_alpha": preference("sigmoid", divergence="alpha"),
    "preference_sft": preference("sigmoid", sft=0.2),
    "preference_desensitised": preference("sigmoid", ld_alpha=0.5),
    "preference_after_divergence": preference("ipo", train_on="after_divergence", sft=0.1),
}
