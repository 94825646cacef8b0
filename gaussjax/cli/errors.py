"""Errors that the user of the command line can repair."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from gaussjax.envs.guard import EnvironmentStepError, place
from gaussjax.training import parallel


class UsageError(Exception):
    """An error that the user can repair; it is printed as one line, without a traceback."""


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
    """Converts errors from making an environment to UsageError."""
    import gymnasium

    try:
        yield
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UsageError(f"environment: {' '.join(str(error).split())}") from error
    except (KeyboardInterrupt, EnvironmentStepError):
        raise
    except BaseException as error:
        # Importing MuJoCo also imports its renderer; a missing graphics library raises one of these errors.
        if isinstance(error, (AttributeError, ImportError, RuntimeError)) and "MUJOCO_GL" in os.environ:
            raise UsageError(
                f"environment: {environment} cannot be made with MUJOCO_GL={os.environ['MUJOCO_GL']} ({error}). "
                f"Install libegl1 for egl or libosmesa6 for osmesa, or unset MUJOCO_GL."
            ) from error
        if not (where := place(error.__traceback__)):
            raise
        got = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"environment: {environment} cannot be made, got {got} ({where}). Correct it.") from error
