"""Measurements of the engine and its rivals as a figure; matplotlib is imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deeplight_jax.errors import ConfigError
from deeplight_jax.reporting.style import BLUE, GREY, save_figure
from deeplight_jax.serving.comparison import Comparison
from deeplight_jax.serving.rates import RateSweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS, _THEIRS = BLUE, GREY
_SUFFIXES = (".png", ".svg", ".pdf")


def check_figure_file(path: Path) -> None:
    """Before anything is measured: that a figure can be drawn and written there.

    Raises:
      ConfigError: matplotlib is not installed, or the file's ending or directory will not do.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"--out {path}: a figure is written as {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no directory {path.parent}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError("--out needs matplotlib; pip install 'deeplight-jax[report]'") from error


def write_bench_figure(found: Comparison, path: Path) -> None:
    """Latency of one row and time a row at 512, a point a scorer; below, latency by rate if it was swept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    rows = 2 if found.sweep else 1
    figure = Figure(figsize=(9, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False)
    names = list(reversed(found.figures))
    one = [found.figures[name].p50_us for name in names]
    batched = [1e6 / found.figures[name].rows_per_s[512] for name in names]
    colours = [_OURS if name == found.ours else _THEIRS for name in names]
    for axes, times, title in zip(panels[0], (one, batched), ("one row", "a row, 512 a call"), strict=True):
        axes.scatter(times, names, color=colours)  # bars would need a zero, which a logarithm lacks
        for name, time in zip(names, times, strict=True):
            axes.annotate(f"{time:.3g}", (time, name), (0, 6), textcoords="offset points", ha="center")
        axes.set(xscale="log", xlabel="microseconds", title=title)
        axes.margins(x=0.2, y=0.15)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", linewidth=0.4)
    panels[0][1].tick_params(labelleft=False)
    if found.sweep:
        lines, sweep = found.sweep.lines, found.sweep
        _by_rate(panels[1][0], sweep, [x.p50_us for x in lines], sweep.rival_p50_us, sweep.break_even)
        _by_rate(panels[1][1], sweep, [x.row_us for x in lines], sweep.rival_row_us, sweep.break_even_512)
    try:
        save_figure(figure, path, dpi=150)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error}); name another --out") from error


def _by_rate(
    axes: Axes, sweep: RateSweep, times: list[float], rival_us: float | None, crossing: float | None
) -> None:
    from matplotlib.ticker import PercentFormatter

    kept = [1 - line.rate for line in sweep.lines]
    axes.plot(kept, times, marker="o", color=_OURS, label="deeplight, random net")
    if rival_us is not None:
        axes.axhline(rival_us, color=_THEIRS, linestyle="--", label=sweep.rival)
    if crossing:  # neither never nor from the first rate on
        axes.axvline(1 - crossing, color=_THEIRS, linewidth=0.7, label=f"break-even: {crossing:.0%} pruned")
    axes.set(xscale="log", yscale="log", xlabel="share of the net's weights kept", ylabel="microseconds")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_xaxis()
    axes.legend(frameon=False, loc="lower left", fontsize=8)
