"""One pure training step for every objective."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.models import Model
from lrm_align.objectives import STEP, Objective
from lrm_align.training.optimizers import Optimizer, any_nonzero, updates_done
from lrm_align.training.scores import REFERENCE_LOGP, batch_scores, check_needs
from lrm_align.training.state import State
from lrm_align.training.tuning import DROPOUT_STREAM, Tuning

Metrics = dict[str, Any]
Step = Callable[[State, Any, Batch], tuple[State, Metrics]]
Reference = Callable[[State, Any], Any]


def make_step(
    model: Model,
    objective: Objective,
    optimizer: Optimizer,
    tuning: Tuning,
    *,
    micro_batches: int = 1,
    chunk: int | None = 512,
    temperature: float = 1.0,
    skip_empty: bool = False,
    reference: Reference | None = None,
) -> Step:
    """(state, frozen, batch) -> (state, metrics), pure; `training.sharding.compile_step` makes it fast.

    The normalizers come from the masks of the whole batch before the forward pass, so that the loss of the batch in
    k micro-batches is that of the batch in one. Frozen parameters are an argument: never donated, never copied.

    A batch whose gradient is exactly zero (no token of it is trained, no pair counts, every advantage is 0) has nothing
    to say: weights and the whole optimizer state, its counts and so the schedule of the learning rate included, stay
    bitwise as they are (see `Optimizer`). The state's own step goes on: it is the place in the data.

    Args:
      model: static.
      objective: the loss.
      optimizer: gradient transformation and schedule.
      tuning: what trains.
      micro_batches: k; the rows are cut into k pieces whose gradients are added. Row i goes to piece i mod k, so that
        a piece's rows lie on all devices as the batch's did.
      chunk: positions whose logits are in memory at a time.
      temperature: of sampling; divides the logits.
      skip_empty: pieces without a trace cost nothing: for batches whose number of filled rows is not known beforehand.
      reference: (state, frozen) -> parameters of the reference; the tuning's where None.

    Returns:
      The step. Its metrics: `loss`, `grad_norm` (before clipping), `param_norm` and `update_norm` of what trains, `lr`,
      `skipped` (1 where nothing was learned), `tokens` (real ones), `trained_tokens` (under the loss mask), `attended`
      (keys that a token sees, summed over the real tokens), and `objective`: {name: (sum, weight)}.

    Raises:
      UserError: a score that nobody computes, or dropout where policy and reference are compared token by token.
    """
    check_needs(objective.needs)
    if tuning.dropout and REFERENCE_LOGP in objective.needs:
        raise UserError(_noisy(tuning, "compares policy and reference (DPO, RL with a KL estimate)"))

    def step(state: State, frozen: Any, batch: Batch) -> tuple[State, Metrics]:
        if tuning.dropout and batch.advantage_BxT is not None:
            raise UserError(_noisy(tuning, "compares the policy with the one that sampled (RL)"))
        step_key = jax.random.fold_in(jax.random.fold_in(state.key, DROPOUT_STREAM), state.step)
        pieces = _split(batch, micro_batches)
        compared = reference(state, frozen) if reference is not None else tuning.reference(frozen)

        def scores(trainable: Any, piece: Batch, index: jax.Array) -> dict[str, jax.Array]:
            key = jax.random.fold_in(step_key, index) if tuning.dropout else None
            params = tuning.attach(trainable, frozen, key)
            return batch_scores(model, params, compared, piece, objective.needs, chunk, temperature)

        normalizers = objective.normalizers(batch) | {STEP: state.step}
        if objective.batch_statistics is not None:
            _, all_scores = _over_pieces(
                lambda piece, index: (None, scores(state.trainable, piece, index)), pieces, skip_empty
            )
            normalizers |= jax.lax.stop_gradient(objective.batch_statistics(_joined(all_scores), batch))

        def loss(trainable: Any, piece: Batch, index: jax.Array) -> tuple[jax.Array, Any]:
            return objective.loss(scores(trainable, piece, index), piece, normalizers)

        def gradient(piece: Batch, index: jax.Array) -> tuple[Any, Any]:
            aux, gradients = jax.value_and_grad(loss, has_aux=True)(state.trainable, piece, index)
            return gradients, aux

        gradients, aux = _over_pieces(gradient, pieces, skip_empty)
        total, metrics = jax.tree.map(lambda a: jnp.sum(a, axis=0), aux)
        updates, optimizer_state = optimizer.transform.update(gradients, state.optimizer, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        real_BxT = batch.segment_ids_BxT > 0
        report = {
            "loss": total,
            "grad_norm": optax.tree.norm(gradients),
            "param_norm": optax.tree.norm(trainable),
            "update_norm": optax.tree.norm(updates),
            "lr": jnp.float32(optimizer.learning_rate(updates_done(state.optimizer, state.step))),
            "skipped": 1.0 - any_nonzero(gradients),
            "tokens": jnp.sum(real_BxT, dtype=jnp.float32),
            "trained_tokens": jnp.sum(batch.loss_mask_BxT, dtype=jnp.float32),
            "attended": jnp.sum(jnp.where(real_BxT, batch.positions_BxT + 1, 0), dtype=jnp.float32),
            "objective": metrics,
        }
        return State(state.step + 1, trainable, optimizer_state, state.key), report

    return step


def make_scorer(
    model: Model,
    tuning: Tuning,
    needs: frozenset[str],
    *,
    micro_batches: int = 1,
    chunk: int | None = 512,
    temperature: float = 1.0,
    reference: Reference | None = None,
) -> Callable[[State, Any, Batch], dict[str, jax.Array]]:
    """(state, frozen, batch) -> {name: BxT}, pure: the scores of a whole batch, without gradient or dropout.

    Args:
      model, tuning, micro_batches, chunk, temperature, reference: as of `make_step`; empty pieces are skipped.
      needs: names of scores.
    """

    def scorer(state: State, frozen: Any, batch: Batch) -> dict[str, jax.Array]:
        params = tuning.attach(state.trainable, frozen, None)
        compared = reference(state, frozen) if reference is not None else tuning.reference(frozen)

        def scores(piece: Batch, index: jax.Array) -> tuple[None, dict[str, jax.Array]]:
            return None, batch_scores(model, params, compared, piece, needs, chunk, temperature)

        return _joined(_over_pieces(scores, _split(batch, micro_batches), True)[1])

    return scorer


def _noisy(tuning: Tuning, what: str) -> str:
    return f"lora.dropout is {tuning.dropout} under an objective that {what} token by token; it must be 0"


def _split(batch: Batch, pieces: int) -> Batch:
    """Every array from B×… to k×(B/k)×…, row i in piece i mod k."""
    return jax.tree.map(lambda a: jnp.moveaxis(a.reshape(a.shape[0] // pieces, pieces, *a.shape[1:]), 1, 0), batch)


def _joined(scores: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The inverse of `_split`."""
    return {name: jnp.moveaxis(a, 0, 1).reshape(-1, a.shape[-1]) for name, a in scores.items()}


def _over_pieces(
    f: Callable[[Batch, jax.Array], tuple[Any, Any]], pieces: Batch, skip_empty: bool = False
) -> tuple[Any, Any]:
    """Runs f(piece, index) -> (summed, stacked) piece by piece; adds the first in float32, stacks the second.

    An empty piece gives zeros, as f would; skipped, it gives them for nothing.
    """
    count = pieces.tokens_BxT.shape[0]
    first = jax.tree.map(lambda a: a[0], pieces)
    if count == 1:
        summed, stacked = f(first, jnp.int32(0))
        return summed, jax.tree.map(lambda a: a[None], stacked)
    shapes = jax.eval_shape(f, first, jnp.int32(0))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.promote_types(a.dtype, jnp.float32)), shapes[0])

    def nothing(piece: Batch, index: jax.Array) -> tuple[Any, Any]:
        del piece, index
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    def body(total: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, Any]:
        if skip_empty:
            summed, stacked = jax.lax.cond(jnp.any(inputs[0].segment_ids_BxT > 0), f, nothing, *inputs)
        else:
            summed, stacked = f(*inputs)
        return jax.tree.map(jnp.add, total, summed), stacked

    return jax.lax.scan(body, zeros, (pieces, jnp.arange(count)))
