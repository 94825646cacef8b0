"""The update of PPO: all epochs of minibatches in one compiled program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array

from gaussjax import normalize, rollout
from gaussjax.core.compiled import varying, where
from gaussjax.policy import Params, Policy
from gaussjax.random import keys
from gaussjax.random.permutation import permutation
from gaussjax.training import losses, parallel
from gaussjax.training.algorithm import LAST_STEP, promoting
from gaussjax.training.metrics import log_std_clipped, saturation
from gaussjax.training.ppo.config import Config, Hyperparameters, State
from gaussjax.training.ppo.initial import Start, critic_mask
from gaussjax.training.ppo.samples import Samples, make_prepare, memory, scored

# Factor and limits of the adaptive step size, as in rsl_rl and skrl.
_KL_FACTOR, _LOWEST_RATE, _HIGHEST_RATE = 1.5, 1e-6, 1e-2


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam with clipped gradients and without a step size; the update multiplies by the step size itself."""
    adam = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=1e-5))
    # XLA: a gradient step has separate kernels for every parameter array. With all parameters in one vector, here and
    # in the update, PPO compiles in 0.85 of the time and an update of 512 × 32 steps takes 0.9 of it (jax 0.10.2,
    # CPU). test_one_vector_of_parameters_needs_fewer_kernels fails once the vector is unnecessary.
    return promoting(optax.flatten(adam))


def adapted_rate(rate: Array, kl: Array, desired_kl: float) -> Array:
    """The step size after an epoch: smaller if the KL divergence is too large, larger if it is too small.

    It does not shrink below 1e-6 or grow above 1e-2. From beyond these limits it moves towards them only.
    """
    smaller = jnp.minimum(rate, jnp.maximum(rate / _KL_FACTOR, _LOWEST_RATE))
    larger = jnp.maximum(rate, jnp.minimum(rate * _KL_FACTOR, _HIGHEST_RATE))
    return jnp.where(kl > 2.0 * desired_kl, smaller, jnp.where(kl < 0.5 * desired_kl, larger, rate))


