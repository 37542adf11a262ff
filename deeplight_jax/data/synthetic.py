"""A planted world: Criteo-shaped rows whose true field pairs, effects and best ROC AUC are known.

Every category has a latent vector u and a weight w; the true logit is

    b + sum_f w_f[x_f] + sum_{(i, j) planted} strength <u_i[x_i], u_j[x_j]>

so that DeepFwFM can express it, a linear model cannot, and a pruned R should keep the planted pairs.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplight_jax.data.prepared import Prepared, create_split, open_prepared, staging, write_manifest
from deeplight_jax.data.schema import Field, Schema, field_pairs
from deeplight_jax.errors import DataError

_NUMERIC = 13
_LEAST_ROWS = 100
_BLOCK_ROWS = 1 << 16


@dataclasses.dataclass(frozen=True)
class World:
    """Settings of a planted world; the quickstart's own are `quickstart.WORLD`.

    Attributes:
      rows: rows of all splits together; a tenth each goes to valid and test.
      largest: table rows of the largest categorical field; the 26 sizes grow geometrically from 4 to it.
      table_rows: rows of the whole table, from which `largest` follows; 0: they follow from `largest`.
      pairs: planted field pairs.
      latent: length of the latent vectors.
      weight: standard deviation of the linear effects.
      strength: standard deviation of one planted pair's effect.
      zipf: exponent of the categories' frequencies.
      base_rate: click rate if all effects were zero.
      seed: of everything.
    """

    rows: int = 400_000
    largest: int = 2_000
    table_rows: int = 0
    pairs: int = 20
    latent: int = 4
    weight: float = 0.15
    strength: float = 0.35
    zipf: float = 1.1
    base_rate: float = 0.25
    seed: int = 0


class _Effects(NamedTuple):
    frequencies: list[np.ndarray]  # cumulative, f64[size] a categorical field
    weights: list[np.ndarray]  # f64[size] a field
    latents: list[np.ndarray]  # f64[size, latent] a field
    pairs: np.ndarray  # i64[pair, 2], field indices


def prepare_synthetic(
    out: Path, world: World | None = None, progress: Callable[[str, int, int], None] | None = None
) -> Prepared:
    """Write a planted world as a prepared data set.

    The manifest's `synthetic` entry holds the settings, the planted pairs by field name, and each split's
    ROC AUC and log loss under the true probabilities: the best that any model can expect.

    Args:
      out: directory to make.
      world: its settings.
      progress: called as `progress(what, done, total)` after each block of rows.

    Raises:
      DataError: there are too few rows or table rows, a split has clicks or non-clicks only, or `out` exists
        and is not empty or cannot be written.

    Cost: about 6 us a row.
    """
    world = world or World()
    if world.rows < _LEAST_ROWS:
        raise DataError(f"{world.rows} rows cannot fill three splits; draw {_LEAST_ROWS} or more")
    schema = world_schema(world)
    effects = _plant(world, schema)
    tenth = world.rows // 10
    counts = {"train": world.rows - 2 * tenth, "valid": tenth, "test": tenth}
    with staging(Path(out)) as temporary:
        truth, done = {}, 0
        for index, (name, rows) in enumerate(counts.items()):
            split = create_split(temporary, name, schema, rows, reserve=True)
            logits = np.empty(rows)
            for start, block in _blocks(world, effects, index, rows):
                stop = start + len(block[2])
                split.ids[start:stop], split.values[start:stop], split.label[start:stop] = block[:3]
                logits[start:stop] = block[3]
                done += len(block[2])
                if progress:
                    progress("drawing rows", done, world.rows)
            truth[name] = _truth(logits, np.asarray(split.label))
        names = [f.name for f in schema.fields]
        planted = [[names[i], names[j]] for i, j in effects.pairs]
        about = {"synthetic": {"world": dataclasses.asdict(world), "pairs": planted, "best": truth}}
        write_manifest(temporary, schema, counts, about)
    return open_prepared(out, verify=False)


def world_schema(world: World) -> Schema:
    """The fields of a planted world.

    Raises:
      DataError: its table has too few rows for 26 categorical fields of 4.
    """
    sizes = _sizes(world.largest)
    if world.table_rows:
        wanted = world.table_rows - _NUMERIC
        if wanted < sum(_sizes(4)):
            raise DataError(f"a world's table has {_NUMERIC + sum(_sizes(4))} rows or more")
        largest = bisect_right(range(4, wanted), wanted, key=lambda size: sum(_sizes(size))) + 3
        sizes = _sizes(largest)
        sizes[-1] += wanted - sum(sizes)
    numeric = tuple(Field(f"I{i + 1}", "numeric", 1) for i in range(_NUMERIC))
    return Schema(numeric + tuple(Field(f"C{i + 1}", "categorical", size) for i, size in enumerate(sizes)))


def _sizes(largest: int) -> list[int]:
    return np.geomspace(4, largest, 26).astype(int).tolist()


def _plant(world: World, schema: Schema) -> _Effects:
    """Draws pairs and effects; each planted pair's effect has standard deviation `strength`."""
    rng = np.random.default_rng([world.seed, 1])
    first, second = field_pairs(schema.num_fields)
    categorical = np.flatnonzero(first >= _NUMERIC)
    chosen = np.sort(rng.choice(categorical, world.pairs, replace=False))
    scale = np.sqrt(world.strength) / world.latent**0.25
    ranks = [1.0 / (np.arange(f.size) + 2.0) ** world.zipf for f in schema.categorical]
    return _Effects(
        frequencies=[np.cumsum(r / r.sum()) for r in ranks],
        weights=[rng.normal(0, world.weight, f.size) for f in schema.fields],
        latents=[rng.normal(0, scale, (f.size, world.latent)) for f in schema.fields],
        pairs=np.stack([first[chosen], second[chosen]], axis=1),
    )


