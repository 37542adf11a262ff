"""A block of raw lines to labels, numbers and value keys, a column at a time, every line accounted for.

Cells are never copied into Python objects: separators are found in the bytes, eight bytes are loaded at each
cell's start, and a value's key is its own bytes (see `vocabulary`), so equal keys are equal values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from deeplight_jax.data.delimiting import one_byte_delimiter
from deeplight_jax.data.rawlines import MAX_LINE_BYTES, Block, printable
from deeplight_jax.data.recipes import SPLITS, Recipe
from deeplight_jax.data.vocabulary import MAX_VALUE_BYTES, Keys, group_by_width, pack_words, width_of

REASONS = (
    "line_too_long",
    "bad_encoding",
    "control_character",
    "bad_quote",
    "empty_line",
    "column_count",
    "missing_label",
    "bad_label",
    "bad_number",
    "bad_split",
    "not_one_hot",
    "value_too_long",
)
"""Why a line is rejected; of several reasons the first one here is given."""

_CODE = {reason: code for code, reason in enumerate(REASONS, start=1)}
SHOWN = 20  # rejected lines that are kept with their text
_NUMBER = re.compile(rb"-?[0-9]+(\.[0-9]+)?")
_SCIENTIFIC = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MAX_NUMBER_BYTES = 64
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_BUCKET_LOW, _BUCKET_HIGH = -1000, 8000  # log(x)^2 < 7,873 in float32's range


class Reject(NamedTuple):
    """A rejected line: its number counts from 1, its text is cut and escaped."""

    file: str
    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Rows:
    """What a block of lines holds.

    Attributes:
      lines: input lines of the block.
      rejected: lines by index into REASONS, i64[reason]; the rest are rows.
      first: the block's first rejected lines.
      label: u8[row]; 0 where the recipe has no label.
      values: f32[row, numeric], transformed.
      keys: one item per categorical field: the row's values as keys, by width (two fields of a column
        share it).
      line: i64[row], index of the row's line in the block.
      split: u8[row], index into SPLITS by the split column; None if there is none.
    """

    lines: int
    rejected: np.ndarray
    first: list[Reject]
    label: np.ndarray
    values: np.ndarray
    keys: list[list[Keys]]
    line: np.ndarray
    split: np.ndarray | None = None


class _Lines(NamedTuple):
    """buf u8[byte], its separators i64[separator], line starts and ends i64[line], reason codes u8[line]."""

    buf: np.ndarray
    separators: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    code: np.ndarray


def parse_block(block: Block, recipe: Recipe, *, with_keys: bool = True) -> Rows:
    """Split, check and convert the lines of a block.

    Args:
      block: whole lines.
      recipe: columns and numeric transform.
      with_keys: make `keys` (left empty otherwise).

    Cost: about 1.5 us and 2.5 KB a line of 40 columns, on one core.
    """
    data = block.data.replace(b"\r\n", b"\n") if b"\r" in block.data else block.data
    delimiter, text, misquoted = one_byte_delimiter(data, block.delimiter, recipe.quote, bool(recipe.label))
    lines = _find_lines(data, text, delimiter, misquoted, one_hot=block.delimiter == b" ")
    rows, separators = _rows_of(lines, delimiter, len(recipe.columns))
    starts = np.empty((len(recipe.columns), len(rows)), np.int64)  # column-major from here on
    starts[0] = lines.starts[rows]
    starts[1:] = separators[:, :-1].T + 1
    lengths = separators.T - starts
    words = np.ndarray((len(lines.buf) - 8,), "<u8", lines.buf, strides=(1,))  # 8 bytes from any byte on

    label, code = _labels(lines.buf, *_pick(starts, lengths, recipe, (recipe.label,)))
    numbers, missing, bad = _numbers(
        lines.buf, words, *_pick(starts, lengths, recipe, recipe.numeric_columns), recipe.scientific
    )
    code[(code == 0) & bad.any(axis=0)] = _CODE["bad_number"]
    cells = _pick(starts, lengths, recipe, recipe.categorical_columns)
    code[(code == 0) & (cells[1] > MAX_VALUE_BYTES).any(axis=0)] = _CODE["value_too_long"]
    split, unnamed = _splits(words, *_pick(starts, lengths, recipe, [recipe.split_column]))
    code[(code == 0) & unnamed] = _CODE["bad_split"]
    lines.code[rows] = code

    if code.any():
        good = code == 0
        rows, split = rows[good], split[good]
        label, numbers, missing = label[good], numbers[:, good], missing[:, good]
        cells = cells[0][:, good], cells[1][:, good]
    numbers = transform(numbers, floor=recipe.numeric != "value")
    keys: list[list[Keys]] = []
    if with_keys:
        if recipe.numeric == "bucket":
            keys = [_bucket_keys(n, m) for n, m in zip(numbers, missing, strict=True)]
        keys += _cell_keys(lines.buf, words, *cells)
        keys = [keys[at] for _, at, _ in recipe.encoded_fields]
    values = numbers[:0] if recipe.numeric == "bucket" else numbers
    return Rows(
        lines=len(lines.code),
        rejected=np.bincount(lines.code, minlength=len(REASONS) + 1)[1:],
        first=_first_rejects(block, data, lines.code),
        label=label,
        values=np.ascontiguousarray(values.T, np.float32),
        keys=keys,
        line=rows,
        split=split if recipe.split_column else None,
    )


def transform(numbers: np.ndarray, *, floor: bool) -> np.ndarray:
    """The paper's transform of raw numbers f64[...]: log(x)^2 where x > 2, else x; floored if asked."""
    large = numbers > 2
    out = np.where(large, np.square(np.log(np.where(large, numbers, 1.0))), numbers)
    return np.floor(out) if floor else out


