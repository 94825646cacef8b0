"""One error for environments that raise, exit or hang, with the environment and the step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class EnvironmentStepError(RuntimeError):
    """An environment raised, tried to exit the program, or exceeded the time limit."""


class _TooSlow(BaseException):
    """Raised by the alarm; a BaseException, so that `except Exception` in an environment does not catch it."""


@contextlib.contextmanager
def guarded(environments: Any, when: str, timeout: float | None) -> Iterator[None]:
    """Raises `EnvironmentStepError` if environments raise, exit or exceed the time limit in seconds.

    The limit is an alarm signal. It only acts in the main thread of a POSIX system, and compiled code has to
    return to Python first. The error message calls the guarded block `when`.
    """
    limit = timeout if threading.current_thread() is threading.main_thread() else None
    before = None
    if limit is not None:
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, min(limit, 1e9))  # A longer time can overflow.
    try:
        yield
    except (KeyboardInterrupt, EnvironmentStepError):
        raise
    except _TooSlow as error:
        raise EnvironmentStepError(
            f"{_which(environments, error.__traceback__)}: expected an answer to {when} within {timeout:g} s, got "
            f"none. The environment hangs: look for a loop or a wait in it."
        ) from None
    except BaseException as error:
        got = f"{type(error).__name__}: {error}".rstrip(": ")
        raise EnvironmentStepError(
            f"{_which(environments, error.__traceback__)}: expected an observation at {when}, got {got}. Correct "
            f"the environment."
        ) from error
    finally:
        if limit is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise _TooSlow


def _which(environments: Any, trace: TracebackType | None) -> str:
    """Name of the environment at the index that the loop of the vector environment has reached."""
    while trace is not None:
        names = trace.tb_frame.f_locals
        if names.get("self") is environments and isinstance(names.get("i"), int):
            return f"environment {names['i']}"
        trace = trace.tb_next
    return "environments"
