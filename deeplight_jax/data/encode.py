"""Raw click logs to a prepared data set: count the values of the train rows, then write ids and values.

The files are read twice in blocks of lines that worker threads parse; what is written depends on the lines
alone. `rawlines` reads, `cells` splits and checks, `account` keeps the books, `vocabulary` counts.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from deeplight_jax.data.account import Account
from deeplight_jax.data.cells import Rows, parse_block
from deeplight_jax.data.hashing import Distinct, Hashed, describe
from deeplight_jax.data.later_day import Day, load_day
from deeplight_jax.data.ordered import count_workers, in_order
from deeplight_jax.data.positions import check_rows, check_vocabularies
from deeplight_jax.data.prepared import Prepared, create_split, open_prepared, staging, write_manifest
from deeplight_jax.data.rawlines import Block, Input, check_inputs, read_blocks
from deeplight_jax.data.recipes import SPLITS, TEST, TRAIN, VALID, Recipe
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.data.vocabulary import Budget, Counter, Encoder, Vocabulary, ids_of
from deeplight_jax.errors import DataError

Progress = Callable[[str, float], None]


def prepare(
    recipe: Recipe,
    raw: Sequence[str | Path],
    out: str | Path,
    *,
    valid: Sequence[str | Path] = (),
    test: Sequence[str | Path] = (),
    vocab: str | Path | None = None,
    threads: int | None = None,
    memory_limit: str = "4GB",
    max_bad_rows: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare raw rows: split them, count the vocabularies, write arrays, vocabularies and manifest.

    Args:
      recipe: columns and options.
      raw: files in row order: tab- or comma-separated, plain, `.gz` or `.zst`. They are read twice.
      out: directory to make; it must not exist, or be empty.
      valid: files whose rows are the validation split; then none is drawn.
      test: files whose rows are the test split; then none is drawn.
      vocab: a prepared data set whose vocabularies and numeric transform to use ("a later day"): all rows
        make one split, `test`, and nothing is counted.
      threads: workers (default: the cores this process may use); the bytes written do not depend on it.
      memory_limit: such as "4GB". A quarter of it bounds the tables of values being counted; what is over
        goes to disk beside `out`.
      max_bad_rows: give up as soon as more lines than this are known to be malformed (None: never).
      progress: told a stage ("count", then "encode") and the share of it that is done.

    Returns:
      The data set, opened. Its manifest also holds recipe, inputs, delimiter, accepted, rejected {total,
      by_reason, first}, positives (per split), vocab_from (content hash, or null) and hashed (by
      column: rows, about how many distinct values, and the share of them expected to collide).

    Raises:
      DataError: an input, an option or the vocabulary is wrong, too many lines are malformed, none is
        accepted, or `out` cannot be written. Nothing is left behind.

    Cost: 5 to 6 us of CPU a row of Criteo; 45.8 million rows peak below 1 GB (`benchmarks/ingest.py`).
    """
    if not recipe.label:
        raise DataError(f"recipe {recipe.name} names no label; rows without one can be scored, not prepared")
    day = None if vocab is None else load_day(Path(vocab), recipe)
    task = _Task(
        _drawn_only(recipe, bool(valid), bool(test)) if day is None else day.recipe,
        check_inputs(raw, valid, test),
        _given_splits(len(raw), len(valid), len(test), day is not None),
        day,
        count_workers(threads),
        parse_bytes(memory_limit),
        max_bad_rows,
        progress,
    )
    with staging(Path(out)) as directory:
        _prepare(task, directory)
    return open_prepared(out, verify=False)


