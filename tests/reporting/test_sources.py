"""Where a report's runs and latencies come from."""

import json
from pathlib import Path

import duckdb
import pytest

from deeplight_jax.config import default_config, override, to_json
from deeplight_jax.errors import ReportError
from deeplight_jax.reporting.sources import find_runs, read_latencies, read_records
from deeplight_jax.serving import artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.training.inspect import load_run


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(default_config()), encoding="utf-8")
    (folder / "data.json").write_text('{"content_hash": "x", "rows": 1, "schema": []}', encoding="utf-8")
    return folder


def test_runs_are_found_three_levels_down_and_no_deeper(tmp_path, monkeypatch):
    for name in ("a", "T/b/seed-0", "T/x/y/seed-1", "T/x/y/z/seed-2", "T/.hidden/run"):
        make(tmp_path / name)
    make(tmp_path / "a" / "inner")  # inside a run: not one of the set
    monkeypatch.chdir(tmp_path)
    assert find_runs(["a", "T"]) == ["a", "T/b/seed-0", "T/x/y/seed-1"]
    assert find_runs(["."]) == ["T/b/seed-0", "a"]
    assert find_runs(["a@7", "a", "T/../a"]) == ["a@7", "a"]
    (tmp_path / "empty").mkdir()
    for source in ("empty", "none", "none@3", "T@3"):
        with pytest.raises(ReportError, match=source):
            find_runs([source])


def test_of_a_sweep_only_members_are_runs(tmp_path):
    for name in ("members/01ab", "members/02cd", "warmup/03ef"):
        make(tmp_path / "S" / name)
    (tmp_path / "S" / "sweep.json").write_text("{}", encoding="utf-8")
    config = override(default_config(), {"model.name": "fm", "sparsity.embedding": 0.4})
    (tmp_path / "S/members/02cd/config.json").write_text(to_json(config), encoding="utf-8")
    paths = find_runs([tmp_path / "S"])
    assert [Path(p).name for p in paths] == ["01ab", "02cd"]
    records, _ = read_records(paths[::-1])
    assert [r.name for r in records] == ["deepfwfm 01ab", "fm,F40 02cd"]


def test_names_are_short_and_failures_have_reasons(tmp_path):
    make(tmp_path / "R/b/seed-0")
    (make(tmp_path / "R/c/seed-0") / "result.json").write_text('{"roc_auc": 1}', encoding="utf-8")
    (make(tmp_path / "R/d/seed-0") / "data.json").unlink()
    whole = make(tmp_path / "R/e/seed-0") / "metrics.jsonl"
    whole.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo', encoding="utf-8")
    broken = make(tmp_path / "R/f/seed-0") / "metrics.jsonl"
    broken.write_text('{"step"\n{"step": 2}\n', encoding="utf-8")
    records, failures = read_records(find_runs([tmp_path / "R"]))
    assert [r.name for r in records] == ["b/seed-0", "e/seed-0"]
    assert list(records[1].history) == [{"step": 1, "loss": 0.5}]
    assert [Path(f.path).parent.name for f in failures] == ["c", "d", "f"]
    reasons = ["result.json lacks bytes", "data.json", "metrics.jsonl, line 1 is damaged"]
    assert all(part in f.reason for part, f in zip(reasons, failures, strict=True))


def test_latencies_of_a_sweep(tmp_path):
    make(tmp_path / "members" / "01ab")
    make(tmp_path / "members" / "02cd")
    file = tmp_path / "results.parquet"
    rows = "(VALUES ('01ab', 1.5), ('02cd', NULL)) t(name, p50_us)"
    duckdb.connect().execute(f"COPY (SELECT * FROM {rows}) TO '{file}' (FORMAT parquet)")
    records, _ = read_records(find_runs([tmp_path]), read_latencies([tmp_path], []))
    assert [r.latency_us for r in records] == [1.5, None]
    file.write_bytes(b"no parquet")
    with pytest.raises(ReportError, match=r"results\.parquet cannot be read"):
        read_latencies([tmp_path], [])


def test_a_latency_belongs_to_one_model(runs, tmp_path):
    paths = [str(runs / "pruned" / f"seed-{i}") for i in (0, 1)]
    found = load_run(paths[0])
    records, _ = read_records(paths)
    about = {"config_hash": records[0].result["config_hash"], "step": found.step}
    structure = compact(found.config.model, found.schema, found.params)
    artifact.save(tmp_path / "m.safetensors", artifact.Artifact(structure, about, {}))
    measured = {"ours": "engine", "figures": {"engine": {"p50_us": 2.5}},
                "settings": {"artifact": str(tmp_path / "m.safetensors")}}  # fmt: skip
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps(measured), encoding="utf-8")
    latencies = read_latencies([], [bench])
    records, _ = read_records([*paths, f"{paths[0]}@{found.plan.warmup_steps}"], latencies)
    assert [r.latency_us for r in records] == [2.5, None, None]
    artifact.save(tmp_path / "m.safetensors", artifact.Artifact(structure, {"step": 1}, {}))
    with pytest.raises(ReportError, match=r"which names no run \(no config_hash\)"):
        read_latencies([], [bench])
    (tmp_path / "m.safetensors").unlink()
    with pytest.raises(ReportError, match="which cannot be read: no artifact"):
        read_latencies([], [bench])
    bench.write_text("[]", encoding="utf-8")
    with pytest.raises(ReportError, match="is no output of `deeplight bench --json`"):
        read_latencies([], [bench])
