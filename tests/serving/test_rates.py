"""Latency by rate: the nets measured are pruned as they say, and break-even is where the latencies cross."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import MIXED, artifact_of

from deeplight_jax.errors import ArtifactError
from deeplight_jax.serving import rates, rivals
from deeplight_jax.serving.artifact import save
from deeplight_jax.serving.bench import draw_rows
from deeplight_jax.serving.comparison import compare
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.rivals.dense import kind_of
from deeplight_jax.serving.rivals.forward import Ops, dense_logits
from deeplight_jax.serving.structure import with_table
from deeplight_jax.serving.tables import FORMATS

NUMPY = Ops(np.concatenate, lambda x, kernel, bias: x @ kernel + bias, lambda x: np.maximum(x, 0))


@pytest.mark.parametrize("name", ["deepfwfm", "deepfm", "nfm", "widedeep"])
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9])
def test_an_engine_at_a_rate_scores_as_its_pruned_dense_net(name, rate):
    engine = build(artifact_of(name, hidden=(20, 10)))
    model = engine.about["model"]
    arrays = rates.random_net(engine, model)
    assert [kernel.shape[1] for kernel, _ in arrays.layers] == [20, 10]
    at = rates.engine_at(engine, model, arrays, rate)
    assert at.compact.table is engine.compact.table
    thinned = tuple((rates.pruned(kernel, rate), bias) for kernel, bias in arrays.layers)
    ids, values = draw_rows(MIXED, "cold", 100)
    kind = kind_of(model, MIXED, engine.compact.dim)
    wanted = dense_logits(kind, arrays._replace(layers=thinned), ids, values, NUMPY)
    np.testing.assert_allclose(at.logits(ids, values), wanted, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 5))
def test_pruning_keeps_the_largest(size, rate, seed):
    x = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    found = rates.pruned(x, rate)
    kept = found != 0
    assert kept.sum() == size - int(rate * size)
    assert (found[kept] == x[kept]).all()
    assert kept.all() or np.abs(x[~kept]).max() <= np.abs(x[kept]).min()


@pytest.mark.parametrize("form", FORMATS)
def test_an_artifact_of_any_table_is_measured_beside_its_rivals(tmp_path, form):
    groups = [group for group, needs in (("scipy", "scipy"), ("onnxruntime", "onnx")) if find_spec(needs)]
    found = artifact_of(hidden=(20, 10))
    save(tmp_path / "m.safetensors", found._replace(model=with_table(found.compact, form)))
    compared = compare(tmp_path / "m.safetensors", groups, rounds=1, seconds=0.002, sweep=True)
    assert compared.left_out == {}
    assert len(compared.figures) == 1 + sum(len(rivals.RIVALS[group]) for group in groups)
    assert len(compared.sweep.lines) == len(rates.RATES)


def test_a_sweep_measures_every_rate_and_the_dense_rival():
    pytest.importorskip("onnxruntime")
    found = rates.sweep_rates(build(artifact_of(hidden=(20, 10))), "cold", 1, 0.002, rates=(0.0, 0.9))
    assert [line.rate for line in found.lines] == [0.0, 0.9]
    assert found.lines[0].weights > found.lines[1].weights > 0
    assert all(min(line.p50_us, line.row_us) > 0 for line in found.lines)
    assert found.rival == rates.RIVAL
    assert found.rival in rivals.RIVALS["onnxruntime"]
    assert found.break_even == rates.break_even(
        [(line.rate, line.p50_us) for line in found.lines], found.rival_p50_us
    )


def test_without_onnxruntime_there_is_no_rival_and_no_break_even(monkeypatch):
    monkeypatch.setattr(rates, "_onnx", lambda kind, arrays: None)
    found = rates.sweep_rates(build(artifact_of()), "warm", 1, 0.001, rates=(0.5,))
    assert found[1:] == (None,) * 5


def test_break_even_lies_between_the_neighbours_of_the_crossing():
    points = [(0.0, 100.0), (0.5, 40.0), (0.9, 10.0)]
    assert rates.break_even(points, 20.0) == pytest.approx(0.7)  # the geometric mean of 40 and 10
    assert rates.break_even(points, 40.0) == pytest.approx(0.5)
    assert rates.break_even(points, 10.0) == pytest.approx(0.9)
    assert rates.break_even(points, 5.0) is None
    assert rates.break_even(points, 1000.0) == 0.0
    bump = [(0.0, 5.0), (0.5, 40.0), (0.9, 10.0)]  # the last crossing counts
    assert rates.break_even(bump, 20.0) == pytest.approx(0.7)


def test_a_model_without_a_deep_net_has_no_rates():
    with pytest.raises(ArtifactError, match="fwfm has no hidden layer"):
        rates.sweep_rates(build(artifact_of("fwfm")), "cold", 1, 0.001)
