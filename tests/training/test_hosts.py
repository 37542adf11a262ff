"""Two processes on this machine as two hosts: the run of one, the files of one, and one lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from whole_runs import LONG, final_state

from deeplight_jax.config import override, to_json
from deeplight_jax.errors import RunError
from deeplight_jax.training import checkpoint
from deeplight_jax.training.hosts import lost_told
from deeplight_jax.training.loop import train

PATIENCE_S = 240  # far beyond what a busy machine needs
HEARTBEAT_S = 10
MESH = {"mesh.data": 1, "mesh.table": 2}


def free_port():
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", 0))
        except OSError as error:
            pytest.skip(f"no port on this machine can be bound: {error}")
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def settings(config, world):
    return override(config, {"train.checkpoint_steps": 5, "train.epochs": 2, **MESH})


@pytest.fixture(scope="module")
def start(settings, tmp_path_factory):
    """Starts the two hosts of a run with its workdir."""
    file = tmp_path_factory.mktemp("config") / "two.py"
    file.write_text(
        "from deeplight_jax.config import from_json\n\n\n"
        f"def get_config():\n    return from_json({to_json(settings)!r})\n"
    )
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    environment = {**os.environ, "XLA_FLAGS": flags, "COLUMNS": "400"}

    def run(workdir, *words):
        words = ["--config", file, "--workdir", workdir, "--hosts", 2, "--heartbeat", HEARTBEAT_S, *words]
        words += ["--coordinator", f"127.0.0.1:{free_port()}"]
        command = [sys.executable, "-m", "deeplight_jax", "train", *map(str, words)]
        return [
            subprocess.Popen([*command, "--host", str(host)], env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for host in range(2)
        ]  # fmt: skip

    return run


def finish(processes):
    """Exit statuses and outputs, none of them waited for without end."""
    try:
        told = [p.communicate(timeout=PATIENCE_S)[0] for p in processes]
    finally:
        for process in processes:
            process.kill()
    return [p.returncode for p in processes], told


def wait_for_save(workdir, processes):
    end = time.monotonic() + PATIENCE_S
    while not checkpoint.saved_steps(workdir / "checkpoints"):
        assert time.monotonic() < end
        assert all(p.poll() is None for p in processes), finish(processes)
        time.sleep(0.02)


def test_two_hosts_train_what_one_does_through_a_loss(start, settings, world, tmp_path):
    workdir = tmp_path / "run"
    hosts = start(workdir)
    wait_for_save(workdir, hosts)
    hosts[1].kill()
    lost = time.monotonic()
    codes, told = finish(hosts)
    assert time.monotonic() - lost < HEARTBEAT_S + 30
    assert codes[0] != 0
    assert "another host is lost" in told[0] or "another task died" in told[0]
    assert not (workdir / "result.json").exists()

    codes, told = finish(start(workdir))
    assert codes == [0, 0], told
    assert "ROC AUC" in told[0]
    assert "ROC AUC" not in told[1]
    assert_as_of_one(settings, workdir, tmp_path / "calm", world)


@LONG
def test_two_hosts_train_what_one_does_through_a_signal_to_one(start, settings, world, tmp_path):
    workdir = tmp_path / "run"
    hosts = start(workdir)
    wait_for_save(workdir, hosts)
    hosts[1].send_signal(signal.SIGTERM)
    codes, told = finish(hosts)
    assert codes == [0, 0], told
    stopped = checkpoint.saved_steps(workdir / "checkpoints")[-1]
    if not (workdir / "result.json").exists():  # else it came too late
        assert f"saved step {stopped}" in told[0]
        codes, told = finish(start(workdir))
        assert codes == [0, 0], told
    assert_as_of_one(settings, workdir, tmp_path / "calm", world)


def assert_as_of_one(settings, workdir, calm, world):
    """A run of several hosts beside one that one process trains on the same mesh."""
    expected = train(settings, calm)
    result = json.loads((workdir / "result.json").read_text())
    assert result["roc_auc"] == pytest.approx(expected["roc_auc"], abs=1e-4)
    assert result["components"] == expected["components"]
    found, wanted = (final_state(override(settings, {"mesh.table": 1}), w, world) for w in (workdir, calm))
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found.params), jax.tree.leaves(wanted.params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=jax.tree_util.keystr(path))
    lines = [(workdir / "metrics.jsonl").read_text().count("\n") for workdir in (workdir, calm)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError, OSError])
def test_a_lost_host_is_told_and_what_is_worded_already_is_left(kind, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with (
        pytest.raises(RunError, match=r"^another host is lost \(Gloo: Connection reset by peer\)"),
        lost_told(),
    ):
        raise kind("Gloo: Connection reset by peer")
    with pytest.raises(kind, match=r"^no such thing$"), lost_told():
        raise kind("no such thing")
    with pytest.raises(RunError, match=r"^cannot save aborted/runs"), lost_told():
        raise RunError("cannot save aborted/runs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "1"], "go with --hosts"),
        (["--hosts", "2", "--host", "1"], "needs --coordinator HOST:PORT and --host I"),
        (["--hosts", "some"], "give a number, or auto"),
        (["--hosts", "auto", "--host", "1"], "leave them out"),
        (["--hosts", "2", "--host", "2", "--coordinator", "127.0.0.1:1"], "numbered from 0"),
    ],
)
def test_hosts_that_make_no_sense_are_refused(words, message, tmp_path, capsys):
    from deeplight_jax.cli import main

    config = ["--config", "experiments/criteo_deepfwfm.py", "--workdir", str(tmp_path / "run")]
    assert main(["train", *config, *words]) == 2
    assert message in capsys.readouterr().err
