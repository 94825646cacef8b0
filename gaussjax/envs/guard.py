"""Conversion of every failure of an environment to one error that names the environment and the step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class EnvironmentStepError(RuntimeError):
    """Raised if an environment raises an exception, tries to exit the program, or exceeds its time limit."""


class _TooSlow(BaseException):
    """Raised at the time limit; a BaseException, so that `except Exception` in an environment does not catch it."""


@contextlib.contextmanager
def guarded(environments: Any, when: str, timeout: float | None) -> Iterator[None]:
    """Runs a block; raises `EnvironmentStepError` if the environments in it raise, exit or exceed `timeout` seconds.

    An alarm signal enforces the time limit. It acts only in the main thread of a POSIX system, and only when
    compiled code returns to Python. `when` names the block in the error message, such as "reset".
    """
    limit = timeout if threading.current_thread() is threading.main_thread() else None
    before = None
    if limit is not None:
        before = signal.signal(signal.SIGALRM, _raise_too_slow)
        signal.setitimer(signal.ITIMER_REAL, min(limit, 1e9))  # A longer time overflows setitimer.
    try:
        yield
    except (KeyboardInterrupt, EnvironmentStepError):
        raise
    except _TooSlow as error:
        raise EnvironmentStepError(
            f"{_failed(environments, error.__traceback__)}: expected an answer to {when} within {timeout:g} s, got "
            f"none. The environment hangs: look for a loop or a wait in it."
        ) from None
    except BaseException as error:
        got = f"{type(error).__name__}: {error}".rstrip(": ")
        raise EnvironmentStepError(
            f"{_failed(environments, error.__traceback__)}: expected an observation at {when}, got {got}. Correct "
            f"the environment."
        ) from error
    finally:
        if limit is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _raise_too_slow(_number: int, _frame: FrameType | None) -> None:
    raise _TooSlow


def _failed(environments: Any, trace: TracebackType | None) -> str:
    """Returns the name of the failed environment, from the loop index `i` in the frame of the vector environment."""
    while trace is not None:
        names = trace.tb_frame.f_locals
        if names.get("self") is environments and isinstance(names.get("i"), int):
            return f"environment {names['i']}"
        trace = trace.tb_next
    return "environments"
