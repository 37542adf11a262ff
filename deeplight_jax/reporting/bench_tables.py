"""Measurements of the engine and its rivals as tables for people."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from deeplight_jax.serving.comparison import Comparison
from deeplight_jax.serving.rates import RateSweep

_RATIO_BATCHES = ("512", "4096")


def bench_tables(found: Comparison) -> list[Table]:
    """Speed, what was loaded, and latency by rate if it was swept."""
    tables = [speed_table(found), loading_table(found)]
    return [*tables, sweep_table(found.sweep)] if found.sweep else tables


def speed_table(found: Comparison) -> Table:
    """A row a scorer: latency of one row, rows a second, and how many times slower than the engine."""
    where = "not pinned: this system cannot" if found.core is None else f"core {found.core}"
    about = found.settings
    title = f"{about['artifact']}: {about['rows']} rows, {where}, medians of {about['rounds']} rounds"
    table = Table(
        title=escape(title),
        title_justify="left",
        caption=escape("\n".join(_notes(found))),
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    batches = [str(batch) for batch in found.figures[found.ours].rows_per_s]
    flushed = ["flush us"] if found.flush_bytes else []
    inside = ["x in C"] if found.inside_c else []
    slower = ["x at 1", *inside, *(f"x at {batch}" for batch in _RATIO_BATCHES)]
    keys = ["p50", *(["inside_c"] if inside else []), *_RATIO_BATCHES]
    for heading in ("p50 us", "p99 us", *flushed, *(f"k/s at {batch}" for batch in batches), *slower):
        table.add_column(heading, justify="right")
    ratios = found.ratios()
    for name, timed in found.figures.items():
        cells = [_us(timed.p50_us), _us(timed.p99_us), *([_us(timed.flushed_us)] if flushed else [])]
        cells += [f"{rate / 1000:,.0f}" for rate in timed.rows_per_s.values()]
        cells += [f"{ratios[name][key]:.1f}" for key in keys] if name in ratios else []
        table.add_row(name, *cells)
        if name == found.ours and found.inside_c:
            table.add_row("  inside C", _us(found.inside_c.p50_us), _us(found.inside_c.p99_us))
    return table


def _notes(found: Comparison) -> list[str]:
    """The machine, where dense rivals come from, and who is missing why."""
    reasons: dict[str, list[str]] = {}
    for name, reason in found.left_out.items():
        reasons.setdefault(reason, []).append(name)
    left_out = [f"left out: {'; '.join(names)} ({reason})" for reason, names in reasons.items()]
    about = f"{found.machine['processor']}; dense rivals: {found.dense}"
    units = "k/s: thousand rows a second at so many a call; x: times slower than the engine"
    flushed = ["flush us: p50 with the caches flushed before the call"] if found.flush_bytes else []
    return [about, units, *flushed, *left_out]


def loading_table(found: Comparison) -> Table:
    """Time and memory of loading, and what is live of the model."""
    table = Table(title="loaded", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    loading = found.loading
    table.add_row("time", f"{loading.load_ms:,.1f} ms")
    table.add_row("file", f"{loading.file_bytes:,} bytes")
    table.add_row("model without its table", f"{loading.model_bytes:,} bytes")
    table.add_row("table", f"{loading.table_bytes:,} bytes")
    if loading.rss_growth_bytes is not None:
        table.add_row("growth of the process", f"{loading.rss_growth_bytes:,} bytes")
    for part, count in found.counts.items():
        numbers = count if isinstance(count, list) else [count]
        table.add_row(f"live {part}", " + ".join(f"{n:,}" for n in numbers) or "0")
    return table


def sweep_table(sweep: RateSweep) -> Table:
    """Latency by the rate of the deep net, and where it falls below the dense rival's."""
    title = "random nets of the artifact's widths, by rate"
    table = Table(title=title, title_justify="left")
    for heading in ("rate", "live weights", "p50 us", "us a row at 512"):
        table.add_column(heading, justify="right")
    for line in sweep.lines:
        table.add_row(f"{line.rate:.1%}", f"{line.weights:,}", f"{line.p50_us:.2f}", f"{line.row_us:.3f}")
    if sweep.rival_p50_us is None or sweep.rival_row_us is None:
        table.caption = escape("no dense rival; pip install 'deeplight-jax[bench]'")
        return table
    table.add_section()
    table.add_row(sweep.rival, "", f"{sweep.rival_p50_us:.2f}", f"{sweep.rival_row_us:.3f}")
    table.add_row("faster from the rate", "", *(_rate(r) for r in (sweep.break_even, sweep.break_even_512)))
    return table


def _us(time: float | None) -> str:
    return "-" if time is None else f"{time:.2f}" if time < 100 else f"{time:,.0f}"


def _rate(rate: float | None) -> str:
    return "never" if rate is None else f"{rate:.1%}"
