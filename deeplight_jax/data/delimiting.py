"""Lines of any of the layouts as text whose cells end at one byte: tabs, or 0x1F for commas and spaces."""

from __future__ import annotations

import re

from deeplight_jax.data.rawlines import MAX_LINE_BYTES

_UNIT = 0x1F  # stands for the delimiter of other lines than tab-separated ones; there, a raw 0x1F becomes NUL
_COMMA_TO_UNIT = bytes.maketrans(b",\x1f", b"\x1f\x00")
_UNIT_TO_NUL = bytes.maketrans(b"\x1f", b"\x00")
_QUOTED = re.compile(rb'"((?:[^"]|"")*)"|([^"\x1f]*)')
_PLAINLY_QUOTED = re.compile(  # nothing within the quotes that needs them
    rb'(?>"[^"\x1f]*+"|[^"\x1f]*+)(?>\x1f"[^"\x1f]*+"|\x1f[^"\x1f]*+)*+'
)


def one_byte_delimiter(
    data: bytes, delimiter: bytes, quote: bool, labelled: bool = True
) -> tuple[int, bytes, list[int]]:
    """Delimiter byte, the text with quotes resolved, and indices of the lines whose quotes are wrong.

    Args:
      data: whole lines, each ended by a newline.
      delimiter: tab, comma or (libsvm) space.
      quote: resolve `"` in comma-separated lines.
      labelled: libsvm's lines begin with a label.
    """
    if delimiter == b"\t":
        return 9, data, []
    if delimiter == b" ":
        return _UNIT, _one_hot_cells(data, labelled), []
    text = data.translate(_COMMA_TO_UNIT)
    if not quote or b'"' not in text:
        return _UNIT, text, []
    lines, misquoted = text.split(b"\n"), []
    for i, line in enumerate(lines):
        if b'"' in line and len(line) <= MAX_LINE_BYTES:
            if _PLAINLY_QUOTED.fullmatch(line):
                lines[i] = line.replace(b'"', b"")
            elif cells := _split_quoted(line):
                lines[i] = b"\x1f".join(cells)
            else:
                lines[i] = b""
                misquoted.append(i)
    return _UNIT, b"\n".join(lines), misquoted


def _one_hot_cells(data: bytes, labelled: bool) -> bytes:
    """libsvm's `LABEL INDEX:1 ...`: 0x1F between well-formed cells, which lose their 1; a label -1 is 0.

    What is not well formed keeps its space or colon, by which the line is refused.
    """
    text = re.sub(rb"(?m)^ | (?=\n)", b"", re.sub(rb"[ \t]+", b" ", data.translate(_UNIT_TO_NUL)))
    text = re.sub(rb"(?m)^\+?([01])(?:\.0*)?(?= )", rb"\1", text)
    text = re.sub(rb"(?m)^-1(?:\.0*)?(?= )", b"0", text)
    text = text if labelled else re.sub(rb"(?m)^(?=[^\n])", b" ", text)
    text = re.sub(rb" ([^ :\n]+):1(?:\.0*)?(?=[ \n])", b"\x1f\\1", text)
    return text if labelled else re.sub(rb"(?m)^\x1f", b"", text)


def _split_quoted(line: bytes) -> list[bytes] | None:
    """Cells of a line with quotes (`""` inside quotes is one); None if a quote is left open or misplaced."""
    cells: list[bytes] = []
    at = 0
    while found := _QUOTED.match(line, at):
        quoted, plain = found.groups()
        cells.append(plain if quoted is None else quoted.replace(b'""', b'"').replace(b"\x1f", b","))
        at = found.end()
        if at == len(line):
            return cells
        if line[at] != _UNIT:
            return None
        at += 1
    return None
