"""The main job on a planted world: one warm-up, then dense and pruned DeepFwFM from it, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.config import Config, default_config, override
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.errors import DataError
from deeplight_jax.training.inspect import load_run
from deeplight_jax.training.loop import train

WORLD = World(rows=600_000, largest=500, pairs=20, strength=0.5)
CODE = "D90-R90-F40"
_WARMUP_EPOCHS, _EPOCHS = 2, 6


class Comparison(NamedTuple):
    """What the quickstart found.

    Attributes:
      best: ROC AUC and log loss of the true probabilities on the test rows.
      dense: `result.json` of the dense run.
      pruned: `result.json` of the pruned run.
      planted: planted field pairs.
      survived: planted pairs that the pruned R kept.
      kept: all pairs that it kept.
      pairs: all pairs there are.
    """

    best: dict[str, float]
    dense: dict[str, Any]
    pruned: dict[str, Any]
    planted: int
    survived: int
    kept: int
    pairs: int


def quickstart_config(data: Path, world: World = WORLD) -> Config:
    """The quickstart's config, dense: smaller and faster learning than the paper's, for a small world."""
    hidden = "(100,100,100)" if world.rows > 100_000 else "(32,32)"
    settings = {
        "data.dir": data,
        "data.batch_size": 1000,
        "model.hidden": hidden,
        "model.dropout": 0.0,
        "optim.learning_rate": 3e-3,
        "optim.l2": 3e-6,
        "sparsity.warmup_epochs": float(_WARMUP_EPOCHS),
        "sparsity.short_schedule": "rescale",
        "sparsity.reach": 0.999,
        "train.epochs": _EPOCHS,
    }
    return override(default_config(), settings)


def quickstart(
    workdir: Path, world: World = WORLD, progress: Callable[[str, int, int], None] | None = None
) -> Comparison:
    """Make the world, train warm-up, dense and pruned runs under `workdir`; goes on where it stopped.

    Raises:
      DeeplightError: the directory holds something else, such as another world.
    """
    data = workdir / "data"
    rows = _reopened(data, world) if data.exists() else prepare_synthetic(data, world, progress)
    config = quickstart_config(data, world)
    warmup = override(config, {"train.epochs": _WARMUP_EPOCHS})
    rates = {"sparsity.dnn": 0.9, "sparsity.field": 0.9, "sparsity.embedding": 0.4}
    branch = override(config, {"train.init_from": workdir / "warmup"})
    _train("warm-up", warmup, workdir / "warmup", rows, progress)
    dense = _train("dense", branch, workdir / "dense", rows, progress)
    pruned = _train("pruned", override(branch, rates), workdir / "pruned", rows, progress)
    return _compare(rows, dense, pruned, workdir / "pruned")


def _reopened(data: Path, world: World) -> Prepared:
    rows = open_prepared(data)
    if rows.manifest.get("synthetic", {}).get("world") != asdict(world):
        raise DataError(f"{data} holds another world than asked for; name another --workdir or remove it")
    return rows


def _train(
    name: str, config: Config, workdir: Path, rows: Prepared, progress: Callable[[str, int, int], None] | None
) -> dict[str, Any]:
    def named(what: str, done: int, total: int) -> None:
        if progress:
            progress(f"{name}: {what}", done, total)

    return train(config, workdir, data=rows, progress=named)


def _compare(rows: Prepared, dense: dict[str, Any], pruned: dict[str, Any], workdir: Path) -> Comparison:
    truth = rows.manifest["synthetic"]
    keep = np.asarray(load_run(workdir).masks["fwfm"]["r"])
    kept = {pair for pair, k in zip(rows.schema.pairs, keep, strict=True) if k}
    survived = sum((first, second) in kept for first, second in truth["pairs"])
    return Comparison(
        truth["best"]["test"], dense, pruned, len(truth["pairs"]), survived, len(kept), keep.size
    )
