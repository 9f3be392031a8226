"""Ratios taken against the sampler itself, with no log-probabilities of the learner's in between."""

from collections.abc import Iterable

import jax

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.objectives import Objective
from lrm_align.objectives.objective import Metrics, Normalizers, Scores
from lrm_align.rl.settings import RLSettings
from lrm_align.sampling import SamplingParams

WHOLE = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}  # the learner's distribution: every token of the vocabulary


def against_sampler(objective: Objective) -> Objective:
    """The objective with r_t = p(x_t) / p_sampler(x_t): the sampler stands in the place of the old policy.

    It saves the pass over all tokens that `old_logp = "recomputed"` costs. The ratio is the whole importance weight
    then, so that a correction p_old / p_sampler has nothing to correct: an objective with one is refused.

    Raises:
      UserError: in use, for an objective that reads the sampler's log-probabilities beside those of the old policy.
    """

    def seen(batch: Batch) -> Batch:
        return batch.replace(old_logp_BxT=batch.sampler_logp_BxT, sampler_logp_BxT=None)

    def normalizers(batch: Batch) -> Normalizers:
        try:
            return objective.normalizers(seen(batch))
        except UserError as error:
            objective.normalizers(
                seen(batch).replace(sampler_logp_BxT=batch.sampler_logp_BxT)
            )  # or something else lacks
            raise UserError(
                'config.rl.old_logp is "sampler", so that the ratio is the whole importance weight and a correction '
                f'would be 1 everywhere: {error}; old_logp = "recomputed", or no correction, would be right'
            ) from error

    def loss(scores: Scores, batch: Batch, normalizers: Normalizers) -> tuple[jax.Array, Metrics]:
        return objective.loss(scores, seen(batch), normalizers)

    statistics = objective.batch_statistics
    return Objective(
        objective.needs,
        normalizers,
        loss,
        None if statistics is None else lambda scores, batch: statistics(scores, seen(batch)),
    )


def check_sampling(settings: RLSettings, params: Iterable[SamplingParams]) -> None:
    """Refuses ratios against a sampler that does not draw from the learner's distribution.

    What top_k, top_p or min_p leave is renormalised, and another temperature is another distribution: at equal weights
    ratios would not be 1, and clipping would act on the difference.

    Args:
      settings: of the run.
      params: of all requests.

    Raises:
      UserError: naming the parameter.
    """
    if settings.old_logp != "sampler":
        return
    wanted = WHOLE | {"temperature": settings.temperature}
    for one in params:
        for name, right in wanted.items():
            if (found := getattr(one, name)) != right:
                raise UserError(
                    f'config.rl.old_logp is "sampler" and the samples are drawn with {name} = {found}: ratios would be '
                    f"taken against another distribution than the learner's; {name} = {right}, or old_logp = "
                    '"recomputed", would be right'
                )
