"""The damped schedule against the paper's formula in float64."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.schedule import (
    damped,
    damping_steps_to_reach,
    fraction_reached,
    is_event,
    last_event,
    one_shot,
    polynomial,
)


@given(st.floats(0, 0.999), st.integers(-50, 300_000), st.floats(0.5, 0.9999), st.floats(1, 10_000))
def test_damped_is_the_papers_formula(target, k, damping, steps):
    exact = target * (1 - damping ** (max(k, 0) / steps))
    rounding = 1e-6 + 6e-8 / (1 - damping)
    assert float(damped(target, k, damping, steps)) == pytest.approx(exact, rel=rounding, abs=1e-37)


@given(st.floats(0.01, 0.999), st.integers(0, 10**6), st.integers(1, 1000))
def test_damped_grows_and_never_passes_its_target(target, k, more):
    now, later = float(damped(target, k)), float(damped(target, k + more))
    assert 0 <= now <= later <= np.float32(target)


def test_damped_at_the_papers_settings():
    # 458 U steps reach 99 % of the target (1 - 0.99^458 = 0.98998)
    assert fraction_reached(45_800, 0.99, 100) == pytest.approx(0.99, abs=1e-4)
    assert float(jax.jit(damped)(0.9, 10)) == pytest.approx(0.9 * (1 - 0.99**0.1), rel=1e-5)


@given(st.floats(0.5, 0.9999), st.integers(1, 10**6), st.floats(0.5, 0.999))
def test_rescaled_damping_reaches_the_fraction_exactly(fraction, k, damping):
    steps = damping_steps_to_reach(fraction, k, damping)
    assert math.isclose(fraction_reached(k, damping, steps), fraction, rel_tol=1e-9)


@given(st.floats(0, 0.999), st.integers(-50, 300_000), st.floats(0.5, 0.9999), st.floats(1, 10_000))
def test_polynomial_is_zhu_and_guptas_cubic(target, k, damping, steps):
    end = steps * math.log(0.01) / math.log(damping)  # where damped reaches 99 %
    exact = target + (0 - target) * (1 - min(max(k, 0), end) / end) ** 3
    assert float(polynomial(target, k, damping, steps)) == pytest.approx(exact, rel=1e-3, abs=1e-6)
    share = fraction_reached(k, damping, steps, "polynomial")
    assert share * target == pytest.approx(exact, rel=1e-9, abs=1e-12)


@given(st.floats(0, 0.999), st.integers(-50, 300_000))
def test_one_shot_is_all_at_once(target, k):
    assert float(one_shot(target, k)) == (np.float32(target) if k > 0 else 0)
    assert fraction_reached(k, 0.99, 100, "one_shot") == (k > 0)


@given(st.floats(0.5, 0.9999), st.integers(1, 10**6), st.floats(0.5, 0.999))
def test_rescaled_polynomial_reaches_the_fraction_exactly(fraction, k, damping):
    steps = damping_steps_to_reach(fraction, k, damping, "polynomial")
    assert math.isclose(fraction_reached(k, damping, steps, "polynomial"), fraction, rel_tol=1e-9)


def test_no_pruning_step_cannot_reach_anything():
    with pytest.raises(ConfigError, match="no pruning event"):
        damping_steps_to_reach(0.99, 0, 0.99)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 20), st.integers(0, 60))
def test_last_event_is_the_last_of_all_events(total, warmup, interval, epoch):
    events = [
        s
        for s in range(1, total + 1)
        if s > warmup and ((s - warmup) % interval == 0 or (epoch and s % epoch == 0))
    ]
    assert last_event(total, warmup, interval, epoch) == (events[-1] if events else 0)
    on_host = [s for s in range(1, total + 1) if is_event(s - warmup, warmup, interval, epoch)]
    on_device = 1 + np.flatnonzero(is_event(np.arange(1, total + 1) - warmup, warmup, interval, epoch))
    assert on_host == on_device.tolist() == events
