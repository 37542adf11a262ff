"""Blocks worked on by threads, their results taken in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from deeplight_jax.data.rawlines import Block
from deeplight_jax.errors import DataError

_T = TypeVar("_T")


def parse_in_order(
    blocks: Generator[Block, None, None], parse: Callable[[Block], _T], workers: int
) -> Generator[_T, None, None]:
    """Parse blocks on worker threads, a few ahead of what is taken; the results come in order."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from _parsed(pool, blocks, parse, workers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            blocks.close()


def in_order(
    blocks: Generator[Block, None, None],
    parse: Callable[[Block], _T],
    take: Callable[[_T], Callable[[], None]],
    workers: int,
) -> None:
    """Parse blocks on worker threads, `take` the results here in order, run what it returns on them."""
    working: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for parsed in _parsed(pool, blocks, parse, workers):
                working.append(pool.submit(take(parsed)))
                if len(working) > workers:
                    working.popleft().result()
            for job in working:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            blocks.close()


def _parsed(
    pool: ThreadPoolExecutor, blocks: Iterator[Block], parse: Callable[[Block], _T], ahead: int
) -> Iterator[_T]:
    parsing: deque[Future[_T]] = deque()
    for block in blocks:
        parsing.append(pool.submit(parse, block))
        if len(parsing) > ahead:
            yield parsing.popleft().result()
    while parsing:
        yield parsing.popleft().result()


def count_workers(threads: int | None) -> int:
    """Worker threads that were asked for; by default the cores this process may use.

    Raises:
      DataError: fewer than one were asked for.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise DataError(f"threads = {threads}; use 1 or more")
    return threads
