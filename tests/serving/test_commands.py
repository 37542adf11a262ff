"""export, export --verify and score through `main`, as a user calls them."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import duckdb
import numpy as np
import pytest
from small_run import raw_rows, trained

from deeplight_jax import load_run, serving
from deeplight_jax.cli import main
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.errors import ArtifactError
from deeplight_jax.evaluation.evaluate import predict_logits
from deeplight_jax.serving import artifact, certificate, export
from deeplight_jax.serving.scoring import score_split


def test_the_certificate_compares_enough_rows_and_both_metrics(exported, run, data):
    engine = serving.load(exported)
    found = engine.about["certificate"]
    assert (found["rows"], found["real_rows"], found["single_rows"]) == (100_000, 3000, 2000)
    assert 0 < found["mean_error"] <= found["max_error"] < 1e-5
    assert found["roc_auc"]["jax"] == pytest.approx(found["roc_auc"]["engine"], abs=1e-6)
    assert found["log_loss"]["jax"] == pytest.approx(found["log_loss"]["engine"], abs=1e-6)
    assert found["test_rows"] == open_prepared(data).split("test").rows
    result = json.loads((run / "result.json").read_text())
    assert found["roc_auc"]["jax"] == pytest.approx(result["roc_auc"], abs=1e-6)
    assert found["log_loss"]["engine"] == pytest.approx(result["log_loss"], abs=1e-5)
    counts = engine.compact.counts()
    projected = load_run(run)
    assert counts["embedding"] == np.count_nonzero(projected.params["embedding"]["table"])
    assert sum(counts["weights"]) < sum(
        np.count_nonzero(projected.params["deep"][f"hidden_{i}"]["kernel"]) for i in range(2)
    )


def test_export_prints_its_certificate(run, tmp_path, capsys):
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "m.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "100,000 (3,000)" in shown
    assert "live units" in shown
    command = ["export", "--run", str(run), "--verify", str(tmp_path / "m.safetensors"), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["certificate"]["max_error"] < 1e-5
    assert found["bytes"] == (tmp_path / "m.safetensors").stat().st_size


def test_the_artifact_carries_the_vocabularies_and_what_it_was_made_from(exported, data):
    found, rows = artifact.load(exported), open_prepared(data)
    assert sorted(found.vocabularies) == sorted(f.name for f in rows.schema.categorical)
    assert found.vocabularies["C1"] == (data / "vocab/C1.txt").read_bytes()
    assert found.about["data"]["content_hash"] == rows.content_hash
    assert found.about["data"]["recipe"]["name"] == "criteo"
    assert found.about["model"]["name"] == "deepfwfm"
    assert found.about["sparsity"]["dnn"] == 0.5


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_scores_are_those_of_the_trained_model(exported, run, data, tmp_path, ending):
    out = tmp_path / f"scores.{ending}"
    assert main(["score", "--artifact", str(exported), "--data", str(data), "--out", str(out)]) == 0
    found = duckdb.sql(f"SELECT * FROM '{out}' ORDER BY row").fetchnumpy()
    split, trained_run = open_prepared(data).split("test"), load_run(run)
    logits = predict_logits(trained_run.model, trained_run.params, split, 512)
    np.testing.assert_allclose(found["score"], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_array_equal(found["row"], np.arange(split.rows))
    np.testing.assert_array_equal(found["label"], split.label)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_a_later_day_is_scored_by_block(exported, data, tmp_path, monkeypatch):
    raw = raw_rows(tmp_path / "day2.txt", 700, seed=2, values=9)  # has values never seen
    later = ["prepare", "criteo", str(raw), "--out", str(tmp_path / "day2"), "--vocab", str(data)]
    assert main(later) == 0
    command = ["score", "--artifact", str(exported), "--data", str(tmp_path / "day2"), "--out"]
    assert main([*command, str(tmp_path / "whole.parquet")]) == 0
    monkeypatch.setattr("deeplight_jax.serving.scoring.BLOCK_ROWS", 64)
    assert main([*command, str(tmp_path / "blocks.parquet")]) == 0
    whole, blocks = (
        duckdb.sql(f"FROM '{tmp_path / name}.parquet'").fetchnumpy() for name in ("whole", "blocks")
    )
    assert len(whole["score"]) == 700
    np.testing.assert_allclose(whole["score"], blocks["score"], rtol=1e-5)
    np.testing.assert_array_equal(blocks["row"], np.arange(700))


def test_data_of_another_vocabulary_is_refused(exported, tmp_path, capsys):
    raw = raw_rows(tmp_path / "other.txt", 400, seed=3, values=4)
    assert main(["prepare", "criteo", str(raw), "--out", str(tmp_path / "other")]) == 0
    command = ["score", "--artifact", str(exported), "--data", str(tmp_path / "other"), "--out"]
    assert main([*command, str(tmp_path / "scores.csv")]) == 2
    error = capsys.readouterr().err
    assert "the artifact's" in error
    assert "--vocab" in error
    assert not (tmp_path / "scores.csv").exists()


def test_an_artifact_of_no_data_is_named(exported, data, tmp_path):
    engine = serving.load(exported)
    with pytest.raises(ArtifactError, match="does not say what data"):
        score_split(replace(engine, about={}), open_prepared(data), "test", tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("out", "named"), [("scores.txt", ".parquet or .csv"), ("nowhere/scores.csv", "name another --out")]
)
def test_a_place_that_cannot_be_written_is_named(exported, data, tmp_path, capsys, out, named):
    command = ["score", "--artifact", str(exported), "--data", str(data), "--out", str(tmp_path / out)]
    assert main(command) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "named"), [(".", "is a directory"), ("nowhere/m.safetensors", "no directory")]
)
def test_export_looks_at_its_destination_before_it_scores(run, tmp_path, monkeypatch, capsys, out, named):
    monkeypatch.setattr("deeplight_jax.serving.export.certify", lambda *_: pytest.fail("scored first"))
    assert main(["export", "--run", str(run), "--out", str(tmp_path / out)]) == 2
    assert named in capsys.readouterr().err


def test_export_wants_one_of_out_and_verify(run, capsys):
    assert main(["export", "--run", str(run)]) == 2
    assert "--out FILE.safetensors or --verify" in capsys.readouterr().err


def test_verify_refuses_an_artifact_of_another_run(exported, data, tmp_path, capsys):
    other = trained(tmp_path / "other", data, "smoke,D50", epochs=5)
    step = serving.load(exported).about["step"]
    assert main(["export", "--run", f"{other}@{step}", "--verify", str(exported)]) == 2
    assert "their configs differ" in capsys.readouterr().err


def test_an_engine_that_scores_otherwise_is_not_exported(run, tmp_path, monkeypatch, capsys):
    honest = export.compact

    def tampered(*arguments):
        made = honest(*arguments)
        made.table[-1, 0] += 1e-2
        return made

    monkeypatch.setattr(export, "compact", tampered)
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "m.safetensors")]) == 2
    assert "the certificate fails on" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_vocabulary_is_not_carried_along(run, data, tmp_path, capsys):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    with (copy / "vocab/C3.txt").open("ab") as file:
        file.write(b"x\t1\n")
    command = ["export", "--run", str(run), "--data", str(copy), "--out", str(tmp_path / "m.safetensors")]
    assert main(command) == 2
    assert "C3.txt" in capsys.readouterr().err


def test_certificate_rows_are_real_first_then_random_and_in_range(tmp_path):
    rows = prepare_synthetic(tmp_path / "world", World(rows=5000, largest=30, pairs=3))
    found, real, test = certificate.certificate_rows(rows.schema, rows)
    assert (found.rows, real, test) == (certificate.ROWS, 5000, 500)
    np.testing.assert_array_equal(found.ids[:500], rows.split("test").ids)
    assert (found.ids < [f.size for f in rows.schema.categorical]).all()
    random = Counter(found.ids[real:, 0].tolist())
    assert len(random) == rows.schema.categorical[0].size
    assert set(np.unique(found.values[real:, 0])) <= set(np.unique(found.values[:real, 0]))


def test_a_certificate_row_that_differs_is_named():
    wanted = np.array([0.0, 100.0, 2.0], np.float32)
    certificate._errors(wanted + np.float32(9e-6), wanted, np.arange(3))
    with pytest.raises(ArtifactError, match=r"fails on 1 rows: row 7 has logit 2 by JAX and 2\.1"):
        certificate._errors(np.float32([0, 100, 2.1]), wanted, np.array([3, 5, 7]))
    with pytest.raises(ArtifactError, match=r"row 3 has logit 0 by JAX and nan"):
        certificate._errors(np.float32([np.nan, 100, 2]), wanted, np.array([3, 5, 7]))
