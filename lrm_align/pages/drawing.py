"""Figures: one drawing gives the SVG of a page, and the SVG and PNG files beside it."""

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from etils import epath

from lrm_align import atomic_files
from lrm_align.pages import safe

# Okabe and Ito's colours, which people who see few colours can tell apart, without yellow, which white paper swallows.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444", "#8c564b")
MARKERS = "osD^v<>PX*hp"
_DPI = 130


class Figure(NamedTuple):
    """A plot, drawn when it is asked for.

    Attributes:
      name: of its files.
      title: over it.
      says: what it shows, for people who can't see it and for those who can.
      draw: puts it on an empty matplotlib figure.
      size: in inches.
    """

    name: str
    title: str
    says: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (8.0, 4.0)


def drawn(figure: Figure, forms: Sequence[str] = ("svg", "png")) -> dict[str, bytes]:
    """The plot as files; equal data give equal files."""
    # Only here: it takes a second to import, and not every command draws.
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "lrm_align",
        "font.size": 9,
        "text.parse_math": False,  # a name with two dollar signs is no formula
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.axisbelow": True,
        "legend.frameon": False,
    }
    files = {}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name; browsers have more fonts
        canvas = Canvas(figsize=figure.size, layout="constrained")
        FigureCanvasAgg(canvas)
        figure.draw(canvas)
        canvas.draw_without_rendering()  # lays it out, once for all forms
        canvas.set_layout_engine("none")
        for form in forms:
            buffer = io.BytesIO()
            about = {"Date": None} if form == "svg" else None
            canvas.savefig(buffer, format=form, dpi=_DPI, metadata=about)
            files[form] = buffer.getvalue()
    return files


def element(figure: Figure, svg: bytes) -> str:
    """The plot in a page: an image, so that nothing in its labels is part of the page."""
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
    width = round(96 * figure.size[0])
    return (
        f"<figure><figcaption><h3>{safe.text(figure.title)}</h3><p>{safe.text(figure.says)}</p></figcaption>"
        f'<img alt="{safe.text(figure.title)}: {safe.text(figure.says)}" width="{width}" src="{source}"></figure>'
    )


def save(directory: epath.Path, figure: Figure, files: dict[str, bytes]) -> list[epath.Path]:
    """Writes the files of a plot; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for form, content in files.items():
        paths.append(directory / f"{figure.name}.{form}")
        atomic_files.write_bytes(paths[-1], content)
    return paths


def label(text: str, most: int = 40) -> str:
    """A name in a plot: harmless, one line, and short.

    >>> label("a  long name", most=8)
    'a long …'
    """
    line = " ".join(safe.shown(text).split())
    # A legend leaves out names that begin with an underscore.
    line = f" {line}" if line.startswith("_") else line
    return line if len(line) <= most else line[: most - 1] + "…"
