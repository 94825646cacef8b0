"""Rollouts of a policy in JAX environments, inside a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Key

from gaussjax import envs, spaces
from gaussjax.core.arrays import exact_sum, like_actions
from gaussjax.core.compiled import anywhere, flag, varying
from gaussjax.envs.protocol import checked_reset, checked_step
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.rollout.host import Rollout, in_dtype
from gaussjax.rollout.resets import cached_starts, new_starts
from gaussjax.spaces.arrays import uniform_bounds

# Shorter rollouts, such as those of an evaluation, would draw cached states nearly as often as they use them.
_LONG = 16


class RolloutState(NamedTuple):
    """State of `N` copies of an environment between two rollouts.

    Attributes:
        environment_states: States of the copies; each leaf has a leading axis of length `N`.
        observations: Observations to act on next, `(N, …)` in each part of the space.
        resets: Flags of observations that start an episode, `(N,)`.
        carry: Recurrent state of the policy, or `()`.
        returns: Sums of the rewards of the running episodes, `(N,)`.
        lengths: Environment steps of the running episodes, `(N,)`.
        lost: What rounding has removed from `returns`, `(N,)`.
        first: First states and observations, for an environment whose episodes go back to these, or `()`.
        exploration: State of noise that lasts, or `()`.
    """

    environment_states: Any
    observations: Any
    resets: Bool[Array, " envs"]
    carry: Any
    returns: Float[Array, " envs"]
    lengths: Float[Array, " envs"]
    lost: Float[Array, " envs"]
    first: Any = ()
    exploration: Any = ()


class EpisodeSums(NamedTuple):
    """Number of finished episodes, and the sums of their returns and lengths, as arrays or numbers.

    Attributes:
        count: Number of episodes.
        returns: Sum of their returns.
        lengths: Sum of their lengths, in environment steps.
    """

    count: Float[Any, "*steps"]
    returns: Float[Any, "*steps"]
    lengths: Float[Any, "*steps"]


def start(
    environment: envs.Environment, policy: Policy, key: Key[Array, ""], num_envs: int, exploration: Any = None
) -> RolloutState:
    """State of `num_envs` copies of an environment, each at the start of an episode.

    Args:
        environment: One environment; it is vmapped.
        policy: The policy, whose recurrent state starts with zeros.
        key: PRNG key for the resets, consumed.
        num_envs: Number of copies.
        exploration: The source of noise for `collect`, or None.

    Returns:
        State for `collect`.

    Example:
        >>> import gaussjax
        >>> environment = envs.make_functional("Pendulum-v1")
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> start(environment, policy, jax.random.key(0), 4).observations.shape
        (4, 3)
    """
    _check(environment, policy, exploration)
    keys.check(key)
    lasting = ()
    if exploration is not None and exploration.lasts:
        key, noise_key = keys.split(key)
        lasting = exploration.init(noise_key, (num_envs,))
    states, observations = jax.vmap(partial(checked_reset, environment))(keys.split(key, num_envs))
    zeros = jnp.zeros(num_envs)
    resets = jnp.ones(num_envs, bool)
    first = (states, observations) if environment.resets == "first" else ()
    carry = policy.initial_carry((num_envs,))
    return RolloutState(states, observations, resets, carry, zeros, zeros, zeros, first, lasting)


def collect(
    environment: envs.Environment,
    policy: Policy,
    params: Params,
    preprocess: Callable[[Array], Array],
    state: RolloutState,
    key: Key[Array, ""],
    num_steps: int,
    *,
    deterministic: bool = False,
    uniform: Bool[Array, ""] | None = None,
    exploration: Any = None,
    mesh: Mesh | None = None,
) -> tuple[Rollout, RolloutState, EpisodeSums]:
    """Runs a policy for `num_steps` steps in all copies; a copy starts a new episode when its episode ends.

    The environment gets actions that are clipped to its Box in their dtype, and whole numbers for an integer Box.

    Args:
        environment: One environment; it is vmapped.
        policy: The policy.
        params: Parameters of the policy.
        preprocess: Function applied to observations before the policy, such as a normalization.
        state: State from `start` or from an earlier `collect`.
        key: PRNG key for noise and resets, consumed.
        num_steps: Environment steps of each copy.
        deterministic: True for deterministic actions.
        uniform: Flag, which may be traced: True for actions that are uniform in the bounded Box of the policy. The
            `raw_actions` of the experience are the policy's in any case.
        exploration: A `gaussjax.exploration.Exploration`, the source of the noise; the state is from `start` with the
            same source. None for white noise.
        mesh: Devices that share the copies evenly. The noise and the resets are the same on every mesh.

    Returns:
        The experience, the new state of the copies, and sums over the finished episodes.

    Raises:
        TypeError: An argument has another type.

    Example:
        >>> import gaussjax
        >>> environment = envs.make_functional("Pendulum-v1")
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> params, state = policy.init(jax.random.key(0)), start(environment, policy, jax.random.key(1), 4)
        >>> rollout, state, sums = collect(environment, policy, params, jnp.tanh, state, jax.random.key(2), 5)
        >>> rollout.rewards.shape, int(sums.count)
        ((5, 4), 0)
    """
    _check(environment, policy, exploration)
    if not callable(preprocess):
        found = type(preprocess).__name__
        raise TypeError(f"preprocess: expected a function such as partial(normalize.apply, statistics), got {found}.")
    keys.check(key)
    deterministic, num_envs = flag(deterministic, "deterministic"), state.resets.shape[0]
    noise_key, reset_key = keys.split(key)
    draw, source = (policy.noise, None) if deterministic or exploration is None else exploration.sources(policy)
    noise, lasting_key = None, noise_key
    if source is not None:
        noise_key, lasting_key = keys.split(noise_key)
        source.check_rows(state.exploration, num_envs)
    if source is None or uniform is not None:
        # Drawing all noise before the scan is cheaper than drawing it in each step.
        noise = draw(noise_key, (num_steps, num_envs))
    recurrent = bool(jax.tree.leaves(state.carry))
    starts = state.first
    if environment.resets == "rollout" and num_steps >= _LONG:
        start_key, reset_key = keys.split(reset_key)
        starts = jax.vmap(partial(checked_reset, environment))(keys.split(start_key, num_envs))
    bounds = spaces.bounds(box := spaces.action_box(environment.action_space))

    def step(indices: Array, starts: Any, carried: tuple[RolloutState, Array], inputs: tuple[Array, Array]) -> Any:
        (state, sums), (noise, t) = carried, inputs
        recurrent_inputs = {"carry": state.carry, "resets": state.resets} if recurrent else {}
        drawn, lasting = noise, state.exploration
        if source is not None:
            lasting, drawn = source.step_rows(lasting, keys.fold_in(lasting_key, t), state.resets, indices)
        chosen = {"deterministic": True} if deterministic else {"noise": drawn}
        act = policy.act(params, None, preprocess(state.observations), **chosen, **recurrent_inputs)
        actions = act.actions
        if uniform is not None:
            actions = jnp.where(uniform, _uniform(policy, noise), actions)
        actions = in_dtype(jnp.clip(actions, *like_actions(*bounds, actions)), box.dtype)
        stepped = jax.vmap(partial(checked_step, environment))(state.environment_states, state.observations, actions)
        done = stepped.terminated | stepped.truncated

        def reset(ended: tuple[Any, Array]) -> tuple[Any, Array]:
            reset_keys = jax.vmap(partial(keys.fold_in, reset_key))(t * num_envs + indices)
            if starts:
                return cached_starts(starts, done, reset_keys, ended)
            return new_starts(environment, done, reset_keys, ended)

        # In most steps no episode ends, and `cond` then skips the resets, in a `vmap` over trainings too.
        after = stepped.state, stepped.observation
        states, observations = jax.lax.cond(anywhere(jnp.any(done)), reset, lambda ended: ended, after)
        taken = state.observations, act.outputs["raw_actions"], actions
        row = (*taken, stepped.reward, stepped.terminated, stepped.truncated, stepped.observation)
        (returns, error), lengths = exact_sum(state.returns, stepped.reward), state.lengths + 1.0
        lost = state.lost + error
        # Inside the loop the sums are kept for each environment, in a single kernel; environments are summed after it.
        ended = jnp.ones_like(returns), _whole(returns, lost), lengths
        sums = sums + jnp.where(done, jnp.stack(ended), 0.0)
        running = (jnp.where(done, 0.0, each) for each in (returns, lengths, lost))
        carry = act.outputs.get("carry", ())
        following = RolloutState(states, observations, done, carry, *running, exploration=lasting)
        return (following, sums), (row, state.carry)

    def run(state: RolloutState, starts: Any, noise: Any, indices: Array) -> tuple[Rollout, RolloutState, Array]:
        zeros = jnp.zeros((len(EpisodeSums._fields), *indices.shape))
        times = jnp.arange(num_steps)
        first = varying((state, zeros), like=(params, state, noise_key))
        (last, sums), (rows, carries) = jax.lax.scan(partial(step, indices, starts), first, (noise, times))
        carries = jax.tree.map(lambda before, after: jnp.concatenate([before, after[None]]), carries, last.carry)
        done = rows[4] | rows[5]
        resets = jnp.concatenate([state.resets[None], done[:-1]])
        return Rollout(*rows, resets=resets, carries=carries), last, sums

    if mesh is not None:
        # Each device looks for ended episodes among its own copies only, so that no device waits for another.
        first, second = PartitionSpec(mesh.axis_names), PartitionSpec(None, mesh.axis_names)
        run = jax.shard_map(
            run, mesh=mesh, in_specs=(first, first, second, first), out_specs=(second, first, second), check_vma=False
        )
    experience, last, sums = run(state._replace(first=()), starts, noise, jnp.arange(num_envs))
    return experience, last._replace(first=state.first), EpisodeSums(*jnp.sum(sums, axis=1))


def _whole(returns: Array, lost: Array) -> Array:
    """Returns with what rounding removed, which is NaN for an infinite return; a long episode loses digits without."""
    return jnp.where(jnp.isfinite(returns), returns + lost, returns)


def _check(environment: Any, policy: Any, exploration: Any) -> None:
    if not isinstance(environment, envs.Environment):
        found = type(environment).__name__
        raise TypeError(f"environment: expected a gaussjax.envs.Environment, got {found}. Make one with envs.make.")
    checks.policy(policy)
    checks.exploration(exploration)


def _uniform(policy: Policy, noise: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
    """Actions uniform in the Box of the policy, made from standard normal noise by its distribution function."""
    # Noise of gSDE may have an axis for the features.
    share = jax.scipy.special.ndtr(noise.reshape(noise.shape[0], -1, noise.shape[-1])[:, 0])
    low, high = like_actions(*uniform_bounds(policy.spec.action_space), share)
    return jnp.clip(low * (1.0 - share) + high * share, low, high)


def evaluate(
    environment: envs.Environment,
    policy: Policy,
    params: Params,
    key: Key[Array, ""],
    *,
    preprocess: Callable[[Array], Array] = lambda observations: observations,
    episodes: int = 20,
    max_steps: int = 1000,
    deterministic: bool = True,
) -> Float[Array, " episodes"]:
    """Return of the first episode in each of several copies of an environment, for use inside `jax.jit`.

    Args:
        environment: One environment; it is vmapped.
        policy: The policy.
        params: Parameters of the policy.
        key: PRNG key for noise and resets, consumed.
        preprocess: Function applied to observations before the policy, such as a normalization.
        episodes: Number of copies.
        max_steps: Environment steps after which an episode is cut.
        deterministic: True for deterministic actions.

    Returns:
        Sum of the rewards of each episode.

    Example:
        >>> import gaussjax
        >>> environment = envs.make_functional("Pendulum-v1")
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> evaluate(environment, policy, policy.init(jax.random.key(0)), jax.random.key(1), episodes=4).shape
        (4,)
    """
    return first_episodes(environment, policy, params, key, preprocess, episodes, max_steps, deterministic)[0]


def first_episodes(
    environment: envs.Environment,
    policy: Policy,
    params: Params,
    key: Key[Array, ""],
    preprocess: Callable[[Any], Any],
    episodes: int,
    max_steps: int,
    deterministic: bool,
    exploration: Any = None,
    recorded: int = 0,
) -> tuple[Array, Array, Array, Array]:
    """Returns and lengths of the first episode in each copy of an environment, for use inside `jax.jit`.

    Args:
        environment: As for `evaluate`.
        policy: As for `evaluate`.
        params: As for `evaluate`.
        key: PRNG key for noise and resets, consumed.
        preprocess: Function applied to observations before the policy.
        episodes: Number of copies.
        max_steps: Environment steps after which an episode is cut.
        deterministic: True for deterministic actions.
        exploration: Source of the noise as for `collect`.
        recorded: Number of steps whose actions are returned.

    Returns:
        Sum of the rewards, number of steps, and a flag that is True for an episode that was cut; each `(episodes,)`.
        Last the actions of the first steps, `(recorded, episodes, act)`.

    Example:
        >>> import gaussjax
        >>> environment = envs.make_functional("Pendulum-v1")
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> params, key = policy.init(jax.random.key(0)), jax.random.key(1)
        >>> first_episodes(environment, policy, params, key, jnp.tanh, 2, 300, True)[1].tolist()
        [200, 200]
    """
    start_key, key = keys.split(key)
    # Later episodes do not count, so they need no reset.
    environment = environment._replace(resets="first")
    arguments = environment, policy, params, preprocess
    options = {"deterministic": deterministic, "exploration": exploration}

    def step(carried: tuple[Any, ...]) -> tuple[Any, ...]:
        state, running, returns, lost, lengths, actions, t = carried
        row, state, _ = collect(*arguments, state, keys.fold_in(key, t), 1, **options)
        if recorded:
            # JAX drops the actions of later steps.
            actions = actions.at[t].set(row.actions[0].astype(actions.dtype), mode="drop")
        # The step that ends an episode counts.
        returns, error = exact_sum(returns, jnp.where(running, row.rewards[0], 0.0))
        lost, lengths = lost + error, lengths + running.astype(jnp.int32)
        return state, running & ~(row.terminated[0] | row.truncated[0]), returns, lost, lengths, actions, t + 1

    def goes_on(carried: tuple[Any, ...]) -> Array:
        return jnp.any(carried[1]) & (carried[-1] < max_steps)

    actions = jnp.zeros((recorded, episodes, spaces.size(policy.spec.action_space)))
    zeros = *jnp.zeros((2, episodes)), jnp.zeros(episodes, jnp.int32), actions, jnp.zeros((), jnp.int32)
    first = start(environment, policy, start_key, episodes, exploration), jnp.ones(episodes, bool), *zeros
    first = varying(first, like=(params, key))
    _, running, returns, lost, lengths, actions, _ = jax.lax.while_loop(goes_on, step, first)
    return _whole(returns, lost), lengths, running, actions
