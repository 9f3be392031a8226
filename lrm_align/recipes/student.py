"""The model that a run samples from, trains and measures: its files checked at once, its weights read on first use."""

import functools
from collections.abc import Mapping
from typing import Any

import jax

from lrm_align.chat import Chat, check_vocabulary
from lrm_align.models import Model, hf, hf_files


class Student:
    """A model directory or hub id with the settings of `config.model`.

    Args:
      settings: `path`, and the compute settings `dtype`, `param_dtype` ("" as stored), `remat`, `attention`.
      mesh: where the weights go.

    Attributes:
      path: as given.
      directory: where the files lie.
      config: the model's shape.
      chat: its template and tokenizer.
      model: the static model.

    Raises:
      UserError: whatever is wrong with the directory, config, tokenizer or template.
    """

    def __init__(self, settings: Mapping[str, Any], mesh: jax.sharding.Mesh):
        self.path: str = settings["path"]
        self.directory = hf_files.resolve(self.path)
        self.config = hf.check(self.directory)
        self.chat = Chat.from_pretrained(str(self.directory))
        check_vocabulary(self.chat.tokenizer, self.config.vocab_size)
        self.param_dtype = settings["param_dtype"] or None
        self.mesh = mesh
        options = {name: settings[name] for name in ("dtype", "remat", "attention")}
        self.model = Model(self.config, **options)

    @functools.cached_property
    def params(self) -> Any:
        """The weights, read once."""
        return hf.load(str(self.directory), mesh=self.mesh, dtype=self.param_dtype)[1]

    @property
    def shapes(self) -> Any:
        """Shapes of the weights."""
        shapes = jax.eval_shape(self.model.init, jax.random.key(0))
        stored = self.identity["config"]
        dtype = self.param_dtype or stored.get("dtype", stored.get("torch_dtype")) or "float32"
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), shapes)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this model from another."""
        return hf_files.fingerprint(self.directory)
