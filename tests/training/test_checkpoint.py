"""Checkpoints: exact round trips; damage of any file is found and named."""

import gc
import json
import resource
import shutil
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint._src.serialization import serialization

from deeplight_jax.errors import RunError
from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.transform import project_onto_masks
from deeplight_jax.training import checkpoint
from deeplight_jax.training.digests import digests_of
from deeplight_jax.training.state import TrainState
from deeplight_jax.training.stopping import Terminated, deferred, held_back, terminable


@pytest.fixture
def state():
    params = {"a": {"w": jnp.arange(12.0).reshape(3, 4)}, "b": jnp.float32(0.5)}
    labels = {"a": {"w": "dnn"}, "b": ""}
    project = project_onto_masks(labels, (Component("dnn", 0.5),), warmup_steps=0)
    optimizer = optax.chain(optax.adam(1e-3), project)
    return TrainState(jnp.int32(7), jnp.uint32(3), params, optimizer.init(params))


def like(state):
    return jax.eval_shape(lambda: state)


def test_round_trip_is_exact(state, tmp_path):
    checkpoint.save(tmp_path / "c", state, {"history": [1, 2], "wall_s": 0.25})
    found, about = checkpoint.restore(tmp_path / "c", 7, like(state))
    assert about == {"history": [1, 2], "wall_s": 0.25}
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert found.masks["a"]["w"].dtype == bool


def test_a_write_that_the_system_refuses_leaves_no_checkpoint(state, tmp_path):
    """Files over 1 kB are refused: two of the state's arrays are larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = jax.random.normal(jax.random.key(0), (40, 50)), jax.random.normal(jax.random.key(1), (900,))
    large = state.replace(params={"a": {"w": noise[0]}, "b": noise[1]})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(RunError, match=r"cannot save .*c/7 \(.*File too large"):
            checkpoint.save(tmp_path / "c", large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.saved_steps(tmp_path / "c") == []
    checkpoint.save(tmp_path / "c", large, {})
    assert checkpoint.saved_steps(tmp_path / "c") == [7]


def test_an_ocdbt_store_of_jax_arrays_is_read(state, tmp_path):
    """What Orbax writes by default, and what earlier versions had it write."""
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave({"wall_s": 0.25}))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "7", items)
    assert (tmp_path / "7" / "state" / "manifest.ocdbt").exists()
    (tmp_path / "7.sha256.json").write_text(json.dumps(digests_of(tmp_path / "7")))
    found, about = checkpoint.restore(tmp_path, 7, like(state))
    assert about == {"wall_s": 0.25}
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_while_an_array_is_read_ends_the_program(number, raised, state, tmp_path, monkeypatch):
    """Orbax tells whatever is raised meanwhile as an error of the array, by which a sweep's member failed."""
    read, sent = serialization._read_shard, []

    def interrupted(**arguments):
        if not sent:
            sent.append(number)
            signal.raise_signal(number)
        return read(**arguments)

    checkpoint.save(tmp_path, state, {})
    monkeypatch.setattr(serialization, "_read_shard", interrupted)
    with terminable(), pytest.raises(raised):
        checkpoint.restore(tmp_path, 7, like(state))
    assert sent
    checkpoint.restore(tmp_path, 7, like(state))


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_is_not_lost_to_an_error_of_what_it_waits_for(times):
    def fail():
        with held_back() as outer, deferred():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            assert (outer.signal is None) == (times == 1)
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        fail()


def test_saves_leave_no_objects_behind(state, tmp_path, caplog):
    """Of every save of jax.Arrays to an OCDBT store some 350 stay for ever: TensorStore's JSON."""
    saves = 40

    def save(count):
        for _ in range(count):
            checkpoint.save(tmp_path, state, {})
        gc.collect()
        return sys.getallocatedblocks()

    before = save(10)
    assert save(saves) - before < 60 * saves
    assert not caplog.records


