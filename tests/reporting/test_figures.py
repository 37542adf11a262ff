"""What figures show: axes, names and data points; not pixels."""

import re

import numpy as np
import pytest

from deeplight_jax.data.schema import field_pairs
from deeplight_jax.evaluation.calibration import Reliability
from deeplight_jax.evaluation.importance import FieldLoss
from deeplight_jax.reporting import comparison_figures, figures
from deeplight_jax.reporting.series import Point, Series
from deeplight_jax.reporting.style import size, styled, to_svg, write_png


@pytest.fixture(autouse=True)
def style():
    with styled():
        yield


def points(line):
    return [(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_weight_distribution():
    edges = np.linspace(-1, 1, 5)
    deep = figures.Weights("dnn", edges, np.array([1, 40, 50, 9]), np.array([1, 0, 10, 9]), 80)
    table = figures.Weights("embedding", edges, None, np.array([3, 3, 3, 1]), 0)
    first, second = figures.weight_distribution([deep, table]).axes
    before, kept = (patch.get_data() for patch in first.patches)
    assert before.values.tolist() == [1, 40, 50, 9]
    assert kept.values.tolist() == [1, 0, 10, 9]
    assert kept.edges.tolist() == edges.tolist()
    assert first.get_title(loc="left") == "D (deep net): 80.0% of 100 zero"
    assert [p.get_data().values.tolist() for p in second.patches] == [[3, 3, 3, 1]]
    assert first.get_yscale() == "log"
    assert legend(first) == ["before pruning", "kept"]
    assert second.get_xlabel() == "weight"


def test_field_map():
    names, after = ["a", "b", "c", "$d$"], np.array([0.5, -1, 2, 0.25, -0.1, 3])
    keep = np.array([True, False, True, True, False, True])
    figure = figures.field_map(names, after + 10, after, keep, planted=[("c", "a"), ("b", "$d$")])
    ax, bar = figure.axes
    cells = ax.images[0].get_array()
    for p, (i, j) in enumerate(zip(*field_pairs(4), strict=True)):
        assert cells[i, j] == after[p] + 10  # above the diagonal: before
        assert bool(np.ma.getmaskarray(cells)[j, i] or np.isnan(cells[j, i])) == (not keep[p])
        if keep[p]:
            assert cells[j, i] == after[p]
    assert [t.get_text() for t in ax.get_xticklabels()] == names
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    marked = {tuple(map(int, xy)) for xy in ax.collections[0].get_offsets()}
    assert marked == {(0, 2), (2, 0), (1, 3), (3, 1)}
    assert ax.images[0].get_clim() == (-13, 13)
    assert bar.get_ylabel() == "weight"
    svg = to_svg(figure, "map")
    assert ">$d$</text>" in svg  # not mathematics


def test_schedule():
    rates = [
        figures.Rates("dnn", np.array([0, 10, 20]), np.array([0, 0.5, 0.8]), [(10, 0.45), (20, 0.8)], 0.9),
        figures.Rates("field", np.array([0, 10, 20]), np.array([0, 0.2, 0.4]), [(20, 0.4)], 0.5),
    ]
    above, below = figures.schedule(rates, [(10, 0.7), (20, 0.75)], 5, 20).axes
    planned, found, target = above.lines[:3]
    assert points(planned) == [(0, 0), (10, 0.5), (20, 0.8)]
    assert points(found) == [(10, 0.45), (20, 0.8)]
    assert target.get_ydata()[0] == 0.9
    assert legend(above) == ["D (deep net)", "R (field pairs)"]
    assert points(below.lines[0]) == [(10, 0.7), (20, 0.75)]
    assert points(below.lines[1]) == [(20, 0.75)]
    assert below.patches[0].get_width() == 5  # the warm-up
    assert (below.get_xlabel(), below.get_ylabel(), above.get_ylabel()) == ("step", "ROC AUC", "pruned")


def test_schedule_of_a_dense_run_shows_quality_alone():
    (ax,) = figures.schedule([], [(10, 0.7)], 0, None).axes
    assert points(ax.lines[0]) == [(10, 0.7)]
    assert not ax.patches


def test_calibration():
    def curve(observed):
        o = np.array(observed)
        return Reliability(np.array([0.1, 0.5]), o, o * 0.9, o * 1.1, np.array([10, 10]), 0.0125)

    (ax,) = figures.calibration({"pruned": curve([0.1, 0.52]), "dense": curve([0.0, 0.6])}).axes
    lines = [container.lines[0] for container in ax.containers]
    assert points(lines[0]) == [(0.1, 0.1), (0.5, 0.52)]
    assert points(lines[1]) == [(0.1, 0.0), (0.5, 0.6)]
    assert legend(ax) == ["pruned: error 0.0125", "dense: error 0.0125"]
    assert ax.get_xlim() == ax.get_ylim() == (pytest.approx(0.08), 1)


def test_field_importance():
    losses = [FieldLoss("a", 0.01, 0.001), FieldLoss("b", 0.05, 0.002), FieldLoss("c", -0.001, 0.0)]
    (ax,) = figures.field_importance(losses, most=2).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]  # the worst on top
    assert [bar.get_width() for bar in ax.patches] == [0.01, 0.05]


def test_rate_curves():
    timed = [Point(0.0, 0.80, 0.01, 4e6, 20.0), Point(0.9, 0.81, 0.0, 1e6, 2.0)]
    pruned = Series("deepfwfm, pruned", "pruned", tuple(timed))
    above, below = comparison_figures.rate_curves("dnn", [pruned]).axes
    assert points(above.lines[0]) == [(0.0, 0.80), (0.9, 0.81)]
    assert points(below.lines[0]) == [(0.0, 20.0), (0.9, 2.0)]
    assert below.get_ylabel() == "latency of a row, µs"
    assert below.get_xlabel() == "pruned of D (deep net)"
    bars = above.containers[0].lines[2][0].get_segments()
    assert bars[0][:, 1].tolist() == pytest.approx([0.79, 0.81])
    narrow = Series("deepfwfm, narrow net", "narrow net", tuple(p._replace(latency_us=None) for p in timed))
    above, below = comparison_figures.rate_curves("dnn", [pruned, narrow]).axes
    assert below.get_ylabel() == "size"  # not every point has a latency
    assert points(below.lines[0]) == [(0.0, 4e6), (0.9, 1e6)]
    assert below.lines[1].get_linestyle() == "--"
    assert legend(above) == ["deepfwfm, pruned", "deepfwfm, narrow net"]
    assert below.yaxis.get_major_formatter()(4e6, 0) == "4 MB"


def test_pareto():
    rows = [("a", "fm", 1e5, 0.7), ("b (k=3)", "fm", 2e5, 0.69), ("c", "lr", 3e5, 0.8), ("d", "lr", 1e4, 0.6)]
    (ax,) = comparison_figures.pareto([comparison_figures.Candidate(*row) for row in rows]).axes
    front, fm, lr = ax.lines
    assert points(front) == [(1e4, 0.6), (1e5, 0.7), (3e5, 0.8)]
    assert points(fm) == [(1e5, 0.7), (2e5, 0.69)]
    assert points(lr) == [(3e5, 0.8), (1e4, 0.6)]
    assert sorted(text.get_text() for text in ax.texts) == ["a", "c", "d"]
    assert ax.get_xscale() == "log"
    assert {text.get_text(): text.get_ha() for text in ax.texts} == {"a": "right", "c": "right", "d": "left"}
    assert legend(ax) == ["fm", "lr"]
    (ax,) = comparison_figures.pareto([comparison_figures.Candidate(*row) for row in rows[:3]]).axes
    assert ax.get_xscale() == "linear"
    assert {text.get_text(): text.get_ha() for text in ax.texts} == {"a": "left", "c": "right"}
    assert ax.xaxis.get_major_formatter()(2e5, 0) == "200 kB"


def test_files(tmp_path):
    figure = figures.field_importance([FieldLoss("<b>", 0.1, 0.0), FieldLoss("場", 0.2, 0.0)])
    svg = to_svg(figure, "one")
    assert svg.startswith("<svg")
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg
    assert "currentColor" in svg
    assert "<metadata" not in svg
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) <= set(re.findall(r' id="(one-[^"]*)"', svg))
    assert not re.findall(r' id="(?!one-)', svg)
    write_png(figure, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_500, "1 MB"), (999_999, "1 MB"),
     (999_600_000, "1 GB"), (12_340_000, "12.3 MB")],
)  # fmt: skip
def test_bytes_in_words_have_three_digits(count, text):
    assert size(count) == text
