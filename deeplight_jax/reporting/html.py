"""A report as one HTML file: figures inline, its own style and script, nothing fetched.

Pure functions: data in, text out. Every text that comes from outside is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """A table's cell: its text, what it is sorted by, and its class."""

    text: str
    value: float | str | None = None
    kind: str = ""


class Figure(NamedTuple):
    """A figure of the page: file name without ending, heading, caption, <svg>."""

    key: str
    title: str
    caption: str
    svg: str


def page(title: str, lead: str, sections: Sequence[str], footer: str) -> str:
    """The whole file.

    Args:
      title, lead, footer: plain text.
      sections: HTML.
    """
    style, script = _asset("report.css"), _asset("report.js")
    body = "\n".join(s for s in sections if s)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1>\n<p class="soft">{escape(lead)}</p></header>\n'
        f"<main>\n{body}\n</main>\n"
        f'<footer>{escape(footer)}</footer>\n<div id="tip" role="status" hidden></div>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A headed section of HTML parts; nothing where all parts are empty."""
    content = "\n".join(p for p in parts if p)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def paragraph(text: str, kind: str = "soft") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def tiles(items: Sequence[tuple[str, str]]) -> str:
    """Figures that matter most: (large, small below it)."""
    cells = (
        f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in items
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def table(
    headings: Sequence[Cell], rows: Sequence[tuple[str, Sequence[Cell]]], *, name: str, sortable: bool = False
) -> str:
    """A table that scrolls sideways in its own box.

    Args:
      headings: a cell each column; its kind goes for the column's heading.
      rows: a class and the cells of each row.
      name: id of the table, and of what it is.
      sortable: whether a click on a heading sorts it.
    """
    heads = "".join(
        f'<th scope="col"{_class(h.kind)}>'
        + (f"<button>{escape(h.text)}</button>" if sortable else escape(h.text))
        + "</th>"
        for h in headings
    )
    lines = "\n".join(f"<tr{_class(kind)}>{''.join(map(_cell, cells))}</tr>" for kind, cells in rows)
    classes = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table id="{escape(name)}"{classes}>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def figures(shown: Sequence[Figure]) -> str:
    """Figures with headings and captions, in as many columns as fit."""
    parts = (
        f'<figure id="figure-{escape(f.key)}"><h3>{escape(f.title)}</h3>\n{f.svg}\n'
        f"<figcaption>{escape(f.caption)}</figcaption></figure>"
        for f in shown
    )
    return f'<div class="figures">\n{"".join(parts)}\n</div>' if shown else ""


def pair_explorer(data: Mapping[str, Any]) -> str:
    """The map of field pairs; its script reads `data`.

    Args:
      data: `fields` (names), `runs` (`name`, `w`: weights, `keep`: a 0 or 1 a pair), `before` (weights or
        None), `planted` (indices of pairs).
    """
    options = [f'<option value="{i}">{escape(r["name"])}</option>' for i, r in enumerate(data["runs"])]
    if data["before"] is not None:
        options.append('<option value="before">before pruning</option>')
    if len(data["runs"]) > 1:
        options.append('<option value="share">share of runs that keep it</option>')
    true = '<span><i class="key true"></i>planted pair</span>' if data["planted"] else ""
    return (
        f'<div class="controls"><label>Show <select id="pair-view">{"".join(options)}</select></label>\n'
        '<span><i class="key pos"></i>above 0</span><span><i class="key neg"></i>below 0</span>'
        '<span><i class="key"></i>pruned</span>'
        f'{true}</div>\n<div class="map" id="pairs"></div>\n'
        f'<script type="application/json" id="pair-data">{_json(data)}</script>'
    )


def beside(*parts: str) -> str:
    """HTML parts side by side where the page is wide enough, a big one and a small one."""
    return f'<div class="beside">{"".join(f"<div>{p}</div>" for p in parts)}</div>'


def definitions(items: Sequence[tuple[str, str]]) -> str:
    entries = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items)
    return f"<dl>{entries}</dl>"


def folded(title: str, content: str, kind: str = "") -> str:
    """HTML behind a heading that opens it."""
    return f"<details{_class(kind)}><summary>{escape(title)}</summary>\n{content}\n</details>"


def bullets(items: Sequence[str]) -> str:
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<ul class="soft">{lines}</ul>' if items else ""


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-v="{escape(str(cell.value))}"'
    return f"<td{_class(cell.kind)}{value}>{escape(cell.text)}</td>"


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""


def _json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("deeplight_jax.reporting").joinpath("assets", name).read_text(encoding="utf-8")
