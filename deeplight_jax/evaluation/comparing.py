"""Two models' masks side by side, by component and by name; knows NumPy alone, as `sparsity.overlap` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplight_jax.data.schema import Schema, field_pairs
from deeplight_jax.sparsity.overlap import Overlap, overlap_of, total

Components = Mapping[str, Mapping[str, np.ndarray]]  # keep-masks by component code and path


def compare_components(a: Components, b: Components, schema: Schema) -> dict[str, Any]:
    """As `liveness.compare_masks` returns it, of masks of the same codes, paths and shapes."""
    overlaps = {
        code: {path: overlap_of(keep, b[code][path]) for path, keep in layers.items()}
        for code, layers in a.items()
    }
    live_a, live_b = (pairs_alive(m.get("field", {}), schema) for m in (a, b))
    lost, gained = (None, None) if live_a is None or live_b is None else (live_a & ~live_b, live_b & ~live_a)
    return {
        "components": {
            code: {**_overlap(total(layers.values())), "layers": {p: _overlap(o) for p, o in layers.items()}}
            for code, layers in overlaps.items()
        },
        "pairs_lost": pair_names(lost, schema),
        "pairs_gained": pair_names(gained, schema),
    }


def pairs_alive(fields: Mapping[str, np.ndarray], schema: Schema) -> np.ndarray | None:
    """bool[pair], in the order of `Schema.pairs`: R's masks keep a weight of it; None without masks."""
    first, second = field_pairs(schema.num_fields)
    live = None
    for keep in fields.values():
        if keep.shape == (schema.num_fields, schema.num_fields):
            pairs = (keep | keep.T)[first, second]
        else:
            pairs = np.logical_or.reduce(keep, axis=tuple(range(1, keep.ndim)))
        live = pairs if live is None else live | pairs
    return live


def pair_names(marked: np.ndarray | None, schema: Schema) -> list[list[str]]:
    """Field names of the marked pairs."""
    return [] if marked is None else [list(schema.pairs[i]) for i in np.flatnonzero(marked)]


def _overlap(overlap: Overlap) -> dict[str, Any]:
    counts = {k: v for k, v in overlap._asdict().items() if k != "by_chance"}
    return {**counts, "jaccard": overlap.jaccard, "chance": overlap.chance}
