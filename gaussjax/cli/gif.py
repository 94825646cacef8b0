"""An episode as an animated picture."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Pictures are brought to at most this height and width, in pixels, and this rate, in frames a second.
SIZE, RATE = 320, 25


class DrawingError(RuntimeError):
    """An environment that cannot be drawn; what to install or set is said."""


class Recorder:
    """Keeps the pictures of one environment and writes them as a GIF.

    The pictures are reduced as they come: an episode of a thousand takes 100 MB at most.

    Example:
        >>> import gymnasium
        >>> environment = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
        >>> _ = environment.reset(seed=0)
        >>> recorder = Recorder()
        >>> recorder.watch(environment)
        >>> recorder.pictures[0].size
        (320, 320)
        >>> environment.close()
    """

    def __init__(self) -> None:
        self.pictures: list[Any] = []
        self._calls, self._every, self._milliseconds = 0, 1, 40

    def watch(self, environment: Any) -> None:
        """Takes a picture of an environment made with `render_mode="rgb_array"`, or passes one over.

        Raises:
            DrawingError: It cannot be drawn here.
        """
        if not self._calls:
            rate = environment.metadata.get("render_fps") or RATE
            self._every = max(1, round(rate / RATE))
            # A GIF counts hundredths of a second.
            self._milliseconds = max(2, round(100 * self._every / rate)) * 10
        if self._calls % self._every == 0:
            self.pictures.append(_reduced(_drawn(environment)))
        self._calls += 1

    def save(self, path: Path) -> None:
        """Writes the pictures, which then go round and round.

        Raises:
            OSError: The file cannot be written.
        """
        first, *others = self.pictures
        first.save(
            path, format="GIF", save_all=True, append_images=others, duration=self._milliseconds, loop=0, disposal=1
        )


def _drawn(environment: Any) -> Any:
    # pygame greets on standard output, and looks for a window system that it does not need.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    name = environment.spec.id if environment.spec else type(environment.unwrapped).__name__
    came, picture = "", None
    with _silenced():
        try:
            picture = environment.render()
        except Exception as error:
            came = " ".join(f"{type(error).__name__}: {error}".split())
    if came:
        raise DrawingError(f"gif: {name} cannot be drawn ({came.rstrip('.')}).{_repair(environment)}")
    if picture is None:
        raise DrawingError(f"gif: expected {name} to give a picture, got none. It has no render mode rgb_array.")
    return picture


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keeps the window libraries from adding warnings, and tracebacks of half-made windows, to our one line."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook


def _repair(environment: Any) -> str:
    if "mujoco" not in type(environment.unwrapped).__module__:
        return ""
    return (
        " Without a display MuJoCo draws through EGL or OSMesa: install one (libegl1, or libosmesa6) and set the "
        "environment variable MUJOCO_GL to egl or osmesa."
    )


def _reduced(picture: Any) -> Any:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((SIZE, SIZE))
    return image.quantize(256)
