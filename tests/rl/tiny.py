"""A tiny random model with the lab's tokenizer, and a task whose reward any sample has: for tests of RL."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from lrm_align import advantages, lab, objectives
from lrm_align.chat import Chat, Prompt
from lrm_align.models import Model, ModelConfig
from lrm_align.objectives import Objective
from lrm_align.rewards import weighted_sum
from lrm_align.rl.collect import Collector
from lrm_align.rl.colocated import Colocated
from lrm_align.rl.group import Source
from lrm_align.rl.learner import Learner
from lrm_align.rl.loop import Learned, reinforce
from lrm_align.rl.settings import RLSettings
from lrm_align.rl.task import Rollout, Task, Tickets
from lrm_align.sampling import EngineShape, Request, SamplingParams
from lrm_align.scoring import Score
from lrm_align.training import OptimizerSettings, Tuning, lora, make_mesh

CONFIG = ModelConfig(
    "qwen3", 896, 16, 32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, qk_norm=True, tied=False
)
SHAPE = EngineShape(slots=8, max_length=48, steps_per_call=16)
SETTINGS = RLSettings(
    steps=3, groups=2, samples=4, longest=48, row_length=96, piece_rows=2, max_segments=4, chunk=0, checkpoint_every=1
)
OPTIMIZER = OptimizerSettings(learning_rate=0.02, schedule="constant", warmup=0.0)
LORA = lora(2, 4.0)


@functools.cache
def chat() -> Chat:
    """The lab's template and tokenizer."""
    return Chat.from_pretrained(str(lab.CHECKPOINT))


@functools.cache
def model() -> tuple[Model, Any]:
    """A model that says anything."""
    model = Model(CONFIG)
    return model, model.init(jax.random.key(0))


class Low:
    """The share of sampled tokens in the lower half of the vocabulary."""

    name, version = "low", "1"

    def grade(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """A score for each."""
        return [Score(float(np.mean(rollout.trace.completion_ids < CONFIG.vocab_size // 2))) for rollout in rollouts]


def task(grader: Any = None, samples: int = SETTINGS.samples, prompts: int = 6, **options: Any) -> Task:
    """Short prompts of both labels, graded by one grader."""
    labels = ("harmful", "benign")
    asked = [Prompt(f"p{i}", "make a lamp " * (i % 3 + 1), labels[i % 2]) for i in range(prompts)]

    def request(prompt: Prompt, id: str) -> Request:
        params = SamplingParams(max_new_tokens=8)
        return Request(id, chat().prompt_ids(prompt.text), samples, params, tags=(prompt.label,))

    return Task(asked, request, {"low": grader or Low()}, weighted_sum({"low": 1.0}), ("low",), **options)


def run(
    directory: epath.PathLike | None,
    settings: RLSettings = SETTINGS,
    *,
    of: Task | None = None,
    objective: Objective | None = None,
    advantage: Any = None,
    tuning: Tuning = LORA,
    max_refills: int = 0,
    mesh: jax.sharding.Mesh | None = None,
    source: Callable[[Collector], Source] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Learned:
    """A run, colocated unless the groups come from another source."""
    of, mesh = of or task(), mesh or make_mesh({})
    tickets = Tickets(of.prompts, settings.seed)
    model_, params = model()
    collector = Collector(model_, chat(), of, tickets, SHAPE, seed=settings.seed, mesh=mesh, log=log)
    where = None if directory is None else epath.Path(directory)
    learner = Learner(
        model_, params, objective or objectives.grpo(), tuning, OPTIMIZER, settings, mesh,
        tag_names=of.class_names, workdir=where, log=log,
    )  # fmt: skip
    groups = source(collector) if source else Colocated(collector, settings.groups, max_refills)
    credit = advantage or advantages.grpo()
    return reinforce(learner, groups, of, tickets, credit, settings, chat(), workdir=where, log=log)
