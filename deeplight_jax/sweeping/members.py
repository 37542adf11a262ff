"""A sweep's members: each a whole config under a name that its config and data decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplight_jax.config import COMPONENT_LETTERS, Config, config_hash, flatten, override, shuffle_seed
from deeplight_jax.errors import ConfigError
from deeplight_jax.sweeping.grid import Point, Sweep

TRACED = frozenset(
    {"seed", "sparsity.damping", "sparsity.damping_steps", "sparsity.reach", "sparsity.short_schedule"}
    | {f"sparsity.{code}" for code in COMPONENT_LETTERS.values()}
    | {f"optim.{key}" for key in ("learning_rate", "embedding_learning_rate", "l2", "embedding_l2", "dnn_l2")}
)
"""Keys that change no shape and no program: members that differ in these alone share one compiled step."""
_HOST = frozenset(
    {"data.dir", "data.verify", "train.keep", "train.monitor", "train.patience", "train.init_from"}
)


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: hash of config and data; its run is in SWEEP/members/NAME.
      point: the keys that the grid set.
      config: the whole config; `deeplight train` with it is the same run.
      warmup: name of the shared warm-up it starts from; "" if it has its own.
      warmup_config: of that warm-up.
    """

    name: str
    point: Point
    config: Config
    warmup: str = ""
    warmup_config: Config | None = None


def resolve(sweep: Sweep, directory: Path, data_hash: str) -> list[Member]:
    """The members of a sweep in the grid's order; points that come to the same config are one member.

    Args:
      sweep: config and grid.
      directory: of the sweep; shared warm-ups are in its `warmup/`.
      data_hash: content hash of the data.

    Raises:
      ConfigError: a point has an unknown key or a wrong value; the point is named.
    """
    members: dict[str, Member] = {}
    for point in sweep.grid:
        try:
            member = _member(sweep, point, directory, data_hash)
        except ConfigError as error:
            raise ConfigError(f"{describe(point)}: {error}") from error
        members.setdefault(member.name, member)
    if not members:
        raise ConfigError("the sweep's grid has no points")
    return [*members.values()]


def describe(point: Point) -> str:
    """A point in one line, as `sparsity.dnn=0.9, seed=1`."""
    return ", ".join(f"{key}={value}" for key, value in point.items()) or "the config as it is"


def program_key(config: Config) -> str:
    """Equal for configs that may share a compiled step and its batches."""
    flat = {k: v for k, v in flatten(config).items() if k not in TRACED | _HOST}
    pruned = any(config.sparsity[code] for code in COMPONENT_LETTERS.values())
    fixed = not (pruned or config.sparsity.regrow)  # its masks never change: another schedule
    return json.dumps([flat, fixed, shuffle_seed(config)], sort_keys=True)


def varied(members: Sequence[Member]) -> list[str]:
    """Config keys in which the members differ, in the config's order."""
    flat = [flatten(member.config) for member in members]
    return [k for k in flat[0] if k != "train.init_from" and len({repr(f[k]) for f in flat}) > 1]


def _member(sweep: Sweep, point: Point, directory: Path, data_hash: str) -> Member:
    shared_order = {"data.shuffle_seed": shuffle_seed(sweep.config)}
    config = override(sweep.config, {**shared_order, **point})
    warm = _warmup_config(sweep, config) if sweep.share_warmup else None
    if warm is None:
        return Member(_name(config_hash(config), data_hash), point, config)
    name = _name(config_hash(warm), data_hash)
    started = override(config, {"train.init_from": str(directory.absolute() / "warmup" / name)})
    return Member(_name(config_hash(config), name), point, started, name, warm)


def _warmup_config(sweep: Sweep, config: Config) -> Config | None:
    """The dense run that a member may start from; None where no whole epochs of warm-up come first."""
    epochs = config.sparsity.warmup_epochs
    if config.train.init_from or epochs != int(epochs) or not 0 < epochs < config.train.epochs:
        return None
    base, own = flatten(sweep.config), flatten(config)
    settings: dict[str, Any] = {k: base[k] for k in TRACED}
    settings |= {f"sparsity.{code}": 0.0 for code in COMPONENT_LETTERS.values()}
    settings |= {"sparsity.interval_steps": base["sparsity.interval_steps"], "sparsity.init_masks": ""}
    settings |= {"sparsity.regrow": True, "sparsity.epoch_end_event": False}
    settings |= {"train.epochs": int(epochs), "train.patience": 0, "train.monitor": base["train.monitor"]}
    return override(config, {k: v for k, v in settings.items() if own[k] != v})


def _name(*parts: str) -> str:
    return hashlib.sha256("+".join(parts).encode()).hexdigest()[:16]
