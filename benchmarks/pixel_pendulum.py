"""Pendulum-v1 seen by a camera: the observation is a stack of the three latest frames, of 50 × 50 grey pixels.

The frames lack the arrow that Gymnasium draws for the latest action. A clone that sees it repeats its own actions.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

NAME = "PixelPendulum-v0"
_SIZE, _FRAMES = 50, 3


class PixelPendulum(gymnasium.Wrapper):
    """Replaces the observations of an environment by stacks of rendered frames, `(height, width, frames)`."""

    def __init__(self, environment: gymnasium.Env):
        super().__init__(environment)
        self.observation_space = gymnasium.spaces.Box(0, 255, (_SIZE, _SIZE, _FRAMES), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        self._stack = np.repeat(self._frame(), _FRAMES, axis=-1)
        return self._stack, info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self.env.step(action)
        self._stack = np.concatenate([self._stack[..., 1:], self._frame()], axis=-1)
        return self._stack, reward, terminated, truncated, info

    def _frame(self) -> np.ndarray:
        # Used by the drawing alone.
        self.env.last_u = None  # type: ignore[attr-defined]
        frame: Any = self.env.render()
        blocks = frame.reshape(_SIZE, frame.shape[0] // _SIZE, _SIZE, frame.shape[1] // _SIZE, 3)
        return blocks.mean(axis=(1, 3, 4)).astype(np.uint8)[..., None]


def make(**options: Any) -> gymnasium.Env:
    return PixelPendulum(gymnasium.make("Pendulum-v1", **{**options, "render_mode": "rgb_array"}).unwrapped)


gymnasium.register(NAME, entry_point=make, max_episode_steps=200)