@dataclass(frozen=True)
class _Task:
    """What `prepare` was asked for, checked."""

    recipe: Recipe
    inputs: Sequence[Input]
    given: Sequence[int | None]
    day: Day | None
    workers: int
    memory_bytes: int
    max_bad_rows: int | None
    progress: Progress | None

    def blocks(self, stage: str) -> Generator[Block, None, None]:
        advance = None if self.progress is None else partial(self.progress, stage)
        return read_blocks([i.path for i in self.inputs], self.recipe, advance)

    def check_unchanged(self) -> None:
        for before, now in zip(self.inputs, check_inputs([i.path for i in self.inputs]), strict=True):
            if before != now:
                raise DataError(f"{now.path} changed while it was read; prepare it again when it is whole")

    def account(self) -> Account:
        shown = SPLITS if self.day is None else SPLITS[TEST:]
        return Account(self.recipe, self.given, shown=shown, max_bad=self.max_bad_rows)


def _given_splits(raw: int, valid: int, test: int, later_day: bool) -> list[int | None]:
    """Split of all rows of each file; None where rows are drawn or a column says."""
    if later_day and (valid or test):
        raise DataError("rows encoded with another data set's vocabulary are all test rows; give one kind")
    drawn: list[int | None] = [TEST if later_day else None]
    return drawn * raw + [VALID] * valid + [TEST] * test


def _drawn_only(recipe: Recipe, valid: bool, test: bool) -> Recipe:
    """The recipe that draws only the splits for which no files are given."""
    if recipe.split_column and (valid or test):
        raise DataError(f"column {recipe.split_column} names the splits; give no files for them, or drop it")
    fractions = {"valid_fraction": valid, "test_fraction": test}
    return replace(recipe, **{name: 0.0 for name, given in fractions.items() if given})


def _prepare(task: _Task, directory: Path) -> None:
    account, encoders, hashed = _count(task, directory)
    sizes = iter(encoder.size for encoder in encoders)
    schema = Schema(tuple(Field(n, k, 1 if k == "numeric" else next(sizes)) for n, k in task.recipe.fields))
    (directory / "vocab").mkdir()
    for field, encoder in zip(schema.categorical, encoders, strict=True):
        (directory / "vocab" / f"{field.name}.txt").write_bytes(encoder.to_bytes())
    account.check_same(_encode(task, directory, schema, encoders, account.rows))
    task.check_unchanged()
    delimiters = {d for d in account.delimiters if d}
    inputs = [
        {"name": file.path.name, "bytes": file.bytes, "lines": lines, "delimiter": delimiter}
        for file, lines, delimiter in zip(task.inputs, account.lines, account.delimiters, strict=True)
    ]
    about = {
        "recipe": task.recipe.to_json(),
        "inputs": inputs,
        "delimiter": delimiters.pop() if len(delimiters) == 1 else "mixed",
        **account.to_json(),
        "vocab_from": None if task.day is None else task.day.content_hash,
        "hashed": hashed,
    }
    write_manifest(directory, schema, account.rows, about)


