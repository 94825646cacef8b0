"""Conversion of every failure of an environment to one error that names the environment, its file and the step."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import numpy as np

# Files of these folders are not the place of a fault, except for environments that come with a library.
_LIBRARIES = (str(Path(__file__).parent.parent), str(Path(np.__file__).parent), sysconfig.get_path("stdlib"))


Stack = list[tuple[FrameType, int]]
"""Frames from the outside in, each with the number of its line."""


class EnvironmentStepError(RuntimeError):
    """Raised if an environment raises, exits, exceeds its time limit, or returns wrong shapes or integers."""


class _TooSlow(BaseException):
    """Raised at the time limit; a BaseException, so that `except Exception` in an environment does not catch it."""


class _Exit(BaseException):
    """Raised if an environment calls `os._exit`."""


# A class, because a generator with @contextmanager would raise a StopIteration of the block again.
class guarded:  # noqa: N801
    """Runs a block; raises `EnvironmentStepError` if the environments in it raise, exit or exceed their time limit.

    The block changes nothing else of the process: the working directory, `os._exit` and the alarm of the caller are
    restored, and an alarm of the caller that is due within the block rings in time. An alarm signal enforces the time
    limit, when compiled code returns to Python. All this holds in the main thread of a POSIX system only.

    Args:
        environments: Vector environment.
        when: Name of the block in the error message, such as "reset".
        timeout: Seconds, or None for no limit.
        expected: Words for the result that the block expects of the environments.
    """

    def __init__(self, environments: Any, when: str, timeout: float | None, expected: str = "an observation"):
        self._environments, self._when, self._timeout, self._expected = environments, when, timeout, expected
        self._alarm: _Alarm | None = None
        self._contained = contained()

    def __enter__(self) -> None:
        self._contained.__enter__()
        if self._timeout is not None and threading.current_thread() is threading.main_thread():
            self._alarm = _Alarm(self._timeout)

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        stack = None if self._alarm is None else self._alarm.stop()
        self._contained.__exit__(None, None, None)
        if isinstance(error, (KeyboardInterrupt, EnvironmentStepError)):
            return
        if stack is not None:
            raise EnvironmentStepError(
                f"{self._name(stack)}: expected an answer to {self._when} within {self._timeout:g} s, got none. The "
                f"environment hangs: look for a loop or a wait in it."
            ) from None
        if error is not None:
            stack = list(traceback.walk_tb(trace))
            if _own(stack) is None and (wrong := self._wrong_shape()):
                raise wrong_shape(self._environments, *wrong, self._when) from error
            got = "a call of os._exit" if isinstance(error, _Exit) else type(error).__name__
            # One line of at most 500 characters, whatever the environment says.
            text = " ".join(f"{got}: {error}".rstrip(": ").split())[:500]
            raise EnvironmentStepError(
                f"{self._name(stack)}: expected {self._expected} at {self._when}, got {text}. Correct the environment."
            ) from error

    def _name(self, stack: Stack) -> str:
        return named(self._environments, _failed(self._environments, stack), _own(stack))

    def _wrong_shape(self) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
        """Returns index, expected shape and shape of the first observation that does not fit the space, if any."""
        with contextlib.suppress(Exception):
            expected = self._environments.single_observation_space.shape
            for i, observation in enumerate(self._environments._env_obs):
                # A space of several parts has no shape.
                if observation is not None and expected is not None and np.shape(observation) != expected:
                    return i, expected, np.shape(observation)
        return None


class _Alarm:
    """An alarm that raises `_TooSlow` when the time is over, again and again, until it is stopped.

    The alarm of the caller, if any, keeps running, and its handler is called when it is due.
    """

    def __init__(self, timeout: float):
        self._running, start = True, time.monotonic()
        self._stack: Stack | None = None
        self._end = start + min(timeout, 1e9)  # A longer time overflows setitimer.
        # Environments can swallow the error. At some delay the next one is raised outside of their try block.
        self._delays = itertools.cycle((3e-6, 1e-5, 3e-5, 1e-4, 3e-4))
        due, self._interval = signal.getitimer(signal.ITIMER_REAL)
        self._due = start + due if due else None
        # The handler can be called before `signal.signal` returns, and reads this one.
        self._before = signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, self._ring)
        self._set()

    def stop(self) -> Stack | None:
        """Restores the alarm of the caller; returns where the block was when its time was over, or else None."""
        self._running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Python knows no handler that another library has set.
        signal.signal(signal.SIGALRM, signal.SIG_DFL if self._before is None else self._before)
        if self._due is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self._due - time.monotonic(), 1e-6), self._interval)
        return self._stack

    def _set(self) -> None:
        first = self._end if self._due is None else min(self._end, self._due)
        signal.setitimer(signal.ITIMER_REAL, max(first - time.monotonic(), 1e-6))

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._running:
            return
        if self._due is not None and time.monotonic() >= self._due:
            self._due = self._due + self._interval if self._interval else None
            self._set()
            if callable(self._before):
                self._before(number, frame)
            elif self._before == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        # A signal before the end comes from somewhere else; it ends the block too, as it would without this alarm.
        self._stack = self._stack or list(traceback.walk_stack(frame))[::-1]
        signal.setitimer(signal.ITIMER_REAL, next(self._delays), 1e-3)
        if frame is None or frame.f_code.co_filename != __file__:
            raise _TooSlow


def close(environments: Any, timeout: float | None = None) -> None:
    """Closes all environments, even if one of them raises; then raises `EnvironmentStepError`."""
    try:
        with guarded(environments, "close", timeout, "no error"):
            environments.close()
    except EnvironmentStepError:
        # Gymnasium would close environments that count as open again when they are deleted.
        environments.closed = True
        for environment in getattr(environments, "envs", ()):
            with contextlib.suppress(EnvironmentStepError), guarded(environments, "close", timeout, "no error"):
                environment.close()
        raise


@contextlib.contextmanager
def closing(environments: Any, timeout: float | None = None) -> Iterator[None]:
    """Closes the environments at the end of a block; an error of the block hides an error of closing them."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(EnvironmentStepError):
            close(environments, timeout)
        raise
    close(environments, timeout)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Restores the working directory after a block, and raises `EnvironmentStepError` where it calls `os._exit`.

    It does nothing outside of the main thread, because both belong to the whole process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    folder, leave, process = _folder(), os._exit, os.getpid()

    def refuse(code: int) -> NoReturn:
        # A process that the environment forked may end.
        if os.getpid() != process:
            leave(code)
        raise _Exit(f"code {code}")

    os._exit = refuse
    try:
        yield
    except _Exit as error:
        where = place(error.__traceback__)
        raise EnvironmentStepError(
            f"environment ({where}): expected an environment, got a call of os._exit. Correct the environment."
        ) from error
    finally:
        os._exit = leave
        if folder is not None and _folder() != folder:
            os.chdir(folder)


