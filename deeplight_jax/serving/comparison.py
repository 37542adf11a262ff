"""An artifact's engine beside its rivals: loaded, checked, timed in turn on one core, and set in ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplight_jax.errors import ArtifactError, did_you_mean
from deeplight_jax.serving.bench import (
    InsideC,
    Loading,
    Progress,
    Rows,
    Score,
    Timings,
    draw_rows,
    inside_us,
    load_measured,
    measure,
    one_core,
)
from deeplight_jax.serving.engine import Engine
from deeplight_jax.serving.machine import flush_bytes, machine_facts
from deeplight_jax.serving.rates import RateSweep, sweep_rates
from deeplight_jax.serving.rivals import RIVALS, make_rivals
from deeplight_jax.serving.rivals.dense import dense_of_params
from deeplight_jax.serving.rivals.forward import DenseArrays


class Comparison(NamedTuple):
    """What was measured.

    Attributes:
      ours: the engine's name among the figures.
      figures: by name, the engine first.
      inside_c: the engine's latency without Python; None where the native engine does not score.
      left_out: rivals that are missing, and why.
      loading: of the artifact.
      counts: what is live of the model.
      core: everything ran on it; None: the system cannot pin.
      flush_bytes: written over between calls for `flushed_us`; 0: not measured.
      dense: where the dense rivals' weights are from.
      sweep: latency by rate, where it was asked for.
      settings: artifact, rows, rounds, seconds, level (of the engine).
      machine: see `machine_facts`.
    """

    ours: str
    figures: dict[str, Timings]
    inside_c: InsideC | None
    left_out: dict[str, str]
    loading: Loading
    counts: dict[str, Any]
    core: int | None
    flush_bytes: int
    dense: str
    sweep: RateSweep | None
    settings: dict[str, Any]
    machine: dict[str, Any]

    def ratios(self) -> dict[str, dict[str, float]]:
        """How many times faster the engine is than each rival: `p50` of one row, `inside_c` without Python's
        part of it (where it is known), and by rows a call."""
        ours, inside = self.figures[self.ours], self.inside_c
        return {
            name: {"p50": theirs.p50_us / ours.p50_us}
            | ({"inside_c": theirs.p50_us / inside.p50_us} if inside else {})
            | {str(batch): ours.rows_per_s[batch] / rate for batch, rate in theirs.rows_per_s.items()}
            for name, theirs in self.figures.items()
            if name != self.ours
        }

    def to_json(self) -> dict[str, Any]:
        sweep = self.sweep and {**self.sweep._asdict(), "lines": [x._asdict() for x in self.sweep.lines]}
        figures = {name: found._asdict() for name, found in self.figures.items()}
        whole = {**self._asdict(), "loading": self.loading._asdict(), "figures": figures, "sweep": sweep}
        inside = self.inside_c and self.inside_c._asdict()
        return {**whole, "inside_c": inside, "ratios": self.ratios()}


def compare(
    path: str | Path,
    against: Sequence[str] = tuple(RIVALS),
    rows: Rows = "cold",
    rounds: int = 5,
    seconds: float = 0.3,
    *,
    run: str | Path | None = None,
    level: str | None = None,
    flush: bool = False,
    sweep: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Loads an artifact and measures its engine and rivals on one core.

    Args:
      path: the artifact.
      against: libraries, keys of `RIVALS`; none: the engine alone.
      rows: "cold" or "warm", see `bench.draw_rows`.
      rounds, seconds: figures are medians over the rounds; seconds of a rival, batch size and round.
      run: RUN[@STEP] whose trained weights the dense rivals get; by default the artifact's, unfolded.
      level: "numpy" or a vector level of the native engine.
      flush: measure one row with flushed caches, too.
      sweep: measure latency by rate, too.
      progress: called while rivals are made and measured.

    Raises:
      ArtifactError: the artifact is damaged, an argument is out of range, or a rival computes something else.
      RunError: the run is missing or damaged.
    """
    _check(against, rounds, seconds)
    with one_core() as core:
        engine, loading = load_measured(path, level)
        dense = _trained(run, engine) if run else None
        made = make_rivals(against, engine, dense, progress)
        ours, buffer = f"deeplight ({engine.path})", flush_bytes() if flush else 0
        scorers: dict[str, Score] = {ours: engine.score, **made.scorers}
        drawn = draw_rows(engine.schema, rows)
        figures = measure(scorers, *drawn, rounds, seconds, flush_bytes=buffer, progress=progress)
        inside = inside_us(engine, *drawn, rounds)
        swept = sweep_rates(engine, rows, rounds, seconds, progress=progress) if sweep else None
    settings = {"artifact": str(path), "rows": rows, "rounds": rounds, "seconds": seconds}
    return Comparison(
        ours=ours,
        figures=figures,
        inside_c=inside,
        left_out=made.left_out,
        loading=loading,
        counts=engine.compact.counts(),
        core=core,
        flush_bytes=buffer,
        dense=f"trained weights of {run}" if run else "unfolded from the artifact",
        sweep=swept,
        settings={**settings, "level": engine.path},
        machine=machine_facts(),
    )


def _check(against: Sequence[str], rounds: int, seconds: float) -> None:
    for group in against:
        if group not in RIVALS:
            raise ArtifactError(f"no rival '{group}'{did_you_mean(group, RIVALS)}")
    if rounds < 1 or not 0 < seconds < float("inf"):
        raise ArtifactError(f"{rounds} rounds of {seconds:g} seconds: use 1 or more, and more than 0")


def _trained(run: str | Path, engine: Engine) -> DenseArrays:
    from deeplight_jax.config import config_hash
    from deeplight_jax.training.digests import split_step
    from deeplight_jax.training.inspect import load_run
    from deeplight_jax.training.run import directory_of, load_config_of

    about = engine.about
    config = load_config_of(directory_of(run))
    if about.get("config_hash") != config_hash(config):
        raise ArtifactError(f"the artifact was not made from {run}: their configs differ; leave --run out")
    found = load_run(run if split_step(run)[1] or "step" not in about else f"{run}@{about['step']}")
    if engine.schema != found.schema:
        raise ArtifactError(f"the artifact was not made from {run}: their fields differ; leave --run out")
    return dense_of_params(found.config.model, found.schema, found.params)
