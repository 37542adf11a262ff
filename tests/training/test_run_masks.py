"""Masks of runs: read back without the parameters, and trained from."""

import json

import jax
import numpy as np
import optax
import pytest

from deeplight_jax.config import override
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.errors import MaskError, RunError
from deeplight_jax.sparsity.masks import intersect, majority, read_masks, union
from deeplight_jax.training.inspect import load_masks, load_run
from deeplight_jax.training.loop import train
from deeplight_jax.training.merging import load_comparable, merge_masks


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
    short = override(config, {"train.epochs": 2, "sparsity.dnn": 0.5})

    def trained(name, **changes):
        other = {key.replace("__", "."): value for key, value in changes.items()}
        train(override(short, other), tmp_path / name)
        return tmp_path / name

    narrow = trained("narrow", model__hidden=(7, 6))
    with pytest.raises(RunError, match=r"first\) against .*narrow: trees differ at deep/hidden_0/kernel: "
                                       r"bool\[117, 8\] in the first, bool\[117, 7\] in tree 2"):  # fmt: skip
        load_comparable([pruned, narrow])
    fm = trained("fm", model__name="deepfm", sparsity__field=0.0)
    with pytest.raises(RunError, match=r"fm: its model is deepfm, .*run's deepfwfm; compare runs of one"):
        load_comparable([pruned, fm])
    larger = prepare_synthetic(tmp_path / "data", World(rows=4_000, largest=31, pairs=5))
    there = trained("there", data__dir=larger.directory)
    with pytest.raises(RunError, match=r"there: field C\d+ has \d+ rows, .*run's C\d+ has \d+; compare"):
        load_comparable([pruned, there])
