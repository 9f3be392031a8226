"""The model that a run samples from, trains and measures: its files checked at once, its weights read on first use."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from lrm_align.chat import Chat, check_vocabulary, thinking_form
from lrm_align.chat.template import DATE
from lrm_align.errors import UserError
from lrm_align.models import Model, hf, hf_files, memory

ADVICE = "try fewer slots or a shorter max_length"


class Student:
    """A model directory or hub id with the settings of `config.model`.

    Args:
      settings: `path`, the compute settings `dtype`, `param_dtype` ("" as stored), `remat`, `attention`,
        `template_date` and `thinking`.
      mesh: where the weights go.

    Attributes:
      path: as given.
      directory: where the files lie.
      config: the model's shape.
      chat: its template and tokenizer.
      model: the static model.
      export_dtype: of an export whose config names none; None is as in memory.

    Raises:
      UserError: whatever is wrong with the directory, config, tokenizer or template.
    """

    def __init__(self, settings: Mapping[str, Any], mesh: jax.sharding.Mesh):
        self.path: str = settings["path"]
        self.directory = hf_files.resolve(self.path)
        self.config = hf.check(self.directory)
        self.chat = Chat.from_pretrained(
            str(self.directory),
            date=settings.get("template_date") or DATE,
            thinking_marks=settings.get("thinking", thinking_form.AUTO),
        )
        check_vocabulary(self.chat.tokenizer, self.config.vocab_size)
        self.mesh = mesh
        asked = settings["param_dtype"] or None
        wanted = hf.shapes(self.directory, asked)
        self.param_dtype = hf.on_cpu(wanted, asked, mesh)
        # An export has what is in memory, but for what is there for a CPU's sake.
        own = str(jnp.result_type(*{leaf.dtype for leaf in jax.tree.leaves(wanted)}))
        self.export_dtype = own if self.param_dtype != asked else None
        options = {name: settings[name] for name in ("dtype", "remat", "attention")}
        if mesh.devices.flat[0].platform == "cpu":
            options["dtype"] = "float32"
        self._widened = self.export_dtype or (settings["dtype"] if settings["dtype"] != options["dtype"] else "")
        self.model = Model(self.config, **options)

    @property
    def base(self) -> str:
        """What adapters name as their base: the hub id, or the directory, which a run's name would not be for long."""
        return str(self.directory) if epath.Path(self.path).expanduser().exists() else self.path

    def facts(self) -> list[str]:
        """What a dry run and `run.json` say of the model: its shape, and what its thoughts look like."""
        shape = self.config
        return [
            f"model: {self.path} ({shape.family}, {shape.num_layers} layers of {shape.width})",
            self.chat.thinking.describe(lambda mark: len(self.chat.encode_trusted(mark))),
            *([f"on a CPU {self._widened} is held and computed as float32"] if self._widened else []),
        ]

    def needs_thoughts(self, method: str) -> None:
        """Refuses a method that trains or steers thoughts where the model has none.

        Raises:
          UserError: it has none.
        """
        if not self.chat.thinking.thinks:
            raise UserError(
                f"{method} needs a model that thinks, and {self.path} has no thoughts (as seen in "
                f"{self.chat.thinking.seen_in}); name its marks in config.model.thinking if it has, or take a method "
                "that needs none, such as configs/align.py"
            )

    @functools.cached_property
    def params(self) -> Any:
        """The weights, read once."""
        return hf.load(str(self.directory), mesh=self.mesh, dtype=self.param_dtype)[1]

    @functools.cached_property
    def shapes(self) -> Any:
        """Shapes and dtypes of the weights, as the files have them: config.json need not tell the truth."""
        return hf.shapes(self.directory, self.param_dtype)

    @property
    def bytes(self) -> int:
        """Of the weights, on one device."""
        return memory.weights(self.model, self.shapes, self.mesh)

    def fits(self, slots: int, length: int) -> None:
        """Looks whether it can be sampled from.

        Args:
          slots: completions decoded at a time.
          length: positions of each.

        Raises:
          UserError: weights, caches and logits are more than there is.
        """
        mesh = None if self.mesh.size == 1 else self.mesh
        needed = {"weights": self.bytes, **memory.decoding(self.model, slots, length, mesh)}
        memory.check(f"sampling {slots} × {length} tokens at a time from {self.path}", needed, ADVICE, self.mesh)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this model from another."""
        return hf_files.fingerprint(self.directory)
