"""Raw files as blocks of whole lines: plain, gzip or Zstandard, with BOM, header and delimiter seen to."""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from deeplight_jax.data.recipes import Recipe
from deeplight_jax.errors import DataError

MAX_LINE_BYTES = 32 * 1024  # far more than the columns of any recipe can fill
BLOCK_BYTES = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
_DELIMITERS = (b"\t", b",")
_NO_ROWS = {  # what a file of another kind begins with
    b"PK\x03\x04": "a zip archive; unpack it and name the files in it",
    b"7z\xbc\xaf'\x1c": "a 7z archive; unpack it and name the files in it",
    b"Rar!\x1a\x07": "a rar archive; unpack it and name the files in it",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it, or compress it by gzip or zstd",
    b"BZh": "compressed by bzip2; unpack it, or compress it by gzip or zstd",
    b"\x1f\x8b": "compressed by gzip; name it .gz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; name it .zst",
    b"PAR1": "a Parquet file; write its rows as tab- or comma-separated lines",
}
_TAR = 257, b"ustar"


@dataclass(frozen=True)
class Block:
    """Whole lines of one file, each ended by a newline; CRLF is as in the file.

    Attributes:
      input: index of the file among the inputs.
      file: its name, without its directory.
      first_line: number of the first line in the file, counted from 1, a header included.
      delimiter: tab, comma or (libsvm) space.
      data: the lines' bytes. Of a line longer than a block only the beginning is kept; what is kept is longer
        than MAX_LINE_BYTES.
    """

    input: int
    file: str
    first_line: int
    delimiter: bytes
    data: bytes


class Input(NamedTuple):
    """A raw file as it was found: `bytes` is its (compressed) size; `stamp` changes when it is replaced."""

    path: Path
    bytes: int
    stamp: tuple[int, int]


def check_inputs(raw: Sequence[str | Path], *more: Sequence[str | Path]) -> list[Input]:
    """The input files of one or more lists, each readable.

    Raises:
      DataError: none is given, or one is missing, not a regular file or unreadable.
    """
    for files in (raw, *more):
        if isinstance(files, str | bytes | os.PathLike):
            raise DataError(f"raw files must be given as a list, not as the single path {files!r}")
    paths = [Path(p) for files in (raw, *more) for p in files]
    for path in paths if more else []:
        if paths.count(path) > 1:
            raise DataError(f"{path} is given twice; its rows would stand in two splits")
    if not raw:
        raise DataError("no raw files given; name at least one")
    for path in paths:
        with _reading(path):
            if not path.exists():
                raise DataError(f"{path}: no such file")
            if not path.is_file():  # it is read twice, so a pipe will not do
                raise DataError(f"{path} is not a regular file; name the files one by one")
    return [_input(path) for path in paths]


def _input(path: Path) -> Input:
    with _reading(path), path.open("rb") as file:
        status = os.fstat(file.fileno())
    return Input(path, status.st_size, (status.st_ino, status.st_mtime_ns))


def read_blocks(
    paths: Sequence[Path], recipe: Recipe, advance: Callable[[float], None] | None = None
) -> Generator[Block, None, None]:
    """The lines of all files in order, in blocks of about BLOCK_BYTES; headers and BOMs are left out.

    Args:
      paths: plain files, or gzip or Zstandard files that end in `.gz` or `.zst`.
      recipe: says which header and delimiter to expect.
      advance: told the share of the (compressed) bytes read so far.

    Raises:
      DataError: a file cannot be read, is truncated, or lacks the header that the recipe asks for.
    """
    total, done = max(1, sum(_input(path).bytes for path in paths)), 0
    for index, path in enumerate(paths):
        with _reading(path), path.open("rb") as file:
            line, delimiter = 1, b""
            for data in _whole_lines(_decompressed(path, file)):
                if line == 1:
                    _check_text(path, data)
                    data = data.removeprefix(_BOM)
                    delimiter = find_delimiter(data, recipe)
                    data, line = _skip_header(path, data, delimiter, recipe)
                if data:
                    yield Block(index, path.name, line, delimiter, data)
                    line += data.count(b"\n")
                if advance is not None:
                    advance(min(1.0, (done + file.tell()) / total))
            done += os.fstat(file.fileno()).st_size


def first_line(path: Path) -> str:
    """The first line of a raw file without its end and BOM; "" of an empty file.

    Raises:
      DataError: the file cannot be read, or its first line is too long, not UTF-8 or ended by a CR alone.
    """
    line = head(path).partition(b"\n")[0].rstrip(b"\r")
    if b"\r" in line:
        raise DataError(f"{path}: its lines end by CR alone; write them with LF or CRLF")
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"{path} line 1 is longer than {MAX_LINE_BYTES:,} bytes; does it hold rows?")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} line 1 is not UTF-8 ({error})") from error