def _find_lines(data: bytes, text: bytes, delimiter: int, misquoted: list[int], one_hot: bool) -> _Lines:
    buf = np.frombuffer(text + bytes(MAX_VALUE_BYTES + 16), np.uint8)
    separators = np.flatnonzero(buf[: len(text)] < 0x20)
    kinds = buf[separators]
    ends = separators[kinds == 10]
    starts = np.concatenate([[0], ends[:-1] + 1])
    code = np.zeros(len(ends), np.uint8)
    lengths = ends - starts
    code[lengths == 0] = _CODE["empty_line"]
    code[misquoted] = _CODE["bad_quote"]
    if one_hot:
        odd = np.flatnonzero((buf == ord(":")) | (buf == ord(" ")))
        code[np.searchsorted(ends, odd)] = _CODE["not_one_hot"]
    controls = separators[(kinds != 10) & (kinds != delimiter)]
    if b"\x7f" in text:
        controls = np.concatenate([controls, np.flatnonzero(buf == 0x7F)])
    code[np.searchsorted(ends, controls)] = _CODE["control_character"]
    code[_misencoded(data)] = _CODE["bad_encoding"]
    code[lengths > MAX_LINE_BYTES] = _CODE["line_too_long"]
    return _Lines(buf, separators, starts, ends, code)


