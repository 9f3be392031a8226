"""Supervised fine-tuning."""

from lrm_align.objectives.objective import Objective, token_mean


def sft() -> Objective:
    """Negative log-likelihood of the trained tokens, as a mean over the tokens of the global batch.

    L = -Σ_t m_t · log p(x_t | x_<t) / Σ_t m_t. Long traces weigh more than short ones, as in the authors' code of
    ThinkSafe (arXiv 2601.23143, equation 2, says the sum); no mean of means under accumulation or over devices.

    >>> import numpy as np
    >>> from lrm_align.batch import Batch
    >>> ones = np.ones((1, 3), np.int32)
    >>> batch = Batch(ones, ones, np.arange(3)[None], loss_mask_BxT=np.float32([[0, 1, 1]]))
    >>> objective = sft()
    >>> loss, metrics = objective.loss({"logp": np.float32([[-9, -1, -3]])}, batch, objective.normalizers(batch))
    >>> float(loss), [float(x) for x in metrics["nll"]]
    (2.0, [4.0, 2.0])
    """
    return token_mean("nll", frozenset({"logp"}), lambda scores: -scores["logp"])
