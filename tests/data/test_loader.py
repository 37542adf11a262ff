"""The loader: a bijection an epoch, seekable, padded with weight 0."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplight_jax.data.loader import eval_batches, permuted, steps_per_epoch, train_batches
from deeplight_jax.data.prepared import Split


def make(rows):
    index = np.arange(rows)
    return Split(
        ids=np.stack([index, -index], 1).astype(np.int32),
        values=index[:, None].astype(np.float32) / 2,
        label=(index % 3 == 0).astype(np.uint8),
    )


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 5000), st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_an_epoch_is_a_permutation(rows, seed, epoch):
    order = permuted(np.arange(rows), rows, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(rows))


def test_orders_look_shuffled_and_differ():
    n = 50_000
    orders = [permuted(np.arange(n), n, s, e) for s, e in ((0, 0), (0, 1), (1, 0))]
    for a, b in itertools.combinations(orders, 2):
        assert (a == b).mean() < 0.001
    for order in orders:
        assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.02
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
        halves = (order[: n // 2] < n // 2).mean()  # neither half of the rows comes first
        assert abs(halves - 0.5) < 0.02


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.integers(1, 64), st.integers(0, 200), st.integers(0, 5))
def test_seeking_equals_reading_on(rows, batch_size, first, seed):
    split = make(rows)
    read_on = itertools.islice(train_batches(split, batch_size, seed), first, first + 3)
    sought = itertools.islice(train_batches(split, batch_size, seed, first_step=first), 3)
    for a, b in zip(read_on, sought, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000])
def test_every_row_once_an_epoch_and_columns_stay_together(rows):
    split, batch_size = make(rows), 64
    per_epoch = steps_per_epoch(rows, batch_size)
    for batches in (
        list(eval_batches(split, batch_size)),
        list(itertools.islice(train_batches(split, batch_size, 3), per_epoch)),
    ):
        assert len(batches) == per_epoch
        assert {b.ids.shape for b in batches} == {(batch_size, 2)}
        seen = np.concatenate([b.ids[b.weight == 1, 0] for b in batches])
        assert np.array_equal(np.sort(seen), np.arange(rows))
        for b in batches:
            np.testing.assert_array_equal(b.ids[:, 1], -b.ids[:, 0])
            np.testing.assert_array_equal(b.values[:, 0], b.ids[:, 0] / 2)
            np.testing.assert_array_equal(b.label, b.ids[:, 0] % 3 == 0)
            assert set(b.weight) <= {0.0, 1.0}


def test_evaluation_is_in_order():
    batches = list(eval_batches(make(10), 4))
    np.testing.assert_array_equal(np.concatenate([b.ids[b.weight == 1, 0] for b in batches]), np.arange(10))
