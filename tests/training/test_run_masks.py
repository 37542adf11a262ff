"""Masks of runs: read back without the parameters, and trained from."""

import json

import jax
import numpy as np
import optax
import pytest

from deeplight_jax.config import override
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.evaluation.liveness import describe_masks
from deeplight_jax.sparsity.masks import apply_masks, intersect, majority, read_masks, union, write_masks
from deeplight_jax.training import checkpoint
from deeplight_jax.training.inspect import load_masks, load_run
from deeplight_jax.training.job import make_job, masks_to_start_from, start_or_resume
from deeplight_jax.training.loop import train
from deeplight_jax.training.merging import load_comparable, merge_masks
from deeplight_jax.training.standing import Standing
from deeplight_jax.training.state import abstract_state

FREE = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0}


@pytest.fixture(scope="module")
def pruned(config, tmp_path_factory):
    """A run that prunes D and R, with its embeddings left alone."""
    workdir = tmp_path_factory.mktemp("pruned") / "run"
    train(override(config, {"sparsity.embedding": 0.0, "train.keep": 3}), workdir)
    return workdir


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_masks_are_those_of_the_state_and_keep_what_was_not_pruned(pruned, world):
    found, whole = load_masks(pruned), load_run(pruned)
    assert (found.step, found.plan, found.schema) == (whole.step, whole.plan, world.schema)
    assert found.data["content_hash"] == world.content_hash
    assert found.masks["embedding"]["table"].all()
    assert isinstance(found.masks["fwfm"]["v"], optax.MaskedNode)
    same({**found.masks, "embedding": 0}, {**jax.tree.map(np.asarray, whole.masks), "embedding": 0})
    warm = load_masks(f"{pruned}@25")  # the end of the warm-up
    assert warm.step == 25
    assert all(keep.all() for keep in jax.tree.leaves(warm.masks))
    with pytest.raises(RunError, match="no checkpoint of step 26; it has 25, 50, 75"):
        load_masks(f"{pruned}@26")


def test_a_checkpoint_without_a_file_of_masks_is_read_whole(pruned):
    expected = load_masks(f"{pruned}@50").masks
    digests = pruned / "checkpoints" / "50.sha256.json"
    kept = json.loads(digests.read_text())
    kept.pop("masks.safetensors")
    digests.write_text(json.dumps(kept))
    (pruned / "checkpoints" / "50" / "masks.safetensors").unlink()
    same(load_masks(f"{pruned}@50").masks, expected)


@pytest.mark.parametrize(
    ("operation", "function"), [("or", union), ("and", intersect), ("majority", majority)]
)
def test_merged_masks_are_written_with_what_they_are(operation, function, pruned, tmp_path):
    names = [f"{pruned}@25", f"{pruned}@50", pruned]
    merged, about = merge_masks(names, operation, tmp_path / "m.safetensors")
    expected = function(*(load_masks(name).masks for name in names))
    same(merged.masks, expected)
    back, said = read_masks(tmp_path / "m.safetensors")
    same(back, expected)
    assert said == about
    assert about["runs"] == [f"{pruned}@25", f"{pruned}@50", f"{pruned}@75"]
    assert (about["operation"], about["model"]) == (operation, "deepfwfm")
    with pytest.raises(MaskError, match="cannot write"):
        merge_masks(names, operation, tmp_path / "none" / "m.safetensors")


def test_runs_that_cannot_be_compared_are_told_apart(pruned, config, world, tmp_path):
    short = override(config, FREE | {"train.epochs": 2, "sparsity.dnn": 0.5})

    def trained(name, **changes):
        other = {key.replace("__", "."): value for key, value in changes.items()}
        train(override(short, other), tmp_path / name)
        return tmp_path / name

    narrow = trained("narrow", model__hidden=(7, 6))
    with pytest.raises(RunError, match=r"first\) against .*narrow: trees differ at deep/hidden_0/kernel: "
                                       r"bool\[117, 8\] in the first, bool\[117, 7\] in tree 2"):  # fmt: skip
        load_comparable([pruned, narrow])
    fm = trained("fm", model__name="deepfm")
    with pytest.raises(RunError, match=r"fm: its model is deepfm, .*run's deepfwfm; compare runs of one"):
        load_comparable([pruned, fm])
    larger = prepare_synthetic(tmp_path / "data", World(rows=4_000, largest=31, pairs=5))
    there = trained("there", data__dir=larger.directory)
    with pytest.raises(RunError, match=r"there: field C\d+ has \d+ rows, .*run's C\d+ has \d+; compare"):
        load_comparable([pruned, there])


def restored(workdir, config, world):
    """States of every checkpoint, by step: weights as the optimizer left them."""
    job = make_job(config, workdir, world, lambda *_: None)
    like = abstract_state(job.model, world.schema, job.optimizer)
    steps = checkpoint.saved_steps(workdir / "checkpoints")
    return {step: checkpoint.restore(workdir / "checkpoints", step, like)[0] for step in steps}


@pytest.fixture(scope="module")
def ticket(pruned, tmp_path_factory):
    file = tmp_path_factory.mktemp("ticket") / "m.safetensors"
    merge_masks([pruned], "or", file)
    return file


