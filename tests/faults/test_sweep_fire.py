"""A sweep under fire: workers killed at random, a member that always fails, the program killed or ended."""

import json
import os
import signal
import subprocess
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from comparing import assert_same_run

from deeplight_jax.config import override, to_json
from deeplight_jax.errors import ConfigError
from deeplight_jax.sweeping import Sweep, axis, codes, ledger, product
from deeplight_jax.sweeping.launch import Options, run_sweep
from deeplight_jax.training import run

FAILS = 1e30  # a learning rate with which the loss is soon no number
RAY = Options(backend="ray", measure=False, retries=100)


@pytest.fixture(scope="module")
def sweep(config, long):
    """Members that share a warm-up, the last of which always fails: 2; 12 in the long form."""
    config = override(config, {"model.dropout": 0.0, "sparsity.damping_steps": 0.5})
    rates, pruned = ([1e-3, 3e-3, 5e-3, 1e-2], ["D90-R80-F40", "D50", ""]) if long else ([1e-3], ["D90"])
    grid = product(codes(*pruned), axis("optim.learning_rate", rates))
    *grid, last = grid if long else [*grid, grid[-1]]
    return Sweep(config, [*grid, {**last, "optim.learning_rate": FAILS}])


@pytest.fixture(scope="module")
def calm(sweep, world, tmp_path_factory):
    """By backend, the same sweep undisturbed."""
    found = {}

    def undisturbed(backend):
        if backend not in found:
            found[backend] = tmp_path_factory.mktemp("calm") / "sweep"
            run_sweep(sweep, found[backend], Options(backend, measure=False), data=world)
        return found[backend]

    return undisturbed


def assert_same_sweep(directory, calm, sweep, world):
    """All members but the one that fails are done, each equal to the undisturbed one bit for bit."""
    status = ledger.status(directory)
    assert (status.members, len(status.failed), status.running) == (len(sweep.grid), 1, {})
    assert "loss is not finite at step" in next(iter(status.failed.values()))
    assert status.done == ledger.status(calm).done
    assert len(status.done) == len(sweep.grid) - 1
    for name in status.done:
        member = ledger.place(directory, name)
        assert_same_run(member, ledger.place(calm, name), run.load_config_of(member), world)


@pytest.fixture(scope="module")
def two_workers():
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # Ray's own
        patch.setenv("RAY_worker_niceness", "0")  # its own 15 starves workers beside other tests
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
        yield ray
        ray.shutdown()


def hunt(directory, kills, rng, killed, over):
    """SIGKILL workers, each at a random moment after its member is under way."""
    while len(killed) < kills and not over.wait(0.02):
        for path in sorted((directory / "running").glob("*.json")):
            try:
                program = json.loads(path.read_text())
            except (OSError, ValueError):
                continue  # it ended meanwhile
            if program["pid"] != os.getpid() and program["pid"] not in {pid for pid, _ in killed}:
                time.sleep(rng.uniform(0, 1.0))
                if path.exists():
                    os.kill(program["pid"], signal.SIGKILL)
                    killed.append((program["pid"], program["members"][0]))
                    break


@pytest.mark.filterwarnings("ignore")
def test_workers_killed_at_random(sweep, world, calm, tmp_path, two_workers, long, figure):
    killed, over, rng = [], threading.Event(), np.random.default_rng(9)
    arguments = (tmp_path / "s", 12 if long else 1, rng, killed, over)
    hunter = threading.Thread(target=hunt, args=arguments)
    hunter.start()
    run_sweep(sweep, tmp_path / "s", RAY, data=world)
    over.set()
    hunter.join()
    assert killed
    assert_same_sweep(tmp_path / "s", calm("sequential"), sweep, world)
    done = len(sweep.grid) - 1
    figure("sweep, workers killed", members=len(sweep.grid), kills=len(killed), done_and_identical=done)


@pytest.mark.filterwarnings("ignore")
def test_a_member_that_no_machine_can_hold_is_refused(sweep, world, tmp_path, two_workers):
    with pytest.raises(ConfigError, match="asks for 99 CPU, the cluster has 2; lower --num-cpus"):
        run_sweep(sweep, tmp_path / "s", RAY._replace(num_cpus=99), data=world)


@pytest.fixture
def words(sweep, tmp_path):
    """The words of a `sweep` command but for its backend."""
    file = tmp_path / "fire.py"
    file.write_text(
        "from deeplight_jax.config import from_json\n"
        "from deeplight_jax.sweeping import Sweep\n"
        f"def get_sweep():\n    return Sweep(from_json({to_json(sweep.config)!r}), {sweep.grid!r})\n"
    )
    return ["sweep", "--config", str(file), "--workdir", str(tmp_path / "s"), "--no-measure", "--backend"]


def begun(directory):
    """Whether a program has begun to train members there."""
    return any((directory / "members").glob("*/config.json"))


def wait_for(what, process, limit_s=120.0):
    end = time.monotonic() + limit_s
    while not what() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)


def finish(process):
    said, _ = process.communicate(timeout=300)
    return said


@pytest.mark.parametrize("backend", ["sequential", "compiled"])
def test_the_program_killed_at_random(backend, deeplight, words, sweep, world, calm, tmp_path, long, figure):
    """SIGKILL, SIGTERM, Ctrl-C in turn at random moments, then a rerun to the end."""
    if not long:
        pytest.skip("a process a kill: in the long form")
    rng, ways = np.random.default_rng(4), [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    # `python -m` ends by the signal itself where a KeyboardInterrupt has gone through an exec of a string, by
    # which dataclasses and named tuples are made; to a shell both are 130
    codes, sent, ended = {signal.SIGKILL: {-9}, signal.SIGTERM: {0}, signal.SIGINT: {130, -2}}, [], 0
    while len(sent) < 20:
        process = deeplight(*words, backend)
        wait_for(partial(begun, tmp_path / "s"), process)
        number = ways[len(sent) % len(ways)]
        try:
            process.wait(rng.uniform(0, 8.0))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            sent.append(number)
        said = finish(process)
        if process.returncode == 2 or "members failed" in said:  # it had ended before: again, from nothing
            assert_same_sweep(tmp_path / "s", calm(backend), sweep, world)
            ended += 1
            (tmp_path / "s").rename(tmp_path / f"ended{ended}")
            continue
        assert process.returncode in codes[number], said
        assert number == signal.SIGKILL or "the same command goes on from the last checkpoint" in said
        assert "Traceback" not in said
    said = finish(deeplight(*words, backend))
    assert f"1 of {len(sweep.grid)} members failed" in said
    assert_same_sweep(tmp_path / "s", calm(backend), sweep, world)
    counted = {s.name: sent.count(s) for s in ways}
    figure(f"sweep killed and ended ({backend})", **counted, sweeps_done_and_identical=ended + 1)
