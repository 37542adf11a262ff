"""A training run that is killed, terminated or interrupted goes on to the same bits as one that was not."""

import json
import os
import signal
import subprocess
import time
from functools import partial

import numpy as np
import pytest
from comparing import assert_same_run
from whole_runs import LONG

from deeplight_jax.training import checkpoint
from deeplight_jax.training.loop import train
from deeplight_jax.training.stopping import Terminated, held_back, terminable


@pytest.fixture(scope="module")
def calm(config, world, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("calm") / "run"
    train(config, workdir, data=world)
    return workdir


def wait_for(what, process, limit_s=60.0):
    """Polls until it is true; returns seconds waited."""
    began = time.monotonic()
    while not what():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() - began < limit_s
        time.sleep(0.002)
    return time.monotonic() - began


def holds(workdir, process):
    """Whether a process holds its run directory: it is about to train, or training."""
    lock = workdir / "lock"
    return lock.exists() and f'"pid": {process.pid},' in lock.read_text()


def finish(process):
    said, _ = process.communicate(timeout=120)
    return said


def test_killed_at_random_moments(deeplight, train_words, calm, config, world, tmp_path, long, figure):
    """SIGKILL from when it holds its directory up to its end: in saves, events, evaluations, between."""
    rng, kills, in_saves, finished, round_ = np.random.default_rng(8), 0, 0, 0, 0
    window_s = json.loads((calm / "result.json").read_text())["wall_s"]  # its programs' compilation included
    while kills < (50 if long else 2):
        workdir, kept = tmp_path / f"run{round_}", kills
        while True:
            process = deeplight(*train_words, "--workdir", workdir)
            if (workdir / "result.json").exists():  # killed behind its end
                finish(process)
                break
            wait_for(partial(holds, workdir, process), process)
            try:
                process.wait(rng.uniform(0, window_s))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                folder = workdir / "checkpoints"
                names = {p.name for p in folder.iterdir() if p.is_dir()} if folder.exists() else set()
                in_saves += bool(names - {str(s) for s in checkpoint.saved_steps(folder)})
                if kills - kept >= (8 if long else 2):
                    finish(deeplight(*train_words, "--workdir", workdir))
                    break
        if not process.stdout.closed:
            process.stdout.close()
        assert_same_run(workdir, calm, config, world)
        finished, round_ = finished + 1, round_ + 1
    figure("kill -9 of train", kills=kills, during_a_save=in_saves, runs_identical=finished)


class Tally:
    """Sends this process a signal at the n-th call of a stage's progress."""

    def __init__(self, signals):
        self.signals, self.calls = signals, 0

    def __call__(self, what, done, total):
        self.calls += 1
        if number := self.signals.pop((what, done), None):
            signal.raise_signal(number)


@pytest.mark.parametrize(
    "moments",
    [
        {("training", 3): signal.SIGTERM, ("training", 45): signal.SIGINT, ("training", 71): signal.SIGTERM},
        pytest.param({("training", 3): signal.SIGTERM}, marks=LONG),
        pytest.param({("training", 71): signal.SIGTERM}, marks=LONG),
    ],
    ids=["three times", "before the first save", "before the last step"],
)
def test_a_signal_saves_the_step_and_is_then_delivered(moments, calm, config, world, tmp_path):
    for step, number in [(step, number) for (_, step), number in moments.items()]:
        with pytest.raises(Terminated if number == signal.SIGTERM else KeyboardInterrupt), terminable():
            train(config, tmp_path / "run", data=world, progress=Tally({("training", step): number}))
        assert checkpoint.saved_steps(tmp_path / "run" / "checkpoints")[-1] == step + 1
    train(config, tmp_path / "run", data=world)
    assert_same_run(tmp_path / "run", calm, config, world)


def test_a_handler_that_returns_leaves_no_result_of_half_a_run(calm, config, world, tmp_path):
    """As of a program that notes that its machine will be taken away, and looks for it later."""
    noted, before = [], signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *given: noted.append(given))
    try:
        with pytest.raises(Terminated):
            train(config, tmp_path / "run", data=world, progress=Tally({("training", 70): signal.SIGTERM}))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(noted) == 1
    assert not (tmp_path / "run" / "result.json").exists()
    train(config, tmp_path / "run", data=world)
    assert_same_run(tmp_path / "run", calm, config, world)


def test_an_evaluation_is_not_waited_for_but_done_first_by_the_next(
    calm, config, world, tmp_path, monkeypatch
):
    """Signals in evaluations: the first epoch's, again in its repetition, and the last one's."""
    rows = []

    def cut_short(at_epoch, run):
        from deeplight_jax.training import loop

        seen = []
        evaluate = loop.evaluate_epoch

        def watched(job, state, step, events):
            seen.append(step)
            if step == at_epoch * 24:
                signal.raise_signal(signal.SIGTERM)
            return evaluate(job, state, step, events)

        monkeypatch.setattr(loop, "evaluate_epoch", watched)
        with pytest.raises(Terminated), terminable():
            train(config, run, data=world)
        monkeypatch.setattr(loop, "evaluate_epoch", evaluate)
        rows.append(seen)

    for epoch in (1, 1, 3, 3):
        cut_short(epoch, tmp_path / "run")
    assert rows == [[24], [24], [24, 48, 72], [72]]
    train(config, tmp_path / "run", data=world)
    assert_same_run(tmp_path / "run", calm, config, world)


def test_the_commands_exit_codes(deeplight, train_words, config, world, calm, tmp_path):
    """SIGTERM: 0 within 10 s of an idle machine; Ctrl-C: 130; both say how to go on, to the same end."""
    words = [*train_words, "--workdir", tmp_path / "run"]
    folder, before = tmp_path / "run" / "checkpoints", []
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        process = deeplight(*words)
        wait_for(lambda before=before: checkpoint.saved_steps(folder) != before, process)
        process.send_signal(number)
        began = time.monotonic()
        said = finish(process)
        assert time.monotonic() - began < 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        assert process.returncode == code, said
        assert "the same command goes on from" in said
        assert "Traceback" not in said
        before = checkpoint.saved_steps(folder)
    finish(deeplight(*words))
    assert_same_run(tmp_path / "run", calm, config, world)


def test_a_signal_is_told_the_moment_it_is_noted(capfd):
    """The step that it waits for may compile for a while; a second one is delivered at once."""

    def signalled_twice():
        with held_back() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signal == signal.SIGINT
            assert "SIGINT: ends once a step is done and saved" in capfd.readouterr().err
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the second was held back, too")

    with pytest.raises(KeyboardInterrupt):
        signalled_twice()


@pytest.mark.parametrize("delay_s", [0.2, 0.4])
def test_ctrl_c_while_programs_are_compiled(delay_s, deeplight, train_words, tmp_path):
    """XLA's threads go on with it, and Python's own way out would take from them what they work on."""
    process = deeplight(*train_words, "--workdir", tmp_path / "run", JAX_ENABLE_COMPILATION_CACHE="false")
    wait_for((tmp_path / "run" / "data.json").exists, process)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    said = finish(process)
    assert process.returncode == 130, said
    assert "the same command goes on from" in said
    assert "Traceback" not in said
