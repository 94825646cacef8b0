"""Environments that raise, end the program or hang: one error that names which and when."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class EnvironmentStepError(RuntimeError):
    """An environment raised, tried to end the program, or did not answer in time."""


# Seconds: the system's alarm takes no more than some centuries.
_LONGEST = 1e9


class _TooSlow(BaseException):
    """Raised by the alarm; no `except Exception` of an environment holds it up."""


@contextlib.contextmanager
def guarded(environments: Any, when: str, timeout: float | None) -> Iterator[None]:
    """Turns what goes wrong in a block that steps or resets environments into `EnvironmentStepError`.

    The time limit is an alarm signal, so it holds in the main thread only and where the system has
    them; an environment that hangs within compiled code is interrupted once that returns to Python.

    Args:
        environments: A vector environment.
        when: How the error calls what they do: "step 5", or "reset".
        timeout: Seconds, or None for no limit.
    """
    limit = timeout if threading.current_thread() is threading.main_thread() else None
    before = None
    if limit is not None:
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, min(limit, _LONGEST))
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
        came = f"{type(error).__name__}: {error}".rstrip(": ")
        raise EnvironmentStepError(
            f"{_which(environments, error.__traceback__)}: expected an observation at {when}, got {came}. Correct "
            f"the environment."
        ) from error
    finally:
        if limit is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise _TooSlow


def _which(environments: Any, trace: TracebackType | None) -> str:
    """The environment at which the loop of the vector environment stood."""
    while trace is not None:
        names = trace.tb_frame.f_locals
        if names.get("self") is environments and isinstance(names.get("i"), int):
            return f"environment {names['i']}"
        trace = trace.tb_next
    return "environments"
