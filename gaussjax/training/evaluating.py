"""Evaluation of the policy with deterministic actions, within the steps of a training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import envs, normalize, rollout
from gaussjax.core.compiled import anywhere, count, where
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.random import keys
from gaussjax.rollout.compiled import first_episodes
from gaussjax.training.algorithm import Algorithm


def evaluating(
    algorithm: Algorithm,
    environment: str | envs.Environment,
    *,
    every: int,
    episodes: int = 20,
    seed: int = 0,
    max_steps: int = 10_000,
    timeout: float | None = None,
    environment_options: Mapping[str, Any] | None = None,
) -> Algorithm:
    """A training loop that also evaluates its policy from time to time, with deterministic actions.

    The training itself is unchanged: an evaluation has environments and random numbers of its own. All evaluations
    start from the same first states.

    Args:
        algorithm: A loop of PPO, SAC or cloning.
        environment: A JAX environment, or a name as for `envs.make`. On a JAX environment `step` stays a pure function,
            for `jax.jit`, `jax.lax.scan`, and `jax.vmap` over seeds.
        every: Number of steps of the loop between two evaluations, such as PPO's updates.
        episodes: Number of whole episodes of an evaluation.
        seed: Random seed of the evaluations.
        max_steps: Environment steps after which an episode is cut.
        timeout: Longest time for one step of all environments on the host in seconds, or None for no limit.
        environment_options: Options for `envs.make`.

    Returns:
        A loop whose metrics have `evaluation_return` and `evaluation_length`, means over the episodes. Both are 0 in
        steps without an evaluation; the command line writes NaN for them.

    Raises:
        TypeError: `every` or `episodes` is not an integer.
        ValueError: `every` or `episodes` is below 1.

    Example:
        >>> from gaussjax.training import ppo
        >>> pendulum = envs.make_functional("Pendulum-v1")
        >>> config = ppo.Config(num_envs=2, num_steps=8, batch_size=8, num_epochs=1, hidden_sizes=(8,))
        >>> loop = evaluating(ppo.make(pendulum, config), pendulum, every=2, episodes=4)
        >>> states, metrics = jax.lax.scan(lambda state, _: loop.step(state), loop.init(jax.random.key(0)), length=4)
        >>> metrics["evaluation_length"].tolist()
        [0.0, 200.0, 0.0, 200.0]
    """
    count(every, "every")
    count(episodes, "episodes")
    numbers = episodes, seed, max_steps
    if isinstance(environment, envs.Environment):
        evaluate = _compiled(algorithm, environment, every, *numbers)
    else:
        evaluate = _on_host(algorithm, environment, every, *numbers, timeout, environment_options)

    def step(state: Any) -> tuple[Any, dict[str, Any]]:
        before = state.steps
        state, metrics = algorithm.step(state)
        statistics = state.observation_statistics if algorithm.normalizes else None
        return state, {**metrics, **evaluate(state.params, statistics, before, state.steps)}

    return algorithm._replace(step=step)


def _compiled(
    algorithm: Algorithm, environment: envs.Environment, every: int, episodes: int, seed: int, max_steps: int
) -> Callable[..., dict[str, Any]]:
    policy = algorithm.policy

    @jax.jit
    def evaluate(params: Any, statistics: Any, before: Any, after: Any) -> dict[str, Any]:
        def play() -> dict[str, Any]:
            preprocess = partial(normalize.apply, statistics_for(policy, statistics))
            arguments = environment, policy, params, keys.from_seed(seed), preprocess, episodes, max_steps, True
            returns, lengths, *_ = first_episodes(*arguments)
            means = jnp.mean(returns), jnp.mean(lengths, dtype=returns.dtype)
            return dict(zip(("evaluation_return", "evaluation_length"), means, strict=True))

        # At its largest number the counter of environment steps stays.
        due = after // jnp.maximum(after - before, 1) % every == 0
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(play))
        # Both branches need the flag's type inside `jax.shard_map`, where constants have another one.
        none = where(due, zeros, zeros)
        return jax.lax.cond(anywhere(due), lambda: where(due, play(), none), lambda: none)

    return evaluate


def _on_host(
    algorithm: Algorithm,
    environment: str,
    every: int,
    episodes: int,
    seed: int,
    max_steps: int,
    timeout: float | None,
    environment_options: Mapping[str, Any] | None,
) -> Callable[..., dict[str, Any]]:
    def evaluate(params: Any, statistics: Any, before: Any, after: Any) -> dict[str, Any]:
        means = 0.0, 0.0
        if int(after) // max(int(after) - int(before), 1) % every == 0:
            params, statistics = jax.device_get((params, statistics))
            options = {"episodes": episodes, "seed": seed, "max_steps": max_steps, "timeout": timeout}
            options |= {"normalizer": statistics, "environment_options": environment_options}
            found = rollout.evaluate(algorithm.policy, params, environment, **options)
            means = float(np.mean(found.returns)), float(np.mean(found.lengths))
        return dict(zip(("evaluation_return", "evaluation_length"), means, strict=True))

    return evaluate
