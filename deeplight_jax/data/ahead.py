"""Batches drawn by a thread while the device works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from deeplight_jax.data.schema import Batch

_Drawn: TypeAlias = Batch | BaseException | None  # None behind the last batch

_WAITING = 8  # batches drawn and not yet asked for, at most
_PATIENCE_S = 0.1  # between two looks at whether the reader is gone


@contextmanager
def drawn_ahead(batches: Iterator[Batch], ahead: bool) -> Iterator[Iterator[Batch]]:
    """The same batches in the same order, each drawn before it is asked for.

    Args:
      batches: NumPy arrays; from here on read by the thread alone.
      ahead: whether to; else they are read as they are.

    Returns:
      What to read them from, within the `with`; behind it the thread has ended. An error in drawing is raised
      where the batch would have come.
    """
    if not ahead:
        yield batches
        return
    drawn: queue.Queue[_Drawn] = queue.Queue(_WAITING)
    over = threading.Event()
    thread = threading.Thread(target=_draw, args=(batches, drawn, over), name="batches", daemon=True)
    thread.start()
    try:
        yield _read(drawn)
    finally:
        over.set()
        thread.join()


def _draw(batches: Iterator[Batch], drawn: queue.Queue[_Drawn], over: threading.Event) -> None:
    try:
        for batch in batches:
            if not _put(batch, drawn, over):
                return
        _put(None, drawn, over)
    except BaseException as error:
        _put(error, drawn, over)


def _put(item: _Drawn, drawn: queue.Queue[_Drawn], over: threading.Event) -> bool:
    """Whether it was put before the reader was gone."""
    while not over.is_set():
        try:
            drawn.put(item, timeout=_PATIENCE_S)
        except queue.Full:
            continue
        return True
    return False


def _read(drawn: queue.Queue[_Drawn]) -> Iterator[Batch]:
    while (item := drawn.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
