"""A whole sweep, one member after the other: results, choice, resuming, failures, the command line."""

import json
import shutil
import time

import duckdb
import pytest

from deeplight_jax.cli import main
from deeplight_jax.config import from_json, override, to_json
from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.sweeping import Sweep, axis, codes, ledger
from deeplight_jax.sweeping.choose import Budget, choose, pareto
from deeplight_jax.sweeping.launch import Options, run_sweep
from deeplight_jax.sweeping.results import rows
from deeplight_jax.sweeping.search import search
from deeplight_jax.training.inspect import evaluate, load_masks
from deeplight_jax.training.loop import train

SEQUENTIAL = Options(backend="sequential")
UNMEASURED = SEQUENTIAL._replace(measure=False)


@pytest.fixture(scope="module")
def done(sweep, world, tmp_path_factory):
    directory = tmp_path_factory.mktemp("sweep") / "sweep"
    return directory, run_sweep(sweep, directory, SEQUENTIAL, data=world)


def stamps(directory):
    return {p: p.stat().st_mtime_ns for p in directory.glob("members/*/result.json")}


def test_every_member_is_done_in_the_grids_order(done, sweep):
    directory, status = done
    assert (status.members, len(status.done), status.failed, status.waiting) == (3, 3, {}, [])
    found = rows(directory)
    for row, point in zip(found, sweep.grid, strict=True):
        for key in ("sparsity.dnn", "sparsity.embedding", "optim.learning_rate"):
            assert row[key] == point[key]
        assert row["rate_dnn"] == pytest.approx(0.99 * point["sparsity.dnn"], abs=0.05)
        assert row["test_roc_auc"] is None  # nobody was chosen yet, so test was not read
        assert row["p50_us"] > 0
        assert row["engine_bytes"] > 0
        assert row["seconds"] > 0
    assert [*(directory / "running").iterdir()] == []


def test_results_are_one_parquet_row_a_member(done):
    directory, _ = done
    with duckdb.connect() as table:
        read = table.sql(f"SELECT * FROM '{directory / 'results.parquet'}'")
        assert dict(zip(read.columns, read.fetchall()[0], strict=True)) == rows(directory)[0]
        assert len(read.fetchall()) == 3


def test_a_member_is_the_run_of_its_config(done, world, tmp_path):
    """Trained alone by `train` with the config it left, bit for bit; other commands read it as any run."""
    directory, status = done
    member = ledger.place(directory, status.done[-1])
    config = from_json((member / "config.json").read_text())
    alone = train(config, tmp_path / "alone", data=world, split="valid")
    result = json.loads((member / "result.json").read_text())
    for volatile in ("wall_s",):
        assert alone.pop(volatile) > 0
        assert result.pop(volatile) > 0
    assert alone == result
    assert result["split"] == "valid"
    assert evaluate(member, "valid")["log_loss"] == result["log_loss"]
    assert load_masks(member).masks["fwfm"]["r"].mean() == pytest.approx(0.2, abs=0.02)


def test_finished_members_never_run_again(done, sweep, world):
    directory, status = done
    before = stamps(directory)
    seen = []
    again = run_sweep(sweep, directory, SEQUENTIAL, data=world, progress=lambda what, *_: seen.append(what))
    assert again == status
    assert stamps(directory) == before
    assert not {"training", "evaluating", "measuring engines"} & set(seen)


def test_one_warm_up_serves_all(done):
    directory, _ = done
    assert len([*(directory / "warmup").iterdir()]) == 1
    warm = json.loads(next((directory / "warmup").glob("*/result.json")).read_text())
    assert warm["split"] == "valid"
    assert warm["steps"] == 13  # an epoch of 1,600 rows in batches of 128
    for path in directory.glob("members/*/metrics.jsonl"):
        assert min(json.loads(line)["step"] for line in path.read_text().splitlines()) == 26


