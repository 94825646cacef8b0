"""Errors that the user of the command line can repair."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaussjax import envs, files
from gaussjax.envs.guard import EnvironmentStepError, place
from gaussjax.training import parallel, run
from gaussjax.training.run import sinks

_PACKAGE = Path(__file__).parents[1]
# Each environment is an object of this process, with kilobytes of its own.
_MOST_ENVIRONMENTS, _MANY = 2**20, 2**10
# Exit codes after a signal, and the faults that end a training.
INTERRUPTED, HUNG_UP = 130, 128 + signal.SIGHUP
FAULTS = (files.PolicyFileError, FloatingPointError, OSError, EnvironmentStepError, run.TrainingError, sinks.SinkError)
# Start and end of the text in a warning of Gymnasium.
GYMNASIUM = re.compile(r"\x1b\[[\d;]*m(WARN: )?")


class UsageError(Exception):
    """An error that the user can repair; it is printed as one line, without a traceback."""


def own_pip(text: str) -> str:
    """A text that names `pip install`, with the pip of this Python where the shell's pip is another one."""
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return text
    return text.replace("pip install", f"{shlex.quote(sys.executable)} -m pip install")


@contextlib.contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Converts errors of the types `kinds` to UsageError, except an error that means a lost process."""
    try:
        yield
    except kinds as error:
        if parallel.lost(error):
            raise
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def environment_errors(environment: str) -> Iterator[None]:
    """Converts all errors from making an environment to UsageError, and warnings to lines on standard error.

    The module of a name such as my_module:MyEnv-v0 is imported from the working folder or from Python's usual path.
    """
    if ":" in environment and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with warnings.catch_warnings(record=True) as caught:
            # Gymnasium warns about old versions. Options of Python must not turn such a warning into an error.
            warnings.filterwarnings("always", message=GYMNASIUM.pattern)
            yield
    except (KeyboardInterrupt, EnvironmentStepError):
        raise
    except BaseException as error:
        raise UsageError(f"environment: {_fault(environment, error)}") from error
    # Each of several environments has the same warning.
    for text in dict.fromkeys(GYMNASIUM.sub("", str(warning.message)) for warning in caught):
        print(f"gaussjax: {' '.join(text.split())}", file=sys.stderr, flush=True)


def announce_environments(option: str, environment: str, count: int, chosen: dict[str, Any]) -> None:
    """Prints how long it takes to make many environments, measured with some; raises UsageError for too many.

    A JAX environment is made once, whatever the count.
    """
    if count < _MANY:
        return
    with environment_errors(environment):
        made = envs.make(environment, **chosen)
        if isinstance(made, envs.Environment):
            return
        made.close()
        if count <= _MOST_ENVIRONMENTS:
            start, some = time.perf_counter(), 8
            envs.make(environment, num_envs=some, **chosen).close()
            seconds = (time.perf_counter() - start) / some * count
            print(f"Making {count:,} environments takes about {seconds:,.0f} s.", flush=True)
            return
    raise UsageError(
        f"{option}: expected at most {_MOST_ENVIRONMENTS:,} environments in one process, got {count:,}. Choose a "
        f"smaller number."
    )


def _fault(environment: str, error: BaseException) -> str:
    """Text of an error from making an environment."""
    import gymnasium

    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, gymnasium.error.Error) or Path(frames[-1].filename).is_relative_to(_PACKAGE):
        text = " ".join(str(error).split()).removeprefix("environment: ")
        return text if text.endswith((".", "?")) else f"{text}."
    # Gymnasium raises a new error if it cannot import the module of a name.
    first = (error.__cause__ if isinstance(error, ModuleNotFoundError) else None) or error
    if isinstance(first, ModuleNotFoundError) and first.name in environment.partition(":")[0].split("."):
        return (
            f"expected the module {first.name} of {environment} in the folder {os.getcwd()} or on Python's path, got "
            f"none. Go to the folder of the module, or add that folder to PYTHONPATH."
        )
    # Importing MuJoCo also imports its renderer; a missing graphics library raises one of these errors.
    drawing = isinstance(first, (AttributeError, ImportError, RuntimeError)) and ":" not in environment
    if drawing and "MUJOCO_GL" in os.environ:
        return (
            f"{environment} cannot be made with MUJOCO_GL={os.environ['MUJOCO_GL']} ({first}). Install libegl1 for egl "
            f"or libosmesa6 for osmesa, or unset MUJOCO_GL."
        )
    text = " ".join(str(first.msg if isinstance(first, SyntaxError) else first).split()).rstrip(".")
    got = f"{type(first).__name__}{origin(first)}: {text}".rstrip(": ")
    return f"expected {environment} to be made, got {got}. Correct {'the module' if ':' in environment else 'it'}."


def origin(error: BaseException) -> str:
    """Place in the user's code that raised an error, such as " in robot.py, line 3", or an empty text."""
    where = place(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}, line {error.lineno}"
    return f" in {where}" if where and f"{os.sep}gymnasium{os.sep}" not in where else ""


def unexpected(error: Exception) -> str:
    """Text for an error that no other part of the command expects."""
    if parallel.lost(error):
        return f"distributed: another process has ended ({str(error).splitlines()[0]})"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: use smaller hidden_sizes, or smaller numbers of environments, steps, epochs or rows."
    if os.environ.get("GAUSSJAX_TRACEBACK"):
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = origin(error) or f" in {last.filename}, line {last.lineno}"
    return (
        f"unexpected {type(error).__name__}{place}: {str(error)[:300]}. Please report it with the traceback, which is "
        f"printed if the environment variable GAUSSJAX_TRACEBACK is 1."
    )
