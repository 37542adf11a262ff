"""Where a run stands after its evaluations: the best of them, patience, and what a checkpoint keeps."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplight_jax.errors import RunError
from deeplight_jax.training.standing import Evaluation, Standing, read_standing

# few values, so that equals are common
EVALUATIONS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.6, 0.7, 0.8])), max_size=12)


def evaluations(rows):
    return [Evaluation(10 * (i + 1), ripe, auc, 1 - auc) for i, (ripe, auc) in enumerate(rows)]


def standing_after(rows, monitor="roc_auc"):
    standing = Standing()
    for evaluation in evaluations(rows):
        standing = standing.after(evaluation, monitor)
    return standing


@pytest.mark.parametrize("monitor", ["roc_auc", "log_loss"])
@given(EVALUATIONS)
def test_the_best_is_ripe_and_the_earliest_of_equals(monitor, rows):
    best, behind = None, 0
    for i, (ripe, auc) in enumerate(rows):
        if ripe and all(auc > other for earlier, other in rows[:i] if earlier):
            best, behind = 10 * (i + 1), 0
        elif ripe:
            behind += 1
    standing = standing_after(rows, monitor)
    assert (standing.best.step if standing.best else None) == best
    assert standing.since_best == behind
    assert (standing.last.step if standing.last else 0) == 10 * len(rows)


def test_patience_counts_ripe_evaluations_only():
    waiting = standing_after([(False, 0.9), (False, 0.8), (False, 0.7)])
    assert not waiting.should_stop(1)
    standing = standing_after([(False, 0.9), (True, 0.7), (True, 0.6), (False, 0.5), (True, 0.65)])
    assert standing.should_stop(2)
    assert not standing.should_stop(3)
    assert not standing.should_stop(0)


@given(EVALUATIONS)
def test_a_checkpoint_tells_it_and_an_older_one_that_holds_all_evaluations_too(rows):
    standing = standing_after(rows)
    about = json.loads(json.dumps({"standing": standing.to_json()}))
    assert read_standing(about, "roc_auc") == standing
    older = json.loads(json.dumps({"history": [e._asdict() for e in evaluations(rows)]}))
    assert read_standing(older, "roc_auc") == standing


def test_a_metric_that_cannot_be_monitored_is_named():
    with pytest.raises(RunError, match=r"train\.monitor='auc' is not roc_auc or log_loss"):
        Standing().after(Evaluation(1, True, 0.5, 0.7), "auc")
