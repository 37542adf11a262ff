"""Scalars for TensorBoard: what a disk refuses is told at once, and never waited for."""

import pytest
from tensorboardX.record_writer import RecordWriter

from deeplight_jax.training import events
from deeplight_jax.training.events import ScalarEvents


@pytest.fixture
def full(monkeypatch):
    """A disk that takes nothing."""

    monkeypatch.setattr(events, "RecordWriter", lambda _: RecordWriter("/dev/full"))


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_told_by_the_thread_that_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "FLUSH_S", 0.0)
    with pytest.raises(OSError, match="No space left"):
        ScalarEvents(tmp_path, 1)


@pytest.mark.usefixtures("full")
def test_many_values_on_a_full_disk_end_in_its_error_and_not_in_a_wait(tmp_path):
    def write():
        with ScalarEvents(tmp_path, 1) as written:
            for step in range(10_000):  # more than any buffer holds
                written.add_scalar("loss", 0.5, step)

    with pytest.raises(OSError, match="No space left"):
        write()


@pytest.mark.usefixtures("full")
def test_a_closing_that_fails_is_told_unless_something_else_has_failed(tmp_path):
    with pytest.raises(OSError, match="No space left"), ScalarEvents(tmp_path, 1):
        pass
    with pytest.raises(KeyError, match="first"), ScalarEvents(tmp_path, 1):
        raise KeyError("first")


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ScalarEvents(None, 1) as written:
        written.add_scalar("loss", 0.5, 1)
    assert not list(tmp_path.iterdir())
