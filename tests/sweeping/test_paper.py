"""Tables: what is missing is trained, what is finished is read, ours stands beside the paper's."""

import json

import pytest

from deeplight_jax.cli import main
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.sweeping.paper import Entry, run_table, table_entries

SMALL = {
    "data.batch_size": 128,
    "model.embedding_dim": 3,
    "model.hidden": "(8,6)",
    "train.epochs": 2,
    "sparsity.warmup_epochs": 1.0,
    "sparsity.short_schedule": "rescale",
}
CONFIG = "experiments/criteo_baselines.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_synthetic(
        tmp_path_factory.mktemp("world") / "data", World(rows=2_000, largest=20, pairs=5)
    )


def test_finished_runs_are_not_run_again(data, tmp_path):
    entries = table_entries("3", "criteo")[:2]
    (lr, fm) = run_table(entries, CONFIG, data, tmp_path, seeds=2, overrides=SMALL)
    assert (lr.entry.argument, fm.entry.argument) == ("lr", "fm")
    assert [len(lr.results), len(fm.results)] == [2, 2]
    assert lr.results[0]["roc_auc"] != lr.results[1]["roc_auc"]  # the seeds differ
    written = (tmp_path / "lr" / "seed-0" / "result.json").stat().st_mtime_ns
    again = run_table([*entries, Entry("fwfm", None)], CONFIG, data, tmp_path, seeds=2, overrides=SMALL)
    assert again[:2] == [lr, fm]
    assert (tmp_path / "lr" / "seed-0" / "result.json").stat().st_mtime_ns == written
    assert (tmp_path / "fwfm" / "seed-1" / "result.json").exists()


def test_a_mistake_shows_before_anything_is_trained(data, tmp_path):
    entries = [Entry("lr", None), Entry("fmm", None)]
    with pytest.raises(ConfigError, match="'fmm' is no model"):
        run_table(entries, CONFIG, data, tmp_path, overrides=SMALL)
    assert not (tmp_path / "lr").exists()


def test_other_settings_in_the_same_place_are_refused(data, tmp_path):
    entries = [Entry("lr", None)]
    run_table(entries, CONFIG, data, tmp_path, overrides=SMALL)
    with pytest.raises(RunError, match=r"lr: .*optim.l2"):
        run_table(entries, CONFIG, data, tmp_path, overrides={**SMALL, "optim.l2": 1e-4})


def test_what_cannot_begin_is_known_before_anything_is_trained(data, tmp_path):
    entries = [Entry("lr", None), Entry("deepfwfm,D90", None)]
    with pytest.raises(ConfigError, match=r"deepfwfm,D90: .*short of 99%"):
        run_table(entries, CONFIG, data, tmp_path, overrides={**SMALL, "sparsity.short_schedule": "error"})
    assert not (tmp_path / "lr").exists()


def test_a_row_that_fails_leaves_the_others(data, tmp_path, caplog):
    entries = [Entry("deepfm", None), Entry("lr", None)]
    (tmp_path / "deepfm").write_text("in the way")
    deepfm, lr = run_table(entries, CONFIG, data, tmp_path, overrides=SMALL)
    assert "cannot write to" in deepfm.failure
    assert deepfm.results == []
    assert "failed: cannot write" in caplog.text
    assert len(lr.results) == 1


def test_from_the_command_line(data, tmp_path, capsys):
    command = ["table", "5", "--data", str(data.directory), "--out", str(tmp_path), "--config", CONFIG]
    command += ["--paper", "criteo"]
    command += [f"--config.{key}={value}" for key, value in SMALL.items()]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "deepfwfm,D90-R90-F40" in shown
    assert "0.8123" in shown  # the paper's
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["deepfwfm,D90-R90-F40"]["paper"]["roc_auc"] == 0.8123
    assert found["deepfwfm,D99-R95-F40"]["results"][0]["components"]["dnn"]["rate"] == pytest.approx(
        0.99, abs=0.03
    )
    assert main([*command, "--seeds", "0"]) == 2
    command.remove("--paper")
    command.remove("criteo")
    assert main(command) == 0
    assert "0.8123" not in capsys.readouterr().out  # of other data the paper says nothing
    command[command.index(CONFIG)] += ":lr"
    assert main(command) == 2
    assert "name the file alone" in capsys.readouterr().err
