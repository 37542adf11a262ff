"""Categorical fields without a vocabulary: a value's 64-bit hash says its table row.

`C3=100000` gives field C3 100,000 rows: row 0 for the empty value, the others for hashes. `C3=1000:qr` is the
quotient-remainder trick (Shi et al., KDD 2020) on hashes: two fields of 1,000 rows, C3 by the hash's
remainder and C3.q by its quotient, so that two values are one only if they share both rows. They are fields
like any others: the model combines their embeddings as it does those of any two.
"""

from __future__ import annotations

import re
import threading
from typing import NamedTuple

import numpy as np

from deeplight_jax.errors import DataError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MAX_ROWS = 2**31 - 1  # of a field: ids are i32
QUOTIENT = ".q"  # behind a column's name: the field of its quotients
_SPEC = re.compile(r"(.+)=([0-9]+)(:qr)?")
_FILE = re.compile(rb"hash splitmix64 rows ([0-9]+) (remainder|quotient)\n")
_SKETCH = 4096  # smallest hashes kept; the estimate's standard error is 1/sqrt of it


class Spec(NamedTuple):
    """What `COLUMN=ROWS[:qr]` says."""

    column: str
    rows: int
    quotient: bool

    @property
    def places(self) -> int:
        """Hashes that are told apart."""
        return (self.rows - 1) ** (2 if self.quotient else 1)


def parse_spec(text: str) -> Spec:
    """The spec of "COLUMN=ROWS" or "COLUMN=ROWS:qr".

    Raises:
      DataError: it is none, or the rows are out of range.
    """
    found = _SPEC.fullmatch(text)
    if found is None:
        raise DataError(
            f"hash_buckets {text!r}: write FIELD=ROWS, or FIELD=ROWS:qr for two fields of ROWS rows"
        )
    spec = Spec(found[1], int(found[2]), found[3] is not None)
    if not 2 <= spec.rows <= MAX_ROWS:
        raise DataError(f"hash_buckets {text!r}: use 2 to {MAX_ROWS:,} rows, one of them for the empty value")
    return spec


def mix64(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser of u64[...]."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash64(keys: np.ndarray) -> np.ndarray:
    """Hashes u64[n] of keys u64[n] or S[n], which are values padded with NUL to words of 8 bytes.

    h = 0; for each word w, big-endian: h = mix64((h ^ w) + 0x9E3779B97F4A7C15) modulo 2^64. The same on every
    machine and in every version: prepared data, runs and artifacts depend on it.

    Cost: about 5 ns a word.
    """
    if keys.dtype.kind != "S":
        return mix64(keys + GOLDEN)
    words = keys.view(">u8").reshape(len(keys), keys.dtype.itemsize // 8).astype(np.uint64)
    out = np.zeros(len(keys), np.uint64)
    for word in words.T:
        out = mix64((out ^ word) + GOLDEN)
    return out


class Hashed(NamedTuple):
    """How a hashed field's values become ids: 0 if empty, else 1 + h mod (size - 1).

    The ids of a field of quotients are 1 + (h div (size - 1)) mod (size - 1).
    """

    size: int
    quotient: bool = False

    def ids(self, width: int, keys: np.ndarray) -> np.ndarray:
        """Ids i32[n] of keys u64[n] or S[n] of one width."""
        places, hashed = np.uint64(self.size - 1), hash64(keys)
        ids = 1 + ((hashed // places if self.quotient else hashed) % places).astype(np.int32)
        if width == 8:
            ids[keys == 0] = 0
        return ids

    def to_bytes(self) -> bytes:
        """What stands in the place of the field's vocabulary file."""
        return b"hash splitmix64 rows %d %s\n" % (self.size, b"quotient" if self.quotient else b"remainder")


def parse_hashed(data: bytes) -> Hashed | None:
    """The `Hashed` of its file's bytes; None of any other file (a vocabulary's lines have tabs)."""
    found = _FILE.fullmatch(data)
    return None if found is None else Hashed(int(found[1]), found[2] == b"quotient")


class Distinct:
    """About how many distinct values a column holds, by their smallest hashes (Bar-Yossef et al., 2002).

    Exact below 4,096, else with a standard error of 1.6 %; neither order nor repetition matters.
    """

    def __init__(self) -> None:
        self._least = np.empty(0, np.uint64)
        self._lock = threading.Lock()

    def add(self, width: int, keys: np.ndarray) -> None:
        """Take keys u64[n] or S[n] into account, but for empty values; safe from several threads."""
        hashes = hash64(keys if width > 8 else keys[keys != 0])
        with self._lock:
            if len(self._least) == _SKETCH:
                hashes = hashes[hashes < self._least[-1]]
            self._least = np.union1d(self._least, hashes)[:_SKETCH]

    def estimate(self) -> int:
        """About how many there were."""
        if len(self._least) < _SKETCH:
            return len(self._least)
        return round((_SKETCH - 1) * 2.0**64 / float(self._least[-1]))


def sharing(distinct: int, places: int) -> float:
    """Expected share of values that are not alone in their place: 1 - (1 - 1/places)^(distinct - 1)."""
    if distinct < 2:
        return 0.0
    return -float(np.expm1((distinct - 1) * np.log1p(-1.0 / places))) if places > 1 else 1.0


def describe(spec: Spec, distinct: int) -> dict[str, float]:
    """What the manifest says of a hashed column; `sharing` is of its distinct values, empty ones left out."""
    fields = 1 + spec.quotient
    return {
        "rows": spec.rows,
        "fields": fields,
        "distinct": distinct,
        "sharing": sharing(distinct, spec.places),
    }
