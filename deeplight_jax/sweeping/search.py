"""A finer grid around the front: members halfway between good ones and their neighbours, within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplight_jax.config import from_json
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.sweeping import ledger
from deeplight_jax.sweeping.choose import Budget, loss, pareto
from deeplight_jax.sweeping.grid import Grid, Point, Sweep
from deeplight_jax.sweeping.launch import Options, Progress, run_sweep
from deeplight_jax.sweeping.results import rows


def search(
    directory: str | Path,
    members: int,
    budget: Budget,
    metric: str = "log_loss",
    options: Options = Options(),  # noqa: B008, a value
    progress: Progress | None = None,
) -> int:
    """Add rounds of members to a sweep, each round around the front that was measured before it.

    Args:
      directory: of a sweep whose members have run.
      members: most to add in all.
      budget: members within it are refined first.
      metric: on validation.
      options: how they are run; the engine is always measured.
      progress: called as `progress(what, done, total)`.

    Returns:
      How many were added; fewer than asked for where the grid leaves nothing in between.

    Raises:
      DataError: the sweep's data is missing or damaged.
      RunError: no sweep is there, or it is damaged.
    """
    directory, added = Path(directory), 0
    about = ledger.read_sweep(directory)
    data = open_prepared(about["data"]["dir"], verify=from_json(about["config"]).data.verify)
    while added < members:
        about = ledger.read_sweep(directory)
        grid: Grid = [_as_point(member["set"]) for member in about["members"]]
        done = {row["name"]: row for row in rows(directory) if row["state"] == "done"}
        points = {m["name"]: p for m, p in zip(about["members"], grid, strict=True)}
        front = sorted(
            pareto([*done.values()], metric), key=lambda r: (not budget.allows(r), loss(r, metric))
        )
        new = refine([points[row["name"]] for row in front], grid)[: members - added]
        if not new:
            break
        sweep = Sweep(from_json(about["config"]), [*grid, *new], about["share_warmup"])
        run_sweep(sweep, directory, options._replace(measure=True), data=data, progress=progress)
        added += len(new)
    return added


def refine(centres: Sequence[Point], grid: Grid) -> Grid:
    """Points halfway between each centre and the nearest values of the grid along every numeric key.

    Args:
      centres: points of the grid, the most promising first.
      grid: every point that was tried.

    Returns:
      New points, none of them in the grid; one a centre first, then the next, so that a cut leaves every
      centre some.
    """
    new: list[Grid] = [[] for _ in centres]
    seen = list(grid)
    for found, centre in zip(new, centres, strict=True):
        for key, value in centre.items():
            if not _is_number(value):
                continue
            tried = sorted({p[key] for p in grid if key in p})
            for point in ({**centre, key: mid} for mid in _halfway(key, value, tried)):
                if point not in seen:
                    found.append(point)
                    seen.append(point)
    longest = max(map(len, new), default=0)
    return [found[i] for i in range(longest) for found in new if i < len(found)]


def _halfway(key: str, value: float, tried: Sequence[float]) -> list[float]:
    """Between a value and its neighbours: geometric for the optimizer's settings, else arithmetic."""
    at = tried.index(value)
    middles = [_middle(key, value, other) for other in (*tried[max(at - 1, 0) : at], *tried[at + 1 : at + 2])]
    return [mid for mid in middles if mid not in tried]


def _middle(key: str, a: float, b: float) -> float:
    if isinstance(a, int) and isinstance(b, int):
        return (a + b) // 2
    if key.startswith("optim.") and a > 0 and b > 0:
        return float(f"{math.sqrt(a * b):.4g}")
    return round((a + b) / 2, 6)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_point(point: Point) -> Point:
    """A point as JSON gave it back: tuples were lists there."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in point.items()}
