"""Vector environments of Gymnasium, stepped with an account of their episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gaussjax.envs import snapshot
from gaussjax.envs.guard import guarded

if TYPE_CHECKING:
    import gymnasium


class Episodes(NamedTuple):
    """Finished episodes.

    Attributes:
        returns: Sum of the rewards of each.
        lengths: Environment steps of each.
        cut: How many of them had not ended by themselves.
    """

    returns: list[float]
    lengths: list[int]
    cut: int = 0


class Runner:
    """Steps a vector environment and keeps account of its episodes.

    The environments are Python objects with a state of their own, so this is the one place
    that is not a pure function.

    Example:
        >>> from gaussjax import envs
        >>> runner = Runner(envs.make_vector("Pendulum-v1", 2))
        >>> runner.reset(seed=0).shape
        (2, 3)
        >>> observations, rewards, terminated, truncated, last, episodes = runner.step(np.zeros((2, 1)))
        >>> rewards.shape, episodes.returns
        ((2,), [])
        >>> runner.environments.close()
    """

    def __init__(self, environments: gymnasium.vector.VectorEnv):
        _refuse_other_autoreset(environments)
        self.environments = environments
        self.timeout: float | None = None
        """Seconds that one step of all environments may take; None is no limit."""
        self._action_shape = environments.action_space.shape
        self._action_dtype = environments.action_space.dtype
        self._returns = np.zeros(environments.num_envs)
        self._lengths = np.zeros(environments.num_envs, np.int64)
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        """Starts all environments anew and returns their first observations, `(N, F)`.

        Args:
            seed: Of the first environment; the next ones count up.

        Raises:
            FloatingPointError: An observation is NaN or infinite.
            EnvironmentStepError: An environment raised, tried to end the program, or hung.
        """
        with guarded(self.environments, "reset", self.timeout):
            observations, _ = self.environments.reset(seed=seed)
        self._returns[:], self._lengths[:], self._steps = 0.0, 0, 0
        return self._checked(np.array(observations, np.float32), "reset")

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Episodes]:
        """One step of every environment.

        Args:
            actions: Flat actions, `(N, A)`.

        Returns:
            The observations to act on next, rewards, terminated, truncated, the observations that
            ended this step, and the episodes that finished.

        Raises:
            FloatingPointError: An observation or a reward is NaN or infinite.
            EnvironmentStepError: An environment raised, tried to end the program, or hung.
        """
        actions = np.asarray(actions, self._action_dtype).reshape(self._action_shape)
        self._steps += 1
        with guarded(self.environments, f"step {self._steps}", self.timeout):
            observations, rewards, terminated, truncated, info = self.environments.step(actions)
        observations = self._checked(np.array(observations, np.float32), f"step {self._steps}")
        self._checked(rewards, f"step {self._steps}", "reward")
        last = observations
        self._returns += rewards
        self._lengths += 1
        done = terminated | truncated
        episodes = Episodes([], [])
        if done.any():
            last = observations.copy()
            for i in np.flatnonzero(done):
                last[i] = info["final_obs"][i]
                episodes.returns.append(float(self._returns[i]))
                episodes.lengths.append(int(self._lengths[i]))
            self._checked(last, f"step {self._steps}")
            self._returns[done], self._lengths[done] = 0.0, 0
        return observations, rewards, terminated, truncated, last, episodes

    def capture(self) -> dict[str, Any]:
        """Where the environments stand and the account of their episodes, as plain data.

        Raises:
            snapshot.UnsavableError: gaussjax does not know how to read these environments.
        """
        account = {"returns": self._returns.tolist(), "lengths": self._lengths.tolist(), "steps": self._steps}
        return {**account, "environments": snapshot.capture(self.environments)}

    def restore(self, captured: dict[str, Any]) -> None:
        """Puts all back as `capture` found it.

        Args:
            captured: What `capture` gave.
        """
        snapshot.restore(self.environments, captured["environments"])
        self._returns[:], self._lengths[:] = captured["returns"], captured["lengths"]
        self._steps = captured["steps"]

    def _checked(self, values: np.ndarray, when: str, what: str = "observation") -> np.ndarray:
        if not np.isfinite(values).all():
            finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            index = int(np.flatnonzero(~finite)[0])
            raise FloatingPointError(
                f"environment {index}: expected a finite {what} at {when}, got {values[index]} "
                f"({int((~finite).sum())} of {len(values)} environments). The environment has diverged; "
                f"check its actions, rewards and time step."
            )
        return values


def _refuse_other_autoreset(environments: gymnasium.vector.VectorEnv) -> None:
    mode = environments.metadata.get("autoreset_mode")
    if getattr(mode, "name", mode) != "SAME_STEP":
        raise ValueError(
            f"environments: expected the autoreset mode SAME_STEP, got {mode}. Make them with "
            f"gaussjax.envs.make_vector, or pass autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP."
        )
