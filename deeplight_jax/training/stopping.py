"""Signals that end a program, held back until what it has done is saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """A signal ends the program: raised by `terminable` on SIGTERM, as Python raises KeyboardInterrupt."""


class StopAsked(Exception):
    """Raised by `Stop.watch` out of work that can be done again."""


class Stop:
    """Whether a signal has asked the program to end.

    Attributes:
      signal: the first that arrived; None until then.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def watch(self, progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
        """The same progress, which raises StopAsked once the program is to end."""

        def watched(what: str, done: int, total: int) -> None:
            progress(what, done, total)
            if self.signal is not None:
                raise StopAsked

        return watched


@contextmanager
def deferred(notice: str = "") -> Iterator[Stop]:
    """SIGINT and SIGTERM are noted while the block runs, and delivered as before at its end, be it an error.

    A second one is delivered at once, too. Signals that the program ignores, and those of other threads than
    the main one, are left as they are.

    Args:
      notice: a line for standard error the moment that a signal is noted; written past its buffer, which the
        signal may have come into.
    """
    stop, before = Stop(), _handlers()

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        _install(before)
        if notice:
            with suppress(OSError):
                os.write(2, f"\r{stop.signal.name}: {notice}\n".encode())

    _install(dict.fromkeys(before, note))
    try:
        yield stop
    finally:
        _install(before)
        if stop.signal is not None:
            signal.raise_signal(stop.signal)


@contextmanager
def held_back() -> Iterator[Stop]:
    """`deferred`, for training that a signal cuts short behind the step that it comes into.

    Raises:
      Terminated: the program's own handler has returned; the block was cut short all the same.
    """
    with deferred("ends once a step is done and saved; a second one ends it unsaved") as stop:
        yield stop
    if stop.signal is not None:
        raise Terminated


def reading_config() -> AbstractContextManager[Stop]:
    """`deferred`, for the code of a config file, which may import JAX (see `import_jax`)."""
    return deferred("ends once the config file is read; a second one ends it at once")


def import_jax() -> None:
    """Import JAX, signals deferred: an interrupt within an extension's import is printed and forgotten."""
    with deferred():
        import jax  # noqa: F401


@contextmanager
def terminable() -> Iterator[None]:
    """While the block runs SIGTERM raises Terminated, where it is not ignored; in the main thread alone."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {s: h for s, h in _handlers().items() if s == signal.SIGTERM}
    _install(dict.fromkeys(before, end))
    try:
        yield
    finally:
        _install(before)


@contextmanager
def unchanged() -> Iterator[None]:
    """The handlers of signals are behind the block what they were before it, whatever a library installs."""
    before = _handlers()
    try:
        yield
    finally:
        _install(before)


def _handlers() -> dict[signal.Signals, Any]:
    """The handlers that may be replaced: of the main thread alone, none that is ignored or not Python's."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {s: signal.getsignal(s) for s in SIGNALS}
    return {s: h for s, h in found.items() if h not in (None, signal.SIG_IGN)}


def _install(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
