"""Runs compared: what a run is called, which are seeds of one setting, curves against a rate, the front."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.config import Config, flatten
from deeplight_jax.reporting.naming import argument_of, code_of
from deeplight_jax.reporting.sources import Record

_PLACES = (
    "seed",
    "data.dir",
    "data.verify",
    "train.keep",
    "train.init_from",
    "mesh.data",
    "mesh.table",
)  # no setting
_LEVERS = {
    "dnn": (("sparsity.dnn", "pruned"), ("model.narrow", "narrow net")),
    "field": (("sparsity.field", "pruned"),),
    "embedding": (("sparsity.embedding", "pruned"), ("model.embedding_dim", "short embedding")),
}
"""What lowers the size of a component: the paper's Figures 4 to 6, with Table 4's dense baselines."""


class Setting(NamedTuple):
    """Finished runs that differ in nothing but the seed, on one data set and split.

    Attributes:
      label: model and code, as a config file's argument; then keys that set it apart from its namesakes.
      argument: the first part of the label.
      records: the runs.
    """

    label: str
    argument: str
    records: tuple[Record, ...]

    def values(self, key: str) -> list[float]:
        """A figure of every run's result that has it."""
        return [float(r.result[key]) for r in self.records if r.result and r.result.get(key) is not None]


class Point(NamedTuple):
    """A setting on a curve: mean of its seeds, and standard deviation (0 of one run)."""

    rate: float
    roc_auc: float
    spread: float
    bytes: float
    latency_us: float | None


class Series(NamedTuple):
    """A curve: one component's rate varies, everything else is the same."""

    label: str
    kind: str
    points: tuple[Point, ...]


def settings_of(config: Config) -> dict[str, Any]:
    """Every key that makes a run another setting than a seed of this one."""
    return {k: v for k, v in flatten(config).items() if k not in _PLACES}


def varying(records: Sequence[Record]) -> list[str]:
    """Config keys, places apart, that are not the same in all runs."""
    flat = [flatten(r.config) for r in records]
    keys = [k for k in flat[0] if k == "seed" or k not in _PLACES] if flat else []
    return [k for k in keys if len({repr(f.get(k)) for f in flat}) > 1]


def group_settings(records: Sequence[Record]) -> list[Setting]:
    """Finished runs by setting, in order of their first run."""
    groups: dict[Any, list[Record]] = {}
    for record in (r for r in records if r.result):
        groups.setdefault(_key(record), []).append(record)
    members = list(groups.values())
    full: dict[Any, int] = {}
    for first in (g[0] for g in members):
        key = _key(first, "model.embedding_dim")
        full[key] = max(full.get(key, 0), first.config.model.embedding_dim)
    arguments = [argument_of(g[0].config, full[_key(g[0], "model.embedding_dim")]) for g in members]
    settings = []
    for group, argument in zip(members, arguments, strict=True):
        namesakes = [g[0] for g, a in zip(members, arguments, strict=True) if a == argument]
        apart = [k for k in varying(namesakes) if k != "seed"]
        flat, content = flatten(group[0].config), group[0].data["content_hash"]
        differs = [f"{k.rpartition('.')[2]}={flat[k]}" for k in apart]
        differs += (
            [f"data={content[:8]}"] if any(r.data["content_hash"] != content for r in namesakes) else []
        )
        about = ", ".join(differs)
        settings.append(Setting(f"{argument} ({about})" if about else argument, argument, tuple(group)))
    return settings


def _key(record: Record, *without: str) -> Any:
    flat = settings_of(record.config)
    split = record.result.get("split") if record.result else None
    return record.data["content_hash"], split, *(repr((k, v)) for k, v in flat.items() if k not in without)


def rate_series(records: Sequence[Record], code: str, most: int = 4) -> list[Series]:
    """Curves against a component's rate, the longest first, at most so many.

    Args:
      records: of any runs.
      code: "dnn", "field" or "embedding".
      most: curves returned.
    """
    curves: list[tuple[bool, Series]] = []
    for lever, kind in _LEVERS[code]:
        groups: dict[Any, list[Record]] = {}
        for record in (r for r in records if r.result):
            groups.setdefault(_key(record, lever), []).append(record)
        for group in groups.values():
            values = {flatten(r.config)[lever] for r in group}
            if len(values) > 1:
                points = tuple(sorted(_points(group, lever, code)))
                rest = code_of(group[0].config, without=code)
                label = ", ".join(filter(None, (group[0].config.model.name, rest, kind)))
                curves.append((bool(rest), Series(label, kind, points)))
    curves.sort(key=lambda found: (-len(found[1].points), found[0]))
    return [curve for _, curve in curves[:most]]


def _points(group: Sequence[Record], lever: str, code: str) -> list[Point]:
    by_value: dict[Any, list[Record]] = {}
    for record in group:
        by_value.setdefault(flatten(record.config)[lever], []).append(record)
    longest = max(by_value)
    points = []
    for value, records in by_value.items():
        if lever.startswith("sparsity."):
            rate = mean((r.result or {})["components"].get(code, {"rate": 0.0})["rate"] for r in records)
        else:
            rate = value if lever == "model.narrow" else 1 - value / longest
        areas = [(r.result or {})["roc_auc"] for r in records]
        times = [r.latency_us for r in records if r.latency_us is not None]
        size = mean((r.result or {})["bytes"] for r in records)
        points.append(Point(rate, mean(areas), _spread(areas), size, mean(times) if times else None))
    return points


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def pareto_front(cost: Sequence[float], score: Sequence[float]) -> np.ndarray:
    """Which points no other point beats: none costs as little or less and scores higher, or less and as high.

    Args:
      cost: lower is better, f64[point].
      score: higher is better, f64[point].

    Returns:
      i64[front], indices by ascending cost; of equal points the first.
    """
    order = np.lexsort((-np.asarray(score, np.float64), np.asarray(cost, np.float64)))
    best, front = -np.inf, []
    for index in order:
        if score[index] > best:
            front.append(int(index))
            best = score[index]
    return np.asarray(front, np.int64)