def _misencoded(data: bytes) -> list[int]:
    """Indices of the lines that are not UTF-8."""
    if data.isascii() or _is_utf8(data):
        return []
    return [i for i, line in enumerate(data.split(b"\n")) if not line.isascii() and not _is_utf8(line)]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _rows_of(lines: _Lines, delimiter: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices i64[row] of the lines with all their columns, and the ends of their cells i64[row, column]."""
    count = len(lines.code)
    kinds = lines.buf[lines.separators]
    if not lines.code.any() and len(lines.separators) == count * columns:
        table = kinds.reshape(count, columns)
        if (table[:, -1] == 10).all() and (table[:, :-1] == delimiter).all():
            return np.arange(count), lines.separators.reshape(count, columns)
    line = np.cumsum(kinds == 10) - (kinds == 10)
    cells = np.bincount(line, minlength=count)
    lines.code[(lines.code == 0) & (cells != columns)] = _CODE["column_count"]
    good = lines.code == 0
    return np.flatnonzero(good), lines.separators[good[line]].reshape(-1, columns)


def _pick(
    starts: np.ndarray, lengths: np.ndarray, recipe: Recipe, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    at = [recipe.columns.index(name) for name in names if name]
    return starts[at], lengths[at]


def _splits(words: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split u8[row] that the only column names, and where it names none; nothing where there is no column."""
    split = np.full(starts.shape[1], len(SPLITS), np.uint8)
    if not len(starts):
        return split, np.zeros(len(split), bool)
    found = np.where(lengths[0] <= 8, pack_words(words[starts[0]], lengths[0]), 0)
    for code, name in enumerate(SPLITS):
        split[found == int.from_bytes(name.encode().ljust(8, b"\0"), "big")] = code
    return split, split == len(SPLITS)


def _labels(buf: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels u8[row] and reason codes u8[row] (0 = fine); zeros where there is no label column."""
    if not len(starts):
        return np.zeros(starts.shape[1], np.uint8), np.zeros(starts.shape[1], np.uint8)
    label = buf[starts[0]] - np.uint8(ord("0"))
    code = np.where((lengths[0] == 1) & (label <= 1), 0, _CODE["bad_label"])
    code[lengths[0] == 0] = _CODE["missing_label"]
    return label, code.astype(np.uint8)


def _numbers(
    buf: np.ndarray, words: np.ndarray, starts: np.ndarray, lengths: np.ndarray, scientific: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers f64[numeric, row] (missing = 0), and which cells are missing and which are no numbers.

    Integers of up to 8 digits are read a word at a time; what is left, one distinct text after the other.
    """
    negative = (buf[starts] == ord("-")) & (lengths > 1)
    last = starts + lengths - 1
    whole = (buf[last] == ord("0")) & (buf[last - 1] == ord(".")) & (lengths > 2 + negative)  # such as 12.0
    digits = lengths - negative - 2 * whole
    short = digits <= 8
    pad = np.where(short, 64 - 8 * digits, 0).astype(np.uint64)
    word = words[starts + negative]
    word = (word << pad) | (np.uint64(0x3030303030303030) >> (np.uint64(64) - pad))  # shifts by 64 give 0
    word ^= np.uint64(0x3030303030303030)
    plain = (((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080)) == 0
    word = word * np.uint64(10) + (word >> np.uint64(8))
    low = (word & np.uint64(0x000000FF000000FF)) * np.uint64(0x000F424000000064)
    high = ((word >> np.uint64(16)) & np.uint64(0x000000FF000000FF)) * np.uint64(0x0000271000000001)
    number = ((low + high) >> np.uint64(32)).astype(np.uint32).astype(np.float64)
    np.negative(number, out=number, where=negative & (number != 0))
    bad = ~(short & plain)
    odd = np.nonzero(bad & (lengths <= _MAX_NUMBER_BYTES))
    if len(odd[0]):
        texts, inverse = np.unique(
            _gather(buf, starts[odd], lengths[odd], _MAX_NUMBER_BYTES), return_inverse=True
        )
        values = np.array([_number(text, scientific) for text in texts.tolist()])[inverse]
        number[odd], bad[odd] = np.nan_to_num(values, nan=0.0), np.isnan(values)
    return number, lengths == 0, bad


def _number(text: bytes, scientific: bool) -> float:
    """A plain decimal in float32's range, or if `scientific` any such as 1e-05 and +3; nan for all else."""
    if not (_SCIENTIFIC if scientific else _NUMBER).fullmatch(text):
        return math.nan
    value = float(text) + 0.0  # -0 is 0
    return value if math.fabs(value) <= _MAX_FLOAT32 else math.nan


def _gather(buf: np.ndarray, starts: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Cells as byte strings S{width}[n]; none is longer."""
    byte = np.arange(width)
    cells = buf[starts[:, None] + byte]
    cells[byte >= lengths[:, None]] = 0
    return cells.view(f"S{width}").reshape(-1)


def _cell_keys(
    buf: np.ndarray, words: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> list[list[Keys]]:
    """Keys of categorical cells, a list by width for each field."""
    packed = pack_words(words[starts], lengths)
    keys = []
    for key, start, length in zip(packed, starts, lengths, strict=True):
        if length.max(initial=0) <= 8:
            keys.append([Keys(8, slice(None), key)])
            continue
        width = width_of(length)
        groups = []
        for w in np.unique(width).tolist():
            rows = np.flatnonzero(width == w)
            groups.append(Keys(w, rows, key[rows] if w == 8 else _gather(buf, start[rows], length[rows], w)))
        keys.append(groups)
    return keys


def _bucket_keys(floors: np.ndarray, missing: np.ndarray) -> list[Keys]:
    """Keys of whole numbers f64[row] written as decimals, of the empty value where missing."""
    small = (floors >= _BUCKET_LOW) & (floors < _BUCKET_HIGH)
    keys = _bucket_table()[np.where(small, floors, 0).astype(np.int64) - _BUCKET_LOW]
    keys[missing] = 0
    if small.all():
        return [Keys(8, slice(None), keys)]
    groups = [Keys(8, np.flatnonzero(small), keys[small])]
    rows = np.flatnonzero(~small)
    large = group_by_width([b"%d" % int(v) for v in floors[rows]])
    return groups + [Keys(width, rows[at], key) for width, at, key in large]


@cache
def _bucket_table() -> np.ndarray:
    ((_, _, keys),) = group_by_width([b"%d" % i for i in range(_BUCKET_LOW, _BUCKET_HIGH)])
    return keys


def _first_rejects(block: Block, data: bytes, code: np.ndarray) -> list[Reject]:
    at = np.flatnonzero(code)[:SHOWN].tolist()
    if not at:
        return []
    lines = data.split(b"\n", at[-1] + 1)

    def reject(i: int) -> Reject:
        text = printable(lines[i][:800].decode("utf-8", "backslashreplace"), limit=200)
        return Reject(block.file, block.first_line + i, REASONS[code[i] - 1], text)

    return [reject(i) for i in at]
