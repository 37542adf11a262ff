"""Sweeps as tables: where one stands, its members' figures, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from deeplight_jax.sweeping.ledger import Status

_FIGURES = (
    ("valid_roc_auc", "valid ROC AUC", "{:.4f}"),
    ("valid_log_loss", "log loss", "{:.4f}"),
    ("params_nonzero", "non-zero parameters", "{:,}"),
    ("engine_bytes", "engine bytes", "{:,}"),
    ("p50_us", "p50 µs", "{:.2f}"),
    ("seconds", "seconds", "{:.1f}"),
)
_TEST = (("test_roc_auc", "test ROC AUC", "{:.4f}"), ("test_log_loss", "test log loss", "{:.4f}"))


def status_table(title: str, status: Status) -> Table:
    """Counts, the running members' steps, the failed ones' reasons and the time left."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    table.add_row("members", f"{status.members:,}")
    table.add_row("done", f"{len(status.done):,}")
    table.add_row("running", f"{len(status.running):,}")
    table.add_row("waiting", f"{len(status.waiting):,}")
    table.add_row("failed", f"{len(status.failed):,}")
    table.add_row("time left", "-" if status.eta_s is None else _duration(status.eta_s))
    for name, (step, total) in [*status.running.items()][:20]:
        table.add_row(f"  {name}", f"step {step:,} of {total:,}")
    for name, error in [*status.failed.items()][:20]:
        table.add_row(f"  {name}", escape(error))
    return table


def members_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    chosen: str = "",
    tested: bool = False,
    among: Sequence[Mapping[str, Any]] | None = None,
) -> Table:
    """A row a member: the keys in which members differ (`among` all of these), its figures; the chosen one
    is marked."""
    among = among or rows
    keys = [*dict.fromkeys(k for row in among for k in row if "." in k or k == "seed")]
    keys = [k for k in keys if len({repr(row.get(k)) for row in among}) > 1]
    figures = (*_FIGURES, *(_TEST if tested else ()))
    table = Table(title=escape(title), title_justify="left")
    for heading in ("member", *(k.rpartition(".")[2] if _unique(k, keys) else k for k in keys)):
        table.add_column(heading)
    for _, heading, _form in figures:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [_text(row.get(key)) for key in keys]
        numbers = [form.format(row[key]) if row.get(key) is not None else "-" for key, _, form in figures]
        mark = " *" if row["name"] == chosen else " failed" if row["state"] == "failed" else ""
        table.add_row(row["name"] + mark, *cells, *numbers)
    return table


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else escape(str(value))


def _unique(key: str, keys: Sequence[str]) -> bool:
    end = key.rpartition(".")[2]
    return sum(other.rpartition(".")[2] == end for other in keys) == 1


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
