"""Two programs on one directory: the second is refused and told who is there; a dead one's lock is none."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from deeplight_jax.errors import RunError
from deeplight_jax.sweeping import Sweep, axis
from deeplight_jax.sweeping.launch import run_sweep
from deeplight_jax.training import lock
from deeplight_jax.training.lock import owned
from deeplight_jax.training.loop import train

HOLD = """
import sys, time
from pathlib import Path
from deeplight_jax.training.lock import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(directory):
    """Another process that holds a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_the_second_is_refused_and_a_killed_ones_lock_is_stale(tmp_path, config, world):
    process = holder(tmp_path / "run")
    named = rf"in use by process {process.pid} on {platform.node()}; wait for it, end it, or name another"
    with pytest.raises(RunError, match=named), owned(tmp_path / "run"):
        pytest.fail("it was let in")
    with pytest.raises(RunError, match=named):
        train(config, tmp_path / "run")
    with pytest.raises(RunError, match=named):
        run_sweep(Sweep(config, axis("seed", [0, 1])), tmp_path / "run", data=world)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["lock"]  # it wrote nothing there
    end(process)
    assert json.loads((tmp_path / "run" / "lock").read_text())["pid"] == process.pid  # left behind
    with owned(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / "lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / "run" / "lock").read_text() == ""


def test_two_threads_are_two(tmp_path):
    refused = []

    def second():
        try:
            with owned(tmp_path):
                pass
        except RunError as error:
            refused.append(str(error))

    with owned(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()}" in refused[0]


def test_of_many_that_start_at_once_one_gets_in(tmp_path):
    code = HOLD.replace("600", "3").replace("with owned", "input()\nwith owned")
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, **pipes) for _ in range(4)]
    time.sleep(1.0)
    for process in several:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate() for process in several]
    assert sorted(out for out, _ in said) == ["", "", "", "held\n"]
    assert sum("is in use by process" in err for _, err in said) == 3


@pytest.fixture
def without_locks(monkeypatch):
    """A file system that knows no locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_the_record_decides(tmp_path):
    me = {"host": platform.node(), "pid": os.getpid(), "started": lock._started(os.getpid())}
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    let_in = {
        "no record": "",
        "half a record": '{"host": "a',
        "dead": json.dumps({**me, "pid": child.pid}),
        "pid of another process now": json.dumps({**me, "started": "another boot+12345"}),
    }
    for text in let_in.values():
        (tmp_path / "lock").write_text(text)
        with owned(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    for record in (me, {**me, "host": "elsewhere", "pid": child.pid}):
        (tmp_path / "lock").write_text(json.dumps(record))
        with pytest.raises(RunError, match=rf"in use by process {record['pid']} on"), owned(tmp_path):
            pytest.fail("it was let in")
        assert json.loads((tmp_path / "lock").read_text()) == record


def test_a_finished_run_needs_no_lock(tmp_path, config, world):
    result = train(config, tmp_path / "run", data=world)
    process = holder(tmp_path / "run")
    try:
        assert train(config, tmp_path / "run", data=world) == result
    finally:
        end(process)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            RunError, match=r"cannot write to .*file/run \(Not a directory\); name another --workdir"
        ),
        owned(tmp_path / "file" / "run"),
    ):
        pass
