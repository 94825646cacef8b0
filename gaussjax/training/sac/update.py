"""SAC's gradient step: critics, actor and temperature from one minibatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaussjax import normalize, spaces
from gaussjax.policy import Params, Policy
from gaussjax.random import keys
from gaussjax.training import replay
from gaussjax.training.adam import scale_by_adam
from gaussjax.training.sac.config import Config, Learner, Transition, make_critic
from gaussjax.training.saturation import saturation

if TYPE_CHECKING:
    from jaxtyping import Array


# Metrics that are no means: gradient steps not taken, transitions not remembered.
COUNTS = ("skipped", "refused")
METRICS = ("critic_loss", "actor_loss", "value", "entropy", "temperature", "std", "saturation", *COUNTS)


def make_learner(policy: Policy, config: Config) -> tuple[Callable[..., Learner], Callable[..., Any]]:
    """`init(key) -> Learner` and `update(learner, (batch, key), statistics) -> (Learner, metrics)`, both pure.

    A gradient that is not finite is not taken: the learner stays as it was, `skipped` is 1 and the other metrics 0.

    Source:
        Haarnoja et al. 2018, soft actor-critic algorithms and applications (arXiv:1812.05905).
    """
    num_actions = spaces.size(policy.spec.action_space)
    critic = make_critic(policy, config)
    optimizer = optax.chain(scale_by_adam(), optax.scale_by_learning_rate(config.learning_rate))
    low, high = spaces.bounds(policy.spec.action_space)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(
            f"policy: expected actions of a Box with finite bounds, got {low.tolist()} and {high.tolist()}. The "
            f"critics are shown actions in half widths of it."
        )
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    target_entropy = config.target_entropy
    if target_entropy is None:
        # Densities are per unit of the Box: a narrow one has no policy of so much entropy as the number says.
        target_entropy = float(np.sum(np.log(half))) - num_actions

    def values(params: Params, observations: Array, actions: Array) -> Any:
        # The critics see actions of order one, whatever the units of the Box.
        unit = (actions - _like(middle, actions)) / _like(half, actions)
        return jax.vmap(critic.apply, in_axes=(0, None, None))(params, observations, unit)

    def init(key: Array) -> Learner:
        actor_key, critic_key = jax.random.split(key)
        actor = policy.init(actor_key)
        example = spaces.zeros(policy.spec.observation_space, (1,)), jnp.zeros((1, num_actions))
        critics = jax.vmap(lambda key: critic.init(key, *example))(jax.random.split(critic_key, config.num_critics))
        log_temperature = jnp.log(jnp.asarray(config.initial_temperature, jnp.float32))
        moments = optimizer.init((actor, critics, log_temperature))
        # The targets are arrays of their own, so that the learner's buffers can be donated.
        return Learner(actor, critics, jax.tree.map(jnp.copy, critics), log_temperature, moments)

    def losses(
        learnt: tuple[Params, Params, Array], targets: Params, batch: Transition, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        actor, critics, log_temperature = learnt
        now_key, next_key = keys.split(key)
        temperature = jax.lax.stop_gradient(jnp.exp(log_temperature))

        following = policy.act(actor, next_key, batch.next_observations)
        future = jnp.min(values(targets, batch.next_observations, following.actions), axis=0)
        future = future - temperature * following.log_prob
        goal = batch.rewards + config.gamma * jnp.where(batch.terminated, 0.0, future)
        estimates = values(critics, batch.observations, batch.actions)
        goals = jnp.broadcast_to(jax.lax.stop_gradient(goal), estimates.shape)
        critic_loss = 0.5 * jnp.sum(jnp.mean(jnp.square(estimates - goals), axis=-1))

        acted = policy.act(actor, now_key, batch.observations)
        # The actor climbs the critics, it does not change them.
        held = jax.lax.stop_gradient(critics)
        worth = jnp.min(values(held, batch.observations, acted.actions), axis=0)
        actor_loss = jnp.mean(temperature * acted.log_prob - worth)
        surplus = jax.lax.stop_gradient(acted.log_prob + target_entropy)
        temperature_loss = -jnp.exp(log_temperature) * jnp.mean(surplus)
        return critic_loss + actor_loss + temperature_loss, {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "value": jnp.mean(estimates),
            "entropy": -jnp.mean(acted.log_prob),
            "temperature": temperature,
            "std": jnp.mean(jnp.exp(acted.outputs["log_std"])),
            "saturation": saturation(policy.spec, acted.actions),
        }

    def update(
        learner: Learner, drawn: tuple[Transition, Array], statistics: normalize.Statistics
    ) -> tuple[Learner, dict[str, Array]]:
        batch, noise_key = drawn
        if config.normalize_observations:
            batch = batch._replace(
                observations=normalize.apply(statistics, batch.observations),
                next_observations=normalize.apply(statistics, batch.next_observations),
            )
        learnt = (learner.actor, learner.critics, learner.log_temperature)
        # The goal of the critics is no function of what is learnt: gradients stop at it.
        (total, metrics), gradients = jax.value_and_grad(losses, has_aux=True)(
            learnt, learner.targets, batch, noise_key
        )
        # A sum is finite only where every gradient is: one number says it all.
        sums = jnp.stack([total, *map(jnp.sum, jax.tree.leaves(gradients))])
        usable = jnp.isfinite(jnp.sum(sums))
        updates, moments = optimizer.update(gradients, learner.optimizer, learnt, usable=usable)
        updated: Any = optax.apply_updates(learnt, updates)
        actor, critics, log_temperature = updated
        targets = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old),
            optax.incremental_update(critics, learner.targets, config.tau),
            learner.targets,
        )
        learner = Learner(actor, critics, targets, log_temperature, moments)
        metrics = {name: jnp.where(usable, metric, 0.0) for name, metric in metrics.items()}
        return learner, {**metrics, "skipped": (~usable).astype(jnp.float32)}

    return init, update


def draw(buffer: replay.Buffer, key: Array, config: Config) -> tuple[Transition, Array]:
    """A minibatch and a key for each gradient step, with a leading axis. The key is consumed.

    All are drawn before the first gradient step: a buffer that goes into a loop or a branch would be copied there.
    """
    pairs = jax.vmap(keys.split)(keys.split(key, config.gradient_steps))
    batches = jax.vmap(lambda key: replay.sample(buffer, key, config.batch_size))(pairs[:, 0])
    return batches, pairs[:, 1]


def remember(
    buffer: replay.Buffer, statistics: normalize.Statistics, row: Transition, config: Config
) -> tuple[replay.Buffer, normalize.Statistics, Array]:
    """The buffer and the statistics with a step of all environments, and how many transitions were left out."""
    buffer, refused = replay.add(buffer, row)
    if config.normalize_observations:
        seen = normalize.update(statistics, row.observations)
        # Statistics never come back from NaN, so a step that holds it leaves no trace in them.
        usable = jnp.all(jnp.isfinite(seen.m2))
        statistics = jax.tree.map(lambda new, old: jnp.where(usable, new, old), seen, statistics)
    return buffer, statistics, refused


def means(totals: dict[str, Array], gradient_steps: Array | int) -> dict[str, Array]:
    """Metrics summed over gradient steps as means of those that were taken, NaN where none was; counts stay sums."""
    counts = {name: totals[name] for name in COUNTS}
    taken = gradient_steps - counts["skipped"]
    taken = jnp.where(taken > 0, taken, jnp.nan)
    return {**{name: total / taken for name, total in totals.items() if name not in counts}, **counts}


def _like(bound: np.ndarray, actions: Array) -> Array:
    return jnp.broadcast_to(jnp.asarray(bound, actions.dtype), actions.shape)
