"""Scalars for TensorBoard, as the thread that trains writes them.

tensorboardX's own SummaryWriter hands events to a thread of its own. Where the disk refuses one write, that
thread ends; its queue of ten fills, and the program that goes on reporting waits for ever.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

FLUSH_S = 20.0  # what is written shows in TensorBoard after so many seconds, at the next report


class ScalarEvents:
    """An event file of a directory, from a step on: events there of it and of later ones no longer count.

    A context manager: the file is closed behind it.

    Args:
      directory: that TensorBoard looks into; None writes nothing.
      first_step: the first step that this program reports.

    Raises:
      OSError: the disk refuses it; this holds for every method.
    """

    def __init__(self, directory: Path | None, first_step: int) -> None:
        self._writer: RecordWriter | None = None
        self._flushed = time.monotonic()
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
            self._writer = RecordWriter(str(directory / name))
            self._write(Event(step=first_step, file_version="brain.Event:2"))
            self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write one value of a curve."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def _write(self, event: Event) -> None:
        if self._writer is None:
            return
        event.wall_time = time.time()
        try:
            self._writer.write(event.SerializeToString())
            if time.monotonic() - self._flushed >= FLUSH_S:
                self._writer.flush()
                self._flushed = time.monotonic()
        except OSError:
            self._close(told=True)
            raise

    def _close(self, told: bool) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except OSError:
                if not told:
                    raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(told=error is not None)
