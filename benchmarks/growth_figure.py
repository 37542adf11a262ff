"""Step time over table rows, batch, k and fields: measured as marks, predicted as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cost_model import Shape

AXES = {"rows": "table rows", "batch": "batch", "dim": "k", "fields": "fields"}


class Measured(NamedTuple):
    """Seconds a step by program, and predicted, at one shape; `axis` is what differs from the first shape."""

    axis: str
    shape: Shape
    seconds: Mapping[str, float]
    predicted: Mapping[str, float]


def draw(found: Sequence[Measured], path: Path) -> None:
    """A panel for each axis that varies; the first shape is in each of them."""
    from matplotlib.figure import Figure

    from deeplight_jax.reporting.style import save_figure

    varied = [axis for axis in AXES if any(m.axis == axis for m in found)]
    figure = Figure(figsize=(3 * len(varied), 3.4), layout="constrained")
    panels = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
    for axes, axis in zip(panels, varied, strict=True):
        points = sorted((m for m in found if m.axis in ("", axis)), key=lambda m: getattr(m.shape, axis))
        for index, name in enumerate(found[0].seconds):
            here = [m for m in points if name in m.seconds]
            at, colour = [getattr(m.shape, axis) for m in here], f"C{index}"
            axes.plot(at, [1e3 * m.seconds[name] for m in here], "o", color=colour, label=name)
            axes.plot(at, [1e3 * m.predicted[name] for m in here], "--", linewidth=1, color=colour)
        axes.set(xscale="log", yscale="log", xlabel=AXES[axis])
        axes.grid(linewidth=0.3)
    panels[0].set_ylabel("ms a step (dashed: predicted)")
    panels[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path, dpi=150)
