"""PPO's update: all epochs of minibatches as one compiled program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

from gaussjax import normalize, rollout
from gaussjax.policy import Params, Policy
from gaussjax.random.permutation import permutation
from gaussjax.training import losses
from gaussjax.training.parallel import sharding
from gaussjax.training.ppo.config import Config, Hyperparameters, State
from gaussjax.training.ppo.samples import Samples, make_prepare, memory, scored
from gaussjax.training.saturation import saturation

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array

# How much the step size answers to a policy that moves too far or too little, and its limits.
_KL_FACTOR, _LOWEST_RATE, _HIGHEST_RATE = 1.5, 1e-6, 1e-2

# Of each gradient step that is taken, and their number.
_TOLD = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "std", "gradient_norm", "taken")


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam's direction for clipped gradients, as one vector; the step size is applied by the update."""
    return optax.flatten(optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=1e-5)))


def adapted_rate(rate: Array, kl: Array, desired_kl: float) -> Array:
    """The step size after an epoch: smaller where the policy moved too far, larger where too little."""
    factor = jnp.where(kl > 2.0 * desired_kl, 1.0 / _KL_FACTOR, 1.0)
    factor = jnp.where(kl < 0.5 * desired_kl, _KL_FACTOR, factor)
    return jnp.clip(rate * factor, _LOWEST_RATE, _HIGHEST_RATE)


