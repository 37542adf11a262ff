"""Scalars for TensorBoard, as the thread that trains writes them.

tensorboardX's own SummaryWriter hands events to a thread of its own. Where the disk refuses one write, that
thread ends; its queue of ten fills, and the program that goes on reporting waits for ever.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar


class ScalarEvents:
    """An event file of a directory, from a step on: events there of it and of later ones no longer count.

    A context manager: the file is closed behind it. Once the disk has refused a write, no more are tried.

    Args:
      directory: that TensorBoard looks into; None writes nothing.
      first_step: the first step that this program reports.

    Raises:
      OSError: the disk refuses it; this holds for every method.
    """

    def __init__(self, directory: Path | None, first_step: int) -> None:
        self._file: BinaryIO | None = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            seconds, ns = divmod(time.time_ns(), 10**9)  # TensorBoard reads a run's files by name
            name = f"events.out.tfevents.{seconds}.{ns:09d}.{socket.gethostname()}.{os.getpid()}"
            self._file = (directory / name).open("xb")
            self._write(Event(step=first_step, file_version="brain.Event:2"))
            self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))
            self.flush()

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write one value of a curve; `flush` shows it."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Hand what is written to the operating system: a kill of this program loses none of it."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError:
                self._give_up()
                raise

    def _write(self, event: Event) -> None:
        if self._file is not None:
            event.wall_time = time.time()
            try:
                self._file.write(_record(event.SerializeToString()))
            except OSError:
                self._give_up()
                raise

    def _give_up(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what was refused has been told, or something worse has failed
                self._file.close()
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        self._give_up()


def _record(data: bytes) -> bytes:
    """A record of the TFRecord format: length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
