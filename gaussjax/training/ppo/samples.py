"""What PPO learns from: the experience of a rollout with its values, advantages and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gaussjax import normalize, rollout
from gaussjax.policy import Params, Policy
from gaussjax.training.advantages import generalized_advantages
from gaussjax.training.parallel import sharding
from gaussjax.training.ppo.config import Config, State

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array


class Samples(NamedTuple):
    """What a minibatch is made of: samples first, then the steps of a sequence if there is a memory."""

    observations: Any
    actions: Array | None
    raw_actions: Array
    log_prob: Array
    distribution: Any
    values: Array
    advantages: Array
    targets: Array
    resets: Array
    carry: Any


def normalized(statistics: normalize.Statistics, observations: Array, config: Config) -> Array:
    """What the policy is shown of the observations."""
    return normalize.apply(statistics, observations) if config.normalize_observations else observations


def memory(carry: Any, resets: Array | None) -> dict[str, Any]:
    """The arguments of a policy that has a memory; none for one that has not."""
    return {"carry": carry, "resets": resets} if jax.tree.leaves(carry) else {}


def scored(
    policy: Policy, params: Params, observations: Array, actions: Array | None, raw_actions: Array, given: dict
) -> Any:
    """`policy.evaluate` of what was done, the outputs with a value for each observation.

    Raises:
        ValueError: There is no value, or it is of another shape.
    """
    scores = policy.evaluate(params, observations, raw_actions=raw_actions, **given)
    outputs, expected = scores.outputs, scores.log_prob.shape
    if "value" not in outputs:
        raise ValueError(
            f"policy: expected outputs['value'] beside the mean, got {sorted(outputs)}. Put its network "
            f"into gaussjax.networks.ActorCritic."
        )
    if outputs["value"].shape != expected:
        raise ValueError(
            f"policy: expected outputs['value'] of shape {expected}, one for each observation, got "
            f"{outputs['value'].shape}. Among advantages it would broadcast: use value[..., 0]."
        )
    return scores


def make_prepare(policy: Policy, config: Config, mesh: Mesh | None) -> Callable[[State, rollout.Rollout], Any]:
    """`(state, experience) -> (samples, (return_statistics, discounted_returns))`, pure and to be compiled."""
    # Where the density is known to be of the raw actions alone, the others are not carried along.
    raw_alone = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"

    def following_values(params: Params, values: Array, observations: Array, experience: rollout.Rollout) -> Array:
        def of(steps: slice) -> Array:
            # Each observation is seen with the memory of its own step, not of the episode after it.
            carries = jax.tree.map(lambda leaf: leaf[1:][steps], experience.carries)
            return policy.apply(params, observations[steps], **memory(carries, None))[1]["value"]

        # What follows a step is what the next one sees, and valued already, but where an episode was cut.
        recurrent = bool(jax.tree.leaves(experience.carries))
        shifted = jnp.concatenate([values[1:], of(slice(-1, None))]) if recurrent else values[1:]
        cut = jnp.any(experience.truncated[:-1])
        return jax.lax.cond(cut, lambda: of(slice(None)), lambda: shifted)

    def prepare(state: State, experience: rollout.Rollout) -> Any:
        options = state.hyperparameters
        rewards, *scale = _scaled_rewards(state, experience, config, mesh)
        observations = normalized(state.observation_statistics, experience.observations, config)
        next_observations = normalized(state.observation_statistics, experience.next_observations, config)

        given = memory(jax.tree.map(lambda leaf: leaf[0], experience.carries), experience.resets)
        actions = None if raw_alone else experience.actions
        seen, acted = observations, (actions, experience.raw_actions)
        if not given:
            # What follows the last step is valued in the same pass.
            seen = jnp.concatenate([seen, next_observations[-1:]])
            acted = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[-1:]]), acted)
        log_prob, _, outputs = scored(policy, state.params, seen, acted[0], acted[1], given)
        next_values = following_values(state.params, outputs["value"], next_observations, experience)
        log_prob, distribution, values = jax.tree.map(
            lambda leaf: leaf[: experience.rewards.shape[0]],
            (log_prob, policy.distribution(outputs), outputs["value"]),
        )
        advantages = generalized_advantages(
            rewards,
            values,
            next_values,
            experience.terminated,
            experience.truncated,
            gamma=options.gamma,
            gae_lambda=options.gae_lambda,
        )
        columns = Samples(
            observations,
            actions,
            experience.raw_actions,
            log_prob,
            distribution,
            values,
            advantages,
            advantages + values,
            experience.resets,
            (),
        )
        length = config.sequence_length if given else None
        starts = jax.tree.map(lambda leaf: leaf[:-1:length], experience.carries)
        columns, starts = sharding.whole((columns, starts), mesh)
        samples = jax.tree.map(lambda leaf: _rows(leaf, length), columns)
        carry = jax.tree.map(lambda leaf: jax.lax.collapse(leaf, 0, 2), starts)
        return samples._replace(carry=carry), scale

    return prepare


def _rows(leaf: Array, length: int | None) -> Array:
    """`(T, N, …)` as samples `(T·N, …)`, or as sequences `(T/length·N, length, …)`."""
    if length is None:
        return jax.lax.collapse(leaf, 0, 2)
    chunks = leaf.reshape(leaf.shape[0] // length, length, *leaf.shape[1:])
    return jax.lax.collapse(jnp.swapaxes(chunks, 1, 2), 0, 2)


def _scaled_rewards(
    state: State, experience: rollout.Rollout, config: Config, mesh: Mesh | None
) -> tuple[Array, normalize.Statistics, Array]:
    """Rewards divided by the deviation of the discounted return, which is kept up to date."""
    if not config.normalize_rewards:
        return experience.rewards, state.return_statistics, state.discounted_returns
    ends = experience.terminated | experience.truncated

    def accumulate(returns: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, end = now
        returns = state.hyperparameters.gamma * returns + reward
        return jnp.where(end, 0.0, returns), returns

    last, returns = jax.lax.scan(accumulate, state.discounted_returns, (experience.rewards, ends))
    statistics = normalize.update(state.return_statistics, sharding.environments_first(returns, mesh))
    return experience.rewards * jax.lax.rsqrt(normalize.variance(statistics) + 1e-8), statistics, last
