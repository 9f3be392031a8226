"""The names and layouts of Hugging Face weights: one table, read in both directions, transposing and reshaping only."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from lrm_align.models.config import ARCHITECTURES, ModelConfig
from lrm_align.models.projection import INPUTS


class Weight(NamedTuple):
    """One weight in both worlds.

    Attributes:
      leaf: its key in our parameters.
      name: its Hugging Face name, with `{}` for the layer's number where ours is stacked over layers.
      inputs: a kernel's leading axes that are contracted: ours is in… × out…, theirs is (out, in), both flattened.
        None for what is stored as it is (norms and the embedding) or flattened (biases of heads).
    """

    leaf: str
    name: str
    inputs: int | None = None

    @property
    def stacked(self) -> bool:
        return "{}" in self.name

    def view(self, theirs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Their array seen in our `shape` (of one layer); copies nothing."""
        if self.inputs is None:
            return theirs.reshape(shape)
        outputs = len(shape) - self.inputs
        view = theirs.reshape(shape[self.inputs :] + shape[: self.inputs])
        return view.transpose(*range(outputs, len(shape)), *range(outputs))

    def unview(self, ours: Any) -> Any:
        """The inverse: our array, of one layer, in their shape."""
        if self.inputs is None:
            return ours.reshape(self.shape(ours.shape))
        moved = ours.transpose(*range(self.inputs, ours.ndim), *range(self.inputs))
        return moved.reshape(self.shape(ours.shape))

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Their shape of a weight that has shape `ours` (of one layer)."""
        if self.inputs is None:
            return ours if self.leaf == "embed" else (int(np.prod(ours)),)
        return (int(np.prod(ours[self.inputs :])), int(np.prod(ours[: self.inputs])))


# Where a kernel of ours sits in a block of theirs.
MODULES: Mapping[str, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_NORMS = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
_BLOCK = (
    *(Weight(leaf, f"model.layers.{{}}.{module}.weight", INPUTS[leaf]) for leaf, module in MODULES.items()),
    *(Weight(f"{leaf}_bias", f"model.layers.{{}}.{module}.bias") for leaf, module in MODULES.items()),
    *(Weight(leaf, f"model.layers.{{}}.{module}.weight") for leaf, module in _NORMS.items()),
)
_DECODER = (
    Weight("embed", "model.embed_tokens.weight"),
    *_BLOCK,
    Weight("final_norm", "model.norm.weight"),
    Weight("head", "lm_head.weight", 1),
)
# Which of a table's weights a model has follows from its parameters; a family with names of its own gets its own table.
TABLES: Mapping[str, Mapping[str, Weight]] = {
    family: {weight.leaf: weight for weight in _DECODER} for family in ARCHITECTURES
}


def weight_of(config: ModelConfig, path: tuple[Any, ...]) -> Weight:
    """The table's entry of a parameter, by its path in the parameter tree."""
    return TABLES[config.family][path[-1].key]


def names(config: ModelConfig, shapes: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every (name, shape) that a model of this config has on disk; `shapes` is its parameter tree's."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        weight = weight_of(config, path)
        if weight.stacked:
            for layer in range(leaf.shape[0]):
                yield weight.name.format(layer), weight.shape(leaf.shape[1:])
        else:
            yield weight.name, weight.shape(leaf.shape)
