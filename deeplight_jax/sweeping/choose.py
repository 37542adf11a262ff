"""Which member is best within a latency and a size, and which no other beats at once in every figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deeplight_jax.errors import ConfigError, RunError
from deeplight_jax.sweeping import ledger
from deeplight_jax.sweeping.results import Row, rows, write_results

if TYPE_CHECKING:  # choosing by recorded figures needs no JAX
    from deeplight_jax.evaluation.evaluate import Progress

METRICS = ("log_loss", "roc_auc")


class Budget(NamedTuple):
    """What a member may cost, as its engine was measured; None: any.

    Attributes:
      latency_us: p50 of one row, microseconds.
      engine_bytes: memory of the engine, its table included.
    """

    latency_us: float | None = None
    engine_bytes: float | None = None

    def allows(self, row: Row) -> bool:
        """Whether a member's measured figures are within it; a figure that is asked for must be there."""
        limits = ((self.latency_us, row["p50_us"]), (self.engine_bytes, row["engine_bytes"]))
        return all(limit is None or (got is not None and got <= limit) for limit, got in limits)


class Choice(NamedTuple):
    """What was chosen.

    Attributes:
      row: the chosen member, its figures on test included.
      front: members that no other equals or beats in metric, latency and bytes at once, fastest first.
      within: how many finished members are within the budget.
      finished: how many finished members there are.
    """

    row: Row
    front: list[Row]
    within: int
    finished: int


def choose(
    directory: str | Path,
    budget: Budget = Budget(),  # noqa: B008, a value
    metric: str = "log_loss",
    progress: Progress | None = None,
) -> Choice:
    """The best finished member within a budget, by validation; then its test figures, read once and recorded.

    Args:
      directory: of a sweep.
      budget: what the member may cost.
      metric: what is best; one of `METRICS`, on validation.
      progress: called as `progress(what, done, total)` while the test split is evaluated.

    Raises:
      ConfigError: there is no such metric.
      RunError: no sweep is there, or no finished member is within the budget (the nearest is named).
    """
    directory = Path(directory)
    finished = [row for row in rows(directory) if row["state"] == "done"]
    allowed = [row for row in finished if budget.allows(row)]
    if not allowed:
        raise RunError(f"{directory}: {_why_none(finished, budget)}")
    chosen = min(allowed, key=lambda row: (loss(row, metric), row["p50_us"] or 0.0))
    read_test(directory, chosen["name"], progress)
    write_results(directory)
    again = {row["name"]: row for row in rows(directory)}
    front = [again[row["name"]] for row in pareto(finished, metric)]
    return Choice(again[chosen["name"]], front, len(allowed), len(finished))


def pareto(found: Sequence[Row], metric: str = "log_loss") -> list[Row]:
    """Measured members that none beats in metric, p50 or bytes and equals in the rest, fastest first.

    Cost:
      Every pair of members.
    """
    measured = [row for row in found if row["p50_us"] is not None]
    costs = [(loss(row, metric), row["p50_us"], row["engine_bytes"]) for row in measured]

    def beaten(cost: tuple[float, ...]) -> bool:
        return any(all(o <= c for o, c in zip(other, cost, strict=True)) and other != cost for other in costs)

    front = [row for row, cost in zip(measured, costs, strict=True) if not beaten(cost)]
    return sorted(front, key=lambda row: row["p50_us"])


def loss(row: Row, metric: str) -> float:
    """The metric on validation as something to make small.

    Raises:
      ConfigError: there is no such metric.
    """
    if metric not in METRICS:
        raise ConfigError(f"no metric {metric}; use one of {', '.join(METRICS)}")
    value = row[f"valid_{metric}"]
    return -value if metric == "roc_auc" else value


def read_test(directory: Path, name: str, progress: Progress | None = None) -> dict[str, Any]:
    """A member's figures on test: recorded ones if it was chosen before, else evaluated now and recorded."""
    if found := ledger.read_part(directory, name, "test"):
        return found
    from deeplight_jax.data.prepared import open_prepared
    from deeplight_jax.training.inspect import evaluate

    data = open_prepared(ledger.read_sweep(directory)["data"]["dir"], verify=False)
    split = "test" if "test" in data.splits and data.splits["test"].rows else "valid"
    found = evaluate(ledger.place(directory, name), split, data.directory, progress)
    ledger.write_part(directory, name, "test", found)
    return found


def _why_none(finished: Sequence[Row], budget: Budget) -> str:
    if not finished:
        return "no member has finished yet; see `deeplight sweep --status`"
    measured = [row for row in finished if row["p50_us"] is not None]
    if not measured:
        return "no finished member has measured figures; run the sweep again to measure them"
    fastest, smallest = (min(row[key] for row in measured) for key in ("p50_us", "engine_bytes"))
    asked = [f"{budget.latency_us:g} us"] if budget.latency_us is not None else []
    asked += [f"{budget.engine_bytes:,.0f} bytes"] if budget.engine_bytes is not None else []
    return (
        f"none of {len(finished)} finished members is within {' and '.join(asked)}; "
        f"the fastest takes {fastest:.2f} us, the smallest {smallest:,} bytes"
    )
