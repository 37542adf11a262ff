"""Runs stopped, read back and compared, for the rooms whose tests train."""

import os

import jax
import numpy as np
import pytest

from deeplight_jax.training import checkpoint
from deeplight_jax.training.job import make_job, true_state
from deeplight_jax.training.loop import train

IS_LONG = os.environ.get("DEEPLIGHT_FAULTS") == "long"
LONG = pytest.mark.skipif(not IS_LONG, reason="in the long form (make faults)")


class Interrupted(Exception):
    """A run stopped from outside, as a lost machine would stop it."""


def run_until(config, workdir, step):
    """Train, and lose the machine behind a step."""

    def stop(what, done, total):
        if what == "training" and done == step:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(config, workdir, progress=stop)


def final_state(config, workdir, data):
    """The state in a run's newest checkpoint: parameters, moments, masks, churn."""
    job = make_job(config, workdir, data, lambda *_: None)
    directory = workdir / "checkpoints"
    return checkpoint.restore(directory, checkpoint.saved_steps(directory)[-1], true_state(job))[0]


def assert_equal_trees(a, b):
    """The same structure and the same leaves."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))
