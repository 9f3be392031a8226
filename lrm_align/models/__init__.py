"""The shared transformer: Qwen2, Qwen3 and Llama, with adapters, token scores, and Hugging Face directories."""

from lrm_align.models.config import ModelConfig
from lrm_align.models.decoder import Cache, Model
from lrm_align.models.hf import load, save
from lrm_align.models.projection import LoraKernel
from lrm_align.models.rope_config import RopeConfig
from lrm_align.models.scores import sequence_scores, token_scores

__all__ = [
    "Cache",
    "LoraKernel",
    "Model",
    "ModelConfig",
    "RopeConfig",
    "load",
    "save",
    "sequence_scores",
    "token_scores",
]
