"""Ways to store the embedding table: a row's `dim` values and its linear value, in fewer bytes.

    f32     floats, padded to 64 bytes
    bf16    the upper 16 bits of each float, rounded to nearest; padded to 32 bytes
    int8    round(value / scale) as signed bytes, zeros; the last 4 of a multiple of 16 bytes are scale and
            linear value as bf16
    packed  a bit for each value, then the floats whose bit is set: exact, rows of any length

The native engine reads them as they are (`deeplight.h`); a row is decoded when it is read.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from deeplight_jax.errors import ArtifactError

TableFormat: TypeAlias = Literal["f32", "bf16", "int8", "packed"]
FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)
EXACT: tuple[TableFormat, ...] = ("f32", "packed")
CACHE_LINE_BYTES = 64
ROW_FLOATS = CACHE_LINE_BYTES // 4  # a row of floats is a multiple of this
_DTYPES = {"f32": np.float32, "bf16": np.uint16, "int8": np.uint8, "packed": np.uint32}
_CHUNK_ROWS = 1 << 16


class Stored(NamedTuple):
    """A table as it is stored.

    Attributes:
      table: [row, item] of f32, u16 (bf16) or u8 (int8); packed: u32[word], a zero word behind the last row.
      starts: packed: u32[row + 1], the first word of each row; otherwise empty.
    """

    table: np.ndarray
    starts: np.ndarray


def encode(rows: np.ndarray, dim: int, form: TableFormat) -> Stored:
    """f32[row, width] (at least dim + 1 values) in a format.

    Raises:
      ArtifactError: a value is too large for the format, or the table for 32-bit places.
    """
    none = np.zeros(0, np.uint32)
    if form == "packed":
        return _pack(rows[:, : dim + 1])
    out = np.zeros((len(rows), row_items(dim, form)), _DTYPES[form])
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[start : start + _CHUNK_ROWS]
        if form == "f32":
            out[start : start + len(chunk), : dim + 1] = chunk[:, : dim + 1]
        elif form == "bf16":
            out[start : start + len(chunk), : dim + 1] = _narrow(chunk[:, : dim + 1])
        else:
            _quantize(chunk, dim, out[start : start + len(chunk)])
    return Stored(out, none)


def decode(stored: Stored, dim: int, form: TableFormat, rows: np.ndarray) -> np.ndarray:
    """f32[..., dim + 1] of the rows int[...]."""
    if form == "packed":
        return _unpack(stored, dim + 1, rows)
    found = stored.table[rows]
    if form == "f32":
        return found[..., : dim + 1]
    if form == "bf16":
        return _widen(found[..., : dim + 1])
    head = _widen(np.ascontiguousarray(found[..., -4:]).view(np.uint16))
    values = head[..., :1] * found[..., :dim].view(np.int8).astype(np.float32)
    return np.concatenate([values, head[..., 1:]], axis=-1)


def check(stored: Stored, num_rows: int, dim: int, form: TableFormat) -> None:
    """Raises ArtifactError if the arrays do not fit the format, or a value is not finite."""
    table, index = stored
    packed = form == "packed"
    shape = (len(table),) if packed else (num_rows, row_items(dim, form))
    places = num_rows + 1 if packed else 0
    if table.dtype != _DTYPES[form] or table.shape != shape:
        wanted = f"{np.dtype(_DTYPES[form])}{list(shape)}"
        raise ArtifactError(f"its array table is {table.dtype}{list(table.shape)}, not {wanted} ({form})")
    if index.dtype != np.uint32 or index.shape != (places,):
        raise ArtifactError(
            f"its array table_index is {index.dtype}{list(index.shape)}, not uint32[{places}]"
        )
    if packed:
        _check_packed(stored, dim + 1)
    count = row_items(dim, form) if form in ("f32", "bf16") else dim + 1  # what pads a row is multiplied by 0
    for start in range(0, num_rows, _CHUNK_ROWS):
        chunk = np.arange(start, min(start + _CHUNK_ROWS, num_rows))
        if not np.isfinite(decode(stored, count - 1, form, chunk)).all():
            raise ArtifactError("its array table holds a value that is not finite")


def row_items(dim: int, form: TableFormat) -> int:
    """Items of a row of every format but packed."""
    count, unit = {"f32": (dim + 1, 16), "bf16": (dim + 1, 16), "int8": (dim + 4, 16)}[form]
    return -(-count // unit) * unit


def _narrow(x: np.ndarray) -> np.ndarray:
    """u16, the bf16 nearest to each float, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    out = ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    if not np.isfinite(_widen(out)).all():
        raise ArtifactError("a value of the table is too large for bf16; export it as f32 or packed")
    return out


def _widen(upper: np.ndarray) -> np.ndarray:
    return (upper.astype(np.uint32) << 16).view(np.float32)


def _quantize(rows: np.ndarray, dim: int, out: np.ndarray) -> None:
    values = rows[:, :dim]
    largest = np.abs(values).max(axis=1, initial=0)
    head = _narrow(np.stack([largest / 127, rows[:, dim]], axis=1))
    scale = _widen(head[:, :1])
    steps = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
    out[:, -4:] = head.view(np.uint8)
    out[:, :dim] = np.rint(steps).clip(-127, 127).astype(np.int8).view(np.uint8)


def _pack(values: np.ndarray) -> Stored:
    kept = values != 0
    masks = _words(values.shape[1])
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(masks + kept.sum(axis=1), out=starts[1:])
    if starts[-1] >= 1 << 32:
        raise ArtifactError("the table is too large to be packed; export it as f32 or bf16")
    words = np.zeros(starts[-1] + 1, np.uint32)
    at = starts[:-1, None] + np.arange(masks)
    is_value = np.ones(starts[-1], bool)
    is_value[at] = False
    bits = np.zeros((len(values), masks * 32), bool)
    bits[:, : values.shape[1]] = kept
    words[at] = np.packbits(bits, axis=1, bitorder="little").view("<u4")
    words[:-1][is_value] = values[kept].view(np.uint32)
    return Stored(words, starts.astype(np.uint32))


def _unpack(stored: Stored, count: int, rows: np.ndarray) -> np.ndarray:
    starts = stored.starts[rows].astype(np.int64)[..., None]
    bits = _bits(stored, count, starts)
    places = starts + _words(count) + np.cumsum(bits, axis=-1) - bits
    return np.where(bits, stored.table[places], np.uint32(0)).view(np.float32)


def _bits(stored: Stored, count: int, starts: np.ndarray) -> np.ndarray:
    """bool[..., count]: which values of rows from words `starts` on are stored."""
    d = np.arange(count)
    return (stored.table[starts + d // 32] >> (d % 32).astype(np.uint32) & 1).astype(bool)


def _check_packed(stored: Stored, count: int) -> None:
    table, index = stored
    lengths = np.diff(index.astype(np.int64))
    masks = _words(count)
    if index[0] != 0 or len(table) != int(index[-1]) + 1 or (lengths < masks).any():
        raise ArtifactError("its packed table points outside itself")
    starts = index[:-1].astype(np.int64)[:, None]
    set_bits = np.zeros(len(lengths), np.int64)
    for word in range(masks):
        set_bits += np.bitwise_count(table[starts[:, 0] + word])
    inside = _bits(stored, count, starts).sum(axis=1)
    if (set_bits != inside).any() or (lengths != masks + inside).any():
        raise ArtifactError("its packed table points outside itself")


def _words(count: int) -> int:
    """32-bit words that hold a bit for each value."""
    return -(-count // 32)
