"""A sweep on a local Ray of two workers: one worker is killed, one member fails, the rest is done."""

import json
import os
import signal
import threading
import time
import warnings

import pytest

from deeplight_jax.config import override
from deeplight_jax.errors import ConfigError
from deeplight_jax.sweeping import Sweep, axis, ledger
from deeplight_jax.sweeping.launch import Options, run_sweep
from deeplight_jax.sweeping.results import rows

RAY = Options(backend="ray", measure=False)
LIMIT_S = 240


@pytest.fixture(scope="module")
def two_workers():
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
        yield ray
        ray.shutdown()


def kill_one(directory, killed):
    """SIGKILL the first worker whose member has saved a checkpoint and goes on."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and not killed:
        for path in (directory / "running").glob("*.json"):
            try:
                program = json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # it ended meanwhile
            saved = ledger.place(directory, program["members"][0]) / "checkpoints"
            if program["pid"] != os.getpid() and list(saved.glob("*.sha256.json")):
                os.kill(program["pid"], signal.SIGKILL)
                killed.append(program["members"][0])
                return
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore")
def test_a_lost_worker_is_replaced_and_a_failing_member_stays_alone(config, world, tmp_path, two_workers):
    settings = {"model.dropout": 0.0, "train.epochs": 6}
    grid = axis("optim.learning_rate", [1e-3, 2e-3, 1e30])
    killed: list[str] = []
    hunter = threading.Thread(target=kill_one, args=(tmp_path / "s", killed))
    hunter.start()
    status = run_sweep(Sweep(override(config, settings), grid), tmp_path / "s", RAY, data=world)
    hunter.join(LIMIT_S)
    assert (len(status.done), len(status.failed)) == (2, 1)
    assert "loss is not finite at step" in next(iter(status.failed.values()))
    assert killed
    assert killed[0] in status.done  # it was taken up again
    assert all(row["steps"] == 6 * 13 for row in rows(tmp_path / "s") if row["state"] == "done")


@pytest.mark.filterwarnings("ignore")
def test_a_member_that_no_machine_can_hold_is_refused(sweep, world, tmp_path, two_workers):
    with pytest.raises(ConfigError, match="asks for 99 CPU, the cluster has 2; lower --num-cpus"):
        run_sweep(sweep, tmp_path / "s", RAY._replace(num_cpus=99), data=world)
