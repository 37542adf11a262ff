"""bench through `main`, as a user calls it, on an exported run."""

import json

import pytest
from random_models import artifact_of

from deeplight_jax.cli import main
from deeplight_jax.serving import bench, comparison, machine, rivals
from deeplight_jax.serving.artifact import save

QUICK = ["--rounds", "1", "--seconds", "0.001"]


@pytest.fixture
def quick_sweep(monkeypatch):
    honest = comparison.sweep_rates
    monkeypatch.setattr(
        comparison,
        "sweep_rates",
        lambda *arguments, progress: honest(*arguments, rates=(0.5, 0.9), progress=progress),
    )


def test_json_holds_figures_ratios_and_the_machine(exported, quick_sweep, monkeypatch, capsys):
    missing = rivals.RIVALS["torch"]["PyTorch, dense"]._replace(needs=("no_such_library",))
    monkeypatch.setitem(rivals.RIVALS, "torch", {"PyTorch, dense": missing})
    monkeypatch.setattr(comparison, "flush_bytes", lambda: 1 << 20)
    command = ["bench", "--artifact", str(exported), "--against", "torch,scipy", "--json", *QUICK]
    assert main([*command, "--sweep-rate", "--flush"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["figures"]) == [found["ours"], "SciPy, CSR"]
    assert "no_such_library is not installed" in found["left_out"]["PyTorch, dense"]
    ours, theirs = found["figures"].values()
    assert theirs["flushed_us"] > 0
    ratio = found["ratios"]["SciPy, CSR"]
    assert ratio["p50"] == pytest.approx(theirs["p50_us"] / ours["p50_us"])
    assert ratio["512"] == pytest.approx(ours["rows_per_s"]["512"] / theirs["rows_per_s"]["512"])
    inside = found["inside_c"]
    assert list(ratio) == ["p50", *(["inside_c"] if inside else []), *map(str, bench.BATCHES)]
    if inside:
        assert 0 < inside["p50_us"] <= inside["p99_us"]
        assert ratio["inside_c"] == pytest.approx(theirs["p50_us"] / inside["p50_us"])
    assert found["loading"]["file_bytes"] == exported.stat().st_size
    level = found["ours"].removeprefix("deeplight (").removesuffix(")")
    settings = {"artifact": str(exported), "rows": "cold", "rounds": 1, "seconds": 0.001, "level": level}
    assert found["settings"] == settings
    assert found["machine"]["versions"]["numpy"]
    assert [line["rate"] for line in found["sweep"]["lines"]] == [0.5, 0.9]
    assert found["dense"] == "unfolded from the artifact"


def test_tables_and_a_figure(exported, quick_sweep, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("COLUMNS", "200")
    figure = tmp_path / "bench.png"
    command = ["bench", "--artifact", str(exported), "--against", "onnxruntime", "--rows", "warm", *QUICK]
    assert main([*command, "--sweep-rate", "--out", str(figure)]) == 0
    shown = capsys.readouterr().out
    for text in ("deeplight (", "ONNX Runtime, live part", "model without its table", "faster from the rate"):
        assert text in shown
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [figure]


def test_the_engine_alone_by_numpy(exported, capsys):
    command = [
        "bench",
        "--artifact",
        str(exported),
        "--against",
        "none",
        "--level",
        "numpy",
        "--json",
        *QUICK,
    ]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["figures"]) == ["deeplight (numpy)"]
    assert (found["ratios"], found["left_out"], found["sweep"]) == ({}, {}, None)
    assert found["inside_c"] is None


def test_dense_rivals_may_have_the_runs_own_weights(exported, run, capsys):
    pytest.importorskip("onnxruntime")
    command = ["bench", "--artifact", str(exported), "--against", "onnxruntime", "--json", *QUICK]
    assert main([*command, "--run", str(run)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dense"] == f"trained weights of {run}"
    assert list(found["figures"])[1:] == list(rivals.RIVALS["onnxruntime"])


def test_a_run_that_the_artifact_is_not_of_is_refused(run, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save(other, artifact_of())
    assert main(["bench", "--artifact", str(other), "--against", "scipy", "--run", str(run), *QUICK]) == 2
    assert f"was not made from {run}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--against", "onnx"], "no rival 'onnx'; did you mean 'onnxruntime'?"),
        (["--rounds", "0"], "use 1 or more"),
        (["--seconds", "nan"], "more than 0"),
        (["--out", "bench.jpeg"], ".png"),
        (["--out", "nowhere/bench.png"], "no directory nowhere"),
        (["--level", "avx9"], "levels: avx512"),
    ],
)
def test_what_cannot_be_is_refused_before_measuring(exported, words, named, capsys):
    assert main(["bench", "--artifact", str(exported), *words]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


def test_machine_facts_are_json_and_name_what_was_measured():
    facts = machine.machine_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] >= 1
    assert facts["processor"]
    assert {"python", "numpy", "jax"} <= set(facts["versions"])
    assert machine.flush_bytes() >= 2 * (facts["last_cache_bytes"] or 0)


@pytest.mark.parametrize(("size", "wanted"), [("32K", 32 << 10), ("8M", 8 << 20), ("100", 100)])
def test_a_caches_size_is_read(tmp_path, monkeypatch, size, wanted):
    (tmp_path / "index0").mkdir()
    (tmp_path / "index0/size").write_text(f"{size}\n", encoding="ascii")
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    assert machine.last_cache_bytes() == wanted