def test_fixed_masks_are_kept_to_and_reported(pruned, ticket, config, world, tmp_path):
    kept = load_masks(pruned)
    settings = {"sparsity.init_masks": ticket, "sparsity.regrow": False, "train.checkpoint_steps": 7}
    config = override(config, FREE | settings | {"train.epochs": 2, "train.keep": 99})
    result = train(config, tmp_path / "run")
    states = restored(tmp_path / "run", config, world)
    assert list(states) == [7, 14, 21, 25, 28, 35, 42, 49, 50]
    for state in states.values():
        same(jax.tree.map(np.asarray, state.masks), kept.masks)
        for keep, weights in zip(jax.tree.leaves(kept.masks), masked(state.params, kept.masks), strict=True):
            assert not weights[~keep].any()
    moved = zip(*(masked(states[step].params, kept.masks) for step in (7, 50)), strict=True)
    assert all((a != b).any() for a, b in moved)
    assert sum(part["nonzero"] for part in result["components"].values()) == sum(
        int(keep.sum()) for keep in jax.tree.leaves(kept.masks)
    )
    shown = describe_masks(kept.masks, kept.labels, kept.schema, {})["components"]
    for code, part in result["components"].items():
        assert part["rate"] == pytest.approx(shown[code]["rate"])
        assert part["target"] == 0.0
    assert result["bytes"] < 4 * result["params_total"]


def masked(params, masks):
    """Weights of the leaves that have a mask, on the host."""
    kept = jax.tree.map(lambda keep, p: np.asarray(p), masks, strip(params, masks))
    return jax.tree.leaves(kept)


def strip(params, masks):
    """`params` without the leaves that have no mask."""
    return jax.tree.map(
        lambda keep, p: keep if isinstance(keep, optax.MaskedNode) else p,
        masks, params, is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )  # fmt: skip


def test_pruning_goes_on_from_given_masks_and_regrowth_leaves_them(pruned, ticket, config, tmp_path):
    start = override(config, {"sparsity.init_masks": ticket, "train.epochs": 2, "sparsity.dnn": 0.95})
    given = load_masks(pruned).masks["deep"]["hidden_0"]["kernel"]
    train(override(start, {"sparsity.regrow": False}), tmp_path / "shut")
    shut = load_masks(tmp_path / "shut").masks["deep"]["hidden_0"]["kernel"]
    assert not (shut & ~given).any()
    assert shut.sum() < given.sum()
    train(override(start, {"sparsity.dnn": 0.5}), tmp_path / "open")
    free = load_masks(tmp_path / "open").masks["deep"]["hidden_0"]["kernel"]
    assert (free & ~given).sum() > 0.3 * free.size  # a rate below the given masks' opens them up


def test_a_ticket_is_another_runs_weights_within_the_masks(pruned, ticket, config, world):
    settings = {"sparsity.init_masks": ticket, "train.init_from": f"{pruned}@25", "sparsity.regrow": False}
    job = make_job(override(config, FREE | settings), pruned / "none", world, lambda *_: None)
    state, standing, *_ = start_or_resume(job, masks_to_start_from(job))
    parent = restored(pruned, override(config, {"sparsity.embedding": 0.0}), world)[25]
    assert (int(state.step), standing) == (25, Standing())
    same(state.params, apply_masks(parent.params, load_masks(pruned).masks))


def test_interrupted_with_given_masks_equals_uninterrupted(ticket, config, world, tmp_path):
    copy = tmp_path / "m.safetensors"
    copy.write_bytes(ticket.read_bytes())
    settings = {"sparsity.init_masks": copy, "sparsity.regrow": False, "train.checkpoint_steps": 8}
    config = override(config, FREE | settings | {"train.epochs": 1})
    train(config, tmp_path / "calm")

    def stop(what, done, total):
        if what == "training" and done == 19:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", progress=stop)
    copy.unlink()  # the checkpoint has the masks
    train(config, tmp_path / "stopped")
    calm, stopped = (restored(tmp_path / name, config, world)[25] for name in ("calm", "stopped"))
    same(stopped, calm)


def test_masks_of_something_else_are_refused_before_anything_is_written(pruned, ticket, config, tmp_path):
    start = override(config, {"sparsity.init_masks": ticket})
    larger = prepare_synthetic(tmp_path / "data", World(rows=4_000, largest=31, pairs=5))
    bare = tmp_path / "bare.safetensors"
    write_masks(bare, {"deep": {"hidden_0": {"kernel": np.ones((3, 8), bool)}}})
    for changes, message in (
        (
            {"data.dir": larger.directory},
            r"does not fit .*data: field C\d+ has \d+ rows, the masks' C\d+ has",
        ),
        ({"model.name": "deepfm", **FREE}, "is of model deepfwfm, not deepfm"),
        ({"model.hidden": "(8, 5)"}, r"at deep/hidden_1/kernel: bool\[8, 6\] in the masks, bool\[8, 5\] in"),
        ({"sparsity.init_masks": bare}, r"at deep/hidden_0/kernel: bool\[3, 8\] in the masks"),
        ({"sparsity.init_masks": tmp_path / "none"}, "cannot read masks from"),
    ):
        with pytest.raises(MaskError, match=message):
            train(override(start, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
