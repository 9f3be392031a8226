"""The model, its adapters and the mesh that it lies on."""

import dataclasses

from lrm_align.settings.setting import setting

DTYPES = ("float32", "bfloat16", "float16")
POLICIES = ("none", "full", "context", "attention", "minimal", "offload")
KERNELS = ("auto", "blockwise", "einsum", "splash")
_ROUNDING = "it moves results by rounding alone"
_AGAIN = "the same values are computed twice"


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """`config.model`: a Hugging Face directory and how it is computed."""

    path: str = setting("", "directory or hub id", neutral="the files' contents are counted, not where they lie")
    dtype: str = setting("bfloat16", "of activations", among=DTYPES)
    param_dtype: str = setting("", "of weights in memory; empty: as stored", among=("", *DTYPES))
    remat: str = setting("none", "what is computed again in the backward pass", among=POLICIES, neutral=_AGAIN)
    attention: str = setting("auto", "attention kernel", among=KERNELS, neutral=_ROUNDING)
    template_date: str = setting("", "the date that a chat template is told, YYYY-MM-DD; empty: 2024-07-26")
    thinking: str = setting("auto", 'what thoughts look like: "auto", "none", or both marks, "<think> </think>"')


@dataclasses.dataclass(frozen=True)
class LoraSettings:
    """`config.lora`: adapters on a frozen model (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = setting(16, "of the adapters; 0 trains all weights", least=0)
    alpha: float = setting(16.0, "scale of the adapters is alpha / rank", above=0)
    dropout: float = setting(0.0, "share of an adapter's inputs that is dropped", least=0, below=1)
    targets: str = setting("q|v", "regular expression of the projections that get adapters", source="2601.23143")


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """`config.mesh`: how many ways each axis splits; -1 takes the devices that the others leave."""

    data: int = setting(1, "ways of the batch", least=-1, neutral=_ROUNDING)
    fsdp: int = setting(-1, "ways of batch and weights", least=-1, neutral=_ROUNDING)
    tensor: int = setting(1, "ways of heads and widths", least=-1, neutral=_ROUNDING)


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """`config.export`: the Hugging Face directory that a run leaves."""

    dtype: str = setting("bfloat16", "of the written weights; empty: as in memory", among=("", *DTYPES))
    adapters: bool = setting(True, "whether adapters are written in PEFT's format, too")
