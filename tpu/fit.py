"""Does it fit? Compiles a config's real train step for a TPU topology, on a host without a TPU.

    python tpu/fit.py --config=configs/thinksafe_tpu.py:qwen3_8b --topology=v6e:4x4 [--json]

Prints a chip's memory by kind, the compile time, and the model FLOPs of a step. Exit status 0: it fits; 1: it needs
more memory than a chip has; 2: a mistake in the command. With --json, one object on one line.

The compiler is asked for little effort, which takes a third of the time; a program that leaves less than a fifth of
the memory free is compiled again as a TPU would, since overlapping more takes more memory (7 % more for Qwen3-8B).
`--effort=full` compiles as a TPU would from the start. `--objective=lrm_align.objectives:grpo` puts another loss, with
its defaults, in the place of the config's.
"""

import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# No chip is used, here or by another process: neither ask a metadata server for one, nor lock libtpu for one's own.
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
# libtpu and transformers would write warnings about the chip and the library that are not needed.
os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v6e-16", "TPU_STDERR_LOG_LEVEL": "3"}
os.environ |= {"TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}

import jax
import jax.numpy as jnp
import shapes
from etils import epath
from huggingface_hub import hf_hub_download
from jax.experimental import topologies
from ml_collections import ConfigDict

from lrm_align.batch import Batch
from lrm_align.config import Usage, parse, plain
from lrm_align.errors import UserError, command
from lrm_align.models import Model, ModelConfig, hf_files
from lrm_align.recipes import finetune
from lrm_align.training import flops, make_mesh, make_step, sharding
from lrm_align.training import mesh as meshes
from lrm_align.training.optimizers import make_optimizer
from lrm_align.training.scores import needs_reference
from lrm_align.training.state import init_state
from lrm_align.training.tuning import full

GIB = 2.0**30
EFFORTS = {"little": "O1", "full": "UNKNOWN"}  # XLA's levels of optimisation; unknown is what a run asks for
CLOSE = 0.8  # of a chip's memory: nearer to its end only the program of full effort decides
STEPS = 1000  # of the schedule; no size depends on it


class Chip(NamedTuple):
    """A generation of TPU.

    Attributes:
      hbm_gib: memory of one JAX device that a program may use, as the compiler states it when a program needs more.
      dimensions: of its topologies.
      example: a topology.
      options: further arguments of the topology's description.
    """

    hbm_gib: float
    dimensions: int
    example: str
    options: Mapping[str, Any] = {}


CHIPS = {
    "v4": Chip(30.75, 3, "v4:2x2x4", {"chip_config_name": "megacore"}),
    "v5e": Chip(15.75, 2, "v5e:4x4"),
    "v5p": Chip(95.74, 3, "v5p:2x2x1"),
    "v6e": Chip(31.25, 2, "v6e:4x4"),
    "tpu7x": Chip(94.75, 3, "tpu7x:2x2x1"),  # a chip is two devices
}
TOPOLOGIES = f"one of {', '.join(chip.example for chip in CHIPS.values())}, …"
USAGE = Usage(
    "python tpu/fit.py",
    "Compiles the real training step for a TPU on a CPU host, and says whether it fits; exit status 1 if not.",
    {
        "--topology=CHIP:SHAPE": TOPOLOGIES,
        "--effort=NAME": f"of the compiler: {' or '.join(EFFORTS)}; little if left out",
        "--objective=MODULE:NAME": "another loss than the config's",
        "--json": "print the result as one line of JSON",
    },
    ("python tpu/fit.py --config=configs/thinksafe_tpu.py:qwen3_8b --topology=v6e:4x4",),
)


class Fit(NamedTuple):
    """What a compilation says.

    Attributes:
      fits: whether a device's memory suffices.
      peak_hbm_gib: most memory that is alive on a device at any time; None where the compiler did not say.
      hbm_gib: what a device has for a program.
      compile_s: seconds to trace, lower and compile, until failure where it does not fit.
      model_flops: of one step on all devices, by formula, with every row one trace.
      memory_gib: by kind: arguments, outputs, of these in the donated arguments' place, temporaries, code, all of
        these, what of it is alive at the peak, and the host's.
      effort: of the compiler, a name out of `EFFORTS`.
    """

    fits: bool
    peak_hbm_gib: float | None
    hbm_gib: float
    compile_s: float
    model_flops: float
    memory_gib: dict[str, float]
    effort: str = "little"


def topology_devices(name: str) -> tuple[Chip, Sequence[jax.Device]]:
    """The devices, described but not there, of a topology such as v6e:4x4.

    Raises:
      UserError: no libtpu, an unknown generation, or a form that it is not built in.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    chip = CHIPS.get(match[1]) if match else None
    if match is None or chip is None or match[2].count("x") != chip.dimensions - 1:
        examples = ", ".join(chip.example for chip in CHIPS.values())
        raise UserError(f"--topology is {name!r}; it is a generation and its chips in each dimension, as in {examples}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("compiling for a TPU needs libtpu, which is not installed: pip install .[tpu]")
    options = dict(chip.options)
    if set(match[2].split("x")) == {"1"}:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        return chip, topologies.get_topology_desc(name, "tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology={name}: libtpu refuses it: {error}") from None


def model_fields(path: str) -> Mapping[str, Any]:
    """`config.json` of a model: of its directory, of the shipped shapes, or else of the hub; never its weights.

    Raises:
      UserError: there is none.
    """
    if (epath.Path(path) / "config.json").is_file():
        return hf_files.read_json(epath.Path(path) / "config.json")
    if path in shapes.CONFIGS:
        return shapes.CONFIGS[path]
    try:
        return hf_files.read_json(epath.Path(hf_hub_download(path, "config.json")))
    except (OSError, ValueError) as error:
        raise UserError(
            f"config.model.path {path}: no directory with a config.json, and not on the hub: {error}"
        ) from None


def fit(config: ConfigDict, topology: str, effort: str = "little") -> Fit:
    """Compiles the train step of a config for a topology, from shapes alone.

    Args:
      config: of an experiment.
      topology: as in `CHIPS`.
      effort: of the compiler, a name out of `EFFORTS`.

    Raises:
      UserError: topology, config, model and mesh don't fit each other.
    """
    chip, devices = topology_devices(topology)
    fields = model_fields(config.model.path)
    shape = ModelConfig.from_hf(fields, f"{config.model.path}/config.json")
    settings = config.model
    model = Model(shape, dtype=settings.dtype, remat=settings.remat, attention=settings.attention)
    mesh = make_mesh(plain(config.mesh), devices)
    # As many rows as a step of whole rows has: no packing of real traces needs more.
    plan = finetune.plan([config.train.row_length] * STEPS, config, mesh)
    meshes.check_fit(mesh, shape, plan.rows, config.train.micro_batches)
    # RL refuses dropout, so a config that has some is not RL.
    batch = _batch(plan.rows, plan.row_length, plan.max_segments, sampled=not config.lora.dropout)
    objective = finetune.objective(config)
    reference = needs_reference(objective.needs, batch)
    tuning = finetune.tuned(config) or full(reference=reference)
    optimizer = make_optimizer(finetune.optimizer(config), STEPS)
    step = make_step(
        model,
        objective,
        optimizer,
        tuning,
        micro_batches=config.train.micro_batches,
        chunk=config.train.chunk or None,
    )
    dtype = settings.param_dtype or fields.get("torch_dtype") or fields.get("dtype") or "bfloat16"
    params = abstract_params(shape, dtype)
    key = jax.eval_shape(jax.random.key, 0)
    state = jax.eval_shape(lambda key, params: init_state(key, params, tuning, optimizer.transform), key, params)
    tokens = plan.rows * plan.row_length
    needed = flops.step_flops(
        shape,
        tokens,
        attended=tokens * (plan.row_length + 1) / 2,
        adapter_parameters=flops.count(state.trainable) if tuning.adapters else 0,
        reference=reference,
    )
    started = time.perf_counter()
    frozen = tuning.freeze(params)
    jax.config.update("jax_optimization_level", EFFORTS[effort])
    try:
        compiled = sharding.compile_step(step, state, frozen, batch, optimizer.transform, mesh, model.rules)
    except jax.errors.JaxRuntimeError as error:
        peak, hbm = exhausted(str(error))
        return Fit(False, peak, hbm or chip.hbm_gib, time.perf_counter() - started, needed, {}, effort)
    finally:
        jax.config.update("jax_optimization_level", EFFORTS["full"])
    seconds = time.perf_counter() - started
    kinds, peak = _memory(compiled.memory_analysis())
    if effort != "full" and kinds["allocated in all"] > CLOSE * chip.hbm_gib:
        return fit(config, topology, "full")
    return Fit(kinds["allocated in all"] <= chip.hbm_gib, peak, chip.hbm_gib, seconds, needed, kinds, effort)


def abstract_params(shape: ModelConfig, dtype: str) -> Any:
    """The shapes of a model's parameters, stored in a dtype."""
    params = jax.eval_shape(Model(shape).init, jax.eval_shape(jax.random.key, 0))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)


