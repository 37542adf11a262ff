"""An engine and a training run under load for long: the same numbers, the same memory, one program."""

import threading
import time

import numpy as np
import pytest

from deeplight_jax.config import override
from deeplight_jax.errors import DeeplightError
from deeplight_jax.serving.engine import load
from deeplight_jax.serving.export import export
from deeplight_jax.training import job as jobs
from deeplight_jax.training.loop import train

PAGE = 4096


def resident_bytes():
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * PAGE


@pytest.fixture(scope="module")
def engine(config, world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    train(config, folder / "run", data=world)
    export(folder / "run", folder / "model.safetensors")
    return load(folder / "model.safetensors")


def test_four_threads_score_as_one_and_memory_stays(engine, world, long, figure):
    """Batches of 1 to 2,000 rows, every seventh with a wrong row, which is refused and named."""
    split = world.split("train")
    ids, values = np.array(split.ids), np.array(split.values)
    draw = np.random.default_rng(7)
    sizes = draw.choice([1, 2, 31, 33, 500, 2000], 60)
    slices = [(int(s), int(draw.integers(0, len(ids) - s + 1))) for s in sizes]
    alone = [engine.score(ids[at : at + size], values[at : at + size]) for size, at in slices]
    ends_at = time.monotonic() + (600 if long else 3)
    counts, faults = np.zeros((4, 3), np.int64), []

    def work(number):
        rng = np.random.default_rng(number)
        try:
            while time.monotonic() < ends_at:
                which = int(rng.integers(len(slices)))
                size, at = slices[which]
                mine, own = ids[at : at + size], values[at : at + size]
                if counts[number, 0] % 7 == 6:
                    bad = int(rng.integers(size))
                    mine = mine.copy()
                    mine[bad, 3] = rng.choice([-1, 1 << 30])
                    try:
                        engine.score(mine, own)
                        faults.append("a wrong row was scored")
                    except DeeplightError as error:
                        if not str(error).startswith(f"row {bad}, "):
                            faults.append(str(error))
                    counts[number, 2] += 1
                elif not np.array_equal(engine.score(mine, own), alone[which]):
                    faults.append(f"thread {number} scored rows {at}+{size} otherwise")
                counts[number, 0] += 1
                counts[number, 1] += size
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(60 if long else 1)
    before = resident_bytes()
    for thread in threads:
        thread.join()
    grown = resident_bytes() - before
    calls, rows, wrong = counts.sum(axis=0).tolist()
    assert faults == []
    assert calls > 100
    assert wrong > 10
    assert grown < 8e6
    figure("engine, 4 threads", calls=calls, rows=rows, wrong_inputs=wrong, grown_bytes=grown)


def test_a_long_run_keeps_its_memory_its_pace_and_its_program(
    config, world, long, tmp_path, monkeypatch, figure
):
    """200,000 steps in the long form: memory and pace of its last tenth beside those of its second.

    Pace is in processor time, of which what else runs on the machine takes none.
    """
    steps, made, times, memory = (200_000 if long else 360), [], [], []
    make = jobs.make_train_step
    monkeypatch.setattr(jobs, "make_train_step", lambda *a: made.append(make(*a)) or made[-1])
    settings = {"train.epochs": steps // 24, "train.checkpoint_steps": 0, "sparsity.warmup_epochs": 10.0}
    tenth = steps // 24 * 24 // 10

    def watch(what, done, total):
        if what == "training" and done % tenth == 0:
            times.append(time.process_time())
            memory.append(resident_bytes())

    train(override(config, settings), tmp_path / "run", data=world, progress=watch)
    assert [step._cache_size() for step in made] == [1]
    pace = np.diff(times)
    grown = memory[-1] - memory[1]
    if long:
        assert grown < 30e6
        assert np.median(pace[-3:]) < 1.3 * np.median(pace[:3])
    figure(
        "long run",
        steps=steps,
        grown_bytes=grown,
        second_tenth_cpu_s=round(pace[0], 2),
        last_tenth_cpu_s=round(pace[-1], 2),
    )