def test_a_killed_sweep_goes_on_where_it_stood_also_elsewhere(sweep, world, done, tmp_path):
    def kill(what, step, total):
        if what == "training" and step == 30:
            raise KeyboardInterrupt

    few = sweep._replace(grid=sweep.grid[:1])
    with pytest.raises(KeyboardInterrupt):
        run_sweep(few, tmp_path / "s", UNMEASURED, data=world, progress=kill)
    stopped = ledger.status(tmp_path / "s")
    assert (len(stopped.done), len(stopped.waiting)) == (0, 1)
    first = []
    (tmp_path / "s").rename(tmp_path / "moved")
    run_sweep(
        few, tmp_path / "moved", UNMEASURED, data=world,
        progress=lambda what, step, _: what == "training" and first.append(step),
    )  # fmt: skip
    assert first[:2] == [26, 27]  # from the checkpoint of the second epoch
    same = [f"valid_{k}" for k in ("roc_auc", "log_loss")]
    again, calm = rows(tmp_path / "moved"), rows(done[0])[:1]
    assert [[r[k] for k in same] for r in again] == [[r[k] for k in same] for r in calm]


def sweep_file(sweep, path):
    """A file whose get_sweep returns this sweep."""
    path.write_text(
        "from deeplight_jax.config import from_json\n"
        "from deeplight_jax.sweeping import Sweep\n"
        f"def get_sweep():\n    return Sweep(from_json({to_json(sweep.config)!r}), {sweep.grid!r})\n"
    )
    return str(path)


def test_a_failing_member_is_recorded_and_the_others_go_on(config, world, tmp_path, capsys):
    grid = axis("optim.learning_rate", [1e-3, 1e30])
    wild = Sweep(override(config, {"model.dropout": 0.0, "train.epochs": 2}), grid)
    command = ["sweep", "--config", sweep_file(wild, tmp_path / "wild.py"), "--workdir", str(tmp_path / "s")]
    assert main([*command, "--backend", "sequential", "--no-measure"]) == 2
    assert "1 of 2 members failed" in capsys.readouterr().err
    status = ledger.status(tmp_path / "s")
    assert (len(status.done), len(status.failed)) == (1, 1)
    (error,) = status.failed.values()
    assert "loss is not finite at step" in error
    assert [row["state"] for row in rows(tmp_path / "s")] == ["done", "failed"]
    assert main(["sweep", "--status", str(tmp_path / "s")]) == 0
    assert "failed" in capsys.readouterr().out


