"""A run directory that is full or read-only: what it needs is said, and the last good checkpoint is whole."""

import contextlib
import os
import re
import subprocess

import pytest
from comparing import assert_same_run

from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.errors import DataError, RunError
from deeplight_jax.training import checkpoint
from deeplight_jax.training.job import load_start, make_job
from deeplight_jax.training.loop import train


@contextlib.contextmanager
def mounted(folder, size):
    """A file system of `size` bytes in memory; skips where none can be mounted."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def calm(config, world, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("calm") / "run"
    train(config, workdir, data=world)
    return workdir


def test_a_full_disk_is_named_and_the_run_goes_on_with_room(config, world, calm, tmp_path, figure, long):
    """Room for some saves; then none: at several sizes, so that other writes are the ones that fail."""
    told = 0
    for room in range(0, 400_000, 20_000 if long else 200_000):
        with mounted(tmp_path / f"disk{room}", 1 << 20) as disk:
            filler = disk / "filler"
            filler.write_bytes(bytes((1 << 20) - room - 8192))
            workdir = disk / "run"
            with pytest.raises(RunError) as error:
                train(config, workdir, data=world)
            assert str(workdir) in str(error.value)
            assert "free disk space" in str(error.value) or "name another --workdir" in str(error.value)
            assert "\n" not in str(error.value)
            for step in checkpoint.saved_steps(workdir / "checkpoints"):
                checkpoint.verify(workdir / "checkpoints", step)
            told += 1
            filler.unlink()
            load_start(make_job(config, workdir, world, lambda *_: None), None)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            train(config, workdir, data=world)
            assert_same_run(workdir, calm, config, world)
    figure("disk full", sizes=told, identical_with_room=told)


def test_the_command_tells_a_full_disk_in_a_line(deeplight, train_words, tmp_path):
    with mounted(tmp_path / "disk", 1 << 20) as disk:
        (disk / "filler").write_bytes(bytes(980_000))
        process = deeplight(*train_words, "--workdir", disk / "run")
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    where = re.escape(str(tmp_path / "disk" / "run"))
    full = r"\(No space left on device(: its arrays take [\d.]+ kB)?\); free disk space"
    assert re.search(rf"cannot (save|write to) {where}\S* {full}", said)
    assert "RESOURCE_EXHAUSTED" not in said  # TensorStore's word for it, in Orbax' tracebacks
    assert "Traceback" not in said, said


def test_data_that_the_disk_has_no_room_for_is_refused_before_it_is_made(tmp_path):
    """Arrays are filled through memory maps, in which a full disk would be a signal that ends the program."""
    with mounted(tmp_path / "disk", 1 << 20) as disk:
        with pytest.raises(DataError, match=r"cannot write .*disk/data: No space left on device"):
            prepare_synthetic(disk / "data", World(rows=50_000, largest=20))
        assert list(disk.iterdir()) == []


def test_a_read_only_folder_is_named(config, world, tmp_path):
    with mounted(tmp_path / "disk", 8 << 20) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(
            RunError, match=r"cannot write to .*disk/run \(Read-only file system\); name another"
        ):
            train(config, disk / "run", data=world)


def test_a_name_that_the_disk_does_not_take_is_told(config, world, tmp_path):
    with pytest.raises(
        RunError, match=r"cannot read .*n{300} \(File name too long\); name another --workdir"
    ):
        train(config, tmp_path / ("n" * 300), data=world)
