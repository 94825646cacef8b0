"""Training samples of PPO: a rollout with its log-densities, values, advantages and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from gaussjax import normalize, rollout
from gaussjax.core.compiled import anywhere, where
from gaussjax.policy import EvaluateOutput, Params, Policy
from gaussjax.training import parallel
from gaussjax.training.advantages import generalized_advantages
from gaussjax.training.algorithm import normalized, without_axis
from gaussjax.training.ppo.config import Config, State


class Samples(NamedTuple):
    """Training samples as arrays `(samples, …)`, or `(sequences, steps, …)` for a recurrent policy."""

    observations: Any
    raw_actions: Array
    log_prob: Array
    distribution: Any
    values: Array
    advantages: Array
    targets: Array
    resets: Array
    carry: Any


def memory(carry: Any, resets: Array | None) -> dict[str, Any]:
    """The keyword arguments `carry` and `resets` of a recurrent policy; an empty dict for other policies."""
    return {"carry": carry, "resets": resets} if jax.tree.leaves(carry) else {}


def scored(
    policy: Policy, params: Params, observations: Any, raw_actions: Array, recurrent: dict[str, Any]
) -> EvaluateOutput:
    """Evaluates raw actions and checks that the network returns one value for each observation."""
    scores = policy.evaluate(params, observations, raw_actions=raw_actions, **recurrent)
    log_prob, entropy = without_axis(policy, scores.log_prob), without_axis(policy, scores.entropy)
    outputs, expected = scores.outputs, log_prob.shape
    if "value" not in outputs:
        raise ValueError(
            f"policy: expected outputs['value'] in addition to the mean, got {sorted(outputs)}. Put its network "
            f"into gaussjax.networks.ActorCritic."
        )
    if outputs["value"].shape != expected:
        raise ValueError(
            f"policy: expected outputs['value'] of shape {expected}, one for each observation, got "
            f"{outputs['value'].shape}. It would broadcast against the advantages: use value[..., 0]."
        )
    return EvaluateOutput(log_prob, entropy, outputs)


def make_prepare(policy: Policy, config: Config, mesh: Mesh | None) -> Callable[[State, rollout.Rollout], Any]:
    """Makes a pure function from a state and a rollout to samples and `(return_statistics, discounted_returns)`."""

    def following_values(params: Params, values: Array, observations: Any, experience: rollout.Rollout) -> Array:
        def value(steps: slice) -> Array:
            # The last observation of an episode is valued with the carry of that episode, so there are no resets.
            carries = jax.tree.map(lambda leaf: leaf[1:][steps], experience.carries)
            seen = jax.tree.map(lambda leaf: leaf[steps], observations)
            return policy.apply(params, seen, **memory(carries, None))[1]["value"]

        # Unless an episode was truncated, the value after a step is the value at the next step, already computed.
        recurrent = bool(jax.tree.leaves(experience.carries))
        shifted = jnp.concatenate([values[1:], value(slice(-1, None))]) if recurrent else values[1:]
        cut = jnp.any(experience.truncated[:-1])
        # Inside a vmap over trainings, one with an episode that was cut makes all compute these values.
        return jax.lax.cond(anywhere(cut), lambda: where(cut, value(slice(None)), shifted), lambda: shifted)

    def prepare(state: State, experience: rollout.Rollout) -> Any:
        rewards, *scale = _scaled_rewards(state, experience, config, mesh)
        observations = normalized(config, state.observation_statistics, experience.observations)
        next_observations = normalized(config, state.observation_statistics, experience.next_observations)
        recurrent = memory(jax.tree.map(lambda leaf: leaf[0], experience.carries), experience.resets)
        inputs, actions = observations, experience.raw_actions
        if not recurrent:
            # With this row, the same forward pass also computes the value of the observation after the last step.
            inputs = jax.tree.map(lambda now, after: jnp.concatenate([now, after[-1:]]), inputs, next_observations)
            actions = jnp.concatenate([actions, actions[-1:]])
        log_prob, _, outputs = scored(policy, state.params, inputs, actions, recurrent)
        next_values = following_values(state.params, outputs["value"], next_observations, experience)
        log_prob, distribution, values = jax.tree.map(
            lambda leaf: leaf[: rewards.shape[0]], (log_prob, policy.distribution(outputs), outputs["value"])
        )
        ends = experience.terminated, experience.truncated
        discounts = {name: getattr(state.hyperparameters, name) for name in ("gamma", "gae_lambda")}
        advantages = generalized_advantages(rewards, values, next_values, *ends, **discounts)
        estimates = values, advantages, advantages + values
        actions, resets = experience.raw_actions, experience.resets
        columns = Samples(observations, actions, log_prob, distribution, *estimates, resets, carry=())
        length = config.sequence_length if recurrent else None
        starts = jax.tree.map(lambda leaf: leaf[:-1:length], experience.carries)
        columns, starts = parallel.whole((columns, starts), mesh)
        samples = jax.tree.map(lambda leaf: _rows(leaf, length), columns)
        return samples._replace(carry=jax.tree.map(lambda leaf: jax.lax.collapse(leaf, 0, 2), starts)), scale

    return prepare


def _rows(leaf: Array, length: int | None) -> Array:
    """Reshapes `(T, N, …)` to samples `(T·N, …)`, or given a length to sequences `(T/length·N, length, …)`."""
    if length is None:
        return jax.lax.collapse(leaf, 0, 2)
    chunks = leaf.reshape(leaf.shape[0] // length, length, *leaf.shape[1:])
    return jax.lax.collapse(jnp.swapaxes(chunks, 1, 2), 0, 2)


def _scaled_rewards(
    state: State, experience: rollout.Rollout, config: Config, mesh: Mesh | None
) -> tuple[Array, normalize.Statistics, Array]:
    """Scales the rewards; also returns new statistics of the discounted returns, and each environment's latest one."""
    if not config.normalize_rewards:
        return experience.rewards, state.return_statistics, state.discounted_returns
    ends = experience.terminated | experience.truncated

    def accumulate(returns: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, end = now
        returns = state.hyperparameters.gamma * returns + reward
        return jnp.where(end, 0.0, returns), returns

    last, returns = jax.lax.scan(accumulate, state.discounted_returns, (experience.rewards, ends))
    statistics = normalize.update(state.return_statistics, parallel.environments_first(returns, mesh))
    rewards = experience.rewards * jax.lax.rsqrt(normalize.variance(statistics) + 1e-8)
    if config.clip_reward is not None:
        # Equal returns have a variance of 0, and the factor is then 10⁴.
        rewards = jnp.clip(rewards, -config.clip_reward, config.clip_reward)
    return rewards, statistics, last
