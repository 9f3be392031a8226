"""Supervised fine-tuning on data that others wrote, on one machine: adapters, short rows.

    python -m lrm_align.main --config=configs/sft.py --config.model.path=MY_MODEL --config.data.path=mine.jsonl
    python -m lrm_align.main --config=configs/sft.py:star1 --config.model.path=MY_MODEL --dry_run

`sft_tpu.py` says what every number means and where it is from; here are those that differ. "TRL" is the example at the
head of its `scripts/sft.py`; everything else is ours.
"""

import pathlib

from ml_collections import ConfigDict

from lrm_align.config import choose, load

TPU = pathlib.Path(__file__).parent / "sft_tpu.py"


def get_config(preset: str = "plain") -> ConfigDict:
    """SFT with adapters for sets from some dozen examples on."""
    config = load(f"{TPU}:{choose(preset, PRESETS)}").unlock()
    config.model.dtype = "float32"  # CPUs have no fast bfloat16
    config.model.param_dtype = ""  # as stored
    config.model.remat = "none"
    config.lora.rank = 32  # TRL
    config.mesh = {"data": 1, "fsdp": 1, "tensor": 1}
    config.train.row_length = 2048  # what a laptop holds
    config.train.batch_traces = 8  # 3 passes over 150 examples are 57 updates
    config.train.epochs = 3
    config.train.optimizer.learning_rate = 2e-4  # TRL, for adapters
    config.export.dtype = ""  # as in memory
    config.data.validation = 0.1
    config.data.validate_every = 20
    return config.lock()


PRESETS = {"plain": "plain", "star1": "star1", "safechain": "safechain"}
