"""Sweeps as tables: where one stands, its members' figures, what was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from deeplight_jax.sweeping.ledger import Status

_FIGURES = {
    "valid_roc_auc": ("valid\nROC AUC", "{:.4f}"),
    "valid_log_loss": ("log\nloss", "{:.4f}"),
    "params_nonzero": ("non-zero\nparameters", "{:,}"),
    "engine_bytes": ("engine\nbytes", "{:,}"),
    "p50_us": ("p50 µs", "{:.2f}"),
    "seconds": ("seconds", "{:.1f}"),
}
_SPARED = ("seconds", "params_nonzero", "valid_log_loss", "p50_us", "engine_bytes")
"""Figures left out of a table that is too wide, these first."""


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


class MembersTable(NamedTuple):
    """A row a member: the keys in which members differ (`among` all of these), its figures; the chosen one
    is marked. Where it is too wide, figures are left out and named; nothing is cut."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    chosen: str = ""
    among: Sequence[Mapping[str, Any]] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        anywhere, spared = options.update(max_width=10_000), 0
        table = self._table(())
        while spared < len(_SPARED) and Measurement.get(console, anywhere, table).maximum > options.max_width:
            spared += 1
            table = self._table(_SPARED[:spared])
        yield table

    def _table(self, spared: Sequence[str]) -> Table:
        among = self.among or self.rows
        keys = [*dict.fromkeys(k for row in among for k in row if "." in k or k == "seed")]
        keys = [k for k in keys if len({repr(row.get(k)) for row in among}) > 1]
        figures = {name: how for name, how in _FIGURES.items() if name not in spared}
        table = Table(title=escape(self.title), title_justify="left", box=SIMPLE_HEAD, show_edge=False,
                      pad_edge=False, collapse_padding=True, caption_justify="left")  # fmt: skip
        if spared:
            without = ", ".join(_FIGURES[name][0].replace("\n", " ") for name in spared)
            table.caption = f"no room for {without}: widen the terminal, set COLUMNS, or ask for --json"
        for heading in ("member", *(k.rpartition(".")[2] if _unique(k, keys) else k for k in keys)):
            table.add_column(heading.replace("_", "\n"), overflow="fold")
        for heading, _ in figures.values():
            table.add_column(heading, justify="right", overflow="fold")
        for row in self.rows:
            cells = [_text(row.get(key)) for key in keys]
            values = [(row.get(name), form) for name, (_, form) in figures.items()]
            numbers = ["-" if value is None else form.format(value) for value, form in values]
            mark = " *" if row["name"] == self.chosen else " failed" if row["state"] == "failed" else ""
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
