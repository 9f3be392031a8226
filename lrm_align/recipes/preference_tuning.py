"""Training on pairs: reference log-probabilities, the train stage and the export, for every recipe with preferences."""

from collections.abc import Callable

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align import processes
from lrm_align.errors import UserError
from lrm_align.recipes import finetune
from lrm_align.recipes.pairing import PAIRS
from lrm_align.recipes.stage import Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Loader, Plan, TokenStore, find_shards, pairs
from lrm_align.training import reference as stored
from lrm_align.training import sharding
from lrm_align.training.scores import REFERENCE_LOGP, needs_reference

SHOWN = ("rewards/chosen", "rewards/rejected", "rewards/margin", "rewards/accuracy", "logp/chosen", "logp/rejected")


def check(student: Student, config: ConfigDict, count: int, precomputed: bool = False) -> Plan:
    """Everything about training on pairs that can be wrong before there are any; returns the plan of guessed lengths.

    Args:
      student: the policy, and the reference.
      config: of the run; `train` and `lora` are read.
      count: pairs at most.
      precomputed: whether the reference's log-probabilities will be read instead of computed in every step.

    Raises:
      UserError: dropout; or objective, optimizer, adapters, batch or mesh that don't fit each other or the model.
    """
    if config.lora.rank and config.lora.dropout:
        raise UserError(
            f"lora.dropout is {config.lora.dropout} in preference training; it must be 0: policy and reference are "
            "compared token by token, and noise in one of them is no preference"
        )
    if not count:
        raise UserError("there are no pairs to train on")
    lengths = np.full(2 * count, max(1, min(config.train.row_length // 2, 2)))
    guessed = finetune.plan(lengths, config, student.mesh, np.arange(2 * count).reshape(-1, 2))
    needs = finetune.tried_objective(config, ("pair_BxS",)).needs
    finetune.check_plan(student, config, guessed, needs_reference(needs) and not precomputed)
    return guessed


def reference(directory: epath.Path, paired: epath.Path, student: Student, config: ConfigDict) -> Summary:
    """Computes and stores the reference's log-probabilities of all pairs, unless they are there.

    Raises:
      UserError: those of another model, other pairs or another template are there.
    """
    store = TokenStore.from_shards(find_shards(paired / PAIRS))
    about = _identity(store, student, config)
    if not processes.shared("what is stored of the reference", lambda: stored.exists(directory, about)):
        t = config.train
        rows = finetune.multiple(config, student.mesh)
        values = stored.logp(
            student.model,
            student.params,
            store,
            student.mesh,
            row_length=t.row_length,
            rows=rows,
            chunk=t.chunk or None,
        )
        processes.shared("log-probabilities of the reference", lambda: stored.write(directory, values, about))
    return {"tokens": int(store.tokens.size), "identity": about}


def loader(paired: epath.Path, student: Student, config: ConfigDict, reference: epath.Path | None = None) -> Loader:
    """Batches of the pairs of a stage, with stored log-probabilities of the reference where a directory holds them."""
    store = TokenStore.from_shards(find_shards(paired / PAIRS))
    numbers = pairs.find(store)
    wanted = reference is not None and REFERENCE_LOGP in finetune.objective(config).needs
    columns = {"ref_logp_BxT": stored.read(reference, _identity(store, student, config))} if wanted else {}
    return Loader(
        store,
        finetune.plan(store.lengths, config, student.mesh, numbers),
        **sharding.share(student.mesh, student.model.rules)._asdict(),
        train_sources=finetune.sources(config),
        tag_names=finetune.TAGS,
        columns=columns,
        vocab_size=student.config.vocab_size,
    )


def run(
    directory: epath.Path,
    paired: epath.Path,
    student: Student,
    config: ConfigDict,
    reference: epath.Path | None = None,
    log: Callable[[str], None] = print,
) -> Summary:
    """Trains on pairs; returns what the report shows of it.

    Args:
      directory: of the stage.
      paired: directory of the stage that wrote `PAIRS`.
      student: the policy to start from, which is the reference as well: adapters off, or a frozen copy.
      config: of the run; `train`, `lora` and `seed` are read.
      reference: directory of stored log-probabilities; None computes them in every step.
      log: takes progress lines.
    """
    check(student, config, 1, reference is not None)
    summary, rows = finetune.fit(directory, loader(paired, student, config, reference), student, config, log)
    last = rows[-1]
    return {**summary, "preference": {name: last[name] for name in SHOWN if name in last}}


def export(
    directory: epath.Path,
    paired: epath.Path,
    trained_in: epath.Path,
    student: Student,
    config: ConfigDict,
    reference: epath.Path | None = None,
) -> Summary:
    """Writes the merged model, and the adapters where there are any, as `finetune.export` does."""
    return finetune.write_out(directory, loader(paired, student, config, reference), trained_in, student, config)


def check_stored(directory: epath.PathLike, student: Student, config: ConfigDict) -> None:
    """Refuses stored log-probabilities of another model or template before there are pairs to compare as well.

    Raises:
      UserError: naming what changed since they were computed.
    """
    stored.exists(directory, stored.model_identity(student.identity, *_given(student, config)))


def _identity(store: TokenStore, student: Student, config: ConfigDict) -> dict[str, str]:
    return stored.identity(student.identity, store, *_given(student, config))


def _given(student: Student, config: ConfigDict) -> tuple[object, dict[str, object]]:
    """The template with its arguments, and the dtypes."""
    template = [student.chat.template.source, {name: repr(v) for name, v in student.chat.template_kwargs.items()}]
    return template, {name: config.model[name] for name in ("dtype", "param_dtype")}
