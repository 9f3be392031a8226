"""One training step for every objective, and the loop around it."""

from lrm_align.training.loop import Loader, Trained, TrainSettings, check_memory, train
from lrm_align.training.mesh import make_mesh
from lrm_align.training.metrics import NotFiniteError
from lrm_align.training.optimizers import OptimizerSettings
from lrm_align.training.step import make_step
from lrm_align.training.tuning import Tuning, full, lora

__all__ = [
    "Loader",
    "NotFiniteError",
    "OptimizerSettings",
    "TrainSettings",
    "Trained",
    "Tuning",
    "check_memory",
    "full",
    "lora",
    "make_mesh",
    "make_step",
    "train",
]
