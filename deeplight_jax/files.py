"""Files that are written whole or not at all, by whichever room writes one."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, alone: bool = False, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside a file; what the block writes there takes the file's place at its end.

    A reader sees the old file or the new one, never a part; a block that fails leaves the old one.

    Args:
      path: the file.
      alone: whether one program writes it at a time (it holds a lock, say). What a kill left behind is then
        taken up by the next try; else that stays, and programs that write it at once do not meet.
      durable: whether it is on the disk before it has its name, so that a loss of power leaves no empty file.

    Raises:
      OSError: the disk refuses it.
    """
    apart = "" if alone else f".{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.name}{apart}.tmp")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # gone, or of a disk that cannot be written: not to hide what failed
            temporary.unlink()


def write_atomically(path: Path, text: str, *, alone: bool = False, durable: bool = True) -> None:
    """Replace a file by new text, as `replacing` does.

    Raises:
      OSError: the disk refuses it.
    """
    with replacing(path, alone=alone, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")