def wrong_shape(
    environments: Any, index: int | None, expected: tuple[int, ...], shape: tuple[int, ...], when: str
) -> EnvironmentStepError:
    """Makes the error about an observation of another shape than the observation space has."""
    return EnvironmentStepError(
        f"{named(environments, index)}: expected an observation of shape {expected} at {when}, got {shape}. Correct "
        f"the environment, or its observation_space."
    )


def wrong_number(environments: Any, index: int | None, when: str, dtype: Any, number: Any) -> EnvironmentStepError:
    """Makes the error about an observation with a number that the dtype of its space cannot hold."""
    return EnvironmentStepError(
        f"{named(environments, index)}: expected an observation of {dtype} numbers at {when}, got {number}. Correct "
        f"the environment, or the dtype of its observation_space."
    )


def check_finite(environments: Any, values: Any, when: str, what: str = "observation") -> None:
    """Raises FloatingPointError for a number that is NaN, infinite or beyond float32.

    Args:
        environments: Vector environment.
        values: An array of NumPy with one entry for each environment, or a dict or tuple of arrays.
        when: Time of the values for the error message, such as "reset".
        what: Name of the values in the error message.
    """
    if not isinstance(values, np.ndarray):
        for name, part in values.items() if isinstance(values, dict) else enumerate(values):
            check_finite(environments, part, when, f"{what}[{name!r}]")
        return
    if values.dtype.kind in "biu":
        return
    # Buffers are float32, where a larger reward would be infinite. The sum of squares is the quicker test; if it is too
    # large or NaN, the second decides. The largest of some numbers and NaN is NaN.
    largest = np.finfo(np.float32).max
    if not (np.vdot(values, values) <= largest or np.abs(values).max(initial=0.0) <= largest):
        finite = (np.abs(values) <= largest).reshape(len(values), -1).all(axis=1)
        index = int(np.argmin(finite))
        raise FloatingPointError(
            f"{named(environments, index)}: expected a finite {what} at {when}, got {values[index]} "
            f"({int((~finite).sum())} of {len(values)} environments). The environment has diverged; "
            f"check its actions, rewards and time step."
        )


def named(environments: Any, index: int | None, where: str | None = None) -> str:
    """Returns the name of an environment with a place, by default the file and the line of its `step`."""
    if where is None:
        with contextlib.suppress(Exception):
            code = type(environments.envs[index or 0].unwrapped).step.__code__
            where = f"{code.co_filename}, line {code.co_firstlineno}"
    return ("environments" if index is None else f"environment {index}") + (f" ({where})" if where else "")


def place(trace: TracebackType | None) -> str | None:
    """Returns the file and the line of an environment's own code in which an error was raised."""
    return _own(list(traceback.walk_tb(trace)))


def left_threads() -> list[str]:
    """Returns the names and the places of the threads that keep this process alive after its main thread has ended."""
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread() and thread.ident in frames:
            where = _own(list(traceback.walk_stack(frames[thread.ident]))[::-1])
            found.append(thread.name + (f" ({where})" if where else ""))
    return found


def _own(stack: Stack) -> str | None:
    """Returns the innermost place outside of libraries, or else in Gymnasium's environments."""
    # Modules that are part of the interpreter have names such as <frozen importlib>.
    places = [(frame.f_code.co_filename, line) for frame, line in stack if frame.f_code.co_filename[:1] != "<"]
    outside = [place for place in places if "site-packages" in place[0] or not place[0].startswith(_LIBRARIES)]
    outside = [place for place in outside if not place[0].startswith(_LIBRARIES[:2])]
    library = f"{os.sep}gymnasium{os.sep}"
    found = [place for place in outside if library not in place[0]]
    found = found or [place for place in outside if f"{library}envs{os.sep}" in place[0]]
    return f"{found[-1][0]}, line {found[-1][1]}" if found else None


def _failed(environments: Any, stack: Stack) -> int | None:
    """Returns the index of the failed environment: `self` of a frame, or `i` in a loop of the vector environment."""
    loop = None
    for frame, _ in stack:
        owner = frame.f_locals.get("self")
        for i, environment in enumerate(getattr(environments, "envs", ())):
            if owner is environment:
                return i
        if owner is environments and isinstance(frame.f_locals.get("i"), int):
            loop = frame.f_locals["i"]
    return loop


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
