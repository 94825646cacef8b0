"""Evaluation: whole episodes of a policy in environments of Gymnasium or of JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import envs, normalize, spaces
from gaussjax.core.compiled import count, flag, number
from gaussjax.envs.guard import closing
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.rollout.compiled import first_episodes
from gaussjax.rollout.host import EpisodeStatistics, Runner
from gaussjax.rollout.smoothness import smoothness

if TYPE_CHECKING:
    import gymnasium

# Steps at the start of each episode whose actions enter the smoothness.
_RECORDED = 1000


def evaluate(
    policy: Policy,
    params: Params,
    environment: str | envs.Environment,
    *,
    normalizer: normalize.Normalizer = None,
    episodes: int = 20,
    seed: int = 0,
    deterministic: bool = True,
    exploration: Any = None,
    max_steps: int | None = None,
    timeout: float | None = None,
    on_step: Callable[[gymnasium.Env], None] | None = None,
    environment_options: Mapping[str, Any] | None = None,
) -> EpisodeStatistics:
    """Return and length of each of several whole episodes; each episode has an environment of its own.

    Args:
        policy: The policy.
        params: Parameters of the policy.
        environment: Name as for `envs.make`, or a JAX environment.
        normalizer: Observation statistics of the training, or None. They do not change pixels that the network scales.
        episodes: Number of episodes.
        seed: Random seed of the actions; the environment of episode i has the seed `seed + i`. A JAX environment is
            reset with keys from this seed.
        deterministic: True for deterministic actions.
        exploration: A `gaussjax.exploration.Exploration`, the source of the noise of sampled actions. None for white
            noise.
        max_steps: Environment steps after which an episode is cut, or None for no limit.
        timeout: Longest time for one step of all environments in seconds, or None for no limit.
        on_step: Function for environments of Gymnasium, called with the first one, which has
            `render_mode="rgb_array"`: after the reset, and after each step of its first episode except the last step,
            which resets the environment.
        environment_options: Options for `envs.make`.

    Returns:
        Return and length of each episode, the number of episodes that were cut, and the smoothness of the actions that
        the environments got in the first 1000 steps of each episode.

    Raises:
        FloatingPointError: An observation or a reward is NaN, infinite or beyond float32.
        EnvironmentStepError: An environment raised, tried to exit the program, hung, or returned a wrong shape or
            integer.
        ValueError: `episodes` is below 1, `seed` not from 0 to 2**63 - 1, `timeout` not above 0, or there is an
            `exploration` for deterministic actions.
        TypeError: `episodes` or `seed` is not an integer, or `timeout` not a number.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> evaluate(policy, policy.init(jax.random.key(0)), "Pendulum-v1", episodes=2).lengths
        [200, 200]
    """
    checks.policy(policy)
    if not isinstance(environment, (str, envs.Environment)):
        raise TypeError(
            f"environment: expected a name such as 'Pendulum-v1' or a gaussjax.envs.Environment, got "
            f"{type(environment).__name__}. evaluate makes an environment of Gymnasium for each episode, from the name."
        )
    sampling = checked_sampling(episodes, seed, timeout, deterministic, exploration)
    if not isinstance(environment, envs.Environment):
        options = {**({} if on_step is None else {"render_mode": "rgb_array"}), **(environment_options or {})}
        environment = envs.make(environment, num_envs=episodes, **options)
    if isinstance(environment, envs.Environment):
        return _compiled(policy, params, environment, normalizer, episodes, seed, sampling, max_steps)
    environments: Any = environment
    runner = Runner(environments)
    runner.timeout = timeout
    act = acting(policy, params, normalizer, environments.single_observation_space, episodes, seed, sampling)
    returns, lengths, running, recorded = np.zeros(episodes), np.zeros(episodes, int), np.ones(episodes, bool), []
    with closing(environments, timeout):
        for step in first_steps(runner, act, episodes, seed, max_steps, on_step):
            if len(recorded) < _RECORDED:
                recorded.append(step.actions)
            returns[running] += step.rewards[running]
            lengths[running] += 1
            running &= ~(step.terminated | step.truncated)
    return _episodes(policy, returns, lengths, running, np.stack(recorded))


def checked_sampling(episodes: Any, seed: Any, timeout: Any, deterministic: bool, exploration: Any) -> tuple[bool, Any]:
    """`deterministic` and the source of noise; raises for options that `evaluate` refuses."""
    count(episodes, "episodes")
    if count(seed, "seed", 0) >= 2**63:
        raise ValueError(f"seed: expected less than 2**63, got {seed}. Choose a smaller number.")
    if timeout is not None and not number(timeout, "timeout") > 0.0:
        raise ValueError(f"timeout: expected a number of seconds above 0, got {timeout}. None sets no limit.")
    checks.exploration(exploration)
    deterministic = flag(deterministic, "deterministic")
    if exploration is not None and deterministic:
        raise ValueError("exploration: expected None for deterministic actions. Set deterministic=False to sample.")
    return deterministic, exploration


class Step(NamedTuple):
    """One step of several environments, each array `(N, …)`.

    Attributes:
        observations: Observations before the step.
        actions: Flat actions that the environments got.
        rewards: Rewards.
        terminated: Flags of episodes that ended by themselves.
        truncated: Flags of episodes that were cut.
        last: Observations after the step and before any reset.
    """

    observations: Any
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last: Any


def first_steps(
    runner: Any,
    act: Callable[[int, Any], Any],
    episodes: int,
    seed: int,
    max_steps: int | None,
    on_step: Callable[[Any], None] | None = None,
) -> Iterator[Step]:
    """Yields each step of the first episodes of the environments of a runner, until the last of them ends.

    Args:
        runner: The environments.
        act: `(number of the step, observations) -> actions`.
        episodes: Number of environments.
        seed: Random seed of the first environment.
        max_steps: Environment steps after which an episode is cut, or None.
        on_step: As for `evaluate`.
    """
    observations, running, steps = runner.reset(seed), np.ones(episodes, bool), 0
    while running.any() and (max_steps is None or steps < max_steps):
        if on_step is not None and running[0]:
            on_step(runner.environments.envs[0])
        actions = runner.clip(np.asarray(act(steps, observations)))
        following, rewards, terminated, truncated, last, _ = runner.step(actions, clip=False)
        yield Step(observations, actions, rewards, terminated, truncated, last)
        observations, steps = following, steps + 1
        running &= ~(terminated | truncated)


def acting(
    policy: Policy,
    params: Params,
    normalizer: normalize.Normalizer,
    observation_space: Any,
    episodes: int,
    seed: int,
    sampling: tuple[bool, Any],
) -> Callable[[int, Any], Any]:
    """Actions of a policy in first episodes, as a function `(number of the step, observations) -> actions`."""
    space = spaces.as_space(observation_space)
    try:
        program = _actions(policy, space, *sampling)
    except TypeError:
        # A network with a list as a field has no hash.
        program = _actions.__wrapped__(policy, space, *sampling)
    normalizer, key = statistics_for(policy, normalizer), keys.from_seed(seed)
    carry = policy.initial_carry((episodes,))
    carry, lasting = carry if jax.tree.leaves(carry) else None, ()
    if sampling[1] is not None and sampling[1].lasts:
        # The first step is a reset, which draws new noise.
        lasting = sampling[1].init(jax.random.key(0), (episodes,))

    def act(steps: int, observations: Any) -> Any:
        nonlocal carry, lasting
        step_key = jax.random.fold_in(key, steps)
        actions, carry, lasting = program(params, normalizer, step_key, observations, carry, lasting, steps == 0)
        return actions

    return act


def _episodes(
    policy: Policy, returns: np.ndarray, lengths: np.ndarray, running: np.ndarray, actions: Any
) -> EpisodeStatistics:
    measured = smoothness(actions, np.minimum(lengths, len(actions)).tolist(), policy.spec.action_space)
    return EpisodeStatistics(returns.tolist(), lengths.tolist(), int(running.sum()), measured)


# Kept, because a training may evaluate its policy many times.
@functools.lru_cache(16)
def _actions(policy: Policy, space: spaces.Space, deterministic: bool, exploration: Any) -> Callable[..., Any]:
    # A policy may have been trained on flat vectors of observations that are no array.
    flat = not isinstance(space, spaces.Box) and isinstance(policy.spec.observation_space, spaces.Box)

    @jax.jit
    def act(
        params: Params,
        normalizer: normalize.Normalizer,
        key: Any,
        observations: Any,
        carry: Any,
        lasting: Any,
        first: Any,
    ) -> tuple[jax.Array, Any, Any]:
        if flat:
            observations = spaces.flatten(space, observations)
        if normalizer is not None:
            observations = normalize.apply(normalizer, observations, name="observations")
        # The policy needs no resets, because only the first episode of each environment counts.
        noise = None
        if exploration is not None:
            rows = jnp.arange(jax.tree.leaves(observations)[0].shape[0])
            if exploration.lasts:
                lasting, noise = exploration.step_rows(lasting, key, jnp.full(rows.shape, first), rows)
            else:
                noise = exploration.draw(key, rows.shape)
            key = None
        output = policy.act(params, key, observations, deterministic=deterministic, carry=carry, noise=noise)
        return output.actions, output.outputs.get("carry"), lasting

    return act


def _compiled(
    policy: Policy,
    params: Params,
    environment: envs.Environment,
    normalizer: normalize.Normalizer,
    episodes: int,
    seed: int,
    sampling: tuple[bool, Any],
    max_steps: int | None,
) -> EpisodeStatistics:
    normalizer = statistics_for(policy, normalizer)

    @jax.jit
    def run(params: Params, normalizer: Any, key: jax.Array) -> Any:
        longest = np.iinfo(np.int32).max if max_steps is None else max_steps
        options = episodes, longest, *sampling, min(longest, _RECORDED)
        return first_episodes(environment, policy, params, key, partial(normalize.apply, normalizer), *options)

    returns, lengths, running, actions = map(np.asarray, run(params, normalizer, keys.from_seed(seed)))
    if not np.isfinite(returns).all():
        index = int(np.argmin(np.isfinite(returns)))
        raise FloatingPointError(f"environment {index}: expected finite rewards, got a return of {returns[index]}.")
    return _episodes(policy, returns, lengths, running, actions)
