"""The gradient step of SAC, which updates critics, actor and temperature with one minibatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from gaussjax import networks, normalize, spaces
from gaussjax.core.arrays import like_actions
from gaussjax.core.compiled import where
from gaussjax.core.text import quoted
from gaussjax.networks.actor_critic import part_of, select
from gaussjax.policy import Params, Policy
from gaussjax.random import keys
from gaussjax.training import replay
from gaussjax.training.algorithm import (
    first_statistics,
    normalized,
    observation_keys,
    promoting,
    without_axis,
)
from gaussjax.training.losses import sampled_entropy
from gaussjax.training.metrics import log_std_clipped, saturation
from gaussjax.training.sac.config import Config, Learner, State, Transition

# Metrics of a gradient step; `skipped` counts steps not taken because a loss or gradient was not finite.
METRICS = (
    *("critic_loss", "actor_loss", "value", "entropy", "temperature", "std"),
    *("log_std_clipped", "saturation", "skipped"),
)


Update = Callable[[Learner, tuple[Transition, Array], normalize.Normalizer], tuple[Learner, dict[str, Array]]]


def make_learner(policy: Policy, config: Config) -> tuple[Callable[[Array], Learner], Update]:
    """Pure functions `init(key) -> learner` and `update(learner, (batch, key), statistics) -> (learner, metrics)`.

    An update whose loss or gradient is not finite returns the learner unchanged: `skipped` is 1, other metrics are 0.
    """
    num_actions = spaces.size(policy.spec.action_space)
    seen = observation_keys(policy.spec.observation_space, config)["critic_keys"]
    space = part_of(policy.spec.observation_space, seen)
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    critic = networks.ActionValue(config.hidden_sizes, config.activation, observation_space=None if flat else space)
    optimizer = promoting(optax.adam(config.learning_rate))
    low, high = spaces.bounds(policy.spec.action_space)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(
            f"policy: expected actions of a Box with finite bounds, got {quoted(low.tolist())} and "
            f"{quoted(high.tolist())}. The critics take actions in half widths of the Box."
        )
    half = 0.5 * (high - low)
    target_entropy = config.target_entropy
    if target_entropy is None:
        # The usual target is for a Box of [-1, 1]. Densities are per unit of the Box, so log(width / 2) is added.
        target_entropy = float(np.sum(np.log(half))) - num_actions

    def values(params: Params, observations: Any, actions: Array) -> Any:
        # Division by half the width makes the critics' inputs of order one, whatever the units of the Box.
        lowest, highest = like_actions(low, high, actions)
        scaled = (actions - (0.5 * lowest + 0.5 * highest)) / (0.5 * highest - 0.5 * lowest)
        return jax.vmap(critic.apply, in_axes=(0, None, None))(params, select(observations, seen), scaled)

    def init(key: Array) -> Learner:
        actor_key, critic_key = jax.random.split(key)
        actor = policy.init(actor_key)
        example = spaces.zeros(space, (1,)), jnp.zeros((1, num_actions))
        critics = jax.vmap(lambda key: critic.init(key, *example))(jax.random.split(critic_key, config.num_critics))
        log_temperature = jnp.log(jnp.asarray(config.initial_temperature, jnp.float32))
        moments = optimizer.init((actor, critics, log_temperature))
        # The target critics are a copy, because two donated arguments must not share a buffer.
        return Learner(actor, critics, jax.tree.map(jnp.copy, critics), log_temperature, moments)

    def losses(trained: Any, targets: Params, batch: Transition, key: Array) -> tuple[Array, dict[str, Array]]:
        actor, critics, log_temperature = trained
        now_key, next_key = keys.split(key)
        temperature = jax.lax.stop_gradient(jnp.exp(log_temperature))

        next_actions, next_log_prob, _ = policy.act(actor, next_key, batch.next_observations)
        future = jnp.min(values(targets, batch.next_observations, next_actions), axis=0)
        future = future - temperature * without_axis(policy, next_log_prob)
        goal = batch.rewards + config.gamma * jnp.where(batch.terminated, 0.0, future)
        estimates = values(critics, batch.observations, batch.actions)
        goals = jnp.broadcast_to(jax.lax.stop_gradient(goal), estimates.shape)
        critic_loss = 0.5 * jnp.sum(jnp.mean(jnp.square(estimates - goals), axis=-1))

        actions, log_prob, outputs = policy.act(actor, now_key, batch.observations)
        log_prob = without_axis(policy, log_prob)
        # The actor's loss must not train the critics, so their gradient is stopped.
        worth = jnp.min(values(jax.lax.stop_gradient(critics), batch.observations, actions), axis=0)
        # Only the derivative of the log-density may have a bias, so the other losses and the metric take it as it is.
        entropy = sampled_entropy(policy.distribution(outputs), log_prob)
        actor_loss = jnp.mean(-temperature * entropy - worth)
        surplus = jax.lax.stop_gradient(log_prob + target_entropy)
        temperature_loss = -jnp.exp(log_temperature) * jnp.mean(surplus)
        return critic_loss + actor_loss + temperature_loss, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "value": jnp.mean(estimates),
            "entropy": -jnp.mean(log_prob),
            "temperature": temperature,
            "std": jnp.mean(jnp.exp(outputs["log_std"])),
            "log_std_clipped": log_std_clipped(policy, outputs["log_std"]),
            "saturation": saturation(policy, actions),
        }

    def update(learner: Learner, drawn: tuple[Transition, Array], statistics: normalize.Normalizer) -> Any:
        batch, noise_key = drawn
        batch = batch._replace(
            observations=normalized(config, statistics, batch.observations),
            next_observations=normalized(config, statistics, batch.next_observations),
        )
        trained = learner.actor, learner.critics, learner.log_temperature
        value_and_grad = jax.value_and_grad(losses, has_aux=True)
        (total, metrics), gradients = value_and_grad(trained, learner.targets, batch, noise_key)
        # The norm is finite only if every component of the gradient is finite.
        usable = jnp.isfinite(total) & jnp.isfinite(optax.tree.norm(gradients))
        updates, moments = optimizer.update(gradients, learner.optimizer, trained)
        changed: Any = optax.apply_updates(trained, updates)
        actor, critics, log_temperature = changed
        targets = optax.incremental_update(critics, learner.targets, config.tau)
        learner = where(usable, Learner(actor, critics, targets, log_temperature, moments), learner)
        metrics = {name: jnp.where(usable, metric, 0.0) for name, metric in metrics.items()}
        return learner, {**metrics, "skipped": (~usable).astype(jnp.float32)}

    return init, update


def initial_state(learner: Learner, key: Array, observation: Any, policy: Policy, config: Config) -> State:
    """Training state before the first step, without environments; `observation` is an example observation."""
    action = jnp.zeros(spaces.size(policy.spec.action_space))
    row = Transition(observation, action, jnp.zeros(()), jnp.zeros((), bool), observation)
    return State(learner, replay.init(row, config.buffer_size), key, first_statistics(observation), (), (), 0)


def draw(buffer: replay.Buffer, key: Array, config: Config) -> tuple[Transition, Array]:
    """Draws the minibatches and keys of all gradient steps, stacked along the first axis; consumes the key."""
    # All minibatches are drawn before the first gradient step, because XLA copies a buffer that a loop or branch uses.
    pairs = jax.vmap(keys.split)(keys.split(key, config.gradient_steps))
    batches = jax.vmap(lambda key: replay.sample(buffer, key, config.batch_size))(pairs[:, 0])
    return batches, pairs[:, 1]


def remember(
    buffer: replay.Buffer, statistics: normalize.Normalizer, row: Transition, config: Config
) -> tuple[replay.Buffer, normalize.Normalizer, Array]:
    """Adds the transitions of one step to buffer and statistics; also returns the number of refused transitions."""
    buffer, refused = replay.add(buffer, row)
    if config.normalize_observations:
        updated = normalize.update(statistics, row.observations)
        # Running statistics never recover from NaN, so a step that contains NaN does not enter them.
        statistics = where(normalize.is_finite(updated), updated, statistics)
    return buffer, statistics, refused


def means(totals: dict[str, Any], gradient_steps: Float[Array, ""] | int) -> dict[str, Any]:
    """Divides sums of metrics by the number of gradient steps taken, except `skipped` and `refused`.

    Without a gradient step the means are 0; NaN would make `jax_debug_nans` raise.
    """
    taken = gradient_steps - totals["skipped"]
    count = jnp.maximum(taken, 1.0)
    divided = {name: total if name in ("skipped", "refused") else total / count for name, total in totals.items()}
    return {**divided, "gradient_steps": taken}