def _blocks(
    world: World, effects: _Effects, split: int, rows: int
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]]:
    """(start, (ids, values, label, true logit)) of a split, block by block."""
    bias = np.log(world.base_rate / (1 - world.base_rate))
    for block, start in enumerate(range(0, rows, _BLOCK_ROWS)):
        rng = np.random.default_rng([world.seed, 2, split, block])
        count = min(_BLOCK_ROWS, rows - start)
        uniform = rng.random((count, len(effects.frequencies)))
        ids = np.stack(
            [np.searchsorted(f, uniform[:, c], side="right") for c, f in enumerate(effects.frequencies)],
            axis=1,
        )
        ids = np.minimum(ids, [len(f) - 1 for f in effects.frequencies])
        values = np.abs(rng.standard_normal((count, _NUMERIC))).astype(np.float32)
        logit = np.full(count, bias) + values @ np.concatenate(effects.weights[:_NUMERIC])
        for c, weights in enumerate(effects.weights[_NUMERIC:]):
            logit += weights[ids[:, c]]
        for i, j in effects.pairs - _NUMERIC:
            u, v = effects.latents[i + _NUMERIC][ids[:, i]], effects.latents[j + _NUMERIC][ids[:, j]]
            logit += np.sum(u * v, axis=1)
        label = rng.random(count) < 1 / (1 + np.exp(-logit))
        yield start, (ids.astype(np.int32), values, label.astype(np.uint8), logit)


def _truth(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """ROC AUC and log loss of the true probabilities on the rows drawn, whose logits are all different."""
    if labels.min() == labels.max():
        raise DataError(f"a split of {len(labels)} rows has clicks or non-clicks only; draw more rows")
    order = np.argsort(logits, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    clicks = int(labels.sum())
    area = (ranks[labels == 1].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(labels) - clicks))
    loss = np.mean(np.logaddexp(0, logits) - logits * labels)
    return {"roc_auc": float(area), "log_loss": float(loss)}
