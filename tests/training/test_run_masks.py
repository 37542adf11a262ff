"""Masks of runs: read back without the parameters, and trained from."""

import json

import jax
import numpy as np
import optax
import pytest

from deeplight_jax.config import override
from deeplight_jax.errors import RunError
from deeplight_jax.training.inspect import load_masks, load_run
from deeplight_jax.training.loop import train


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
