"""Plans: pure decisions of a run."""

import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.errors import ConfigError
from deeplight_jax.training.plan import check_prunable, is_ripe, make_plan, targets

PAPER_ROWS = 41_256_556


def config(**keys):
    return override(default_config(), {k.replace("__", "."): v for k, v in keys.items()})


def test_the_papers_plan():
    pruned = config(sparsity__dnn=0.9, sparsity__field=0.9, sparsity__embedding=0.4)
    plan = make_plan(pruned, PAPER_ROWS)
    assert (plan.epoch_steps, plan.total_steps, plan.warmup_steps) == (20_145, 201_450, 40_290)
    assert plan.notice == ""
    assert targets(plan) == {"dnn": 0.9, "field": 0.9, "embedding": 0.4}
    assert [c.scope for c in plan.components] == ["layer", "symmetric", "global"]
    # 99 % of a target takes 458 U steps behind the warm-up
    assert not is_ripe(plan, pruned, 40_290 + 45_700)
    assert is_ripe(plan, pruned, 40_290 + 46_000)


def test_targets_need_a_component_that_the_model_has():
    labels = {"embedding": {"table": "embedding"}, "bias": ""}
    check_prunable(make_plan(config(sparsity__embedding=0.4), PAPER_ROWS), labels, "fm")
    with pytest.raises(ConfigError, match=r"sparsity.dnn=0.9, but model fm has no such .*it has embedding"):
        check_prunable(make_plan(config(sparsity__dnn=0.9), PAPER_ROWS), labels, "fm")


def test_given_masks_that_stay_need_no_schedule():
    given = {"sparsity__init_masks": "m.safetensors"}
    fixed = make_plan(config(**given, sparsity__regrow=False), 10_000)
    assert fixed.warmup_steps == fixed.total_steps
    assert set(targets(fixed).values()) == {0.0}
    check_prunable(fixed, {"table": "embedding"}, "lr")
    assert is_ripe(fixed, config(**given), 1)
    further = make_plan(config(**given, sparsity__regrow=False, sparsity__dnn=0.9), PAPER_ROWS)
    assert further.warmup_steps == 40_290
    assert set(targets(further)) >= {"dnn", "field", "embedding"}
    free = make_plan(config(**given), 10_000)  # events open the masks up again: dense, sparse, dense
    assert free.warmup_steps == 2 * free.epoch_steps


def test_a_dense_plan_is_always_ripe():
    plan = make_plan(config(), 1000)
    assert plan.components == ()
    assert is_ripe(plan, config(), 1)


@pytest.mark.parametrize("reach", [0.9, 0.99, 0.999])
def test_rescaling_reaches_the_targets_at_the_last_event(reach):
    short = config(
        sparsity__dnn=0.9, sparsity__short_schedule="rescale", sparsity__reach=reach, train__epochs=4
    )
    plan = make_plan(short, 2048 * 25)
    assert plan.total_steps == 100
    assert "rescaled" in plan.notice
    assert is_ripe(plan, short, 100)
    assert not is_ripe(plan, short, 99)
    assert 1 - 0.99 ** (50 / plan.damping_steps) == pytest.approx(reach)


def test_accepting_a_short_schedule_says_what_is_reached():
    short = config(sparsity__dnn=0.9, sparsity__short_schedule="accept", train__epochs=4)
    plan = make_plan(short, 2048 * 25)
    assert plan.damping_steps == 100
    assert plan.reach == pytest.approx(1 - 0.99**0.5)
    assert "reach 0.5% of the targets" in plan.notice
    assert is_ripe(plan, short, 100)


def test_too_short_is_an_error_with_a_remedy():
    with pytest.raises(ConfigError, match=r"50 pruning steps \(of 100 in all\) reach 0.5% of the targets"):
        make_plan(config(sparsity__dnn=0.9, train__epochs=4), 2048 * 25)
