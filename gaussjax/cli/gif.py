"""Recording of an episode as an animated GIF."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
from PIL import Image

from gaussjax.cli.errors import UsageError
from gaussjax.core import atomic_file

# Largest height and width of a GIF in pixels, and its highest frame rate in pictures a second.
SIZE, RATE = 320, 25


class Recorder:
    """Pictures of one environment, collected during an episode and then written as a GIF."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self._calls, self._every, self._milliseconds = 0, 1, 40

    def record(self, environment: Any) -> None:
        """Adds a picture of an environment made with `render_mode="rgb_array"`, or skips it to keep the frame rate."""
        if not self._calls:
            rate = environment.metadata.get("render_fps") or RATE
            self._every = max(1, round(rate / RATE))
            # A GIF stores the duration of a picture in hundredths of a second.
            self._milliseconds = max(2, round(100 * self._every / rate)) * 10
        if self._calls % self._every == 0:
            picture = Image.fromarray(_draw(environment))
            picture.thumbnail((SIZE, SIZE))
            self.pictures.append(np.asarray(picture))
        self._calls += 1

    def save(self, path: Path) -> None:
        """Writes the pictures as a GIF that repeats for ever."""
        options = {"extension": ".gif", "duration": self._milliseconds, "loop": 0}
        atomic_file.write(path, imageio.v3.imwrite("<bytes>", self.pictures, **options))


def _draw(environment: Any) -> Any:
    # Without these variables, pygame prints a greeting and looks for a window system.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    name = environment.spec.id if environment.spec else type(environment.unwrapped).__name__
    try:
        with _silence():
            picture = environment.render()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        hint = ""
        if "mujoco" in type(environment.unwrapped).__module__:
            hint = (
                " Without a display MuJoCo draws through EGL or OSMesa: install one (libegl1, or libosmesa6) and set "
                "the environment variable MUJOCO_GL to egl or osmesa."
            )
        raise UsageError(f"gif: {name} cannot be drawn ({reason}).{hint}") from error
    if picture is None:
        raise UsageError(f"gif: expected a picture of {name}, got none. It has no render mode rgb_array.")
    return picture


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppresses warnings of window libraries, and tracebacks from the finalizers of windows that failed to open."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
