"""The command line, through `main` as a user calls it: raw rows to a pruned, evaluated model."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import deeplight_jax
from deeplight_jax.cli import main
from deeplight_jax.data.prepared import open_prepared

_REAL = Path(__file__).parents[2] / "shared/data/criteo/train70k.txt.gz"
_SMOKE = "experiments/criteo_deepfwfm.py:smoke,D50-R50-F20"
_SMALL = ["--config.model.hidden=(8,)", "--config.model.embedding_dim=4", "--config.data.batch_size=64"]
_SMALL += ["--config.train.epochs=5"]


def _raw_rows(file: Path, rows: int, seed: int) -> Path:
    """Criteo-layout lines whose label leans on C1; the fourth line is one column short."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(rows):
        c = [f"{v:08x}" for v in rng.integers(0, 6, 26)]
        label = int(rng.random() < (0.7 if int(c[0], 16) < 3 else 0.2))
        cells = [str(label), *map(str, rng.integers(0, 50, 13)), *c]
        lines.append("\t".join(cells[:-1] if i == 3 else cells))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    raw = _raw_rows(folder / "day1.txt", 4000, seed=1)
    assert main(["prepare", "criteo", str(raw), "--out", str(folder / "data"), "--threads", "1"]) == 0
    return folder / "data"


def test_raw_rows_to_a_pruned_evaluated_model(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = open_prepared(prepared)
    assert sum(split.rows for split in data.splits.values()) == 3999
    assert data.manifest["rejected"]["total"] == 1
    assert data.manifest["rejected"]["first"][0]["line"] == 4

    run = tmp_path / "run"
    command = ["train", "--config", _SMOKE, "--workdir", str(run), f"--config.data.dir={prepared}", *_SMALL]
    assert main(command) == 0
    assert "ROC AUC" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert result["roc_auc"] > 0.6
    assert result["components"]["field"]["nonzero"] < result["components"]["field"]["total"] * 0.6
    assert main(command) == 0  # a finished run is shown again, not trained again
    capsys.readouterr()

    assert main(["eval", "--run", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["roc_auc"] == result["roc_auc"]

    day2 = _raw_rows(tmp_path / "day2.txt", 500, seed=2)
    later = ["prepare", "criteo", str(day2), "--out", str(tmp_path / "day2"), "--vocab", str(prepared)]
    assert main(later) == 0
    capsys.readouterr()
    assert main(["eval", "--run", str(run), "--data", str(tmp_path / "day2"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 499


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("--config.sparsity.dmn=0.9", "dnn"),
        ("--config.sparsity.dnn=1.0", "[0, 1)"),
        ("--config.optim.learning_rate=nan", "learning_rate"),
        ("--config.data.batch_size=0", "batch_size"),
        ("--config.data.dir=nowhere", "deeplight prepare"),
    ],
)
def test_a_wrong_override_is_one_line_and_exit_2(
    override: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", _SMOKE, "--workdir", str(tmp_path / "run"), override]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("deeplight: ")
    assert named in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config", _SMOKE, "--config.sparsity.dn=0.5"],
        ["train", "--config", "nowhere.py", "--config.seed=2"],
        ["sweep", "--config", "sweeps/figure4.py", "--layout", "2", "--backend", "ray"],
        ["sweep", "--config", "sweeps/figure4.py", "--config.train.epoch=2"],
        ["table", "4", "--out", "tables", "--data", "nowhere"],
        ["export", "--run", "nowhere"],
    ],
    ids=" ".join,
)
def test_mistakes_that_need_no_jax_do_not_wait_for_it(words: list[str], tmp_path: Path) -> None:
    code = "import sys, deeplight_jax.cli as cli; status = cli.main(sys.argv[1:])"
    code += "; assert 'jax' not in sys.modules"
    words = [*words, "--workdir", str(tmp_path / "run")] if words[0] in ("train", "sweep") else words
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit(status)", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("deeplight: ")


def test_an_interrupt_while_the_command_is_imported_is_no_traceback() -> None:
    code = """
import signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "deeplight_jax.config" or name.startswith("rich."):
            signal.raise_signal(signal.SIGINT)
            sys.meta_path.remove(self)
sys.meta_path.insert(0, Interrupts())
from deeplight_jax.__main__ import program
program()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_version_has_one_owner(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"deeplight {deeplight_jax.__version__}\n"
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"]


def test_unknown_flags_and_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["eval", "--run", str(tmp_path), "--splitt", "test"])
    assert "--splitt" in capsys.readouterr().err
    missing = str(tmp_path / "none.txt")
    assert main(["prepare", "criteo", missing, "--out", str(tmp_path / "out")]) == 2
    assert "none.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["criteo", "--rows", "5"], "--rows"),
        (["criteo", "--vocab", "day1", "--min-count", "3"], "--min-count"),
        (["criteo", "--vocab", "day1", "--test-fraction", "0"], "--test-fraction"),
        (["synthetic", "--min-count", "3"], "--min-count"),
        (["synthetic", "--threads", "1"], "--threads"),
        (["synthetic", "rows.txt"], "the raw files"),
    ],
)
def test_options_of_prepare_that_would_mean_nothing_are_refused(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *words, "--out", str(tmp_path / "out")]) == 2
    assert f"leave {named} out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--hosts", "²"], ["--hosts", "2", "--heartbeat", "0"]])
def test_hosts_and_heartbeat_are_whole_numbers(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = ["--coordinator", "localhost:1", "--host", "9"]  # of two: where nothing else is wrong, this is
    assert main(["train", "--config", _SMOKE, "--workdir", str(tmp_path / "run"), *words, *by_hand]) == 2
    assert f"{words[-2]} {words[-1]}: " in capsys.readouterr().err


def test_too_many_bad_rows_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = _raw_rows(tmp_path / "raw.txt", 50, seed=3)
    command = ["prepare", "criteo", str(raw), "--out", str(tmp_path / "out"), "--max-bad-rows", "0"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "raw.txt" in error
    assert "4" in error
    assert [p.name for p in tmp_path.iterdir()] == ["raw.txt"]


def test_quickstart_on_a_small_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--rows", "20000", "--workdir", str(tmp_path / "q")]) == 0
    shown = capsys.readouterr().out
    assert "pruned D90-R90-F40" in shown
    assert "of 20" in shown
    pruned = json.loads((tmp_path / "q/pruned/result.json").read_text())
    for component, target in {"dnn": 0.9, "field": 0.9, "embedding": 0.4}.items():
        assert abs(pruned["components"][component]["rate"] - target) < 0.01
    assert main(["quickstart", "--rows", "30000", "--workdir", str(tmp_path / "q")]) == 2
    assert "holds another world than asked for" in capsys.readouterr().err


@pytest.mark.skipif(not _REAL.is_file(), reason=f"no real Criteo rows at {_REAL}")
def test_real_criteo_rows_are_all_accepted(tmp_path: Path) -> None:
    assert main(["prepare", "criteo", str(_REAL), "--out", str(tmp_path / "data")]) == 0
    manifest = open_prepared(tmp_path / "data").manifest
    assert (manifest["accepted"], manifest["rejected"]["total"]) == (70_000, 0)
    assert sum(manifest["positives"].values()) == 15_776
