"""`deeplight masks` as a user calls it: two seeds of a planted world, shown, compared, merged."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplight_jax.cli import main
from deeplight_jax.config import default_config, override
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.evaluation.liveness import compare_masks
from deeplight_jax.sparsity.masks import read_masks, write_masks
from deeplight_jax.training.inspect import load_masks
from deeplight_jax.training.loop import train
from deeplight_jax.training.masks_alone import compare_runs
from deeplight_jax.training.merging import load_comparable


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("masks")
    data = prepare_synthetic(folder / "data", World(rows=2_000, largest=20, pairs=5))
    settings = {
        "data.dir": data.directory,
        "data.batch_size": 128,
        "model.embedding_dim": 3,
        "model.hidden": (8, 6),
        "sparsity.dnn": 0.9,
        "sparsity.field": 0.8,
        "sparsity.embedding": 0.6,
        "sparsity.warmup_epochs": 0.5,
        "sparsity.short_schedule": "rescale",
        "train.epochs": 2,
    }
    config = override(default_config(), settings)
    for seed in (0, 1):
        train(override(config, {"seed": seed}), folder / f"s{seed}")
    return str(folder / "s0"), str(folder / "s1")


def output(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(["masks", *command]) == 0
    return capsys.readouterr().out


def test_show(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(output(capsys, "show", runs[0], "--json"))
    result = json.loads((Path(runs[0]) / "result.json").read_text())
    found = load_masks(runs[0])
    assert shown["step"] == result["best_step"]
    for code, part in shown["components"].items():
        assert part["target"] == result["components"][code]["target"]
        assert part["rate"] == pytest.approx(result["components"][code]["rate"], abs=0.01)
    assert list(shown["components"]["dnn"]["layers"]) == ["deep/hidden_0/kernel", "deep/hidden_1/kernel"]
    keep = found.masks["fwfm"]["r"]
    assert shown["live_pairs"] == [list(found.schema.pairs[i]) for i in np.flatnonzero(keep)]
    pruned = sum(not row.any() for row in found.masks["embedding"]["table"])
    assert sum(rows["pruned"] for rows in shown["rows"].values()) == pruned > 0
    tables = output(capsys, "show", f"{runs[0]}@{shown['step']}")
    for text in (
        "D (deep net)",
        "90.0%",
        "dead units",
        f"{keep.sum()} of 741 field pairs live",
        "hidden layer 2",
    ):
        assert text in tables


def test_diff(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (load_masks(run).masks["fwfm"]["r"] for run in runs)
    pairs = load_masks(runs[0]).schema.pairs
    compared = json.loads(output(capsys, "diff", *runs, "--json"))
    part = compared["components"]["field"]
    counts = [int(x.sum()) for x in (a & b, a & ~b, b & ~a, ~a & ~b)]
    assert [part[name] for name in ("both", "only_a", "only_b", "neither")] == counts
    assert part["jaccard"] == pytest.approx(counts[0] / sum(counts[:3]))
    assert compared["pairs_lost"] == [list(pairs[i]) for i in np.flatnonzero(a & ~b)]
    tables = output(capsys, "diff", *runs)
    assert f"pairs lost: {counts[1]}" in tables
    assert f"pairs gained: {counts[2]}" in tables
    first, second = compared["pairs_lost"][0]
    assert f"{first} x {second}" in tables
    assert counts[1] > 20
    assert f"and {counts[1] - 20} more" in " ".join(tables.split())
    same = json.loads(output(capsys, "diff", runs[0], runs[0], "--json"))
    assert {part["jaccard"] for part in same["components"].values()} == {1.0}
    assert same["pairs_lost"] == same["pairs_gained"] == []


def test_diff_needs_no_jax_and_says_the_same(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys, deeplight_jax.cli as cli; cli.main(['masks', 'diff', *sys.argv[1:], '--json']); "
    code += "assert not {'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *runs], check=True, capture_output=True, text=True)
    a, b = load_comparable(runs)
    found = json.loads(done.stdout)
    assert {k: v for k, v in found.items() if k not in ("a", "b")} == json.loads(
        json.dumps(compare_masks(a.masks, b.masks, a.labels, a.schema))
    )
    assert (found["a"], found["b"]) == tuple(
        {"run": r, "step": m.step} for r, m in zip(runs, (a, b), strict=True)
    )
    for older in runs:  # files of masks that do not name components
        place = Path(older) / "checkpoints" / str(found["a" if older == runs[0] else "b"]["step"])
        masks, _ = read_masks(place / "masks.safetensors")
        write_masks(place / "masks.safetensors", masks)
        digests = json.loads((file := place.with_name(f"{place.name}.sha256.json")).read_text())
        content = (place / "masks.safetensors").read_bytes()
        file.write_text(json.dumps(digests | {"masks.safetensors": hashlib.sha256(content).hexdigest()}))
    assert compare_runs(*runs) is None
    assert json.loads(output(capsys, "diff", *runs, "--json")) == found


def test_merge(runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.safetensors"
    shown = json.loads(output(capsys, "merge", "--op", "and", *runs, "--out", str(file), "--json"))
    a, b = (load_masks(run).masks["fwfm"]["r"] for run in runs)
    np.testing.assert_array_equal(read_masks(file)[0]["fwfm"]["r"], a & b)
    assert shown["components"]["field"]["kept"] == (a & b).sum()
    again = json.loads(output(capsys, "show", str(file), "--json"))
    renamed = {"operation": "op"}
    assert {renamed.get(key, key): value for key, value in again.items()} == shown
    tables = output(capsys, "merge", "--op", "or", *runs, "--out", str(file))
    assert "m.safetensors:orof" in "".join(tables.split())  # a long title is broken anywhere
    np.testing.assert_array_equal(read_masks(file)[0]["fwfm"]["r"], a | b)


def test_mistakes_are_one_line(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for command, message in (
        (["show", f"{runs[0]}@3"], "holds no checkpoint of step 3"),
        (["diff", runs[0], f"{runs[0]}-none"], "holds no run: cannot read config.json (No such file"),
        (["churn", runs[0], "--settled", "200"], "--settled 200 is no percentage"),
        (["churn", runs[0], "--settled", "nan"], "--settled nan is no percentage"),
    ):
        assert main(["masks", *command]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "Traceback" not in error
    with pytest.raises(SystemExit, match="2"):
        main(["masks", "merge", "--op", "nor", runs[0], "--out", "x"])