def test_the_command_line_shows_a_finished_sweep(done, sweep, tmp_path, capsys):
    file = sweep_file(sweep, tmp_path / "sweep.py")
    command = ["sweep", "--config", file, "--workdir", str(done[0])]
    assert main(command) == 0
    assert "3 of 3 members" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["members"] == rows(done[0])
    assert main([*command, "--config.sparsity.dnn=0.5"]) == 2
    assert "in its grid" in capsys.readouterr().err
    assert main(["sweep", "--config", file]) == 2
    assert main(["sweep", "--status", str(done[0]), "--config", file]) == 2
    alone = ["sweep", "--config", file, "--workdir", str(tmp_path / "s")]
    for words, backend in (
        (["--num-gpus", "0"], "ray"),
        (["--backend", "sequential", "--layout", "2"], "compiled"),
    ):
        capsys.readouterr()
        assert main([*alone, *words]) == 2
        assert f"or name --backend {backend}" in capsys.readouterr().err
    assert main(["sweep", "--status", str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_search_adds_members_around_the_front(done, tmp_path):
    directory = tmp_path / "s"
    shutil.copytree(done[0], directory)
    sheet = json.loads((directory / "sweep.json").read_text())
    sheet["config"] = to_json(
        override(from_json(sheet["config"]), {"data.dir": "data"})
    )  # from another folder
    ledger.write_json(directory / "sweep.json", sheet)
    before = {row["name"]: row for row in rows(directory)}
    assert search(directory, 1, Budget(), options=SEQUENTIAL) == 1
    after = rows(directory)
    assert [row["name"] for row in after[:3]] == [*before]
    (new,) = after[3:]
    assert new["state"] == "done"
    assert new["p50_us"] > 0
    centre = min(pareto([*before.values()]), key=lambda row: row["valid_log_loss"])
    keys = ("sparsity.dnn", "sparsity.field", "sparsity.embedding", "optim.learning_rate")
    assert sum(new[key] != centre[key] for key in keys) == 1  # one step away from the best of the front


def test_what_cannot_begin_is_refused_before_anything_is_trained(config, world, tmp_path):
    bad = Sweep(override(config, {"model.name": "fm"}), codes("D90", "F40"))
    with pytest.raises(ConfigError, match=r"sparsity.dnn=0.9.*model fm has no such weights"):
        run_sweep(bad, tmp_path / "s", UNMEASURED, data=world)
    assert not (tmp_path / "s").exists()
    with pytest.raises(ConfigError, match="no backend slurm"):
        run_sweep(bad, tmp_path / "s", UNMEASURED._replace(backend="slurm"), data=world)
    for option, value in (("per_device", -1), ("num_cpus", float("nan")), ("retries", -2)):
        with pytest.raises(ConfigError, match=f"--{option.replace('_', '-')} {value}: use 0 or more"):
            run_sweep(bad, tmp_path / "s", UNMEASURED._replace(**{option: value}), data=world)


def test_a_directory_holds_one_data_set(done, sweep, tmp_path):
    from deeplight_jax.data.synthetic import World, prepare_synthetic

    other = prepare_synthetic(tmp_path / "other", World(rows=2_000, largest=21, pairs=5))
    with pytest.raises(RunError, match="holds a sweep of other data"):
        run_sweep(sweep, done[0], UNMEASURED, data=other)


def test_best_reads_test_once_for_the_chosen(done, capsys):
    directory, _ = done
    told = []
    budget = Budget(latency_us=1e6, engine_bytes=1e9)
    found = choose(directory, budget, progress=lambda *what: told.append(what))
    assert told[-1] == ("evaluating", 2, 2)
    losses = [row["valid_log_loss"] for row in rows(directory)]
    assert found.row["valid_log_loss"] == min(losses)
    assert (found.within, found.finished) == (3, 3)
    tested = [row for row in rows(directory) if row["test_log_loss"] is not None]
    assert [row["name"] for row in tested] == [found.row["name"]]
    written = ledger.place(directory, found.row["name"]) / "test.json"
    stamp = written.stat().st_mtime_ns
    assert main(["best", "--sweep", str(directory), "--max-bytes", "1GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["row"] == found.row
    assert written.stat().st_mtime_ns == stamp
    assert (directory / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["best", "--sweep", str(directory), "--max-latency-us", "1e-3"]) == 2
    assert "the fastest takes" in capsys.readouterr().err


def row(name, loss, us, size):
    figures = {"valid_log_loss": loss, "valid_roc_auc": 1 - loss, "p50_us": us, "engine_bytes": size}
    return {"name": name, "state": "done", **figures}


def test_the_front_is_what_no_other_beats():
    found = [
        row("fast", 0.5, 1.0, 10), row("good", 0.3, 3.0, 10), row("beaten", 0.5, 3.0, 10),
        row("twin", 0.3, 3.0, 10), row("small", 0.6, 2.0, 5), row("unmeasured", 0.1, None, None),
    ]  # fmt: skip
    for metric in ("log_loss", "roc_auc"):
        assert {r["name"] for r in pareto(found, metric)} == {"fast", "good", "twin", "small"}


def test_status_of_1000_members_takes_under_a_second(tmp_path):
    names = [f"{i:016x}" for i in range(1000)]
    members = [{"name": n, "set": {}, "point": {}, "warmup": "", "steps": 100} for n in names]
    ledger.write_json(tmp_path / "sweep.json", {"format": 1, "members": members})
    for name in names[:400]:
        ledger.write_part(tmp_path, name, "result", {"roc_auc": 0.7})
    for name in names[400:500]:
        ledger.record_failure(tmp_path, name, RunError("it broke"))
    with ledger.beating(tmp_path, names[500:512]) as beat:
        for step in (20, 30):
            time.sleep(1.01)
            beat(step, 100)
        began = time.perf_counter()
        status = ledger.status(tmp_path)
        assert time.perf_counter() - began < 1.0
    assert (len(status.done), len(status.failed), len(status.waiting)) == (400, 100, 488)
    assert status.failed[names[400]] == "it broke"
    assert status.running == dict.fromkeys(names[500:512], (30, 100))
    pace = 12 * 10 / 1.01
    assert status.eta_s == pytest.approx((488 * 100 + 12 * 70) / pace, rel=0.05)


def test_status_needs_no_jax():
    import subprocess
    import sys

    code = "import sys, deeplight_jax.sweeping.ledger, deeplight_jax.cli; assert 'jax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