def make_update(
    policy: Policy, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh | None = None
) -> Callable[[State, rollout.Rollout, Array], tuple[State, dict[str, Array]]]:
    """`(state, experience, keys) -> (state, metrics)`, pure and to be compiled; there is a key for each epoch.

    On a mesh the samples are gathered once, whole on each device, so that the minibatches are
    those of one device; each device then takes its rows of every minibatch.

    Source:
        Schulman et al. 2017 (arXiv:1707.06347).
    """
    prepare = make_prepare(policy, config, mesh)

    def loss(params: Params, samples: Samples, options: Hyperparameters) -> tuple[Array, dict[str, Array]]:
        if jax.tree.leaves(samples.carry):
            # Sequences lie side by side: time goes first.
            carry = samples.carry
            samples = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), samples._replace(carry=()))
            samples = samples._replace(carry=carry)
        given = memory(samples.carry, samples.resets)
        log_prob, entropy, outputs = scored(
            policy, params, samples.observations, samples.actions, samples.raw_actions, given
        )
        # What is only told has no gradient, and then none is traced.
        held = jax.lax.stop_gradient(outputs)
        advantages = samples.advantages
        if config.normalize_advantages:
            advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
        log_ratios = losses.log_ratio(log_prob, samples.log_prob)
        policy_loss = losses.clipped_surrogate(log_ratios, advantages, options.clip_range)
        value_loss = losses.value_loss(outputs["value"], samples.targets, samples.values, config.value_clip_range)
        entropy = jnp.mean(entropy)
        total = policy_loss + options.value_coefficient * value_loss - options.entropy_coefficient * entropy
        # Side by side, for a mean by itself is two kernels.
        moved = samples.distribution.kl_divergence(policy.distribution(held))
        clipped = jnp.abs(jnp.expm1(jax.lax.stop_gradient(log_ratios))) > options.clip_range
        kl, clip_fraction = jnp.mean(jnp.stack([moved, clipped]).reshape(2, -1), axis=1)
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": kl,
            "clip_fraction": clip_fraction,
            "std": jnp.mean(jnp.exp(held["log_std"])),
        }

    def annealed(rate: Any, progress: Array) -> Any:
        return rate * (1.0 - progress) if config.anneal_learning_rate else rate

    def learnt_from(
        samples: Samples, orders: Array, learnt: Any, options: Hyperparameters, progress: Array, unravel: Any
    ) -> Any:
        num_epochs, num_batches, _ = orders.shape

        def batch_loss(params: Array, batch: Samples) -> tuple[Array, dict[str, Array]]:
            return loss(unravel(params), batch, options)

        def gradient_step(carry: Any, now: tuple[Array, Array]) -> tuple[Any, None]:
            ((params, moments, sums), rate), (order, ends_epoch) = carry, now
            order = sharding.spread(order, mesh)
            batch = sharding.spread(jax.tree.map(lambda leaf: leaf[order], samples), mesh)
            (total, metrics), gradients = jax.value_and_grad(batch_loss, has_aux=True)(params, batch)
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            # The norm is finite only where every gradient is: one number says it all.
            usable = jnp.isfinite(metrics["gradient_norm"]) & jnp.isfinite(total)
            metrics["taken"] = jnp.ones_like(total)
            # As one vector, to be added up at once.
            told = jnp.stack([metrics[name] for name in _TOLD]).astype(sums.dtype)

            updates, following = optimizer.update(gradients, moments, params)
            taken = params - annealed(rate, progress) * updates, following, sums + told
            learnt = jax.tree.map(lambda new, old: jnp.where(usable, new, old), taken, carry[0])
            if config.desired_kl is not None:
                rate = jnp.where(ends_epoch, adapted_rate(rate, metrics["kl"], config.desired_kl), rate)
            return (learnt, rate), None

        # One loop: of two, one in the other, each level is compiled, and the minibatches are stored in between.
        ends_epoch = jnp.arange(num_epochs * num_batches) % num_batches == num_batches - 1
        orders = orders.reshape(num_epochs * num_batches, -1)
        return jax.lax.scan(gradient_step, (learnt, options.learning_rate), (orders, ends_epoch))[0]

    def update(state: State, experience: rollout.Rollout, epoch_keys: Array) -> tuple[State, dict[str, Array]]:
        options = state.hyperparameters
        samples, (return_statistics, discounted_returns) = prepare(state, experience)
        progress = jnp.minimum(jnp.asarray(state.steps, jnp.float32) / config.total_steps, 1.0)
        # As one vector, a step of Adam is a few kernels and not a few for each array.
        params, unravel = jax.flatten_util.ravel_pytree(state.params)
        # All orders before the loop: within it XLA computes the order anew for each column that it gathers.
        count, *length = samples.log_prob.shape
        orders = jax.vmap(lambda key: permutation(key, count))(epoch_keys)
        orders = orders.reshape(config.num_epochs, -1, config.batch_size // math.prod(length))
        learnt = params, state.optimizer, jnp.zeros(len(_TOLD))
        (params, moments, sums), rate = learnt_from(samples, orders, learnt, options, progress, unravel)
        # NaN where no step was taken.
        metrics: dict[str, Any] = dict(zip(_TOLD[:-1], sums[:-1] / sums[-1], strict=True))
        metrics["skipped"] = orders.shape[0] * orders.shape[1] - sums[-1].astype(jnp.int32)
        told = jnp.stack([samples.targets - samples.values, samples.targets])
        unexplained, variance = jnp.var(told.reshape(2, -1), axis=1)
        metrics["explained_variance"] = 1.0 - unexplained / (variance + 1e-8)
        metrics["learning_rate"] = annealed(rate, progress)
        metrics["saturation"] = saturation(policy.spec, experience.actions)
        seen = state.observation_statistics
        if config.normalize_observations:
            seen = normalize.update(seen, sharding.environments_first(experience.observations, mesh))
        # Statistics never come back from NaN, so an experience that holds it leaves no trace in them.
        usable = jnp.all(jnp.isfinite(seen.m2)) & jnp.isfinite(return_statistics.m2)
        seen, return_statistics, discounted_returns = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old),
            (seen, return_statistics, discounted_returns),
            (state.observation_statistics, state.return_statistics, state.discounted_returns),
        )
        return state._replace(
            params=unravel(params),
            optimizer=moments,
            observation_statistics=seen,
            return_statistics=return_statistics,
            discounted_returns=discounted_returns,
            hyperparameters=options._replace(learning_rate=rate),
        ), metrics

    return update
