"""Recording of whole episodes of a policy, or of uniform actions, in environments of Gymnasium or of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from gaussjax import envs, normalize, spaces
from gaussjax.core.text import quoted
from gaussjax.envs.guard import closing, wrong_number
from gaussjax.envs.protocol import checked_reset, checked_step
from gaussjax.policy import Params, Policy
from gaussjax.random import keys
from gaussjax.rollout.evaluate import acting, checked_sampling, first_steps
from gaussjax.rollout.host import Runner, clipped, copied, in_dtype
from gaussjax.spaces.arrays import storage, uniform_bounds


def record(
    policy: Policy | None,
    params: Params | None,
    environment: str | envs.Environment,
    *,
    normalizer: normalize.Normalizer = None,
    episodes: int = 20,
    seed: int = 0,
    deterministic: bool = True,
    exploration: Any = None,
    max_steps: int | None = None,
    timeout: float | None = None,
    environment_options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Observations, actions and rewards of several whole episodes; each episode has an environment of its own.

    Args:
        policy: The policy, or None for actions uniform in the Box of the environment.
        params: Parameters of the policy, or None.
        environment: Name as for `envs.make`, or a JAX environment.
        normalizer: Observation statistics of the training, or None. Recorded observations are not normalised.
        episodes: Number of episodes.
        seed: Random seed of the actions; the environment of episode i has the seed `seed + i`. A JAX environment is
            reset with keys from this seed.
        deterministic: True for deterministic actions.
        exploration: A `gaussjax.exploration.Exploration`, the source of the noise of sampled actions. None for white
            noise.
        max_steps: Environment steps after which an episode is cut, or None for no limit.
        timeout: Longest time for one step of all environments in seconds, or None for no limit.
        environment_options: Options for `envs.make`.

    Returns:
        A dict for each episode, as `gaussjax.data.read_dataset` takes them: `observations`, nested like the space, with
        the observation after the last action, `(T + 1, …)`; `actions`, `(T, …)`; `rewards`, `terminations` and
        `truncations`, `(T,)`. The last step of an episode that was cut is truncated.

    Raises:
        FloatingPointError: An observation or a reward is NaN, infinite or beyond float32.
        EnvironmentStepError: An environment raised, tried to exit the program, hung, or returned a wrong shape or
            integer.
        ValueError: An option has a value that `evaluate` refuses; or uniform actions have a Box with an infinite bound.
        TypeError: `episodes` or `seed` is not an integer, or `timeout` not a number.

    Example:
        >>> first, second = record(None, None, "Pendulum-v1", episodes=2)
        >>> first["observations"].shape, first["actions"].shape, bool(first["truncations"][-1])
        ((201, 3), (200, 1), True)
    """
    sampling = checked_sampling(episodes, seed, timeout, deterministic, exploration)
    if not isinstance(environment, envs.Environment):
        environment = envs.make(environment, num_envs=episodes, **(environment_options or {}))
    if isinstance(environment, envs.Environment):
        runner: Any = _compiled(environment, episodes)
        return _recorded(runner, environment, policy, params, normalizer, episodes, seed, sampling, max_steps)
    environments: Any = environment
    runner = Runner(environments)
    runner.timeout = timeout
    single = SimpleNamespace(
        observation_space=environments.single_observation_space, action_space=environments.single_action_space
    )
    with closing(environments, timeout):
        return _recorded(runner, single, policy, params, normalizer, episodes, seed, sampling, max_steps)


def _recorded(
    runner: Any,
    environment: Any,
    policy: Policy | None,
    params: Any,
    normalizer: Any,
    episodes: int,
    seed: int,
    sampling: tuple[bool, Any],
    max_steps: int | None,
) -> list[dict[str, Any]]:
    if policy is None:
        act = _uniform(environment.action_space, episodes, seed)
    else:
        act = acting(policy, params, normalizer, environment.observation_space, episodes, seed, sampling)
    steps = list(first_steps(runner, act, episodes, seed, max_steps))
    ends = np.stack([step.terminated | step.truncated for step in steps])
    lengths = np.where(ends.any(axis=0), ends.argmax(axis=0) + 1, len(steps))
    shape = spaces.as_space(environment.action_space).shape  # type: ignore[union-attr]
    found = []
    for i, length in enumerate(lengths.tolist()):
        rows = steps[:length]
        seen = [
            jax.tree.map(lambda leaf, i=i: leaf[i], each) for each in (*(s.observations for s in rows), rows[-1].last)
        ]
        terminations, truncations = (np.array([getattr(s, n)[i] for s in rows]) for n in ("terminated", "truncated"))
        truncations[-1] |= not terminations[-1]
        found.append({
            "observations": jax.tree.map(lambda *leaves: np.stack(leaves), *seen),
            "actions": np.stack([step.actions[i] for step in rows]).reshape(length, *shape),
            "rewards": np.array([step.rewards[i] for step in rows], np.float64),
            "terminations": terminations,
            "truncations": truncations,
        })  # fmt: skip
    return found


def _uniform(action_space: Any, episodes: int, seed: int) -> Any:
    """Uniform actions as a function `(number of the step, observations) -> actions`."""
    low, high = uniform_bounds(action_space)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ValueError(
            f"environment: expected a Box with finite bounds for uniform actions, got {quoted(action_space)}. Record a "
            f"policy instead."
        )
    generator = np.random.default_rng(seed)
    return lambda steps, observations: generator.uniform(low, high, (episodes, low.size))


def _compiled(environment: envs.Environment, episodes: int) -> Any:
    """Copies of a JAX environment with the functions of a `Runner` that first episodes need."""
    stored = storage(environment.observation_space)
    begin = jax.jit(jax.vmap(partial(checked_reset, environment)))
    follow = jax.jit(jax.vmap(partial(checked_step, environment)))
    state, observations, running = None, None, np.ones(episodes, bool)

    def kept(observations: Any, when: str) -> Any:
        return copied(observations, stored, partial(wrong_number, None, None, when))

    def reset(seed: int) -> Any:
        nonlocal state, observations
        state, observations = begin(jax.random.split(keys.from_seed(seed), episodes))
        return kept(observations, "reset")

    def step(actions: np.ndarray, clip: bool) -> tuple[Any, ...]:
        nonlocal state, observations, running
        stepped = follow(state, observations, actions)
        state, observations = stepped.state, stepped.observation
        after, rewards = kept(observations, "a step"), np.asarray(stepped.reward)
        for name, leaf in (("reward", rewards), *(("observation", leaf) for leaf in jax.tree.leaves(after))):
            broken = running & ~np.isfinite(leaf).reshape(episodes, -1).all(axis=1)
            if broken.any():
                index = int(np.argmax(broken))
                raise FloatingPointError(f"environment {index}: expected a finite {name}, got {leaf[index]}.")
        flags = np.asarray(stepped.terminated), np.asarray(stepped.truncated)
        running = running & ~(flags[0] | flags[1])
        return after, rewards, *flags, after, None

    box = spaces.action_box(environment.action_space)

    def clip(actions: np.ndarray) -> np.ndarray:
        return in_dtype(clipped(*spaces.bounds(box), actions.astype(np.float32)), box.dtype)

    return SimpleNamespace(reset=reset, step=step, clip=clip)
