"""Policy gradients by the names that people use: the objective's part; the advantages are `lrm_align.advantages`.

Each takes the further arguments of `policy_gradient` (kl, kl_weight, correction, masks, entropy_weight, watch). All
leave the KL out by default. Where libraries mean different things by one name, the docstring says which is meant.
verl's PPO-style losses always have the dual clip at 3; here that is `surrogate=("dual_clip", low, high, 3.0)`.
"""

from typing import Any

from lrm_align.objectives.objective import Objective
from lrm_align.objectives.policy_gradient import policy_gradient


def grpo(epsilon_low: float = 0.2, epsilon_high: float = 0.2, **options: Any) -> Objective:
    """Token ratios, clip, the mean over traces of means over tokens (DeepSeekMath, arXiv 2402.03300, equation 3).

    Equals TRL `loss_type="grpo"` with its defaults (beta 0). TRL's own default loss_type is "dapo". verl calls the
    advantage GRPO; its default loss is the token mean with dual clip, this one is `seq-mean-token-mean`. Tunix's
    default is this aggregate with a KL of 0.04 estimated by k1, which as a loss regularises nothing; the paper's is
    kl="k3", kl_weight=0.04. OpenRLHF: `token_level_loss=False`.

    >>> sorted(grpo(kl_weight=0.04).needs)
    ['logp', 'reference.logp']
    """
    return policy_gradient("token", ("clip", epsilon_low, epsilon_high), "sequence_mean", **options)


def dr_grpo(max_length: float, epsilon_low: float = 0.2, epsilon_high: float = 0.2, **options: Any) -> Objective:
    """As `grpo`, summed and divided by traces · max_length: no bias to short answers (arXiv 2503.20783).

    Equals TRL `loss_type="dr_grpo"` with max_length = `max_completion_length`; verl `seq-mean-token-sum-norm` with
    `loss_scale_factor`. Tunix's `sequence-mean-token-scale` divides by the padded width, as verl without the factor.
    Goes with advantages that are not divided by the standard deviation.
    """
    return policy_gradient("token", ("clip", epsilon_low, epsilon_high), ("constant", max_length), **options)


def dapo(epsilon_low: float = 0.2, epsilon_high: float = 0.28, **options: Any) -> Objective:
    """Clip-higher and the mean over all tokens of the global batch (DAPO, arXiv 2503.14476, equation 8).

    Equals TRL `loss_type="dapo"` with `epsilon_high=0.28`; TRL's default for that is 0.2. verl: `token-mean` with
    `clip_ratio_high=0.28`, and dual clip. Tunix: its DAPO default. TRL counts the tokens once per batch of
    generations, so that with several steps a batch its loss is smaller by their number. The paper's other parts:
    dynamic sampling is the keep rule of the advantages, the filter of overlong traces is masks=["truncated"].
    """
    return policy_gradient("token", ("clip", epsilon_low, epsilon_high), "token_mean", **options)


def gspo(epsilon_low: float = 3e-4, epsilon_high: float = 4e-4, **options: Any) -> Objective:
    """The ratio of whole traces, a geometric mean over tokens, clipped (GSPO, arXiv 2507.18071, equation 5).

    Equals TRL `importance_sampling_level="sequence"` with `loss_type="grpo"` and these bounds (TRL's default bounds are
    0.2; with its default loss_type traces weigh by length). verl `gspo` and Tunix `gspo-token` have the same loss and
    gradient. OpenRLHF's `gspo` with a sampler correction puts the sampler in the place of the old policy instead.
    """
    return policy_gradient("sequence", ("clip", epsilon_low, epsilon_high), "sequence_mean", **options)


def cispo(cap: float = 5.0, **options: Any) -> Objective:
    """A detached, capped ratio times the gradient of every token (MiniMax-M1, arXiv 2506.13585, equation 4).

    Equals TRL `loss_type="cispo"` with `epsilon_high=cap`, an absolute cap; TRL's default of 0.2 is that of the clip
    range and no sensible cap. verl's `cispo` has clip bounds around 1: surrogate=("cispo_two_sided", low, high).
    """
    return policy_gradient("token", ("cispo", cap), "token_mean", **options)


def sapo(positive: float = 1.0, negative: float = 1.05, **options: Any) -> Objective:
    """A soft gate instead of a clip (SAPO, arXiv 2511.20347). Equals TRL `loss_type="sapo"` and verl `sapo`."""
    return policy_gradient("token", ("sapo", positive, negative), "sequence_mean", **options)


def rloo(epsilon_low: float = 0.2, epsilon_high: float = 0.2, **options: Any) -> Objective:
    """The true ratio of whole traces, clipped; the mean over traces (RLOO, arXiv 2402.14740, for leave-one-out).

    Equals the loss of TRL's `RLOOTrainer`, which has its KL (k1, weight 0.05) in the reward: give it to the advantages.
    In verl and OpenRLHF "rloo" names the advantage alone, with their default loss: `dapo(0.2, 0.2)` without dual clip.
    """
    return policy_gradient("trajectory", ("clip", epsilon_low, epsilon_high), "sequence_mean", **options)


def gmpo(low: float = 0.4, high: float = 0.4, **options: Any) -> Objective:
    """The geometric mean of clipped token ratios (GMPO, arXiv 2507.20673). Equals verl `geo_mean`."""
    return policy_gradient("token", ("gmpo", low, high), "sequence_mean", **options)


def luspo(epsilon_low: float = 2e-3, epsilon_high: float = 2.5e-3, **options: Any) -> Objective:
    """`gspo` with traces weighed by their length (LUSPO, arXiv 2602.05261). Equals TRL `luspo` with the sequence ratio.

    TRL's default ratio is the token's; its early versions averaged over padding as soon as a KL term was added.
    """
    return policy_gradient("sequence", ("clip", epsilon_low, epsilon_high), "sequence_sum", **options)


def vespo(**options: Any) -> Objective:
    """Detached gamma weights of whole traces, the token mean (VESPO, arXiv 2602.10693). Equals TRL `vespo`."""
    return policy_gradient("token", "vespo", "token_mean", **options)
