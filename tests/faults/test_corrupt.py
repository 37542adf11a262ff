"""Files cut short or with a bit flipped at random are named, or hold the same; never other numbers."""

import shutil

import jax
import numpy as np
import optax
import pytest
from whole_runs import final_state

from deeplight_jax.config import to_json
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.errors import DeeplightError
from deeplight_jax.serving.engine import load
from deeplight_jax.serving.export import export
from deeplight_jax.sparsity.maskfile import read_masks, write_masks
from deeplight_jax.training import checkpoint
from deeplight_jax.training.inspect import load_masks
from deeplight_jax.training.loop import train
from deeplight_jax.training.run import load_config_of, load_data_of, load_metrics, load_result


@pytest.fixture(scope="module")
def run(config, world, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(config, workdir, data=world)
    return workdir


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def of_data(folder, run, config, world):
    """Everything that a data set says and holds."""
    shutil.copytree(world.directory, folder, dirs_exist_ok=True)

    def read():
        found = open_prepared(folder)
        arrays = [a for s in found.splits.values() for a in (s.ids, s.values, s.label)]
        *told, _ = found.manifest.items()  # but for the hash of them, which a flip in its name may hide
        return [repr(told), *map(np.array, arrays)]

    return read


def of_checkpoint(folder, run, config, world):
    shutil.copytree(run, folder, dirs_exist_ok=True)
    return lambda: leaves(final_state(config, folder, world))


def of_checkpoints_masks(folder, run, config, world):
    shutil.copytree(run, folder, dirs_exist_ok=True)
    step = checkpoint.saved_steps(folder / "checkpoints")[-1]
    return lambda: leaves(checkpoint.restore_masks(folder / "checkpoints", step))


def of_run(folder, run, config, world):
    """Everything that a finished run says in JSON: its config, data, metrics and result."""
    shutil.copytree(run, folder, dirs_exist_ok=True)

    def read():
        told = load_data_of(folder), load_metrics(folder), load_result(folder)
        return [to_json(load_config_of(folder)), *map(repr, told)]

    return read


def of_masks(folder, run, config, world):
    write_masks(folder / "masks.safetensors", load_masks(run).masks, {"said": [1, 2.5, "three"]})

    def read():
        masks, about = read_masks(folder / "masks.safetensors")
        assert any(isinstance(m, optax.MaskedNode) for m in _nodes(masks))
        return [repr(about), *leaves(masks)]

    return read


def of_artifact(folder, run, config, world):
    export(run, folder / "model.safetensors")
    rows = world.split("valid")

    def read():
        engine = load(folder / "model.safetensors")
        return [repr(engine.about), engine.logits(np.array(rows.ids), np.array(rows.values))]

    return read


def attempt(read):
    """What is read, or the error's words."""
    try:
        return read(), ""
    except DeeplightError as error:
        return None, str(error)


def _nodes(tree):
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))


KINDS = {
    "run's config, data, metrics, result": (of_run, "*.json*"),
    "manifest": (of_data, "manifest.json"),
    "arrays": (of_data, "*.*.npy"),
    "checkpoint": (of_checkpoint, "checkpoints/NEWEST/**/*"),
    "checkpoint's masks": (of_checkpoints_masks, "checkpoints/NEWEST/masks.safetensors"),
    "checkpoint's digests": (of_checkpoint, "checkpoints/NEWEST.sha256.json"),
    "masks": (of_masks, "masks.safetensors"),
    "artifact": (of_artifact, "model.safetensors"),
}


def same(found, expected):
    return len(found) == len(expected) and all(
        a == b if isinstance(a, str) else np.array_equal(a, b) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_or_a_flipped_bit_is_named(kind, run, config, world, tmp_path, long, figure):
    make, pattern = KINDS[kind]
    read = make(tmp_path, run, config, world)
    expected = read()
    newest = checkpoint.saved_steps(run / "checkpoints")[-1]
    files = sorted(p for p in tmp_path.glob(pattern.replace("NEWEST", str(newest))) if p.is_file())
    files = [p for p in files if p.stat().st_size]
    rng, counted = np.random.default_rng(6), {"cuts": 0, "flips": 0, "named": 0, "the_same": 0}
    for turn in range(2 * (1000 if long else 40)):
        path = files[rng.integers(len(files))]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        if turn % 2:
            del damaged[rng.integers(len(whole)) :]
        else:
            damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        counted["cuts" if turn % 2 else "flips"] += 1
        path.write_bytes(damaged)
        found, said = attempt(read)
        if said:
            assert str(tmp_path) in said
            assert path.name in said
            assert "\n" not in said
            counted["named"] += 1
        else:
            assert same(found, expected), (path, turn)  # white space, or a line's end, of JSON
            counted["the_same"] += 1
        path.write_bytes(whole)
    assert counted["named"] > 0.9 * turn or "digests" in kind or kind == "manifest"
    figure(f"damage of {kind}", **counted)
