"""Running a policy in JAX environments, inside a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gaussjax import envs, spaces
from gaussjax.envs import check
from gaussjax.policy import Params, Policy
from gaussjax.random import keys
from gaussjax.random.normal import standard_normal
from gaussjax.rollout.experience import Rollout

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array, Bool, Float


class Standing(NamedTuple):
    """Where copies of an environment stand between two rollouts.

    Attributes:
        states: Of the environments, each leaf with `N` first.
        observations: To act on next, `(N, F)`.
        resets: Which of them start an episode, `(N,)`.
        carry: Of the policy's memory, or `()`.
        returns: Sum of the rewards of the running episodes, `(N,)`.
        lengths: Their steps, `(N,)`.
    """

    states: Any
    observations: Float[Array, "envs features"]
    resets: Bool[Array, " envs"]
    carry: Any
    returns: Float[Array, " envs"]
    lengths: Float[Array, " envs"]


class Episodes(NamedTuple):
    """Sums over the episodes that ended.

    Attributes:
        count: How many.
        returns: Sum of their returns.
        lengths: Sum of their lengths, in environment steps.
    """

    count: Float[Array, ""]
    returns: Float[Array, ""]
    lengths: Float[Array, ""]


def means(episodes: Episodes) -> dict[str, Array]:
    """`episode_return` and `episode_length`, NaN where no episode ended.

    Args:
        episodes: Their sums.

    Returns:
        Both as float32 scalars; the length in environment steps.

    Example:
        >>> float(means(Episodes(jnp.array(2.0), jnp.array(-6.0), jnp.array(400.0)))["episode_return"])
        -3.0
    """
    count = jnp.where(episodes.count > 0, episodes.count, jnp.nan)
    return {"episode_return": episodes.returns / count, "episode_length": episodes.lengths / count}


def start(environment: envs.Environment, policy: Policy, key: Array, num_envs: int) -> Standing:
    """Copies of an environment at the start of an episode each.

    Args:
        environment: One environment; it is vmapped.
        policy: Whose memory starts with zeros.
        key: Consumed.
        num_envs: How many copies.

    Returns:
        Where they stand, for `collect`.

    Raises:
        TypeError: What `reset` returns is not (state, observation).
        ValueError: The observation is not one of the environment's space.

    Example:
        >>> import gaussjax
        >>> from gymnasium.envs.phys2d.pendulum import PendulumFunctional
        >>> environment = envs.from_functional(PendulumFunctional(), max_steps=200)
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> start(environment, policy, jax.random.key(0), 4).observations.shape
        (4, 3)
    """
    states, observations = jax.vmap(partial(check.reset, environment))(keys.split(key, num_envs))
    zeros = jnp.zeros(num_envs)
    carry = policy.initial_carry((num_envs,))
    return Standing(states, observations, jnp.ones(num_envs, bool), carry, zeros, zeros)


def collect(
    environment: envs.Environment,
    policy: Policy,
    params: Params,
    shown: Callable[[Array], Array],
    standing: Standing,
    key: Array,
    num_steps: int,
    *,
    deterministic: bool = False,
    mesh: Mesh | None = None,
) -> tuple[Rollout, Standing, Episodes]:
    """Runs a policy for some steps in all copies; an episode that ends is followed by the next.

    Args:
        environment: One environment; it is vmapped.
        policy: The policy.
        params: Its parameters.
        shown: What the policy sees of the observations, such as their normalisation.
        standing: Where the copies stand.
        key: Consumed: noise and resets are drawn from it.
        num_steps: Steps of each copy.
        deterministic: Whether the policy takes its deterministic action.
        mesh: Devices that run the copies, the same number each, without a word between them.
            Noise and resets are those of one device.

    Returns:
        The experience, where the copies stand now, and the sums over the episodes that ended.

    Raises:
        TypeError: What `step` returns is no `gaussjax.envs.Step`, or an end is not told as a bool.
        ValueError: A field of the step has another shape than `Step` says, or the state or the
            observation is unlike that of `reset`.

    Example:
        >>> import gaussjax
        >>> from gymnasium.envs.phys2d.pendulum import PendulumFunctional
        >>> environment = envs.from_functional(PendulumFunctional(), max_steps=200)
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> params, standing = policy.init(jax.random.key(0)), start(environment, policy, jax.random.key(1), 4)
        >>> rollout, standing, ended = collect(
        ...     environment, policy, params, lambda observations: observations, standing, jax.random.key(2), 5
        ... )
        >>> rollout.rewards.shape, int(ended.count)
        ((5, 4), 0)
    """
    num_envs = standing.resets.shape[0]
    num_actions = spaces.size(policy.spec.action_space)
    noise_key, reset_key = keys.split(key)
    # One draw for the whole rollout: cheaper than one in each step of the scan.
    noise = standard_normal(noise_key, (num_steps, num_envs, num_actions))
    recurrent = bool(jax.tree.leaves(standing.carry))

    def step(carried: tuple[Standing, Array], now: tuple[Array, Array], mine: Array) -> Any:
        (standing, ended), (noise, t) = carried, now
        memory = {"carry": standing.carry, "resets": standing.resets} if recurrent else {}
        draw = {"deterministic": True} if deterministic else {"noise": noise}
        act = policy.act(params, None, shown(standing.observations), **draw, **memory)
        stepped = jax.vmap(partial(check.step, environment))(standing.states, standing.observations, act.actions)
        done = stepped.terminated | stepped.truncated

        def begin_anew(_: None) -> tuple[Any, Array]:
            fresh = jax.vmap(partial(keys.fold_in, reset_key))(t * num_envs + mine)
            begun = jax.vmap(partial(check.reset, environment))(fresh)
            return jax.tree.map(lambda new, old: _where(done, new, old), begun, (stepped.state, stepped.observation))

        # Where no episode ended, and that is at most steps, no reset is computed.
        states, observations = jax.lax.cond(
            jnp.any(done), begin_anew, lambda _: (stepped.state, stepped.observation), None
        )
        row = (
            standing.observations,
            act.outputs["raw_actions"],
            act.actions,
            stepped.reward,
            stepped.terminated,
            stepped.truncated,
            stepped.observation,
        )
        returns, lengths = standing.returns + stepped.reward, standing.lengths + 1.0
        # Side by side, and added up over the environments after the last step: one kernel in the loop.
        ended = ended + jnp.where(done, jnp.stack([jnp.ones_like(returns), returns, lengths]), 0.0)
        following = Standing(
            states,
            observations,
            done,
            act.outputs.get("carry", ()),
            jnp.where(done, 0.0, returns),
            jnp.where(done, 0.0, lengths),
        )
        return (following, ended), (row, standing.carry)

    def run(standing: Standing, noise: Array, mine: Array) -> tuple[Rollout, Standing, Array]:
        none = jnp.zeros((len(Episodes._fields), *mine.shape))
        (last, ended), (rows, carries) = jax.lax.scan(
            lambda carried, now: step(carried, now, mine), (standing, none), (noise, jnp.arange(num_steps))
        )
        carries = jax.tree.map(
            lambda before, after: jnp.concatenate([before, jnp.expand_dims(after, 0)]), carries, last.carry
        )
        done = rows[4] | rows[5]
        resets = jnp.concatenate([jnp.expand_dims(standing.resets, 0), done[:-1]])
        return Rollout(*rows, resets=resets, carries=carries), last, ended

    copies = jnp.arange(num_envs)
    if mesh is None:
        experience, last, ended = run(standing, noise, copies)
    else:
        # Each device looks at the ends of its own episodes only: nothing waits for the others.
        first, second = PartitionSpec(mesh.axis_names), PartitionSpec(None, mesh.axis_names)
        spread = jax.shard_map(
            run, mesh=mesh, in_specs=(first, second, first), out_specs=(second, first, second), check_vma=False
        )
        experience, last, ended = spread(standing, noise, copies)
    return experience, last, Episodes(*jnp.sum(ended, axis=1))


def evaluate(
    environment: envs.Environment,
    policy: Policy,
    params: Params,
    key: Array,
    *,
    shown: Callable[[Array], Array] = lambda observations: observations,
    episodes: int = 20,
    max_steps: int = 1000,
    deterministic: bool = True,
) -> Float[Array, " episodes"]:
    """Return of the first episode of each of several copies, at most `max_steps` long. Compiles whole.

    Args:
        environment: One environment; it is vmapped.
        policy: The policy.
        params: Its parameters.
        key: Consumed.
        shown: What the policy sees of the observations, such as their normalisation.
        episodes: How many copies.
        max_steps: Steps of each, whether its episode has ended or not.
        deterministic: Whether the policy takes its deterministic action.

    Returns:
        The sum of the rewards of each episode.

    Example:
        >>> import gaussjax
        >>> from gymnasium.envs.phys2d.pendulum import PendulumFunctional
        >>> environment = envs.from_functional(PendulumFunctional(), max_steps=200)
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, environment.action_space)
        >>> evaluate(environment, policy, policy.init(jax.random.key(0)), jax.random.key(1), episodes=4).shape
        (4,)
    """
    start_key, key = keys.split(key)
    standing = start(environment, policy, start_key, episodes)
    experience, _, _ = collect(
        environment, policy, params, shown, standing, key, max_steps, deterministic=deterministic
    )
    # Rewards count until the first end, that step included.
    ended = jnp.cumsum((experience.terminated | experience.truncated).astype(jnp.int32), axis=0)
    running = jnp.concatenate([jnp.ones((1, episodes), bool), ended[:-1] == 0])
    return jnp.sum(jnp.where(running, experience.rewards, 0.0), axis=0)


def _where(done: Array, new: Array, old: Array) -> Array:
    return jnp.where(done.reshape(done.shape + (1,) * (new.ndim - 1)), new, old)
