"""A training that calls back after each of its parts, as an iterator over the parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from benchmarks.worker import Built


def parts(train: Callable[[Callable[..., None]], Any]) -> Iterator[tuple[Any, ...]]:
    """The arguments of each call of `report` in `train(report)`, which waits until the next ones are asked for."""
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)
    found: list[Any] = []

    def report(*arguments: Any) -> None:
        found.append(arguments)
        answered.release()
        asked.acquire()

    def run() -> None:
        asked.acquire()
        try:
            train(report)
            found.append(None)
        except BaseException as error:
            found.append(error)
        answered.release()

    threading.Thread(target=run, daemon=True).start()
    while True:
        asked.release()
        answered.acquire()
        part = found.pop()
        if part is None:
            return
        if isinstance(part, BaseException):
            raise part
        yield part


def running(train: Callable[[Callable[..., None]], Any], count: int = 1) -> Built:
    """A call that computes the next `count` parts; `train` never ends while it is measured."""
    iterator = parts(train)
    return Built(lambda: [jax.block_until_ready(next(iterator)) for _ in range(count)], [0.0])
