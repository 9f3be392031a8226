"""A training run, from top to bottom."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import optax
from etils import epath

from lrm_align import processes, stopping
from lrm_align.batch import Batch
from lrm_align.errors import UserError
from lrm_align.models import Model
from lrm_align.objectives import Objective
from lrm_align.training import flops, memory, metrics, sharding
from lrm_align.training import mesh as meshes
from lrm_align.training.checkpoint import Checkpoints, identity_of
from lrm_align.training.optimizers import OptimizerSettings, make_optimizer
from lrm_align.training.scores import needs_reference
from lrm_align.training.state import State, init_state
from lrm_align.training.step import make_step
from lrm_align.training.tuning import Tuning, full
from lrm_align.training.validation import Validation

AT_THE_STEP = "the end of this step"  # what Ctrl-C waits for


class Loader(Protocol):
    """Batch t as a pure function of t, so that the step is all of its state."""

    def __len__(self) -> int:
        """Steps of the run."""

    def batch(self, step: int) -> Batch:
        """This host's rows of the batch of a step."""

    def steps(self, start: int = 0) -> Iterator[Batch]:
        """The batches from a step on."""


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Numbers of a run that are not the optimizer's.

    Attributes:
      micro_batches: pieces of a batch whose gradients are added.
      chunk: positions whose logits are in memory at a time; 0 keeps all.
      temperature: of sampling; divides the logits of policy and reference.
      checkpoint_every: steps between checkpoints; the last step is always saved. 0 saves none, not even that.
      keep: checkpoints kept.
      log_every: steps between rows of metrics.
      seed: of adapters and dropout.
    """

    micro_batches: int = 1
    chunk: int = 512
    temperature: float = 1.0
    checkpoint_every: int = 0
    keep: int = 2
    log_every: int = 10
    seed: int = 0


class Trained(NamedTuple):
    """What a run leaves in memory.

    Attributes:
      params: of the trained model, with adapters attached (without dropout) where those were trained.
      trainable: what was trained: weights, or adapters.
      rows: the metrics reported, in order, with their `step`.
    """

    params: Any
    trainable: Any
    rows: list[dict[str, float]]


def train(
    model: Model,
    params: Any,
    objective: Objective,
    loader: Loader,
    *,
    tuning: Tuning | None = None,
    optimizer: OptimizerSettings | None = None,
    settings: TrainSettings | None = None,
    mesh: jax.sharding.Mesh | None = None,
    workdir: epath.PathLike | None = None,
    identity: Mapping[str, Any] | None = None,
    log: Callable[[str], None] = print,
    validation: Validation | None = None,
) -> Trained:
    """Trains a model on a loader's batches.

    Args:
      model: static.
      params: to start from; they stay usable (all weights that train are copied).
      objective: the loss.
      loader: its length is the number of steps.
      tuning: what trains; all weights where None.
      optimizer: AdamW and its schedule; the defaults where None.
      settings: the rest of the numbers; the defaults where None.
      mesh: of `make_mesh`; one device where None.
      workdir: for checkpoints and metrics; nothing is written without one.
      identity: plain values that tell this run's weights from others of the same shape; a checkpoint with other ones is
        refused.
      log: takes progress lines.
      validation: measures the loss on held-out examples along the way.

    Raises:
      UserError: settings, batch, mesh or checkpoint that don't fit each other, or a loader that makes other rows than
        this process's share (`sharding.share`).
      NotFiniteError: a step gave NaN or infinity; the last checkpoint stays.
      CannotWriteError: a checkpoint or the metrics could not be written; the checkpoint before stays.
      AllStop: after Ctrl-C or SIGTERM, to whichever process: the state was saved, and the same call goes on from there.
    """
    # 1. Cheap checks: nothing is compiled or allocated before they pass.
    optimizer, settings = optimizer or OptimizerSettings(), settings or TrainSettings()
    num_steps = len(loader)
    if num_steps < 1:
        raise UserError("training: the loader has no batch")
    if mesh is None:
        mesh = meshes.make_mesh()
    first = loader.batch(0)
    share = sharding.share(mesh, model.rules)
    made = sharding.Share(getattr(loader, "host", share.host), getattr(loader, "hosts", share.hosts))
    if made != share:
        raise UserError(
            f"training: the loader makes part {made.host} of {made.hosts} of a batch's rows, the devices of this "
            f"process hold part {share.host} of {share.hosts}"
        )
    rows, length = first.tokens_BxT.shape[0] * share.hosts, first.tokens_BxT.shape[1]
    meshes.check_fit(mesh, model.config, rows, settings.micro_batches)
    if processes.everyone("the first batch", not first.loss_mask_BxT.any()):
        raise UserError("training: the loss mask of the first batch is all zero: there is nothing to train on")
    if tuning is None:
        tuning = full(reference=needs_reference(objective.needs, first))
    # 2. The step.
    schedule = make_optimizer(optimizer, num_steps)
    chunk = settings.chunk or None
    step_fn = make_step(
        model,
        objective,
        schedule,
        tuning,
        micro_batches=settings.micro_batches,
        chunk=chunk,
        temperature=settings.temperature,
    )
    # 3. Where everything lies, whether it fits, and the state: of the newest good checkpoint, or fresh.
    where = None if workdir is None or not settings.checkpoint_every else epath.Path(workdir) / "checkpoints"
    state, frozen, checkpoints = begin_run(
        model, params, tuning, schedule.transform, mesh, (rows, length), settings, where, identity, log
    )
    begin = int(state.step)
    if begin:
        log(f"resumed after step {begin} of {num_steps}")
    if begin >= num_steps:
        return Trained(tuning.attach(state.trainable, frozen, None), state.trainable, [])
    # 4. Compilation, once; another shape later is an error.
    started = time.perf_counter()
    first = sharding.global_batch(first, mesh, model.rules)
    compiled = sharding.compile_step(step_fn, state, frozen, first, schedule.transform, mesh, model.rules)
    log(f"compiled the step in {time.perf_counter() - started:.1f} s")
    # 5. Steps.
    cost = functools.partial(
        flops.step_flops,
        model.config,
        adapter_parameters=flops.count(state.trainable) if tuning.adapters else 0,
        reference=needs_reference(objective.needs, first),
    )
    report = metrics.Reporter(workdir, begin, num_steps, rows * length, cost, mesh, settings.log_every, log)
    with stopping.deferred(AT_THE_STEP) as asked, _closing(report, checkpoints), jax.set_mesh(mesh):
        if checkpoints:
            report.restore(checkpoints.report)
        if validation is not None:
            validation.begin(begin, state, frozen)
        stops = processes.Highest()
        for step, batch in zip(range(begin, num_steps), loader.steps(begin)):
            state, values = compiled(state, frozen, sharding.global_batch(batch, mesh, model.rules))
            # Waits for the step before this one, never for this one: the device always has work.
            report.add(step, values)
            done, stop = step + 1, stops.of(asked() or 0)
            if validation is not None:
                validation.after(done, num_steps, state, frozen)
            due = settings.checkpoint_every and (done % settings.checkpoint_every == 0 or done == num_steps)
            if checkpoints:
                checkpoints.check()
                if due or stop:
                    checkpoints.save(state, report.saved())  # raises for a step that was not finite
            if stop:
                raise processes.AllStop(stop, kept(done if checkpoints else None))
        report.settle()
        # A signal of the last step, of which the others have not heard yet.
        if stop := max(processes.each("the last step", asked() or 0)):
            raise processes.AllStop(stop, kept(num_steps if checkpoints else None))
    return Trained(tuning.attach(state.trainable, frozen, None), state.trainable, report.rows)


def begin_run(
    model: Model,
    params: Any,
    tuning: Tuning,
    transform: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    shape: tuple[int, int],
    settings: TrainSettings,
    directory: epath.Path | None,
    identity: Mapping[str, Any] | None,
    log: Callable[[str], None],
) -> tuple[State, Any, Checkpoints | None]:
    """The state to go on from, the frozen parameters on the mesh, and the checkpoints.

    Args:
      model, params, tuning, transform, mesh, settings, identity, log: of the run.
      shape: (B, T) of the global batch.
      directory: of checkpoints; None for a run without.

    Raises:
      UserError: it needs more memory than there is, or the checkpoints are of another run.
    """
    chunk = settings.chunk or None
    like, shardings, frozen_shardings = check_memory(
        model, params, tuning, transform, mesh, shape, settings.micro_batches, chunk
    )
    checkpoints, state = None, None
    if directory is not None:
        about = identity_of(model.config, like, identity)
        checkpoints = Checkpoints(directory, about, settings.keep, log)
        state = checkpoints.restore(like, shardings)
    frozen = tuning.freeze(params)
    if state is None:
        state = sharding.start(jax.random.key(settings.seed), params, tuning, transform, shardings)
    if frozen is not None:
        frozen = jax.tree.map(sharding.put, frozen, frozen_shardings)
    return state, frozen, checkpoints


def check_memory(
    model: Model,
    params: Any,
    tuning: Tuning,
    transform: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    shape: tuple[int, int],
    micro_batches: int = 1,
    chunk: int | None = 512,
) -> tuple[State, State, Any]:
    """Lays a run out on its mesh by shapes alone, and refuses one that cannot fit.

    Args:
      model: static.
      params: parameters, or their shapes.
      tuning: what trains.
      transform: the optimizer's.
      mesh: of the run.
      shape: (B, T) of the global batch.
      micro_batches: pieces of a batch.
      chunk: positions whose logits are in memory at a time.

    Returns:
      shapes of the state, its shardings, and those of the frozen parameters.

    Raises:
      UserError: it needs more memory than there is.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    like = jax.eval_shape(functools.partial(init_state, tuning=tuning, transform=transform), key, params)
    frozen = tuning.freeze(params)
    shardings = sharding.state_shardings(like, transform, mesh, model.rules)
    frozen_shardings = sharding.frozen_shardings(frozen, mesh, model.rules)
    both = (shardings, frozen_shardings)
    memory.check(memory.estimate(model, like, frozen, both, mesh, shape, micro_batches, chunk), mesh)
    return like, shardings, frozen_shardings


def kept(step: int | None) -> str:
    """What a run that was stopped after a step keeps; None where no checkpoint is written.

    >>> kept(3)
    'step 3 is saved; the same command goes on'
    """
    if step is None:
        return "no step is saved, for checkpoint_every is 0; the same command begins this stage anew"
    return f"step {step} is saved; {stopping.GOES_ON}"


@contextlib.contextmanager
def _closing(report: metrics.Reporter, checkpoints: Checkpoints | None) -> Iterator[None]:
    """What was begun is written at the end, also on the way out of a failure, and nothing else."""
    with contextlib.ExitStack() as stack:
        if checkpoints:
            stack.callback(checkpoints.close)
        stack.callback(report.close)
        yield