def test_every_files_damage_is_named(state, tmp_path):
    directory = tmp_path / "c"
    checkpoint.save(directory, state, {})
    files = [p for p in (directory / "7").rglob("*") if p.is_file()]
    assert len(files) > 3
    for path in files:
        whole = path.read_bytes()
        for damaged in (
            bytes([whole[0] ^ 4]) + whole[1:] if whole else b"x",
            whole + b"\0",
            whole[:-1] or b"y",
        ):
            path.write_bytes(damaged)
            with pytest.raises(RunError, match=rf"{path.name} is damaged; delete"):
                checkpoint.restore(directory, 7, like(state))
        path.unlink()
        with pytest.raises(RunError, match=rf"{path.name} is missing"):
            checkpoint.restore(directory, 7, like(state))
        path.write_bytes(whole)
    (directory / "7" / "stray").write_text("")
    with pytest.raises(RunError, match="stray is not of this checkpoint"):
        checkpoint.verify(directory, 7)


def test_masks_are_read_alone(state, tmp_path):
    directory = tmp_path / "c"
    keep = np.arange(12).reshape(3, 4) % 5 > 1
    project = state.opt_state[-1]._replace(masks={"a": {"w": jnp.asarray(keep)}, "b": optax.MaskedNode()})
    checkpoint.save(directory, state.replace(opt_state=(state.opt_state[0], project)), {})
    for path in (directory / "7" / "state").rglob("*"):
        if path.is_file():
            path.unlink()  # the parameters are not looked at
    found = checkpoint.restore_masks(directory, 7)
    np.testing.assert_array_equal(found["a"]["w"], keep)
    assert isinstance(found["b"], optax.MaskedNode)
    file = directory / "7" / "masks.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match=r"masks.safetensors is damaged; delete"):
        checkpoint.restore_masks(directory, 7)
    file.unlink()
    with pytest.raises(RunError, match=r"masks.safetensors is missing"):
        checkpoint.restore_masks(directory, 7)
    with pytest.raises(RunError, match="no checkpoint of step 8; it has 7"):
        checkpoint.restore_masks(directory, 8)


def test_an_unfinished_save_is_not_a_checkpoint(state, tmp_path):
    directory = tmp_path / "c"
    checkpoint.save(directory, state, {})
    later = state.replace(step=jnp.int32(9))
    checkpoint.save(directory, later, {})
    (directory / "9.sha256.json").unlink()  # killed before the digests were written
    assert checkpoint.saved_steps(directory) == [7]
    with pytest.raises(RunError, match="no checkpoint of step 9; it has 7"):
        checkpoint.restore(directory, 9, like(state))
    checkpoint.save(directory, later, {})  # and saved again over the remains
    assert checkpoint.saved_steps(directory) == [7, 9]


def test_pruning_deletes_whole_and_unfinished_ones(state, tmp_path):
    directory = tmp_path / "c"
    for step in (1, 2, 3):
        checkpoint.save(directory, state.replace(step=jnp.int32(step)), {})
    (directory / "4.orbax-checkpoint-tmp").mkdir()
    checkpoint.prune(directory, {1, 3})
    assert checkpoint.saved_steps(directory) == [1, 3]
    assert sorted(p.name for p in directory.iterdir()) == ["1", "1.sha256.json", "3", "3.sha256.json"]


def test_another_structure_is_refused(state, tmp_path):
    checkpoint.save(tmp_path / "c", state, {})
    other = like(state)
    shape = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    with pytest.raises(RunError, match="does not fit this run's model"):
        checkpoint.restore(tmp_path / "c", 7, other.replace(params={"a": {"w": shape}, "c": shape}))


def test_a_full_or_forbidden_disk_is_named(state, tmp_path):
    (tmp_path / "c").write_text("a file where the directory should be")
    with pytest.raises(RunError, match="free disk space or name another --workdir"):
        checkpoint.save(tmp_path / "c", state, {})
    shutil.rmtree(tmp_path / "c", ignore_errors=True)


def test_a_host_lost_during_a_save_is_no_full_disk(state, tmp_path, monkeypatch):
    def gone(where):
        raise ValueError(f"INVALID_ARGUMENT: Gloo all-reduce failed: Connection reset by peer ({where})")

    monkeypatch.setattr(checkpoint, "meet", gone)
    with pytest.raises(RunError, match=r"^cannot save .*; free disk space"):
        checkpoint.save(tmp_path / "c", state, {})  # one host alone has none to lose
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(RunError, match=r"^another host is lost .*they go on from the last checkpoint$"):
        checkpoint.save(tmp_path / "c", state, {})
