"""rank scores the rows that its context and candidates make, bit for bit, and names what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from levels import NATIVE_LEVELS
from random_models import MIXED, config_of, random_params, random_rows

from deeplight_jax.errors import DataError
from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build

ENGINES = {
    level: build(
        Artifact(
            compact(config_of("deepfwfm").model, MIXED, random_params("deepfwfm", MIXED, 0, {})), {}, {}
        ),
        level,
    )
    for level in ("numpy", *NATIVE_LEVELS)
}
NAMES = [field.name for field in MIXED.fields]


@pytest.mark.parametrize("level", ENGINES)
@given(
    own=st.sets(st.sampled_from(NAMES), min_size=1),
    rows=st.sampled_from([0, 1, 3, 40]),
    wide=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_candidates_are_scored_as_their_rows(level, own, rows, wide, seed):
    ids, values = random_rows(MIXED, rows + 1, seed)
    cells = {f.name: ids[:, i] for i, f in enumerate(MIXED.categorical)}
    cells |= {f.name: values[:, i] for i, f in enumerate(MIXED.numeric)}
    context = {name: cells[name][0].item() for name in NAMES if name not in own}
    for name in own:  # as an ad server may hold them: wider types and lists
        cells[name] = (
            cells[name].astype(np.int64 if name.startswith("c") else np.float64) if wide else cells[name]
        )
    candidates = {name: cells[name][1:].tolist() if wide else cells[name][1:] for name in own}
    for i, field in enumerate(MIXED.categorical):
        ids[:, i] = ids[:, i] if field.name in own else ids[0, i]
    for i, field in enumerate(MIXED.numeric):
        values[:, i] = values[:, i] if field.name in own else values[0, i]
    found = ENGINES[level].rank(context, candidates)
    np.testing.assert_array_equal(found, ENGINES[level].score(ids[1:].copy(), values[1:].copy()))


CONTEXT = {"x0": 0.5, "x1": 0, "c0": 1}
CANDIDATES = {"c1": [0, 1, 2], "c2": [4, 0, 3]}


@pytest.mark.parametrize(
    ("context", "candidates", "named"),
    [
        ({**CONTEXT, "c9": 1}, CANDIDATES, "has no field c9"),
        ({**CONTEXT, "c1": 1}, CANDIDATES, "field c1 is both"),
        ({"x0": 1.0}, CANDIDATES, "no cell for field x1, c0"),
        (CONTEXT, {}, "candidates names no field"),
        (CONTEXT, {**CANDIDATES, "c2": [1]}, "field c1 has 3 cells and c2 1"),
        (CONTEXT, {**CANDIDATES, "c2": [[1, 2, 3]]}, r"field c2: its shape is \[1, 3\]"),
        (CONTEXT, {**CANDIDATES, "c2": [1.0, 2.0, 0.0]}, "candidates, field c2: float64 where an id"),
        (CONTEXT, {**CANDIDATES, "c2": ["a", "b", "c"]}, "field c2: <U1 where an id"),
        (CONTEXT, {**CANDIDATES, "c2": [0, 5, 1]}, "candidates, field c2: id 5 is outside 0 to 4"),
        (CONTEXT, {**CANDIDATES, "c2": [0, 2**32, 1]}, f"id {2**32} is outside"),
        ({**CONTEXT, "c0": -1}, CANDIDATES, "context, field c0: id -1 is outside 0 to 3"),
        ({**CONTEXT, "c0": [1, 2]}, CANDIDATES, r"context, field c0: its shape is \[2\]"),
        ({**CONTEXT, "x0": "a"}, CANDIDATES, "context, field x0: <U1 where a number"),
        ({**CONTEXT, "x0": float("nan")}, CANDIDATES, "row 0, field x0: nan is not finite"),
        ({**CONTEXT, "x0": 1e300}, CANDIDATES, "row 0, field x0: inf is not finite"),
        ({"x0": 0.5, "c0": 1}, {**CANDIDATES, "x1": [0, -1e300, 1]}, "row 1, field x1: -inf is not finite"),
        (CONTEXT, {**CANDIDATES, "c2": [[1], [2, 3], []]}, "candidates, field c2: .*sequence"),
        ({**CONTEXT, "c0": [[1], [2, 3]]}, CANDIDATES, "context, field c0: .*sequence"),
    ],
)
def test_what_does_not_fit_is_named(context, candidates, named):
    with pytest.raises(DataError, match=named):
        ENGINES["numpy"].rank(context, candidates)