def make_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    config: Config,
    mesh: Mesh | None = None,
    start: Start | None = None,
) -> Callable[[State, rollout.Rollout, Array], tuple[State, dict[str, Array]]]:
    """Makes the update of PPO, a pure function `(state, experience, epoch_keys) -> (state, metrics)`.

    On a mesh every device holds all samples and processes its shard of each minibatch. The minibatches are the
    same as on one device. The statistics of a policy in `start` stay as they are: its actions would change with them.
    """
    prepare, warmup = make_prepare(policy, config, mesh), config.critic_warmup or 0
    mask = critic_mask(policy) if warmup else None

    def loss(params: Params, samples: Samples, options: Hyperparameters, key: Any) -> tuple[Array, dict[str, Array]]:
        carry = samples.carry
        if jax.tree.leaves(carry):
            samples = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), samples._replace(carry=()))
        recurrent = memory(carry, samples.resets)
        log_prob, entropy, outputs = scored(policy, params, samples.observations, samples.raw_actions, recurrent)
        advantages = samples.advantages
        if config.normalize_advantages:
            advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
        log_ratios = losses.log_ratio(log_prob, samples.log_prob)
        policy_loss = losses.clipped_surrogate(log_ratios, advantages, options.clip_range)
        value_loss = losses.value_loss(outputs["value"], samples.targets, samples.values, config.value_clip_range)
        if config.entropy == "sample":
            noise = keys.standard_normal(key, outputs["mean_actions"].shape)
            distribution = policy.distribution(outputs)
            entropy = losses.sampled_entropy(distribution, policy.kind.sample(distribution, noise, "sum")[2])
        entropy = jnp.mean(entropy)
        total = policy_loss + options.value_coefficient * value_loss - options.entropy_coefficient * entropy
        # Stop gradients of outputs that are used only for metrics.
        outputs, log_ratios = jax.lax.stop_gradient((outputs, log_ratios))
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": jnp.mean(samples.distribution.kl_divergence(policy.distribution(outputs))),
            "clip_fraction": jnp.mean(jnp.abs(jnp.expm1(log_ratios)) > options.clip_range),
            "std": jnp.mean(jnp.exp(outputs["log_std"])),
            "log_std_clipped": log_std_clipped(policy, outputs["log_std"]),
        }

    def update(state: State, experience: rollout.Rollout, epoch_keys: Array) -> tuple[State, dict[str, Array]]:
        options = state.hyperparameters
        samples, (return_statistics, discounted_returns) = prepare(state, experience)
        progress = jnp.minimum(jnp.asarray(state.steps, jnp.float32) / config.total_steps, 1.0)
        annealing = 1.0 - progress if config.anneal_learning_rate else jnp.ones(())
        count, *length = samples.log_prob.shape
        batch_rows = config.batch_size // math.prod(length)
        initial_params, unravel = ravel_pytree(state.params)
        initial_moments, warmed, trained = state.optimizer, None, None
        if mask is not None:
            end = min(warmup * config.num_envs * config.num_steps, LAST_STEP)
            warmed = state.steps >= end
            trained = warmed | ravel_pytree(mask(state.params))[0]
            # Adam's averages of the actor are zero until now. Its first steps would be several times too long.
            initial_moments = where(state.steps == end, optimizer.init(initial_params), initial_moments)

        def gradient_step(carry: Any, drawn: tuple[Array, Any]) -> tuple[Any, Any]:
            (params, moments, rate, stopped), (order, key) = carry, drawn
            order = parallel.spread(order, mesh)
            batch = parallel.spread(jax.tree.map(lambda leaf: leaf[order], samples), mesh)
            (total, metrics), gradients = jax.value_and_grad(
                lambda params: loss(unravel(params), batch, options, key), has_aux=True
            )(params)
            if trained is not None:
                gradients = jnp.where(trained, gradients, 0.0)
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            # The norm is finite only if every component of the gradient is finite.
            finite = jnp.isfinite(metrics["gradient_norm"]) & jnp.isfinite(total)
            if config.target_kl is not None:
                stopped = stopped | (finite & (metrics["kl"] > 1.5 * config.target_kl))
            updates, following = optimizer.update(gradients, moments, params)
            taken = finite & ~stopped
            params, moments = where(taken, (params - annealing * rate * updates, following), (params, moments))
            return (params, moments, rate, stopped), (metrics, taken, ~finite & ~stopped)

        def epoch(carry: Any, key: Array) -> tuple[Any, Any]:
            noise_keys = None
            if config.entropy == "sample":
                key, noise_key = keys.split(key)
                noise_keys = keys.split(noise_key, count // batch_rows)
            drawn = permutation(key, count).reshape(-1, batch_rows), noise_keys
            (params, moments, rate, stopped), (metrics, *counted) = jax.lax.scan(gradient_step, carry, drawn)
            if config.desired_kl is not None:
                adapted = adapted_rate(rate, metrics["kl"][-1], config.desired_kl)
                rate = adapted if warmed is None else where(warmed, adapted, rate)
            return (params, moments, rate, stopped), (metrics, *counted)

        carry = initial_params, initial_moments, options.learning_rate, varying(jnp.zeros((), bool), like=epoch_keys)
        (params, moments, rate, _), (metrics, taken, skipped) = jax.lax.scan(epoch, carry, epoch_keys)
        # If all gradient steps were skipped, the mean over none makes the metrics NaN.
        metrics = {name: jnp.mean(metric, where=taken) for name, metric in metrics.items()}
        unexplained = jnp.var(samples.targets - samples.values) / (jnp.var(samples.targets) + 1e-8)
        statistics = state.observation_statistics
        if config.normalize_observations:
            statistics = normalize.update(statistics, parallel.environments_first(experience.observations, mesh))
            if start is not None:
                statistics = start.fixed(state.observation_statistics, statistics)
        # Running statistics never recover from NaN, so a rollout that contains NaN does not enter them.
        usable = normalize.is_finite(statistics) & normalize.is_finite(return_statistics)
        statistics, return_statistics, discounted_returns = where(
            usable,
            (statistics, return_statistics, discounted_returns),
            (state.observation_statistics, state.return_statistics, state.discounted_returns),
        )
        return state._replace(
            params=unravel(params),
            optimizer=moments,
            observation_statistics=statistics,
            return_statistics=return_statistics,
            discounted_returns=discounted_returns,
            hyperparameters=options._replace(learning_rate=rate),
        ), {
            **metrics,
            "gradient_steps": jnp.sum(taken),
            "skipped": jnp.sum(skipped),
            "explained_variance": 1.0 - unexplained,
            "learning_rate": annealing * rate,
            "saturation": saturation(policy, experience.actions),
        }

    return update
