"""Files that are written whole or not at all, by whichever room writes one."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """A temporary name beside a file; what the block writes there takes the file's place at its end.

    A reader sees the old file or the new one, never a part; a block that fails leaves the old one.

    Args:
      path: the file.
      alone: whether nobody else may be writing it (its directory is locked, say). What a kill left behind is
        then taken up by the next try; else programs that write it at the same time do not meet.

    Raises:
      OSError: the disk refuses it.
    """
    apart = "" if alone else f".{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.name}{apart}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the name must not outlive a loss of power without its content
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str, *, alone: bool = False) -> None:
    """Replace a file by new text, as `replacing` does.

    Raises:
      OSError: the disk refuses it.
    """
    with replacing(path, alone=alone) as temporary:
        temporary.write_text(text, encoding="utf-8")
