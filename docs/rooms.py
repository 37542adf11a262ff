"""Draws docs/rooms.svg, the package's rooms and who imports whom, from the sources' own imports.

    python docs/rooms.py            # writes the picture beside this file

A test compares the file with what this draws. Rooms stand in the import order; an arrow points from the room
that imports to the room that is imported. Grey arrows are implied by two or more black ones.
"""

from __future__ import annotations

import ast
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "deeplight_jax"
ROOMS = ("cli", "quickstart", "reporting", "sweeping", "serving", "training", "evaluation", "models",
         "layers", "sparsity", "data")  # fmt: skip
GROUND = ("mesh", "config", "keys", "errors")  # imported everywhere, so drawn as the ground without arrows
_ROW, _LEFT, _BOX, _WIDTH = 46, 180, 100, 980


def room_of(path: Path) -> str:
    """The room of a source file of the package; the cli_* files are `cli`'s."""
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if part.startswith("cli_") else part


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports, wherever in the file."""
    names = [node.module or "" for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.ImportFrom)]  # fmt: skip
    parts = (name.split(".") for name in names if name.startswith("deeplight_jax."))
    return {"cli" if p[1].startswith("cli_") else p[1] for p in parts}


def arrows() -> dict[str, set[str]]:
    """Rooms by the room that imports them."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in PACKAGE.rglob("*.py"):
        if (room := room_of(path)) in found:
            found[room] |= (imported_rooms(path) & set(ROOMS)) - {room}
    return found


def implied(first: str, last: str, graph: dict[str, set[str]]) -> bool:
    """Whether `last` is reached from `first` through another room."""
    between = [graph[room] for room in graph[first] - {last}]
    return any(last in reached or any(implied(r, last, graph) for r in reached) for reached in between)


def about(room: str) -> str:
    """The first line of a room's docstring, without its code quotes."""
    file = PACKAGE / f"{room}.py"
    file = file if file.exists() else PACKAGE / room / "__init__.py"
    return (
        (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")
        .partition("\n")[0]
        .replace("`", "")
    )


def draw() -> str:
    """The picture as SVG."""
    graph = arrows()
    height = _ROW * (len(ROOMS) + 1) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12.5">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    pairs = [(a, b) for a in ROOMS for b in ROOMS if b in graph[a]]
    for grey in (True, False):  # black arrows over grey ones
        lines += [_arc(a, b, grey) for a, b in pairs if implied(a, b, graph) == grey]
    lines += [_box(i, room, about(room)) for i, room in enumerate(ROOMS)]
    lines.append(_box(len(ROOMS), ", ".join(GROUND), "settings and errors; every room may import these", 170))
    return "\n".join([*lines, "</svg>", ""])


def _arc(first: str, last: str, grey: bool) -> str:
    """An arrow on the left of the boxes, the further out the more rooms it passes."""
    a, b = ROOMS.index(first), ROOMS.index(last)
    y1, y2 = a * _ROW + 36, b * _ROW + 24
    reach = _LEFT - 14 - 21 * (b - a)
    colour, width = ("#c4c4c4", 1) if grey else ("#1f3b4d", 1.8)
    path = f"M{_LEFT},{y1} C{reach},{y1} {reach},{y2} {_LEFT - 2},{y2}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" marker-end="url(#head)"/>'


def _box(row: int, name: str, text: str, width: int = _BOX) -> str:
    y = row * _ROW + 14
    return (
        f'<rect x="{_LEFT}" y="{y}" width="{width}" height="32" rx="5" fill="#e8f1f5" stroke="#1f3b4d"/>'
        f'<text x="{_LEFT + width / 2:g}" y="{y + 21}" text-anchor="middle" font-weight="bold">{escape(name)}'
        f'</text><text x="{_LEFT + width + 12}" y="{y + 21}">{escape(text)}</text>'
    )


if __name__ == "__main__":
    (HERE / "rooms.svg").write_text(draw(), encoding="utf-8")
