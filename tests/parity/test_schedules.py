"""Learning rates step by step against those of transformers, with its rounding of the warm-up."""

import numpy as np
import pytest

from lrm_align.settings.training import SCHEDULES
from lrm_align.training import OptimizerSettings
from lrm_align.training.optimizers import make_schedule

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NAMES = {"constant": "constant_with_warmup"}


def theirs(schedule: str, num_steps: int, warmup: float, tmp_path) -> list[float]:
    """What a Trainer would set, from step 0 on, for a peak of 1."""
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    if "warmup_ratio" in vars(arguments) and arguments.warmup_ratio is not None:
        arguments.warmup_ratio = warmup
    else:
        arguments.warmup_steps = warmup
    warm = arguments.get_warmup_steps(num_steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = transformers.get_scheduler(NAMES.get(schedule, schedule), optimizer, warm, num_steps)
    rates = []
    for _ in range(num_steps):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 9, 37, 100])
def test_every_step_has_the_rate_of_transformers(schedule, num_steps, tmp_path):
    for warmup in (0.0, 0.01, 0.03, 0.07, 0.1, 0.25, 0.5, 0.99):
        rate = make_schedule(OptimizerSettings(learning_rate=1.0, schedule=schedule, warmup=warmup), num_steps)
        found = [float(rate(step)) for step in range(num_steps)]
        np.testing.assert_allclose(found, theirs(schedule, num_steps, warmup, tmp_path), atol=1e-6, err_msg=f"{warmup}")
