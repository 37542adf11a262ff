"""`prepare`, `export` and `report` killed at random moments: what is there is whole, and a rerun finishes."""

import shutil
import subprocess
import time

import numpy as np
import pytest

from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.serving.engine import load
from deeplight_jax.training.loop import train


def prepare_words(folder, run):
    """Enough rows that most of the time is theirs."""
    rng = np.random.default_rng(0)
    cells = [[f"{x:x}" for x in rng.integers(0, 99, 39)] for _ in range(500)]
    lines = [f"{i % 2}\t" + "\t".join([*map(str, range(13)), *cells[i % 500][:26]]) for i in range(60_000)]
    (folder / "raw.txt").write_text("\n".join(lines) + "\n")
    return ["prepare", "criteo", folder / "raw.txt", "--threads", "1", "--out"]


def export_words(folder, run):
    return ["export", "--run", run, "--out"]


def report_words(folder, run):
    return ["report", run, "--out"]


def data_of(out):
    return open_prepared(out).content_hash


def scores_of(out):
    engine = load(out)
    return repr(engine.about["certificate"]) if "certificate" in engine.about else repr(engine.about)


def page_of(out):
    text = out.read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    return len(text) > 1000


COMMANDS = {
    "prepare": (prepare_words, "data", data_of),
    "export": (export_words, "model.safetensors", scores_of),
    "report": (report_words, "report.html", page_of),
}


@pytest.fixture(scope="module")
def run(config, world, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(config, workdir, data=world)
    return workdir


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments(command, deeplight, run, tmp_path, long, figure):
    if command == "report" and not long:
        pytest.skip("each page takes seconds: in the long form")
    make, name, read = COMMANDS[command]
    words, rng = make(tmp_path, run), np.random.default_rng(5)
    began = time.monotonic()
    process = deeplight(*words, tmp_path / name)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    took_s, expected = time.monotonic() - began, read(tmp_path / name)
    kills, whole = 0, 0
    while kills < (20 if long else 1):
        out = tmp_path / f"out{kills}" / name
        out.parent.mkdir(exist_ok=True)
        process = deeplight(*words, out)
        try:
            process.communicate(timeout=rng.uniform(0.3 * took_s, took_s))
            shutil.rmtree(out.parent)
            continue  # it was done before
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        kills += 1
        if out.exists():
            assert read(out) == expected  # never a part
            whole += 1
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        process = deeplight(*words, out)
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
        assert read(out) == expected
        assert command != "prepare" or [p.name for p in out.parent.iterdir()] == [
            name
        ]  # what was left is gone
    figure(f"kill -9 of {command}", kills=kills, already_whole=whole, reruns_equal=kills)