def _count(task: _Task, directory: Path) -> tuple[Account, list[Encoder], dict[str, Any]]:
    """First reading: how many rows each split has, which values get an id, how crowded hashed fields are."""
    account, recipe, day = task.account(), task.recipe, task.day
    with TemporaryDirectory(dir=directory, prefix="counting-") as runs:
        budget = Budget(task.memory_bytes // 4)
        fields = () if day else recipe.encoded_fields
        counters = [_counter(hashed, Path(runs), budget) for _, _, hashed in fields]

        def parse(block: Block) -> tuple[Block, Rows]:
            return block, parse_block(block, recipe, with_keys=day is None)

        def take(parsed: tuple[Block, Rows]) -> Callable[[], None]:
            split, _ = account.take(*parsed)
            counted = np.ones(len(split), bool) if recipe.vocab_scope == "all" else split == TRAIN
            return partial(_add, counters, parsed[1], counted)

        in_order(task.blocks("count"), parse, take, task.workers)
        account.check_some()
        if day:
            return account, day.encoders, {}
        encoders = [
            _encoder(hashed, counter, recipe.min_count)
            for (_, _, hashed), counter in zip(fields, counters, strict=True)
        ]
        check_vocabularies(recipe, encoders)
        seen = {f[0]: c.estimate() for f, c in zip(fields, counters, strict=True) if isinstance(c, Distinct)}
        return account, encoders, {name: describe(recipe.hashed_columns[name], n) for name, n in seen.items()}


def _counter(hashed: Hashed | None, runs: Path, budget: Budget) -> Counter | Distinct | None:
    """What counts a field's values; nothing does for quotients, whose column is counted already."""
    if hashed is None:
        return Counter(runs, budget)
    return None if hashed.quotient else Distinct()


def _encoder(hashed: Hashed | None, counter: Counter | Distinct | None, min_count: int) -> Encoder:
    if hashed is not None:
        return hashed
    assert isinstance(counter, Counter)
    return Vocabulary(*counter.kept(min_count))


def _add(counters: Sequence[Counter | Distinct | None], rows: Rows, counted: np.ndarray) -> None:
    for counter, groups in zip(counters, rows.keys, strict=True):
        if counter is None:
            continue
        for width, at, keys in groups:
            counter.add(width, keys[counted[at]])


def _encode(
    task: _Task, directory: Path, schema: Schema, encoders: Sequence[Encoder], rows: Mapping[str, int]
) -> Account:
    """Second reading: write each row's ids, values and label at its place in its split."""
    account = task.account()

    def parse(block: Block) -> tuple[Block, Rows, np.ndarray]:
        parsed = parse_block(block, task.recipe)
        ids = ids_of(parsed.keys, len(parsed.label), encoders)
        check_rows(task.recipe, parsed.keys, ids, encoders)
        return block, parsed, ids

    with _SplitFiles(directory, schema, rows) as files:

        def take(parsed: tuple[Block, Rows, np.ndarray]) -> Callable[[], None]:
            split, before = account.take(*parsed[:2])
            return partial(files.write, split, before, (parsed[2], parsed[1].values, parsed[1].label))

        in_order(task.blocks("encode"), parse, take, task.workers)
    return account


class _SplitFiles:
    """The array files of all splits, written by position: mapped, their pages would count as our memory."""

    def __init__(self, directory: Path, schema: Schema, rows: Mapping[str, int]):
        self._files: dict[tuple[str, int], tuple[int, int]] = {}
        self._rows = rows
        with ExitStack() as opened:
            for name, count in rows.items():
                split = create_split(directory, name, schema, count)
                for part, array in enumerate((split.ids, split.values, split.label)):
                    if isinstance(array, np.memmap):
                        file = os.open(str(array.filename), os.O_WRONLY)
                        opened.callback(os.close, file)
                        self._files[name, part] = file, int(array.offset)
            self._open = opened.pop_all()

    def __enter__(self) -> _SplitFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, split: np.ndarray, before: np.ndarray, parts: Sequence[np.ndarray]) -> None:
        """Write the rows of a block, whose splits are u8[row], behind the `before` rows of each split."""
        for code, name in enumerate(SPLITS):
            chosen = split == code
            if not chosen.any():
                continue
            if before[code] + chosen.sum() > self._rows[name]:
                raise DataError("the raw files changed while they were read; prepare them again")
            for part, array in enumerate(parts):
                if (name, part) in self._files:
                    file, offset = self._files[name, part]
                    row_bytes = array[:1].nbytes
                    _write_at(file, array[chosen], offset + int(before[code]) * row_bytes)


def _write_at(file: int, array: np.ndarray, at: int) -> None:
    data = memoryview(np.ascontiguousarray(array).data).cast("B")
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written


def parse_bytes(text: str) -> int:
    """Bytes that a size such as "4GB", "500MB", "1.5 GiB" or "1e7" stands for.

    Raises:
      DataError: `text` is no such size.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?) *([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    number, unit, binary = found.groups() if found else ("inf", "", "")
    size = float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " ")
    if math.isinf(size):
        raise DataError(f"{text!r} is no size; write it as 4GB or 500MB")
    return int(size)
