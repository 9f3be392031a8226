"""The sandbox in which user text keeps its marks through every operator, function and filter of a template.

What Python or jinja does to strings in C returns plain strings: the marks are still in them, but the next method would
read the marks instead of the text. Each place where a template's values come out of such code is watched here.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

from lrm_align.rendering.sandbox import Sandbox
from lrm_align.rendering.user_text import Marker


class _Generator(CodeGenerator):
    """`a ~ b` as a function of the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802, jinja's name
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Tracking(Sandbox):
    """See above.

    Args:
      date: see `Sandbox`.
      marker: whose stand-ins are followed.
    """

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "%", "*"})

    def __init__(self, date: str, marker: Marker):
        super().__init__(date)
        self.marker = marker
        self.concat = self.joined  # type: ignore[method-assign]
        self.filters = {name: self._watched(function) for name, function in self.filters.items()}

    def joined(self, parts: Iterable[Any]) -> str:
        """The parts in a row: of an output, a block, a macro, or of `~`."""
        return self.marker.tracked("".join(map(str, parts)))

    def call(self, context: jinja2.runtime.Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls on behalf of the template."""
        return self.marker.tracked(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that put strings together."""
        return self.marker.tracked(super().call_binop(context, operator, left, right))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # the marks that say whether a filter takes the context, too
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.marker.tracked(function(*args, **kwargs))

        return call