def exhausted(message: str) -> tuple[float | None, float | None]:
    """What a program needs and what a device has, in GiB, out of the compiler's refusal.

    >>> exhausted("RESOURCE_EXHAUSTED: ... Used 37.80G of 31.25G hbm. Exceeded hbm capacity by 6.55G.")
    (37.8, 31.25)
    >>> exhausted("RESOURCE_EXHAUSTED: memory required for HLO temporaries (600.00G) exceeds available HBM (31.25G).")
    (600.0, 31.25)

    Raises:
      RuntimeError: another fault of the compiler.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        raise RuntimeError(message)
    size = r"([\d.]+)([KMGT])i?B?"
    found = re.search(rf"Used {size} of {size} hbm", message) or re.search(
        rf"\({size}\) exceeds available HBM \({size}\)", message
    )
    if found is None:
        return None, None
    scale = {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}
    return float(found[1]) * scale[found[2]], float(found[3]) * scale[found[4]]


def report(result: Fit, title: str) -> str:
    """A verdict for people.

    >>> print(report(Fit(False, 37.8, 31.25, 6.0, 3.1e15, {}), "x on v6e:4x4"))
    x on v6e:4x4
      refused after 6.0 s; 3.10e+15 model FLOPs a step
      does not fit: needs 37.80 GiB a device, has 31.25 GiB
    """
    done = "compiled in" if result.memory_gib else "refused after"
    lines = [title]
    lines += [f"  {kind:22}{size:8.2f} GiB" for kind, size in result.memory_gib.items()]
    lines.append(f"  {done} {result.compile_s:.1f} s; {result.model_flops:.2e} model FLOPs a step")
    needs = "more" if result.peak_hbm_gib is None else f"{result.peak_hbm_gib:.2f} GiB"
    verdict = "fits" if result.fits else "does not fit"
    return "\n".join([*lines, f"  {verdict}: needs {needs} a device, has {result.hbm_gib:.2f} GiB"])


def _batch(rows: int, length: int, segments: int, sampled: bool) -> Batch:
    """Shapes of the loader's batches, without the reference's scores; `sampled` adds the columns of RL."""
    ids, value = jax.ShapeDtypeStruct((rows, length), jnp.int32), jax.ShapeDtypeStruct((rows, length), jnp.float32)
    of_traces = jax.ShapeDtypeStruct((rows, segments), jnp.int32)
    batch = Batch(ids, ids, ids, value, tag_BxS=of_traces, tag_names=finetune.TAGS, pair_BxS=of_traces)
    if sampled:
        batch = batch.replace(advantage_BxT=value, old_logp_BxT=value, sampler_logp_BxT=value)
    return batch


def _memory(analysis: Any) -> tuple[dict[str, float], float]:
    """Sizes by kind and the peak, of one device, in GiB."""
    kinds = {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "outputs, donated": analysis.alias_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
        "code": analysis.generated_code_size_in_bytes,
    }
    # Temporaries lie in one block, with the gaps that their different lifetimes leave: more than ever is alive at once.
    kinds["allocated in all"] = sum(kinds.values()) - 2 * kinds["outputs, donated"]
    kinds["alive at the peak"] = analysis.peak_memory_in_bytes
    kinds["on the host"] = analysis.host_argument_size_in_bytes + analysis.host_temp_size_in_bytes
    return {kind: size / GIB for kind, size in kinds.items()}, analysis.peak_memory_in_bytes / GIB


@command
def main(argv: Sequence[str]) -> int:
    """Prints the verdict; returns the exit status."""
    invocation = parse(argv, USAGE)
    topology, effort = invocation.options["topology"], invocation.options["effort"] or "little"
    if effort not in EFFORTS:
        raise UserError(f"--effort is {effort!r}; it is {' or '.join(EFFORTS)}")
    if not topology:
        raise UserError(f"--topology is missing: {TOPOLOGIES}")
    config = ConfigDict(invocation.config)
    if invocation.options["objective"]:
        config.train.objective, config.train.objective_args = invocation.options["objective"], ConfigDict()
    result = fit(config, topology, effort)
    if invocation.options["json"]:
        print(json.dumps({"config": invocation.name, "topology": topology} | result._asdict()))
    else:
        print(report(result, f"{invocation.name} on {topology}"))
    return 0 if result.fits else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
