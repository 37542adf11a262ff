"""Mistakes in a config are one line with a remedy, and nothing is compiled or written for them."""

import re

import jax.monitoring
import pytest

from deeplight_jax.cli import main
from deeplight_jax.data.encode import prepare
from deeplight_jax.data.recipes import CRITEO
from deeplight_jax.training import run
from deeplight_jax.training.job import make_job

COMPILED = "/jax/core/compile/backend_compile_duration"
MISTAKES = {
    "sparsity.dn=0.9": "did you mean 'sparsity.dnn'",
    "optim.lr=0.1": "unknown config key 'optim.lr'",
    "train.epochs=many": "invalid literal",
    "train.epochs=1.5": "invalid literal",
    "model.hidden=(8,'a')": "model.hidden",
    "sparsity.regrow=perhaps": "regrow",
    "sparsity.dnn=-0.1": "must be a rate in [0, 1)",
    "sparsity.field=1.0": "must be a rate in [0, 1)",
    "sparsity.embedding=90": "must be a rate in [0, 1)",
    "sparsity.dnn=nan": "not finite",
    "data.batch_size=0": "1 or more",
    "data.batch_size=-5": "1 or more",
    "optim.learning_rate=nan": "not finite",
    "optim.learning_rate=inf": "not finite",
    "optim.learning_rate=-0.1": "above 0",
    "optim.b1=1.0": "in [0, 1)",
    "optim.l2=-1e-7": "0 or more",
    "model.dropout=1.0": "in [0, 1)",
    "seed=-1": "0 or more",
    "sparsity.warmup_epochs=-1": "0 or more",
    "sparsity.interval_steps=0": "1 or more",
    "sparsity.dnn_scope=2:": "layer, global, units",
    "sparsity.dnn_scope=4:2": "N from 1 to below M",
    "train.on_nonfinite=ignore": "one of stop, skip",
    "train.monitor=auc": "did you mean 'roc_auc'",
    "model.name=deepfwm": "did you mean 'deepfwfm'",
    "sparsity.short_schedule=error": "train longer",
    "sparsity.warmup_epochs=3": "0 pruning steps",
    "sparsity.cin=0.5": "no such weights",
    "sparsity.init_masks=nowhere.safetensors": "nowhere.safetensors",
    "train.init_from=nowhere": "nowhere holds no run",
    "data.dir=nowhere": "run `deeplight prepare`",
}


@pytest.fixture(scope="module")
def compiled(config, world, tmp_path_factory):
    """Events of JAX since the list was last emptied."""
    seen = []
    # shapes are asked with programs of a few numbers, compiled once a process
    make_job(config, tmp_path_factory.mktemp("job"), world, lambda *_: None)
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: seen.append(name))
    return seen


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_any_compilation(
    mistake, train_words, tmp_path, capsys, compiled, monkeypatch
):
    monkeypatch.setattr("rich.console.Console.width", 400, raising=False)
    compiled.clear()
    words = [str(w) for w in train_words if not str(w).startswith(f"--config.{mistake.partition('=')[0]}=")]
    assert main([*words, f"--config.{mistake}", "--workdir", str(tmp_path / "run")]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    (error,) = [line for line in said if line.startswith("deeplight: ")]
    assert said == [error]
    assert MISTAKES[mistake] in error
    assert COMPILED not in compiled
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("place", ["other", "file", "data", "model"])
def test_where_it_goes_and_what_it_is_are_told_before_the_schedule(
    place, train_words, config, world, tmp_path, capsys
):
    """A schedule too short for its targets is the last mistake to be told: its remedy is a longer run."""
    run.start(tmp_path / "other", config, world)
    (tmp_path / "file").write_text("3")
    into = world.directory if place == "data" else tmp_path / place
    words = [*map(str, train_words), "--workdir", str(into), "--config.sparsity.warmup_epochs=3"]
    words += ["--config.model.name=deepfwm"] if place == "model" else []
    assert main(words) == 2
    told = {"other": "of another config", "file": "is a file", "data": "prepared data", "model": "deepfwfm"}
    assert told[place] in " ".join(capsys.readouterr().err.split())


def test_compilations_are_seen(compiled):
    """The check above would notice one."""
    compiled.clear()
    jax.jit(lambda x: x * 3 + 17)(2.0)
    assert COMPILED in compiled


def test_a_run_over_other_fields_is_refused(train_words, config, world, tmp_path, capsys, compiled):
    from deeplight_jax.training.loop import train

    raw = tmp_path / "rows.txt"
    raw.write_text(
        "".join(f"{i % 2}\t" + "\t".join(["3"] * 13 + [f"v{i % 3}"] * 26) + "\n" for i in range(90))
    )
    other = prepare(CRITEO, [raw], tmp_path / "other")
    train(config, tmp_path / "one", data=world)
    words = [str(w) for w in train_words if not str(w).startswith("--config.data.dir")]
    words += [f"--config.data.dir={other.directory}", "--workdir", str(tmp_path / "run")]
    words += ["--config.sparsity.warmup_epochs=0", "--config.sparsity.interval_steps=1"]
    capsys.readouterr()
    compiled.clear()
    assert main([*words, f"--config.train.init_from={tmp_path / 'one'}"]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"rows.*encode the rows with `deeplight prepare \.\.\. --vocab`", error.replace("\n", " ")
    )
    assert COMPILED not in compiled
