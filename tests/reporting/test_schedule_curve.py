"""The schedule's curve is of the schedule that the run has."""

import math

import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.reporting.details import _rates
from deeplight_jax.reporting.sources import Record
from deeplight_jax.training.plan import make_plan


def damped(k):
    return 1 - 0.99 ** (k / 2)


def polynomial(k):
    whole = 2 * math.log(0.01) / math.log(0.99)
    return 1 - max(1 - k / whole, 0) ** 3


def one_shot(k):
    return float(k > 0)


@pytest.mark.parametrize("oracle", [damped, polynomial, one_shot], ids=lambda f: f.__name__)
def test_rates_follow_it(oracle):
    settings = {"sparsity.dnn": 0.8, "sparsity.schedule": oracle.__name__, "sparsity.damping_steps": 2.0}
    steps = {"data.batch_size": 1, "train.epochs": 4, "sparsity.warmup_epochs": 1.0}
    config = override(default_config(), settings | steps | {"sparsity.short_schedule": "accept"})
    plan = make_plan(config, 300)
    (found,) = _rates(plan, Record("run", "run", config, {}, None, []))
    assert found.planned[0] == 0
    for step, rate in zip(found.steps, found.planned, strict=True):
        assert rate == pytest.approx(0.8 * oracle(max(step - 300, 0)), abs=1e-12)
