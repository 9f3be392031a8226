"""Writes sampling.npz: logits as transformers' processors leave them. Needs torch.

python tests/golden/make_sampling_goldens.py
"""

import pathlib

import numpy as np
import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.utils import GenerationMixin

# temperature, top_k, top_p, min_p
CASES = [
    (1.0, 0, 1.0, 0.0),
    (0.6, 20, 0.95, 0.0),
    (0.6, 0, 0.95, 0.0),
    (1.3, 7, 1.0, 0.0),
    (0.7, 0, 1.0, 0.1),
    (1.7, 30, 0.8, 0.05),
    (0.5, 1, 0.5, 0.0),
    (2.0, 90, 0.99, 0.02),
    (1.0, 0, 0.05, 0.0),
]


def logits(seed: int = 0, rows: int = 4, vocab: int = 96) -> np.ndarray:
    """Rows with many ties: logits rounded to halves, and one row without."""
    values = 2 * np.random.default_rng(seed).standard_normal((rows, vocab)).astype(np.float32)
    values[1:] = np.round(values[1:] * 2) / 2
    return values


def processed(values: np.ndarray, case: tuple[float, int, float, float]) -> np.ndarray:
    """What transformers makes of logits, by its own choice of processors and their order."""
    temperature, top_k, top_p, min_p = case
    config = GenerationConfig(do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p or None)
    processors = GenerationMixin._get_logits_processor(
        _Model(), config, logits_processor=LogitsProcessorList(), device="cpu", model_kwargs={}
    )
    ids = torch.zeros((len(values), 1), dtype=torch.long)
    return processors(ids, torch.from_numpy(values.copy())).numpy()


class _Model:
    """What `_get_logits_processor` reads of a model."""

    config = type("Config", (), {"is_encoder_decoder": False})()
    _merge_criteria_processor_list = GenerationMixin._merge_criteria_processor_list


if __name__ == "__main__":
    out = {"logits": logits(), "cases": np.array(CASES)}
    out |= {f"case_{number}": processed(logits(), case) for number, case in enumerate(CASES)}
    np.savez_compressed(pathlib.Path(__file__).parent / "sampling.npz", **out)
