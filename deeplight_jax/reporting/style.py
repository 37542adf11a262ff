"""How every figure looks, on paper and in a page: colours, type, files.

Colours are told apart by people who see none or few (after Okabe and Ito 2008) and stand out from white and
from near black; series differ by their markers, too.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deeplight_jax.errors import ReportError
from deeplight_jax.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f7fc1", "#d9731a", "#1f9e78", "#b064a8", "#c2a21a", "#7a8490")
MARKERS = ("o", "s", "^", "D", "v", "P")
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], COLOURS[5]
INK, RULE = "#1c2530", "#d5dae0"  # become the page's own colours in SVG
_WIDTH = 4.8  # inches: a column of a desktop's page, and readable when a telephone shrinks it
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,  # field names may hold dollars
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "deeplight",
    "svg.image_inline": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and write figures within this block.

    Raises:
      ReportError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise ReportError("a report needs matplotlib; pip install 'deeplight-jax[report]'") from error
    with rc_context(cast(Any, _STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a browser has others
        yield


def panels(
    rows: int = 1, columns: int = 1, height: float = 3.1, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of one column's width and its panels, row by row.

    Args:
      rows, columns: of panels.
      height: of the whole figure, inches.
      sharex: one horizontal axis for all rows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="none")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex)
    return figure, list(grid.flat)


def to_svg(figure: Figure, key: str) -> str:
    """A figure as an <svg> element that takes its text's and rules' colours, and its font, from the page.

    Args:
      figure: drawn.
      key: unlike any other figure's of the page; stands in front of every id.
    """
    out = io.StringIO()
    with styled():
        figure.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"; font-family: [^;\"]*", "", svg)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    return svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")


def plain_log(ax: Axes, which: str, form: Callable[[float], str], between: str = "") -> None:
    """A log axis whose decades carry texts; ticks that start with a digit of `between`, small ones."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis.set_major_locator(LogLocator(numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axis.set_minor_formatter(
        FuncFormatter(lambda value, _: form(value) if f"{value:e}"[0] in between else "")
        if between
        else NullFormatter()
    )
    axis.set_tick_params(which="minor", labelsize=8)


def share(value: float) -> str:
    """A fraction in percent, as short as it goes."""
    return f"{100 * value:.4g}%"


def size(count: float) -> str:
    """Bytes in words, three digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * scale:  # or three digits would round to 1e+03 of the unit below
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


def save_figure(figure: Figure, path: Path, dpi: int, **options: Any) -> None:
    """Write a figure whole or not at all, as the kind of file that its ending says; OSError as it comes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix.removeprefix(".") or "png", **options)


def write_png(figure: Figure, path: Path) -> None:
    """A figure as a file, whole or not at all.

    Raises:
      ReportError: it cannot be written.
    """
    try:
        with styled():
            save_figure(figure, path, dpi=200, facecolor="white")
    except OSError as error:
        raise ReportError(f"cannot write {path} ({error.strerror}); name another --figures") from error
