"""Runs compared: seeds grouped, curves against a rate, the Pareto front."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.config import default_config, override
from deeplight_jax.models.argument import apply_argument
from deeplight_jax.reporting.details import dense_twin
from deeplight_jax.reporting.naming import argument_of
from deeplight_jax.reporting.series import group_settings, pareto_front, rate_series, varying
from deeplight_jax.reporting.sources import Record

DATA = {"content_hash": "abc", "rows": 10, "schema": []}


def record(argument, area=0.8, size=100, seed=0, data=DATA, latency=None, **more):
    config = default_config().copy_and_resolve_references().unlock()
    apply_argument(config, argument)
    config = override(config, {"seed": seed, **{k.replace("__", "."): v for k, v in more.items()}})
    rates = {
        c: {"rate": config.sparsity[c], "target": config.sparsity[c]} for c in ("dnn", "field", "embedding")
    }
    result = {"roc_auc": area, "log_loss": 0.5, "bytes": size, "components": rates, "split": "test"}
    return Record(f"{argument}/{seed}", "", config, data, result, [], latency)


@pytest.mark.parametrize(
    "argument",
    ["lr", "deepfwfm,D90-R90-F40", "nfm,pairwise", "nfm,pairwise,D90-F40", "deepfwfm,N-95", "dcn,X12.5"],
)
def test_arguments_come_back(argument):
    assert argument_of(record(argument).config) == argument


def test_seeds_make_one_setting_and_namesakes_are_told_apart():
    fast = record("fm", optim__learning_rate=0.01)
    other_rows = record("fm", data={**DATA, "content_hash": "xyz"})
    runs = [record("fm"), record("fm", seed=1, area=0.9), fast, record("lr"), other_rows]
    found = group_settings([*runs, record("fm", seed=2)._replace(result=None)])
    slow = "fm (learning_rate=0.001, data={})"
    fast = "fm (learning_rate=0.01, data=abc)"
    assert [s.label for s in found] == [slow.format("abc"), fast, "lr", slow.format("xyz")]
    assert [len(s.records) for s in found] == [2, 1, 1, 1]
    assert found[0].values("roc_auc") == [0.8, 0.9]
    assert found[0].argument == "fm"
    assert varying(runs[:3]) == ["optim.learning_rate", "seed"]


def test_short_embeddings_have_the_papers_name():
    runs = [record("deepfwfm"), record("deepfwfm,E-40"), record("deepfwfm,E-80"), record("fm,E-40")]
    assert [s.label for s in group_settings(runs)] == ["deepfwfm", "deepfwfm,E-40", "deepfwfm,E-80", "fm"]


def test_curves_hold_everything_else_equal():
    runs = [
        record("deepfwfm", 0.80, 400),
        record("deepfwfm", 0.82, 400, seed=1),
        record("deepfwfm,D90", 0.83, 100, latency=2.0),
        record("deepfwfm,D50", 0.85, 250),
        record("deepfwfm,N-90", 0.70, 110),
        record("deepfwfm,D90-R90", 0.9, 90),
        record("deepfwfm,R90", 0.9, 390),
        record("lr", 0.6, 10),
    ]
    curves = rate_series(runs, "dnn")
    assert [c.label for c in curves] == ["deepfwfm, pruned", "deepfwfm, narrow net", "deepfwfm, R90, pruned"]
    pruned, narrow, within = curves
    assert [p.rate for p in pruned.points] == [0.0, 0.5, 0.9]
    assert pruned.points[0].roc_auc == pytest.approx(0.81)
    assert pruned.points[0].spread == pytest.approx(0.02 / 2**0.5)
    assert [p.bytes for p in pruned.points] == [400, 250, 100]
    assert [p.latency_us for p in pruned.points] == [None, None, 2.0]
    assert [(p.rate, p.roc_auc) for p in narrow.points][1] == (0.9, 0.70)
    assert [(p.rate, p.bytes) for p in within.points] == [(0.0, 390), (0.9, 90)]
    assert [c.label for c in rate_series(runs, "field")] == ["deepfwfm, pruned", "deepfwfm, D90, pruned"]
    assert rate_series(runs, "embedding") == []
    assert len(rate_series(runs, "dnn", most=1)) == 1


def test_short_embeddings_are_a_curve_of_their_own():
    runs = [record("deepfwfm", 0.8), record("deepfwfm,E-40", 0.79), record("deepfwfm,F40", 0.81)]
    found = {c.kind: [(p.rate, p.roc_auc) for p in c.points] for c in rate_series(runs, "embedding")}
    assert found["pruned"] == [(0.0, 0.8), (0.4, 0.81)]
    assert found["short embedding"] == [(0.0, 0.8), (pytest.approx(0.4), 0.79)]


def test_the_dense_twin_has_all_but_the_targets():
    pruned = record("deepfwfm,D90", seed=1)
    others = [record("deepfm", seed=1), record("deepfwfm,R90", seed=1), record("deepfwfm", optim__l2=1e-5)]
    assert dense_twin(pruned, [pruned, *others]) is None
    twins = [record("deepfwfm", seed=0), record("deepfwfm", seed=1)]
    assert dense_twin(pruned, [pruned, *others, *twins]) is twins[1]
    assert dense_twin(pruned, [twins[0]]) is twins[0]
    assert dense_twin(twins[0], twins) is None


def beaten(a, b):
    """Whether b is no worse than a in both and better in one."""
    return b[0] <= a[0] and b[1] >= a[1] and b != a


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_the_front_is_what_nothing_beats(points):
    front = [points[i] for i in pareto_front([c for c, _ in points], [s for _, s in points])]
    assert front == sorted({p for p in points if not any(beaten(p, q) for q in points)})
