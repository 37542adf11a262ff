"""Churn of a run: live counts against masks saved at every event, TensorBoard's events, and the command."""

import json
from itertools import pairwise

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from deeplight_jax.cli import main
from deeplight_jax.config import override
from deeplight_jax.errors import RunError
from deeplight_jax.training import checkpoint
from deeplight_jax.training.inspect import load_masks
from deeplight_jax.training.loop import train
from deeplight_jax.training.settling import describe_churn

CODES = ("dnn", "field", "embedding")


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """Saved at each of its events, steps 35, 45, ..., 75."""
    workdir = tmp_path_factory.mktemp("churn") / "run"
    train(override(config, {"train.checkpoint_steps": 5, "train.keep": 99}), workdir)
    return workdir


def flat(workdir, step, code):
    found = load_masks(f"{workdir}@{step}").masks
    leaves = {
        "dnn": [found["deep"][f"hidden_{i}"]["kernel"] for i in (0, 1)],
        "field": [found["fwfm"]["r"]],
        "embedding": [found["embedding"]["table"]],
    }
    return np.concatenate([leaf.ravel() for leaf in leaves[code]])


def test_counts_are_those_of_saved_masks(run):
    steps = checkpoint.saved_steps(run / "checkpoints")
    found = describe_churn(run)
    assert [entry["to"] for entry in found["checkpoints"]] == steps[1:]
    for code in CODES:
        masks = [flat(run, step, code) for step in steps]
        pruned = [int((a & ~b).sum()) for a, b in pairwise(masks)]
        regrown = [int((b & ~a).sum()) for a, b in pairwise(masks)]
        part = found["components"][code]
        assert (part["weights"], part["events"]) == (masks[0].size, 5)
        assert (part["pruned"], part["regrown"]) == (sum(pruned), sum(regrown))
        assert [e[code]["pruned"] for e in found["checkpoints"]] == pruned
        assert [e[code]["regrown"] for e in found["checkpoints"]] == regrown
        changes = np.array([a ^ b for a, b in pairwise(masks)])
        last = [int((changes[i] & ~changes[i + 1 :].any(axis=0)).sum()) for i in range(len(changes))]
        assert [e[code]["last_changed"] for e in found["checkpoints"]] == last
        assert sum(r[code]["pruned"] for r in found["reports"]) == sum(pruned)
        for report in (r for r in found["reports"] if r["events"]):
            moved = report[code]["pruned"] + report[code]["regrown"]
            assert report[code]["turnover"] == pytest.approx(moved / part["weights"] / report["events"])
        above = [r["step"] for r in found["reports"] if r[code]["turnover"] > 0.001]
        assert part["settled_step"] == above[-1]
    assert {c["settled_step"] for c in describe_churn(run, 1.0)["components"].values()} == {0}


def scalars(folder):
    """(tag, step) -> value of an event file, read by hand: length, its checksum, the record, its checksum."""
    found = {}
    for file in folder.glob("events.*"):
        content, at = file.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + size])
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            at += 16 + size
    return found


def test_tensorboard_shows_churn_rates_and_metrics(run):
    events = scalars(run / "tensorboard")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if "split" in row:
            for name in ("roc_auc", "log_loss", *(f"rate_{code}" for code in CODES)):
                assert events[f"valid/{name}", row["step"]] == pytest.approx(row[name], rel=1e-6)
        else:
            assert events["train/loss", row["step"]] == pytest.approx(row["loss"], rel=1e-6)
            for code in CODES:
                for kind in ("pruned", "regrown"):
                    assert events[f"churn/{code}_{kind}", row["step"]] == row["churn"][code][kind]
    assert rows[-1]["split"] == "valid"
    assert events["churn/embedding_pruned", 75] > 0


def test_the_command(run, capsys, config, tmp_path):
    assert main(["masks", "churn", str(run), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"run": str(run), **describe_churn(run)}
    assert main(["masks", "churn", str(run), "--settled", "50"]) == 0
    text = capsys.readouterr().out
    for part in ("settled", "F (embeddings)", "to step 75", "step 70 to 75"):
        assert part in text
    assert main(["masks", "churn", str(tmp_path / "none")]) == 2
    dense = {"sparsity.dnn": 0.0, "sparsity.field": 0.0, "sparsity.embedding": 0.0, "train.epochs": 1}
    train(override(config, dense), tmp_path / "dense")
    with pytest.raises(RunError, match="reported no churn: it prunes nothing"):
        describe_churn(tmp_path / "dense")
