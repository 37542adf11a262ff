"""A run into an artifact: compact its projected model where it can be, certify the engine, write the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplight_jax.config import config_hash
from deeplight_jax.data.prepared import Prepared, open_prepared
from deeplight_jax.errors import ArtifactError, DataError
from deeplight_jax.evaluation.accounting import sparsity_report
from deeplight_jax.evaluation.evaluate import Progress
from deeplight_jax.serving import artifact
from deeplight_jax.serving.certificate import certify
from deeplight_jax.serving.compact import COMPACT_MODELS, compact
from deeplight_jax.serving.engine import Engine, build, load
from deeplight_jax.serving.structure import Compact, with_table
from deeplight_jax.serving.tables import TableFormat
from deeplight_jax.serving.whole import Whole, whole
from deeplight_jax.training import run
from deeplight_jax.training.digests import split_step
from deeplight_jax.training.inspect import Run, load_run
from deeplight_jax.training.plan import targets


def export(
    workdir: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    progress: Progress | None = None,
    table: TableFormat = "f32",
) -> Engine:
    """Write a run's projected model as an artifact, if its certificate holds.

    A model without a compact form is written with all its parameters, to be scored by JAX.

    Args:
      workdir: RUN or RUN@STEP.
      out: file to write or replace.
      data: rows to certify on, with the run's vocabularies; by default the run's own data.
      progress: called while the JAX model scores.
      table: format of the embedding table; "bf16" and "int8" round it, and their certificate allows for it.

    Returns:
      The engine of the file as it was read back; `about["certificate"]` holds what was compared.

    Raises:
      ArtifactError: the model has diverged, the certificate fails, or the file cannot be written.
      RunError: the run is missing or damaged, or the data was encoded with another vocabulary.
      DataError: the data is missing or damaged.
    """
    artifact.check_place(out)
    found, rows = _run_and_rows(workdir, data)
    served = artifact.reread(_served(found, table))
    about = _about(found, run.load_data_of(run.directory_of(workdir)), rows)
    vocabularies = _vocabularies(rows)
    engine = build(artifact.Artifact(served, about, vocabularies))
    about["certificate"] = certify(engine, found, rows, progress)
    artifact.save(out, artifact.Artifact(served, about, vocabularies))
    return load(out)


def verify(
    path: str | Path,
    workdir: str | Path,
    data: str | Path | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Repeat an artifact's certificate against the run it was made from, at the step it was made from.

    Returns:
      The engine; `about["certificate"]` is the one found now.

    Raises:
      ArtifactError: the file is damaged, is of another model, or does not score as the run does.
      RunError: the run or its checkpoint is missing or damaged.
    """
    engine = load(path)
    if engine.about.get("config_hash") != config_hash(run.load_config_of(run.directory_of(workdir))):
        raise ArtifactError(f"{path} was not made from {workdir}: their configs differ")
    step = "" if split_step(workdir)[1] else f"@{engine.about['step']}"
    found, rows = _run_and_rows(f"{workdir}{step}", data)
    if engine.schema != found.schema:
        raise ArtifactError(f"{path} was not made from {workdir}: their fields differ")
    certificate = certify(engine, found, rows, progress)
    return replace(engine, about={**engine.about, "certificate": certificate})


def _served(found: Run, table: TableFormat) -> Compact | Whole:
    model = found.config.model
    if model.name in COMPACT_MODELS:
        return with_table(compact(model, found.schema, found.params), table)
    if table != "f32":
        raise ArtifactError(f"--table {table}: {model.name} has no compact form; leave --table out")
    return whole(model.to_dict(), found.schema, found.params)


def _run_and_rows(workdir: str | Path, data: str | Path | None) -> tuple[Run, Prepared]:
    found = load_run(workdir)
    rows = open_prepared(data or found.config.data.dir, verify=found.config.data.verify)
    run.check_fits(run.directory_of(workdir), rows)
    return found, rows


def _about(found: Run, trained_on: Mapping[str, Any], rows: Prepared) -> dict[str, Any]:
    return {
        "model": found.config.model.to_dict(),
        "sparsity": found.config.sparsity.to_dict(),
        "config_hash": config_hash(found.config),
        "step": found.step,
        "parameters": sparsity_report(found.params, found.labels, targets(found.plan)),
        "data": {**trained_on, "recipe": rows.manifest.get("recipe")},
        "versions": run.versions(),
    }


def _vocabularies(rows: Prepared) -> dict[str, bytes]:
    """Vocabulary files by categorical field, as their digests in the manifest say."""
    found = {}
    for field in rows.schema.categorical:
        name = f"vocab/{field.name}.txt"
        if name not in rows.manifest["sha256"]:
            continue  # synthetic rows have no values, only ids
        found[field.name] = (rows.directory / name).read_bytes()
        if hashlib.sha256(found[field.name]).hexdigest() != rows.manifest["sha256"][name]:
            raise DataError(f"{rows.directory / name} is damaged; prepare the data again")
    return found
