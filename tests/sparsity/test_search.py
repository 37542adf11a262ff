"""The search for a cut: its counts, and how many passes it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplight_jax.sparsity import search


def test_counts_below_every_bound_over_all_arrays():
    draw = np.random.default_rng(0)
    arrays = [draw.integers(0, 50, (7, 3)).astype(np.int32), draw.integers(0, 50, 11).astype(np.int32)]
    bounds = np.array([0, 3, 3, 49, 50], np.int32)
    expected = [sum(int(v < b) for a in arrays for v in a.ravel()) for b in bounds]
    found = search.count_below([jnp.asarray(a) for a in arrays], jnp.asarray(bounds))
    assert found.tolist() == expected


def _values(kind):
    draw = np.random.default_rng(1)
    if kind == "equal":
        return np.full(300_000, 12345, np.int32)
    if kind == "two":
        return np.where(draw.random(300_000) < 0.3, 7, 2**31 - 3).astype(np.int32)
    floats = {"normal": draw.normal(size=300_000), "heavy": draw.normal(size=300_000) ** 9}[kind]
    return np.abs(floats).astype(np.float32).view(np.int32)


@pytest.mark.parametrize(("kind", "most"), [("normal", 6), ("heavy", 7), ("equal", 17), ("two", 17)])
def test_passes_are_few(kind, most, monkeypatch):
    passes, count_below = [], search.count_below

    def counted(arrays, bounds):
        jax.debug.callback(lambda: passes.append(1))
        return count_below(arrays, bounds)

    monkeypatch.setattr(search, "count_below", counted)
    values = _values(kind)
    ordered = np.sort(values)
    find = jax.jit(lambda x, count: search.find_cut([x], count))
    for count in (1, 1000, 90_000, 270_000, 300_000):
        passes.clear()
        cut = jax.block_until_ready(find(values, jnp.int32(count)))
        jax.effects_barrier()
        assert 1 <= len(passes) <= most
        below = int((values < int(cut.bound)).sum())
        assert below + int(cut.ties) == count
        assert int(cut.ties) == 0 or ordered[count - 1] == int(cut.bound)
