"""Scalars for TensorBoard: what a disk refuses is told at once, and never waited for."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from deeplight_jax.training.events import ScalarEvents


@pytest.fixture
def full(monkeypatch):
    """A disk that takes a file's name and none of its bytes, once it has been asked for room."""
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda *_: opened(Path("/dev/full"), "wb"))


@pytest.fixture
def filling(tmp_path, monkeypatch):
    """Events of a file that was opened in time, on a disk that is full now."""
    written = ScalarEvents(tmp_path, 1)
    written._file.close()
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(written, "_file", full)
        yield written


def read(file):
    content, at = file.read_bytes(), 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + size])
        at += 16 + size


def test_a_file_says_from_which_step_on_it_counts(tmp_path):
    with ScalarEvents(tmp_path, 7) as written:
        written.add_scalar("train/loss", 0.5, 7)
    (file,) = tmp_path.iterdir()
    version, start, value = read(file)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (7, SessionLog.START)
    assert (value.step, value.summary.value[0].tag, value.summary.value[0].simple_value) == (
        7,
        "train/loss",
        0.5,
    )


def test_files_of_one_second_are_apart_and_in_order(tmp_path):
    for step in range(1, 6):
        with ScalarEvents(tmp_path, step):
            pass
    assert [next(read(file)).step for file in sorted(tmp_path.iterdir())] == [1, 2, 3, 4, 5]


def test_what_is_flushed_is_there_while_the_file_is_open(tmp_path):
    with ScalarEvents(tmp_path, 1) as written:
        written.add_scalar("loss", 0.5, 1)
        written.flush()
        (file,) = tmp_path.iterdir()
        assert len(list(read(file))) == 3


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_told_by_the_thread_that_writes(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        ScalarEvents(tmp_path, 1)


def test_many_values_on_a_full_disk_end_in_its_error_and_not_in_a_wait(filling):
    def write():
        for step in range(10_000):  # more than any buffer holds
            filling.add_scalar("loss", 0.5, step)

    with pytest.raises(OSError, match="No space left"):
        write()
    filling.add_scalar("loss", 0.5, 1)  # tried no more


def test_a_closing_that_fails_is_told(filling):
    filling.add_scalar("loss", 0.5, 1)
    with pytest.raises(OSError, match="No space left"), filling:
        pass


def test_a_closing_that_fails_does_not_hide_what_failed_before(filling):
    filling.add_scalar("loss", 0.5, 1)
    with pytest.raises(KeyError, match="first"), filling:
        raise KeyError("first")


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ScalarEvents(None, 1) as written:
        written.add_scalar("loss", 0.5, 1)
    assert not list(tmp_path.iterdir())
