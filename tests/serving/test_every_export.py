"""Each model of the registry: trained, exported, verified, scored; a flipped bit is refused."""

import duckdb
import numpy as np
import pytest

from deeplight_jax import load_run, serving
from deeplight_jax.cli import main
from deeplight_jax.config import override
from deeplight_jax.data.prepared import open_prepared
from deeplight_jax.errors import ArtifactError
from deeplight_jax.evaluation.evaluate import predict_logits
from deeplight_jax.models import MODELS, build_model
from deeplight_jax.serving import certificate
from deeplight_jax.serving.compact import COMPACT_MODELS

TINY = {
    "model.hidden": "(4,3)",
    "model.embedding_dim": 3,
    "model.embedding_std": 0.3,
    "model.cin": "(4,2)",
    "model.hash_buckets": 64,
    "model.attention_units": 2,
    "model.attention_layers": 1,
    "data.batch_size": 64,
    "train.epochs": 1,
    "sparsity.warmup_epochs": 0.25,
    "sparsity.interval_steps": 1,
    "sparsity.reach": 0.5,
}
PRUNED = {"fwfm": "R50-F50", "fmfm": "R50-F50", "xdeepfm": "C50-F50", "dcn": "X50-F50", "dcnv2": "X50-F50"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """600 rows of two numbers and three values, prepared."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    lines = ["x,click,y,a,b,c"]
    for _ in range(600):
        a, b, c = rng.integers(0, 5, 3)
        click = int(rng.random() < (0.8 if a == b else 0.2))
        lines.append(f"{rng.integers(0, 30)},{click},{rng.normal():.3f},a{a},b{b},c{c}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = 'label = "click"\nnumeric = ["x", "y"]\ncategorical = ["a", "b", "c"]\n'
    (folder / "columns.toml").write_text(columns, encoding="utf-8")
    command = ["prepare", "csv", str(folder / "rows.csv"), "--columns", str(folder / "columns.toml")]
    assert main([*command, "--out", str(folder / "data"), "--threads", "1"]) == 0
    return folder / "data"


@pytest.fixture(scope="module", params=sorted(MODELS))
def exported(request, table):
    """Name, run and artifact of a model."""
    name, folder = request.param, table.parent
    argument = f"{name},smoke,{PRUNED.get(name, 'F50')}"
    command = ["train", "--config", f"experiments/criteo_baselines.py:{argument}"]
    command += ["--workdir", str(folder / name), f"--config.data.dir={table}"]
    assert main(command + [f"--config.{key}={value}" for key, value in TINY.items()]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "ROWS", 2000)
        patch.setattr(certificate, "SINGLE_ROWS", 50)
        out = folder / f"{name}.safetensors"
        assert main(["export", "--run", str(folder / name), "--out", str(out)]) == 0
    return name, folder / name, out


def test_it_is_certified_verified_and_scored(exported, table, tmp_path, monkeypatch, capsys):
    name, run, file = exported
    monkeypatch.setattr(certificate, "ROWS", 2000)
    monkeypatch.setattr(certificate, "SINGLE_ROWS", 50)
    assert main(["export", "--run", str(run), "--verify", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "2,000 (600)" in shown
    assert ("No compact form: JAX scores it" in shown) == (name not in COMPACT_MODELS)
    engine, trained = serving.load(file), load_run(run)
    assert engine.about["certificate"]["max_error"] < 1e-5
    assert (engine.path == "jax") == (name not in COMPACT_MODELS)
    split = open_prepared(table).split("test")
    model = build_model(override(trained.config, {"model.compute_dtype": "float32"}), trained.schema)
    wanted = predict_logits(model, trained.params, split, 64)
    np.testing.assert_allclose(engine.logits(split.ids, split.values), wanted, rtol=1e-5, atol=1e-5)
    out = tmp_path / "scores.csv"
    assert main(["score", "--artifact", str(file), "--data", str(table), "--out", str(out)]) == 0
    scores = duckdb.sql(f"FROM '{out}' ORDER BY row").fetchnumpy()["score"]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-wanted.astype(float))), rtol=1e-4)


def test_a_flipped_bit_is_refused(exported, tmp_path):
    """Of the arrays and the vocabularies; `test_artifact` flips those of the header."""
    _, _, file = exported
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    for place in [*rng.integers(header, len(whole), 12).tolist(), header, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        (tmp_path / "damaged.safetensors").write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"damaged .*export the model again"):
            serving.load(tmp_path / "damaged.safetensors")