def head(path: Path) -> bytes:
    """The lines at the beginning of a raw file, about BLOCK_BYTES, without its BOM; b"" of an empty file.

    Raises:
      DataError: the file cannot be read.
    """
    (found,) = check_inputs([path])
    with _reading(found.path), path.open("rb") as file:
        data = next(_whole_lines(_decompressed(path, file)), b"")
        _check_text(path, data)
        return data.removeprefix(_BOM)


def find_delimiter(data: bytes, recipe: Recipe) -> bytes:
    """The recipe's delimiter; if "auto", the one that splits most of the first 100 lines into its columns.

    Where none does, the one that is seen more often; where neither is seen, a tab.
    """
    if recipe.delimiter != "auto":
        return recipe.delimiter.encode()
    lines = data[: 100 * MAX_LINE_BYTES].split(b"\n", 100)[:100]
    cuts = len(recipe.columns) - 1

    def fit(delimiter: bytes) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        return sum(c == cuts for c in counts), sum(counts)

    return max(_DELIMITERS, key=fit)


def _skip_header(path: Path, data: bytes, delimiter: bytes, recipe: Recipe) -> tuple[bytes, int]:
    """What stands behind the header, if there is one, and the number of its first line."""
    first, _, rest = data.partition(b"\n")
    names = header_names(first.rstrip(b"\r").decode("utf-8", "replace"), delimiter.decode(), recipe.quote)
    lower = [n.lower() for n in recipe.columns]
    fold = str.lower if len(set(lower)) == len(lower) else str  # case counts where names differ by it alone
    found, wanted = tuple(map(fold, names)), tuple(map(fold, recipe.columns))
    if found == wanted:
        return rest, 2
    if not recipe.header:
        return data, 1
    at = next((i for i, (f, w) in enumerate(zip(found, wanted, strict=False)) if f != w), None)
    what = (
        f"{len(found)} columns where {len(wanted)} are due"
        if at is None
        else f"{printable(names[at])!r} where {recipe.columns[at]!r} is due (column {at + 1})"
    )
    raise DataError(
        f"{path} line 1: the header of recipe {recipe.name} is missing or differs: {what}; "
        f"the first line must read {delimiter.decode().join(recipe.columns)}"
    )


def header_names(line: str, delimiter: str, quote: bool) -> list[str]:
    """Column names of a header; `"` is resolved in comma-separated ones if `quote`, as in their rows.

    A line that is no header to `csv`, such as one with a CR inside, is cut at each delimiter.
    """
    quoting = csv.QUOTE_MINIMAL if quote and delimiter == "," else csv.QUOTE_NONE
    try:
        names = next(csv.reader([line], delimiter=delimiter, quoting=quoting), [""])
    except csv.Error:
        names = line.split(delimiter)
    return [name.strip() for name in names]


def printable(text: str, limit: int = 80) -> str:
    """The beginning of `text` in `limit` characters, those that do not print as backslash escapes."""
    shown = ""
    for c in text:
        shown += c if c.isprintable() else c.encode("unicode_escape").decode()
        if len(shown) > limit:
            return shown[: limit - 3] + "..."
    return shown


def _check_text(path: Path, data: bytes) -> None:
    """Refuse archives, of which nothing is ever unpacked, and other files that hold no lines of text."""
    for magic, kind in _NO_ROWS.items():
        if data.startswith(magic):
            raise DataError(f"{path} is {kind}")
    at, magic = _TAR
    if data[at : at + len(magic)] == magic:
        raise DataError(f"{path} is a tar archive; unpack it and name the files in it")


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    carry = b""
    while chunk := file.read(BLOCK_BYTES):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield carry + chunk[:cut]
            carry = chunk[cut:]
        else:
            carry = (carry + chunk)[: 2 * max(BLOCK_BYTES, MAX_LINE_BYTES)]  # an endless line stays bounded
    if carry:
        yield carry + b"\n"


def _decompressed(path: Path, file: BinaryIO) -> BinaryIO:
    magic = _MAGIC.get(path.suffix)
    if magic is None:
        return file
    head = file.read(len(magic))
    file.seek(0)
    if head != magic:
        raise DataError(f"{path} is empty or not a {path.suffix} file; fetch or compress it again")
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    try:
        from backports import zstd
    except ImportError as error:
        raise DataError(f"{path}: reading .zst needs the package backports.zstd; install it") from error
    return cast(BinaryIO, zstd.ZstdFile(file))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever reading `path` may raise into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except EOFError as error:
        raise DataError(f"{path} is truncated ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except zlib.error as error:
        raise DataError(f"{path} is damaged ({error}); fetch it again") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # of a package imported only where it is needed
            raise
        raise DataError(f"{path} is damaged ({error}); fetch it again") from error
