"""Scores of raw click-log rows, parsed and encoded by what the artifact carries along, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplight_jax.data.account import Account
from deeplight_jax.data.cells import Rows, parse_block
from deeplight_jax.data.later_day import Day, carried_day
from deeplight_jax.data.ordered import count_workers, parse_in_order
from deeplight_jax.data.positions import check_rows
from deeplight_jax.data.rawlines import Block, Input, check_inputs, read_blocks
from deeplight_jax.data.recipes import SPLITS, TEST, Recipe
from deeplight_jax.data.unlabelled import layout_of
from deeplight_jax.data.vocabulary import ids_of
from deeplight_jax.serving import scoring
from deeplight_jax.serving.engine import Engine

_NO_LABEL = 255
_COLUMNS = "file VARCHAR, line BIGINT, score FLOAT, label UTINYINT"
Progress = Callable[[str, int, int], None]


class _Part(NamedTuple):
    """Some rows: index of their file i32, line number i64, ids, values, label u8; all [row, ...]."""

    file: np.ndarray
    line: np.ndarray
    ids: np.ndarray
    values: np.ndarray
    label: np.ndarray


def score_raw(
    engine: Engine,
    raw: Sequence[str | Path],
    out: str | Path,
    *,
    max_bad_rows: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `file` (name), `line` (its number from 1), `score` (probability) and `label` of every raw row.

    Rows are read as the training data was and encoded with its vocabularies; a value that they lack is the
    field's unknown value. The scores are those of the same rows prepared with `--vocab`, bit for bit.

    Args:
      engine: a loaded artifact of data that was prepared from raw rows.
      raw: files in the layout of the training data, or without its label: a header says so, or the number of
        columns does (Criteo: 39 instead of 40). `label` is null for these.
      out: file to write or replace, whole or not at all: `.parquet` or `.csv`.
      max_bad_rows: give up as soon as more lines than this are known to be malformed (None: never).
      threads: workers that parse (default: the cores this process may use); the scores do not depend on it.
      progress: told "scoring" and the percentage of the bytes that are read.

    Returns:
      `rows`; `rejected`: lines that were malformed, {total, by_reason, first}; they are not in the file.

    Raises:
      DataError: a file cannot be read, too many lines are malformed or none is accepted, or the artifact
        carries no recipe.
      ArtifactError: the file cannot be written.

    Cost: as `prepare`, which parses once more; a block of rows in memory, the scores on disk beside `out`.
    """
    data = engine.about.get("data", {})
    day = carried_day(data.get("recipe"), engine.schema, engine.vocabularies, data.get("content_hash", ""))
    inputs = check_inputs(raw)
    layouts = [layout_of(file.path, day.recipe) for file in inputs]
    account = Account(day.recipe, [TEST] * len(inputs), shown=SPLITS[TEST:], max_bad=max_bad_rows)
    names = np.array([file.path.name for file in inputs], object)
    blocks = _blocks(inputs, layouts, progress)
    select = f"file, line, score, nullif(label, {_NO_LABEL})"
    with scoring.score_table(Path(out), _COLUMNS, select) as append:
        parts = _parts(blocks, layouts, day, account, count_workers(threads))
        for part in _rebatched(parts, scoring.BLOCK_ROWS):
            where = f"rows from {names[part.file[0]]} line {part.line[0]} on"
            score = scoring.score_block(engine, part.ids, part.values, where)
            append({"file": names[part.file], "line": part.line, "score": score, "label": part.label})
        account.check_some()
    return {"rows": account.rows[SPLITS[TEST]], "rejected": account.to_json()["rejected"]}


def _blocks(
    inputs: Sequence[Input], layouts: Sequence[Recipe], progress: Progress | None
) -> Generator[Block, None, None]:
    """The lines of all files, each read in its own layout."""
    total, before = max(1, sum(file.bytes for file in inputs)), 0
    for index, (file, layout) in enumerate(zip(inputs, layouts, strict=True)):

        def advance(share: float, before: int = before, size: int = file.bytes) -> None:
            if progress:
                progress("scoring", round(100 * (before + share * size) / total), 100)

        for block in read_blocks([file.path], layout, advance):
            yield replace(block, input=index)
        before += file.bytes


def _parts(
    blocks: Generator[Block, None, None],
    layouts: Sequence[Recipe],
    day: Day,
    account: Account,
    workers: int,
) -> Iterator[_Part]:
    """The accepted rows of each block, encoded."""

    def parse(block: Block) -> tuple[Block, Rows, np.ndarray]:
        rows = parse_block(block, layouts[block.input])
        ids = ids_of(rows.keys, len(rows.label), day.encoders)
        check_rows(day.recipe, rows.keys, ids, day.encoders)
        return block, rows, ids

    for block, rows, ids in parse_in_order(blocks, parse, workers):
        account.take(block, rows)
        label = rows.label if layouts[block.input].label else np.full(len(ids), _NO_LABEL, np.uint8)
        file = np.full(len(ids), block.input, np.int32)
        yield _Part(file, block.first_line + rows.line, ids, rows.values, label)


def _rebatched(parts: Iterable[_Part], size: int) -> Iterator[_Part]:
    """The same rows in parts of `size`; the last one may be smaller."""
    waiting: list[_Part] = []
    held = 0
    for part in parts:
        waiting.append(part)
        held += len(part.line)
        if held >= size:
            joined = _joined(waiting)
            whole = held - held % size
            yield from (_cut(joined, start, start + size) for start in range(0, whole, size))
            waiting, held = [_cut(joined, whole, held)], held % size
    if held:
        yield _joined(waiting)


def _joined(parts: Sequence[_Part]) -> _Part:
    return _Part(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _cut(part: _Part, start: int, stop: int) -> _Part:
    return _Part(*(array[start:stop] for array in part))
