"""Grids: lists of points, a point being the config keys that a member sets and their values.

    grid = product(axis("sparsity.dnn", [0.9, 0.95, 0.99]), axis("optim.l2", [3e-7, 6e-7]))
    grid += zipped(axis("model.name", ["deepfm", "nfm"]), axis("optim.learning_rate", [1e-3, 3e-4]))

A sweep's file is Python with `get_sweep(arg) -> Sweep`; it runs as code, so load only files you trust.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplight_jax.config import (
    COMPONENT_LETTERS,
    Config,
    call_file,
    check_overrides,
    default_config,
    flatten,
    load_config,
    override,
    parse_code,
)
from deeplight_jax.errors import ConfigError, did_you_mean_key

Point = dict[str, Any]  # config key -> value
Grid = list[Point]


class Sweep(NamedTuple):
    """A config and the points at which it is run.

    Attributes:
      config: what every member shares; it also decides the warm-up and the order of the rows.
      grid: a member each.
      share_warmup: members that differ only in what is traced (rates, damping, learning rate, L2, seed) start
        from one dense warm-up, trained at the config's own learning rate, L2 and seed; else each has its own.
    """

    config: Config
    grid: Grid
    share_warmup: bool = True


def axis(key: str, values: Sequence[Any]) -> Grid:
    """A point for each value of one config key.

    Raises:
      ConfigError: there is no such key (the nearest is named), or there are no values.
    """
    known = flatten(default_config())
    if key not in known:
        raise ConfigError(f"axis: unknown config key '{key}'{did_you_mean_key(key, known)}")
    if not len(values) or isinstance(values, str):
        raise ConfigError(f"axis {key}: give a list of one or more values, not {values!r}")
    return [{key: value} for value in values]


def codes(*names: str) -> Grid:
    """A point for each sparsity code such as "D90-R90-F40" ("": dense); components not named are set to 0."""
    rates = [parse_code(name) if name else {} for name in names]
    return [{f"sparsity.{c}": r.get(c, 0.0) for c in COMPONENT_LETTERS.values()} for r in rates]


def product(*grids: Grid) -> Grid:
    """Every combination of a point of each grid, the last one changing fastest.

    Raises:
      ConfigError: two grids set the same key.
    """
    _check_disjoint("product", grids)
    return [_merged(points) for points in itertools.product(*grids)]


def zipped(*grids: Grid) -> Grid:
    """The grids' first points together, their second points together, and so on.

    Raises:
      ConfigError: the grids differ in length, or two set the same key.
    """
    if len({len(grid) for grid in grids}) > 1:
        raise ConfigError(f"zipped: grids of {', '.join(str(len(g)) for g in grids)} points; make them equal")
    _check_disjoint("zipped", grids)
    return [_merged(points) for points in zip(*grids, strict=True)]


def of_arguments(config_file: str | Path, arguments: Sequence[str]) -> tuple[Config, Grid]:
    """The config of a file's first argument, and for each argument the keys in which its config differs."""
    configs = [load_config(f"{config_file}:{argument}") for argument in arguments]
    flat = [flatten(config) for config in configs]
    varied = [key for key in flat[0] if len({repr(f[key]) for f in flat}) > 1]
    return configs[0], [{key: f[key] for key in varied} for f in flat]


def load_sweep(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Sweep:
    """Read a sweep's file, `file.py` or `file.py:arg`; overrides change what its members share.

    Raises:
      ConfigError: the file cannot be read, returns no Sweep, or an override's key is one that its grid sets.
    """
    check_overrides(overrides)
    sweep = call_file(path, "get_sweep")
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"{path}: get_sweep returned {type(sweep).__name__}, not a Sweep")
    config = override(sweep.config, overrides)
    names = overrides if isinstance(overrides, Mapping) else [o.partition("=")[0] for o in overrides]
    if clash := {key for point in sweep.grid for key in point} & set(names):
        raise ConfigError(f"{path} sets {', '.join(sorted(clash))} in its grid; change the file instead")
    return sweep._replace(config=config)


def _merged(points: Sequence[Point]) -> Point:
    return {key: value for point in points for key, value in point.items()}


def _check_disjoint(name: str, grids: Sequence[Grid]) -> None:
    keys = [{key for point in grid for key in point} for grid in grids]
    for a, b in itertools.combinations(keys, 2):
        if a & b:
            raise ConfigError(f"{name}: {', '.join(sorted(a & b))} is set by two grids")
