"""Exact counting and look-up of categorical values by the million, in bounded memory.

A value's key is its own bytes: up to 8 of them as one big-endian u64, more as a byte string as wide as the
next multiple of 8. Values hold no NUL, so padding with it loses nothing; keys order as the bytes do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from deeplight_jax.data.hashing import parse_hashed
from deeplight_jax.errors import DataError

MAX_VALUE_BYTES = 256  # of one categorical value
_WORD = 8
_BATCH = 1 << 18  # keys gathered before they are sorted and counted
_HASH = np.uint64(0x9E3779B97F4A7C15)
_MASKS = np.array([(2**64 - 1) >> (64 - 8 * n) << (64 - 8 * n) if n else 0 for n in range(9)], np.uint64)


class Keys(NamedTuple):
    """Some rows' values of one field: all of one width in bytes; rows i64[n] or all, keys u64[n] or S[n]."""

    width: int
    rows: np.ndarray | slice
    keys: np.ndarray


class Counts(NamedTuple):
    """Distinct keys u64[n] or S[n] in ascending order and how often each was seen, i64[n]."""

    keys: np.ndarray
    counts: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.counts.nbytes


def width_of(lengths: np.ndarray) -> np.ndarray:
    """Key widths in bytes of values of these lengths."""
    return np.maximum((lengths + _WORD - 1) // _WORD, 1) * _WORD


def pack_words(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Keys u64[...] of values of up to 8 bytes from the u64[...] that begin with them, little-endian."""
    return words.byteswap() & _MASKS[np.minimum(lengths, _WORD)]


def group_by_width(values: Sequence[bytes]) -> list[Keys]:
    """Keys of byte strings, grouped by width: one long value makes no other key longer."""
    widths = width_of(np.fromiter(map(len, values), np.int64, len(values)))
    groups = []
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        keys = np.array([values[i] for i in rows.tolist()], f"S{width}")
        groups.append(Keys(width, rows, keys.view(">u8").astype(np.uint64) if width == _WORD else keys))
    return groups


class Counter:
    """How often each value of one field was seen; sorted runs go to disk when memory is short.

    Args:
      directory: for the runs; they stay until the caller removes it.
      budget: bytes that the counters sharing it may hold together.
    """

    def __init__(self, directory: Path, budget: Budget):
        self._tallies: dict[int, _Tally] = {}
        self._directory = directory
        self._budget = budget
        self._lock = threading.Lock()

    def add(self, width: int, keys: np.ndarray) -> None:
        """Count keys u64[n] or S[n] of one width; safe from several threads, in any order."""
        with self._lock:
            if width not in self._tallies:
                self._tallies[width] = _Tally(self._directory, self._budget)
            self._tallies[width].add(keys)

    def kept(self, min_count: int) -> tuple[list[bytes], list[int]]:
        """Values seen `min_count` times or more and their counts: highest count first, ties by bytes."""
        values: list[bytes] = []
        counts = [np.empty(0, np.int64)]
        for tally in self._tallies.values():
            found = tally.kept(min_count)
            values += _as_bytes(found.keys).tolist()
            counts.append(found.counts)
        number = np.concatenate(counts)
        # each tally's values are in order already: runs that are merged
        by_value = np.array(sorted(range(len(values)), key=values.__getitem__), np.int64)
        order = by_value[np.argsort(-number[by_value], kind="stable")]
        return [values[i] for i in order.tolist()], number[order].tolist()


class Budget:
    """Bytes held by counters together, against a limit."""

    def __init__(self, limit: int):
        self.limit = limit
        self._held = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> bool:
        """Note a change in bytes held; True if they are over the limit now."""
        with self._lock:
            self._held += by
            return self._held > self.limit


class _Tally:
    """Counts of the keys of one width: a sorted table in memory, keys not yet sorted, and runs on disk."""

    def __init__(self, directory: Path, budget: Budget):
        self._directory = directory
        self._budget = budget
        self._table: Counts | None = None
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._runs: list[tuple[Path, Path]] = []

    def add(self, keys: np.ndarray) -> None:
        self._waiting.append(keys)
        self._num_waiting += len(keys)
        if self._num_waiting >= max(_BATCH, 0 if self._table is None else len(self._table.keys) // 4):
            self._settle()

    def kept(self, min_count: int) -> Counts:
        self._settle()
        table = self._table
        assert table is not None
        if self._runs and len(table.keys):
            self._spill()
        if not self._runs:
            return _at_least(table, min_count)
        runs = [Counts(np.load(k, mmap_mode="r"), np.load(c, mmap_mode="r")) for k, c in self._runs]
        return _kept_of_runs(runs, min_count)

    def _settle(self) -> None:
        new = _count(np.concatenate(self._waiting)) if self._waiting else None
        self._waiting, self._num_waiting = [], 0
        if new is None:
            return
        held = 0 if self._table is None else self._table.nbytes
        self._table = new if self._table is None else _merge(self._table, new)
        over = self._budget.change(self._table.nbytes - held)
        if over and self._table.nbytes >= self._budget.limit // 64:  # a small table would only make many runs
            self._spill()

    def _spill(self) -> None:
        table = self._table
        assert table is not None
        name = f"{id(self):x}-{len(self._runs)}"  # runs leave no trace in what is kept
        run = tuple(self._directory / f"{name}.{part}.npy" for part in ("keys", "counts"))
        np.save(run[0], table.keys)
        np.save(run[1], table.counts)
        self._runs.append((run[0], run[1]))
        self._budget.change(-table.nbytes)
        self._table = Counts(table.keys[:0].copy(), table.counts[:0].copy())


def _count(keys: np.ndarray) -> Counts:
    keys = np.sort(keys)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return Counts(keys[first], np.diff(first, append=len(keys)))


def _merge(into: Counts, new: Counts) -> Counts:
    """Both counts together. Cost: linear in `into`."""
    if not len(into.keys) or not len(new.keys):
        return new if not len(into.keys) else into
    at = np.searchsorted(into.keys, new.keys)
    found = into.keys[np.minimum(at, len(into.keys) - 1)] == new.keys
    counts = into.counts
    counts[at[found]] += new.counts[found]
    fresh = ~found
    if not fresh.any():
        return into
    return Counts(
        np.insert(into.keys, at[fresh], new.keys[fresh]), np.insert(counts, at[fresh], new.counts[fresh])
    )


def _at_least(table: Counts, min_count: int) -> Counts:
    enough = table.counts >= min_count
    return Counts(table.keys[enough], table.counts[enough])


def _kept_of_runs(runs: Sequence[Counts], min_count: int) -> Counts:
    """Merge sorted runs one range of keys after the other, a few million keys at a time."""
    longest = max(runs, key=lambda run: len(run.keys))
    step = max(1, 4 * _BATCH // len(runs))
    cuts = np.asarray(longest.keys[step::step])
    bounds = [np.concatenate([[0], np.searchsorted(r.keys, cuts), [len(r.keys)]]) for r in runs]
    kept = []
    for i in range(len(cuts) + 1):
        merged: Counts | None = None
        for run, bound in zip(runs, bounds, strict=True):
            part = Counts(*(np.array(a[bound[i] : bound[i + 1]]) for a in run))
            merged = part if merged is None else _merge(merged, part)
        assert merged is not None
        kept.append(_at_least(merged, min_count))
    return Counts(np.concatenate([k.keys for k in kept]), np.concatenate([k.counts for k in kept]))


def _as_bytes(keys: np.ndarray) -> np.ndarray:
    return keys if keys.dtype.kind == "S" else keys.astype(">u8").view("S8")


@dataclass(frozen=True)
class Vocabulary:
    """The values of one field that have an id of their own; `values[i]` has id i + 1, all others id 0."""

    values: list[bytes]
    counts: list[int]

    def __post_init__(self) -> None:
        _ = self._tables  # made now: the threads that look up first would each make them

    @property
    def size(self) -> int:
        """Table rows of the field, the unknown row included."""
        return 1 + len(self.values)

    @cached_property
    def _tables(self) -> dict[int, Callable[[np.ndarray], np.ndarray]]:
        ids = np.arange(1, self.size)
        return {
            width: (_hashed if width == _WORD else _sorted)(keys, ids[rows])
            for width, rows, keys in group_by_width(self.values)
        }

    def ids(self, width: int, keys: np.ndarray) -> np.ndarray:
        """Ids i32[n] of keys of one width. Cost: about 20 ns a key on one core for keys of up to 8 bytes."""
        table = self._tables.get(width)
        return np.zeros(len(keys), np.int32) if table is None else table(keys)

    def to_bytes(self) -> bytes:
        """`value TAB count` lines in id order, in UTF-8."""
        return b"".join(b"%s\t%d\n" % pair for pair in zip(self.values, self.counts, strict=True))


class Encoder(Protocol):
    """How one field's values become ids: a `Vocabulary`, or `Hashed`."""

    @property
    def size(self) -> int: ...

    def ids(self, width: int, keys: np.ndarray) -> np.ndarray: ...

    def to_bytes(self) -> bytes: ...


def ids_of(keys: Sequence[Sequence[Keys]], rows: int, encoders: Sequence[Encoder]) -> np.ndarray:
    """Ids i32[row, categorical] of each field's keys."""
    ids = np.empty((len(encoders), rows), np.int32)
    for out, encoder, groups in zip(ids, encoders, keys, strict=True):
        for width, at, found in groups:
            out[at] = encoder.ids(width, found)
    return np.ascontiguousarray(ids.T)


def _hashed(keys: np.ndarray, ids: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Look-up of u64 keys by open addressing, at most half full; an empty slot has key 0 and id 0."""
    bits = max(4, int(2 * len(keys)).bit_length())
    shift, mask = np.uint64(64 - bits), np.int64((1 << bits) - 1)
    slot_keys, slot_ids = np.zeros(1 << bits, np.uint64), np.zeros(1 << bits, np.int32)
    left = np.arange(len(keys))
    slots = ((keys * _HASH) >> shift).astype(np.int64)
    while len(left):
        free = left[slot_ids[slots[left]] == 0]
        slot_ids[slots[free]] = ids[free]  # of several, the last one stays
        won = free[slot_ids[slots[free]] == ids[free]]
        slot_keys[slots[won]] = keys[won]
        left = left[slot_ids[slots[left]] != ids[left]]
        slots[left] = (slots[left] + 1) & mask

    def look_up(wanted: np.ndarray) -> np.ndarray:
        slot = ((wanted * _HASH) >> shift).astype(np.int64)
        out = slot_ids[slot]
        missed = np.flatnonzero((slot_keys[slot] != wanted) & (out != 0))
        while len(missed):
            slot[missed] = (slot[missed] + 1) & mask
            out[missed] = slot_ids[slot[missed]]
            missed = missed[(slot_keys[slot[missed]] != wanted[missed]) & (out[missed] != 0)]
        return out

    return look_up


def _sorted(keys: np.ndarray, ids: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Look-up of keys of any kind by bisection."""
    order = np.argsort(keys)
    keys, ids = keys[order], ids[order].astype(np.int32)

    def look_up(wanted: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, ids[at], 0).astype(np.int32)

    return look_up


def load_encoder(path: Path, size: int) -> Encoder:
    """Read an encoder's file.

    Raises:
      DataError: the file cannot be read, a line has no count, a value repeats, or they do not make `size`
        table rows.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
    return parse_encoder(data, size, f"{path}")


def parse_encoder(data: bytes, size: int, where: str) -> Encoder:
    """The encoder of a file's bytes.

    Raises:
      DataError: as `load_encoder`; `where` names the file.
    """
    hashed = parse_hashed(data)
    if hashed is not None and hashed.size == size:
        return hashed
    pairs = [line.rpartition(b"\t") for line in data.split(b"\n")[:-1]]
    try:
        found = Vocabulary([value for value, _, _ in pairs], [int(number) for _, _, number in pairs])
    except ValueError as error:
        raise DataError(f"{where} cannot be read ({error}); prepare the data again") from error
    if found.size != size or len(set(found.values)) != len(found.values):
        raise DataError(
            f"{where} makes {found.size} table rows where {size} are due, or repeats a value; "
            "prepare the data again"
        )
    return found
