"""Rollouts of a policy in Gymnasium vector environments, with statistics of the episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial, reduce
from operator import getitem
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from gaussjax import spaces
from gaussjax.core.arrays import inwards, wrong_last_axis
from gaussjax.core.compiled import count
from gaussjax.envs import snapshot
from gaussjax.envs.guard import check_finite, guarded, wrong_number, wrong_shape
from gaussjax.rollout.smoothness import Smoothness
from gaussjax.spaces.arrays import boxes, check_cast, storage
from gaussjax.spaces.rounding import RoundingCheck

if TYPE_CHECKING:
    import gymnasium


class EpisodeStatistics(NamedTuple):
    """Return and length of each of several episodes.

    Attributes:
        returns: Sum of the rewards of each episode.
        lengths: Environment steps of each episode.
        cut: Number of episodes that were stopped before their end.
        smoothness: Smoothness of the actions, if these were evaluated.
    """

    returns: list[float]
    lengths: list[int]
    cut: int = 0
    smoothness: Smoothness | None = None


class Rollout(NamedTuple):
    """Time-major experience of `N` environments over `T` steps, as arrays of NumPy or JAX.

    Attributes:
        observations: Observations before each step, `(T, N, …)` in each part of the space.
        raw_actions: Samples before any clip or squash, `(T, N, A)`.
        actions: Flat actions that the environments got, clipped to the Box, `(T, N, A)`.
        rewards: Rewards, `(T, N)`.
        terminated: Flags of steps after which the episode ended by itself, `(T, N)`.
        truncated: Flags of steps after which the episode was cut, `(T, N)`.
        next_observations: Observations after each step and before any reset, like `observations`.
        resets: Flags of observations that start an episode, `(T, N)`.
        carries: Carries before each step and after the last, such as recurrent states, each leaf `(T + 1, …)`; or `()`.
    """

    observations: Any
    raw_actions: Float[Any, "time envs act"]
    actions: Float[Any, "time envs act"]
    rewards: Float[Any, "time envs"]
    terminated: Bool[Any, "time envs"]
    truncated: Bool[Any, "time envs"]
    next_observations: Any
    resets: Bool[Any, "time envs"]
    carries: Any


class Act(Protocol):
    """Type of the function that chooses the actions of all environments for `collect`."""

    def __call__(self, t: int, observations: Any, resets: np.ndarray, carry: Any, /) -> tuple[Any, Any, Any]:
        """Returns `(actions, raw_actions, carry)` for step `t` of the rollout."""
        ...


class Runner:
    """A vector environment with the returns and lengths of its running episodes; its methods change it in place.

    Both `reset` and `step` raise FloatingPointError for an observation or reward that is NaN, infinite or beyond
    float32. They raise EnvironmentStepError if an environment raises, tries to exit the program, does not answer in
    time, or returns a number that an integer dtype of its space cannot hold.

    Args:
        environments: Vector environment with the autoreset mode SAME_STEP.

    Attributes:
        observations: Shape and dtype of one observation, nested like the space: float32, uint8 for a Box of this dtype,
            and int32 for discrete parts.
        timeout: Longest time for one step of all environments in seconds, or None for no limit.

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
        if not hasattr(environments, "single_observation_space"):
            raise TypeError(
                f"environments: expected a Gymnasium vector environment, got {type(environments).__name__}. Make them "
                f"with gaussjax.envs.make_vector."
            )
        mode = environments.metadata.get("autoreset_mode")
        if getattr(mode, "name", mode) != "SAME_STEP":
            raise ValueError(
                f"environments: expected the autoreset mode SAME_STEP, got {mode}. Make them with "
                f"gaussjax.envs.make_vector, or pass autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP."
            )
        self.environments = environments
        self.observations = storage(environments.single_observation_space)
        # A wrapper of vector environments may change the observations.
        self._base = getattr(environments, "unwrapped", environments)
        parts = list(boxes(spaces.as_space(self._base.single_observation_space)))
        self._integers = [(path, dtype) for path, dtype in parts if dtype.kind in "iu"]
        parts = boxes(spaces.as_space(environments.single_observation_space))
        self._rounding = [RoundingCheck(path) for path, dtype in parts if dtype.itemsize == 8]
        actions = spaces.as_space(environments.single_action_space)
        self._bounds = spaces.bounds(actions) if isinstance(actions, spaces.Box) else None
        self._dtype = getattr(actions, "dtype", "float32")
        self.timeout: float | None = None
        self._returns = np.zeros(environments.num_envs)
        self._lengths = np.zeros(environments.num_envs, np.int64)
        self._steps = 0

    def reset(self, seed: int) -> Any:
        """Starts a new episode in every environment and returns the first observations, `(N, …)` in each part.

        Args:
            seed: Random seed of the first environment; environment i has the seed `seed + i`.
        """
        with guarded(self.environments, "reset", self.timeout):
            observations, _ = self.environments.reset(seed=seed)
            observations = self._array(observations, "reset")
        self._returns[:], self._lengths[:], self._steps = 0.0, 0, 0
        check_finite(self.environments, observations, "reset")
        return observations

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """Returns the actions that the environments get: flat actions `(N, A)`, clipped to the Box in their dtype.

        They are rounded to numbers of the dtype of the Box, for an integer Box to the nearest integers.
        """
        return np.asarray(actions) if self._bounds is None else in_dtype(clipped(*self._bounds, actions), self._dtype)

    def step(
        self, actions: np.ndarray, *, clip: bool = True
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Any, EpisodeStatistics]:
        """Steps every environment once.

        Args:
            actions: Flat actions, `(N, A)`; the environments get them in the dtype of the Box.
            clip: False for actions that the method `clip` returned.

        Returns:
            Observations to act on next, rewards, terminated, truncated, observations after this step and before any
            reset, and the episodes that finished.

        Raises:
            ValueError: An action is a number that the integer dtype of the action space cannot hold, such as NaN.
        """
        space: Any = self.environments.action_space
        actions = np.asarray(self.clip(actions) if clip else actions).reshape(space.shape)
        check_cast(actions, space.dtype, _wrong_action)
        actions = actions.astype(space.dtype)
        self._steps += 1
        when = f"step {self._steps}"
        with guarded(self.environments, when, self.timeout):
            raw, rewards, terminated, truncated, info = self.environments.step(actions)
            observations, done = self._array(raw, when), terminated | truncated
            ended = np.flatnonzero(done).tolist() if done.any() else []
            last = jax.tree.map(np.copy, observations) if ended else observations
            for i in ended:
                self._check_integers(info["final_obs"][i], when, i)
                one = copied(info["final_obs"][i], self.observations, partial(wrong_number, self.environments, i, when))
                self._check_shapes(one, when, i)
                _put(last, i, one)
        check_finite(self.environments, observations, when)
        check_finite(self.environments, rewards, when, "reward")
        for check in self._rounding:
            check.add(raw, self._steps)
        self._returns += rewards
        self._lengths += 1
        episodes = EpisodeStatistics([], [])
        if ended:
            episodes = EpisodeStatistics(self._returns[done].tolist(), self._lengths[done].tolist())
            check_finite(self.environments, last, when)
            self._returns[done], self._lengths[done] = 0.0, 0
        return observations, rewards, terminated, truncated, last, episodes

    def capture(self) -> dict[str, Any]:
        """JSON-able state of the environments and of their running episodes; may raise snapshot.UnsavableError."""
        running = {"returns": self._returns.tolist(), "lengths": self._lengths.tolist(), "steps": self._steps}
        return {**running, "environments": snapshot.capture(self.environments)}

    def restore(self, captured: dict[str, Any]) -> None:
        """Restores the environments and their running episodes from `captured`, a result of `capture`."""
        snapshot.restore(self.environments, captured["environments"])
        self._returns[:], self._lengths[:], self._steps = captured["returns"], captured["lengths"], captured["steps"]

    def _array(self, observations: Any, when: str) -> Any:
        arrays = copied(observations, self.observations, partial(wrong_number, self.environments, None, when))
        self._check_shapes(arrays, when, None)
        for i, one in enumerate(getattr(self._base, "_env_obs", ()) if self._integers else ()):
            self._check_integers(one, when, i)
        return arrays

    def _check_integers(self, observation: Any, when: str, index: int) -> None:
        """Raises an error for a number of one environment that Gymnasium wraps or cuts when it joins them."""
        for path, dtype in self._integers:
            array = np.asarray(reduce(getitem, path, observation))
            check_cast(array, dtype, partial(wrong_number, self.environments, index, when))

    def _check_shapes(self, observations: Any, when: str, index: int | None) -> None:
        """Raises an error unless one observation, or one of each environment, has the shapes of the space."""
        for array, stored in _pairs(observations, self.observations):
            if index is None and len(array) != self.environments.num_envs:
                raise ValueError(f"{len(array)} observations, not one for each of {self.environments.num_envs}")
            shape = array.shape[1:] if index is None else array.shape
            if shape != stored.shape:
                raise wrong_shape(self.environments, index, stored.shape, shape, when)


