"""Whole rows, whole units, fields one by one and N:M against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.components import Component, parse_pattern
from deeplight_jax.sparsity.masks import select_masks

SECTIONS = (1, 1, 7, 20, 3)
SHAPES = {"t": (32, 4), "u": (32, 1), "h": (13, 6), "g": (6, 9)}
LABELS = {"t": "embedding", "u": "embedding", "h": "dnn", "g": "dnn"}


def tree(seed, signed=False):
    """Few distinct values, so that equals meet at the threshold, with one row and one unit at zero."""
    rng = np.random.default_rng(seed)
    out = {n: rng.integers(-6, 7, s).astype(np.float32) for n, s in SHAPES.items()}
    out["t"][5], out["h"][:, 2] = 0, 0
    return out


def selected(*components, signed=False):
    return jax.jit(lambda x, rates: select_masks(x, LABELS, components, rates, signed=signed))


def count(rate, size):
    return round(float(np.float32(rate) * np.float32(size)))


def lowest(scores, number):
    """Indices of the `number` lowest scores, of equals the first."""
    return set(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:number])


def norm(x, signed):
    x = np.asarray(x, np.float64)
    return x.sum() if signed else np.sqrt((x * x).sum())


ROWS = {s: selected(Component("embedding", 0.0, "rows"), signed=s) for s in (False, True)}
UNITS = {s: selected(Component("dnn", 0.0, "units"), signed=s) for s in (False, True)}
FIELDS = selected(Component("embedding", 0.0, "sections", SECTIONS))
PATTERNS = {p: selected(Component("dnn", 0.0, p)) for p in ("2:4", "1:4", "3:5")}


@settings(max_examples=60)
@given(st.integers(0, 99), st.integers(0, 500), st.booleans())
def test_rows_are_whole_and_ranked_over_all_tables(percent, seed, signed):
    x, rate = tree(seed), percent / 100
    masks = ROWS[signed](x, {"embedding": rate})
    scores = [norm(row, signed) for name in ("t", "u") for row in x[name]]
    gone = lowest(scores, count(rate, 64))
    for start, name in ((0, "t"), (32, "u")):
        for i, row in enumerate(np.asarray(masks[name])):
            assert row.all() == (start + i not in gone)
            assert row.any() == row.all()


@settings(max_examples=60)
@given(st.integers(0, 99), st.integers(0, 500), st.booleans())
def test_units_are_whole_and_ranked_layer_by_layer(percent, seed, signed):
    x, rate = tree(seed), percent / 100
    masks = UNITS[signed](x, {"dnn": rate})
    for name in ("h", "g"):
        gone = lowest([norm(unit, signed) for unit in x[name].T], count(rate, SHAPES[name][1]))
        for i, unit in enumerate(np.asarray(masks[name]).T):
            assert unit.all() == unit.any() == (i not in gone)


@settings(max_examples=40)
@given(st.integers(0, 99), st.integers(0, 500))
def test_every_field_is_pruned_to_the_rate(percent, seed):
    x, rate = tree(seed), percent / 100
    masks = FIELDS(x, {"embedding": rate})
    for name in ("t", "u"):
        start = 0
        for rows in SECTIONS:
            part, keep = (a[start : start + rows].ravel() for a in (x[name], np.asarray(masks[name])))
            gone = lowest(np.abs(part).tolist(), count(rate, part.size))
            assert set(np.flatnonzero(~keep)) == gone
            start += rows


def test_a_table_of_other_rows_is_one_section():
    component = Component("embedding", 0.0, "sections", (3, 4))
    masks = select_masks({"t": np.arange(10.0, dtype=np.float32)}, {"t": "embedding"}, [component],
                         {"embedding": 0.5})  # fmt: skip
    assert np.flatnonzero(~np.asarray(masks["t"])).tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=60)
@given(st.sampled_from(sorted(PATTERNS)), st.integers(0, 100), st.integers(0, 500))
def test_n_of_each_m_inputs_are_kept(pattern, share, seed):
    n, m = parse_pattern(pattern)
    x, rate = tree(seed), (1 - n / m) * share / 100
    masks = PATTERNS[pattern](x, {"dnn": rate})
    prune = count(rate, m)
    for name in ("h", "g"):
        inputs, units = SHAPES[name]
        keep = np.asarray(masks[name])
        for unit in range(units):
            for start in range(0, inputs, m):
                group = np.abs(x[name][start : start + m, unit])
                gone = lowest(group.tolist(), max(0, prune - (m - len(group))))
                assert set(np.flatnonzero(~keep[start : start + m, unit])) == gone
                if share == 100:
                    assert keep[start : start + m, unit].sum() <= n


def test_one_threshold_over_hidden_layers():
    x = {**tree(0), "g": 100 * np.ones(SHAPES["g"], np.float32)}
    masks = select_masks(x, LABELS, [Component("dnn", 0.0, "global")], {"dnn": 0.5})
    assert np.asarray(masks["g"]).all()
    assert np.asarray(masks["h"]).sum() == 132 - 66 - 54


def test_components_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="no scope 'row'; did you mean 'rows'"):
        Component("embedding", 0.5, "row")
    with pytest.raises(ConfigError, match=r"2:4 prunes 0\.5; make that its target, which is 0\.9"):
        Component("dnn", 0.9, "2:4")
    for pattern in ("4:2", "0:4", "2:64", "2:4:8"):
        with pytest.raises(ConfigError, match="no scope"):
            Component("dnn", 0.5, pattern)
    assert Component("dnn", 0.75, "1:4").group == 4
    assert jnp.asarray(Component("dnn", 2 / 3, "1:3").target) > 0.6
