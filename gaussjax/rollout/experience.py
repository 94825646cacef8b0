"""Collecting experience: a policy run for some steps, to learn from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from gaussjax.rollout.host import Episodes, Runner

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Rollout(NamedTuple):
    """Time-major experience of `N` environments over `T` steps, as arrays of NumPy or of JAX.

    Attributes:
        observations: What the policy saw, `(T, N, F)`.
        raw_actions: What it sampled, before any clip or squash, `(T, N, A)`.
        actions: What the environments were given, flat, `(T, N, A)`.
        rewards: `(T, N)`.
        terminated: The episode ended at this step: no value follows.
        truncated: The episode was cut at this step: a value follows, that of its last observation.
        next_observations: What followed, `(T, N, F)`: at the end of an episode its true last
            observation, not the first of the next.
        resets: Whether the observation starts an episode, `(T, N)`.
        carries: Of the policy's memory before each step and after the last, `T + 1` first; or `()`.
    """

    observations: Float[Any, "time envs features"]
    raw_actions: Float[Any, "time envs act"]
    actions: Float[Any, "time envs act"]
    rewards: Float[Any, "time envs"]
    terminated: Bool[Any, "time envs"]
    truncated: Bool[Any, "time envs"]
    next_observations: Float[Any, "time envs features"]
    resets: Bool[Any, "time envs"]
    carries: Any


def collect(
    runner: Runner,
    act: Callable[[int, np.ndarray, np.ndarray, Any], tuple[Any, Any, Any]],
    observations: np.ndarray,
    resets: np.ndarray,
    carry: Any,
    num_steps: int,
) -> tuple[Rollout, tuple[np.ndarray, np.ndarray, Any], Episodes]:
    """Runs a policy for some steps.

    Args:
        runner: The environments.
        act: `(t, observations, resets, carry) -> (actions, raw_actions, carry)`, called once a step.
        observations: Where the environments stand, `(N, F)`.
        resets: Which of them start an episode, `(N,)`.
        carry: Of the policy's memory, or `()`.
        num_steps: Steps of each environment.

    Returns:
        The experience; observations, resets and carry to go on from; and the finished episodes.

    Example:
        >>> from gaussjax import envs
        >>> runner = Runner(envs.make_vector("Pendulum-v1", 2))
        >>> def act(t, observations, resets, carry):
        ...     return np.zeros((2, 1)), np.zeros((2, 1)), carry
        >>> experience, following, finished = collect(runner, act, runner.reset(seed=0), np.ones(2, bool), (), 3)
        >>> experience.observations.shape, experience.rewards.shape
        ((3, 2, 3), (3, 2))
        >>> runner.environments.close()
    """
    columns: list[list[np.ndarray]] = [[] for _ in Rollout._fields[:-1]]
    carries = [carry]
    finished = Episodes([], [])
    for t in range(num_steps):
        actions, raw_actions, carry = act(t, observations, resets, carry)
        after = runner.step(np.asarray(actions))
        next_observations, rewards, terminated, truncated, last, episodes = after
        row = (
            observations,
            np.asarray(raw_actions),
            np.asarray(actions),
            rewards.astype(np.float32),
            terminated,
            truncated,
            last,
            resets,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        carries.append(carry)
        finished.returns.extend(episodes.returns)
        finished.lengths.extend(episodes.lengths)
        observations, resets = next_observations, terminated | truncated
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *carries)
    experience = Rollout(*[np.stack(column) for column in columns], carries=stacked)
    return experience, (observations, resets, carry), finished