def clipped(low: np.ndarray, high: np.ndarray, actions: Any) -> np.ndarray:
    """Flat actions, clipped to bounds in their own dtype."""
    actions = np.asarray(actions)
    actions = actions if actions.dtype.kind == "f" else actions.astype(np.float64)
    low, high = _filled(low.tobytes(), high.tobytes(), actions.dtype, actions.shape)
    return np.minimum(np.maximum(actions, low), high)


# NumPy takes three times as long to clip with bounds that it has to broadcast, and with np.clip (8 × 6 actions, 2.4).
@lru_cache(16)
def _filled(low: bytes, high: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Bounds of a Box in the dtype and the shape of the actions."""
    sides = inwards(np.frombuffer(low), np.frombuffer(high), dtype)
    if shape[-1:] != sides[0].shape:
        raise wrong_last_axis(shape, len(sides[0]))
    return [np.full(shape, side, dtype) for side in sides]


def in_dtype(actions: Any, dtype: str) -> Any:
    """Actions of NumPy or JAX rounded to numbers of the dtype of their Box, to the nearest integers for integers."""
    kind = jnp.dtype(dtype)
    if kind.kind in "biu":
        return actions.round()
    if kind.itemsize >= actions.dtype.itemsize:
        return actions
    if isinstance(actions, jax.Array):
        # XLA may leave out a conversion to a narrower dtype and back.
        return jax.lax.reduce_precision(actions, jnp.finfo(kind).nexp, jnp.finfo(kind).nmant)
    return actions.astype(kind).astype(actions.dtype)


def copied(observations: Any, stored: Any, wrong: Callable[[Any, Any], Exception]) -> Any:
    """Copies observations of Gymnasium, in the dtypes in which they are kept.

    Args:
        observations: Observations, nested like the space.
        stored: Shapes and dtypes in which they are kept.
        wrong: `(dtype, number) -> error` for a number that an integer dtype cannot hold.
    """
    if isinstance(stored, dict):
        return {name: copied(observations[name], part, wrong) for name, part in stored.items()}
    if isinstance(stored, tuple):
        return tuple(copied(one, part, wrong) for one, part in zip(observations, stored, strict=False))
    array = np.asarray(observations)
    check_cast(array, stored.dtype, wrong)
    return array.astype(stored.dtype)


def _wrong_action(dtype: Any, number: Any) -> Exception:
    return ValueError(
        f"actions: expected {dtype} numbers as in the action space, got {number}. Round them, and check the policy if "
        f"they are NaN."
    )


def _pairs(observations: Any, stored: Any) -> Iterator[tuple[np.ndarray, Any]]:
    """Each array with the shape and dtype in which it is kept."""
    if isinstance(stored, (dict, tuple)):
        for name in stored if isinstance(stored, dict) else range(len(stored)):
            yield from _pairs(observations[name], stored[name])
    else:
        yield observations, stored


def _put(observations: Any, i: int, one: Any) -> None:
    """Replaces observation `i`, in place."""
    if isinstance(observations, np.ndarray):
        observations[i] = one
        return
    for name, part in observations.items() if isinstance(observations, dict) else enumerate(observations):
        _put(part, i, one[name])


def collect(
    runner: Runner, act: Act, observations: Any, resets: np.ndarray, carry: Any, num_steps: int
) -> tuple[Rollout, tuple[Any, np.ndarray, Any], EpisodeStatistics]:
    """Runs a policy for `num_steps` steps in each environment and returns the experience.

    Args:
        runner: The environments.
        act: `(t, observations, resets, carry) -> (actions, raw_actions, carry)`, called once a step. It draws its noise
            itself; `docs/exploration.md` has one with noise that lasts, whose carry is the state of the noise.
        observations: Observations to act on first, `(N, …)` in each part.
        resets: Flags of observations that start an episode, `(N,)`.
        carry: Recurrent state of the policy, state of noise that lasts, or `()`.
        num_steps: Steps of each environment.

    Returns:
        The experience; `(observations, resets, carry)` for the next call; and the finished episodes.

    Raises:
        ValueError: `num_steps` is below 1.
        TypeError: `num_steps` is not an integer.

    Example:
        >>> from gaussjax import envs
        >>> runner = Runner(envs.make_vector("Pendulum-v1", 2))
        >>> def act(t, observations, resets, carry):
        ...     return np.zeros((2, 1)), np.zeros((2, 1)), carry
        >>> experience, state, finished = collect(runner, act, runner.reset(seed=0), np.ones(2, bool), (), 3)
        >>> experience.observations.shape, experience.rewards.shape
        ((3, 2, 3), (3, 2))
        >>> runner.environments.close()
    """
    count(num_steps, "num_steps")
    rows: list[tuple[Any, ...]] = []
    carries, finished = [carry], EpisodeStatistics([], [])
    for t in range(num_steps):
        actions, raw_actions, carry = act(t, observations, resets, carry)
        actions, raw_actions = runner.clip(actions), np.asarray(raw_actions)
        next_observations, rewards, terminated, truncated, last, episodes = runner.step(actions, clip=False)
        rewards = rewards.astype(np.float32)
        rows.append((observations, raw_actions, actions, rewards, terminated, truncated, last, resets))
        carries.append(carry)
        finished.returns.extend(episodes.returns)
        finished.lengths.extend(episodes.lengths)
        observations, resets = next_observations, terminated | truncated
    columns, carries = (jax.tree.map(lambda *leaves: np.stack(leaves), *parts) for parts in (rows, carries))
    experience = Rollout(*columns, carries=carries)
    return experience, (observations, resets, carry), finished
