"""Raw rows to be scored: laid out as the training data was, or without the columns that no model reads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from deeplight_jax.data.cells import parse_block
from deeplight_jax.data.rawlines import Block, find_delimiter, head, header_names
from deeplight_jax.data.recipes import Recipe

_LINES = 100  # whose columns decide where no header does


def layout_of(path: Path, recipe: Recipe) -> Recipe:
    """The recipe that a file of rows to score is read by.

    Args:
      path: a raw file.
      recipe: of the training data.

    Returns:
      Where the recipe asks for a header, without those of its label, split and ignored columns that the
      file's header lacks. Elsewhere as it is, or without label and split column, by which of the two more
      of the first 100 lines are well formed: the number of columns tells them apart.

    Raises:
      DataError: the file cannot be read.
    """
    data = head(path)
    if recipe.header:
        return _by_header(data, recipe)
    lines = b"\n".join(data.split(b"\n", _LINES)[:_LINES]) + b"\n"
    layouts = recipe, _without(recipe, {recipe.label, recipe.split_column})
    return max(layouts, key=lambda layout: _well_formed(lines, layout))  # of equals the first


def _by_header(data: bytes, recipe: Recipe) -> Recipe:
    """The recipe itself where the header is none of ours: reading the file will say what is wrong with it."""
    line = data.partition(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
    names = header_names(line, find_delimiter(data, recipe).decode(), recipe.quote)
    lower = {name.lower() for name in recipe.columns}
    fold = str.lower if len(lower) == len(recipe.columns) else str
    found = [fold(name) for name in names]
    unread = (recipe.label, recipe.split_column, *recipe.ignored_columns)
    layout = _without(recipe, {name for name in unread if fold(name) not in found})
    return layout if [fold(name) for name in layout.columns] == found else recipe


def _without(recipe: Recipe, gone: Collection[str]) -> Recipe:
    return replace(
        recipe,
        columns=tuple(name for name in recipe.columns if name not in gone),
        label="" if recipe.label in gone else recipe.label,
        split_column="" if recipe.split_column in gone else recipe.split_column,
        ignored_columns=tuple(name for name in recipe.ignored_columns if name not in gone),
    )


def _well_formed(lines: bytes, recipe: Recipe) -> int:
    block = Block(0, "", 1, find_delimiter(lines, recipe), lines)
    return len(parse_block(block, recipe, with_keys=False).label)
