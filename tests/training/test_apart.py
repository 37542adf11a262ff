"""What a run does for a device that is not this processor: programs without branches, batches drawn ahead."""

import threading
from itertools import count, islice

import jax
import numpy as np
import pytest
import tiny
from whole_runs import final_state

from deeplight_jax.config import default_config, override
from deeplight_jax.data import ahead
from deeplight_jax.training import job as jobs
from deeplight_jax.training import step as steps
from deeplight_jax.training.loop import train

WAYS = {
    "adam": {"train.on_nonfinite": "skip"},
    "lazy_adam": {"optim.embedding": "lazy_adam"},
    "held": {"sparsity.growth": "random", "optim.embedding": "rowwise_adagrad"},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny.planted(tmp_path_factory, rows=1_200, largest=30, pairs=2)


@pytest.mark.parametrize("way", WAYS)
def test_programs_apart_train_as_one_with_a_branch(way, world, tmp_path, monkeypatch):
    config = override(
        default_config(), {**tiny.SETTINGS, **tiny.RATES, **WAYS[way], "data.dir": str(world.directory)}
    )
    made = []
    make = jobs.make_train_step
    monkeypatch.setattr(jobs, "make_train_step", lambda *a: made.append(make(*a)) or made[-1])
    ends = []
    for apart in (False, True):
        monkeypatch.setattr(steps, "device_is_apart", lambda apart=apart: apart)
        made.clear()
        result = train(config, tmp_path / str(apart))
        assert [step._cache_size() for step in made] == [1, 1] if apart else [1]
        ends.append((result, final_state(config, tmp_path / str(apart), world)))
    (one, before), (two, after) = ends
    assert two["roc_auc"] == pytest.approx(one["roc_auc"], abs=1e-6)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if a.dtype == bool:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_batches_drawn_ahead_are_the_same_in_the_same_order():
    drawn = []

    def draw():
        for i in range(100):
            drawn.append(i)
            yield i

    with ahead.drawn_ahead(draw(), ahead=True) as batches:  # pyright: ignore
        first = next(batches)
        found = [first, *batches]
    assert found == drawn == list(range(100))


def test_no_more_than_a_few_are_drawn_ahead_and_the_thread_ends_with_the_reader():
    drawn = []
    source = (drawn.append(i) or i for i in count())
    with ahead.drawn_ahead(source, ahead=True) as batches:  # pyright: ignore
        assert list(islice(batches, 3)) == [0, 1, 2]
        names = [thread.name for thread in threading.enumerate()]
        assert "batches" in names
    assert "batches" not in [thread.name for thread in threading.enumerate()]
    assert len(drawn) <= 3 + ahead._WAITING + 1


def test_an_error_in_drawing_comes_where_its_batch_would():
    def draw():
        yield 1
        raise OSError("gone")

    with ahead.drawn_ahead(draw(), ahead=True) as batches:  # pyright: ignore
        assert next(batches) == 1
        with pytest.raises(OSError, match="gone"):
            next(batches)


def test_a_cpu_draws_its_batches_itself():
    source = iter([1, 2])
    with ahead.drawn_ahead(source, ahead=steps.device_is_apart()) as batches:  # pyright: ignore
        assert batches is source
