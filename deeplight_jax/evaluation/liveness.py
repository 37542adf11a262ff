"""What masks leave alive, by name: units of the deep net, field pairs, rows of the embedding table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.data.schema import Schema
from deeplight_jax.evaluation.comparing import compare_components, pair_names, pairs_alive
from deeplight_jax.models.deep import hidden_kernels
from deeplight_jax.sparsity.algebra import check_alike, leaves_by_path
from deeplight_jax.sparsity.components import Labels, Masks


class DeadUnits(NamedTuple):
    """Units of one hidden layer that no input can move, or that cannot move the output.

    Attributes:
      units: of the layer.
      without_input: no path of kept weights from the net's input; what is left of them is a constant.
      without_output: no path of kept weights to the net's output.
      dead: either of the two.
    """

    units: int
    without_input: int
    without_output: int
    dead: int


def describe_masks(
    masks: Masks, labels: Labels, schema: Schema, targets: Mapping[str, float]
) -> dict[str, Any]:
    """What a model's masks keep, as `deeplight masks show --json` prints it.

    Args:
      masks: of every prunable leaf.
      labels: their component codes.
      schema: fields of the model.
      targets: target rate by component code; where one is missing the report says None.

    Returns:
      `components: {code: {target, rate, kept, total, layers: {path: {rate, kept, total}}}}`,
      `dead_units: [DeadUnits as dict, first hidden layer first]`, `pairs` (how many there are), `live_pairs:
      [[field, field]]` and `rows: {field: {total, pruned}}`, pruned counting rows without a kept value;
      the last four are empty, or 0, where the model has no such part.
    """
    live = live_pairs(masks, labels, schema)
    return {
        "components": {
            code: {"target": targets.get(code), **_counts(layers.values()),
                   "layers": {path: _counts([keep]) for path, keep in layers.items()}}
            for code, layers in _by_component(masks, labels).items()
        },
        "dead_units": [d._asdict() for d in dead_units(hidden_kernels(masks))],
        "pairs": 0 if live is None else live.size,
        "live_pairs": pair_names(live, schema),
        "rows": {
            name: {"total": size, "pruned": pruned}
            for name, (size, pruned) in pruned_rows(masks, labels, schema).items()
        },
    }  # fmt: skip


def compare_masks(a: Masks, b: Masks, labels: Labels, schema: Schema) -> dict[str, Any]:
    """How two models' masks differ, as `deeplight masks diff --json` prints it.

    Returns:
      `components: {code: {both, only_a, only_b, neither, jaccard, chance, layers: {path: the same}}}`, and
      `pairs_lost`, `pairs_gained: [[field, field]]`, live in A or in B alone.

    Raises:
      MaskError: the trees do not fit each other.
    """
    check_alike(a, b)
    return compare_components(_by_component(a, labels), _by_component(b, labels), schema)


def dead_units(kernels: Sequence[np.ndarray]) -> list[DeadUnits]:
    """Dead units of each hidden layer; weights from the last one to the output are never pruned.

    Args:
      kernels: bool[in, unit] keep-masks, first layer first, each layer's units the next one's input.
    """
    if not kernels:
        return []
    fed, heard = [np.ones(kernels[0].shape[0], bool)], [np.ones(kernels[-1].shape[1], bool)]
    for keep in kernels:
        fed.append(np.logical_or.reduce(keep[fed[-1]], axis=0))
    for keep in reversed(kernels[1:]):
        heard.append(np.logical_or.reduce(keep[:, heard[-1]], axis=1))
    return [
        DeadUnits(a.size, int((~a).sum()), int((~b).sum()), int((~a | ~b).sum()))
        for a, b in zip(fed[1:], reversed(heard), strict=True)
    ]


def live_pairs(masks: Masks, labels: Labels, schema: Schema) -> np.ndarray | None:
    """bool[pair], in the order of `Schema.pairs`: a weight of the pair is kept; None without component R."""
    return pairs_alive(_by_component(masks, labels).get("field", {}), schema)


def pruned_rows(masks: Masks, labels: Labels, schema: Schema) -> dict[str, tuple[int, int]]:
    """Rows of each field in the embedding tables, and how many of them keep nothing.

    Empty without a pruned table that has a row for each of the schema's (Poly2's is hashed).
    """
    tables = [
        keep
        for keep in _by_component(masks, labels).get("embedding", {}).values()
        if keep.ndim == 2 and keep.shape[0] == schema.num_rows
    ]
    if not tables:
        return {}
    dead = ~np.any([keep.any(axis=1) for keep in tables], axis=0)
    sizes = [f.size for f in schema.fields]
    pruned = np.add.reduceat(dead, np.cumsum([0, *sizes[:-1]]), dtype=np.int64)
    return {f.name: (f.size, int(n)) for f, n in zip(schema.fields, pruned, strict=True)}


def _by_component(masks: Masks, labels: Labels) -> dict[str, dict[str, np.ndarray]]:
    """Host copies of the masks by component code and path."""
    found: dict[str, dict[str, np.ndarray]] = {}
    keeps = leaves_by_path(masks)
    for path, code in leaves_by_path(labels).items():
        if code:
            found.setdefault(code, {})[path] = np.asarray(keeps[path])
    return found


def _counts(keeps: Collection[np.ndarray]) -> dict[str, Any]:
    kept, size = sum(int(np.count_nonzero(k)) for k in keeps), sum(k.size for k in keeps)
    return {"rate": 1 - kept / size if size else 0.0, "kept": kept, "total": size}
