"""Loss, gradient steps and validation of cloning, as pure functions of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from gaussjax import normalize, spaces
from gaussjax.core.arrays import like_actions
from gaussjax.core.compiled import where
from gaussjax.policy import Params, Policy
from gaussjax.random import keys
from gaussjax.random.permutation import permutation
from gaussjax.training.algorithm import normalized, promoting, without_axis
from gaussjax.training.bc.config import Config, Learner
from gaussjax.training.bc.samples import Samples, shifted
from gaussjax.training.metrics import log_std_clipped

Evaluate = Callable[[Params, normalize.Normalizer, Samples], tuple[Array, dict[str, Array]]]
"""Function `(params, statistics, samples) -> (loss, metrics)`; metrics are means over the rows with a weight."""


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam, or AdamW that decays kernels and leaves biases and log_std alone."""
    if not config.weight_decay:
        return promoting(optax.adam(config.learning_rate))

    def kernels(params: Params) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return promoting(optax.adamw(config.learning_rate, weight_decay=config.weight_decay, mask=kernels))


def make_evaluate(policy: Policy, config: Config) -> Evaluate:
    """Makes the function that computes the loss and the metrics of samples."""
    unclipped = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    name = "raw_actions" if unclipped else "taken_actions"
    bounds, num_actions = spaces.bounds(policy.spec.action_space), spaces.size(policy.spec.action_space)

    def outputs_of(params: Params, observations: Any, samples: Samples) -> tuple[Any, Array]:
        """Scores of the recorded actions and these actions, both time-major for a recurrent policy."""
        if not isinstance(samples.resets, jax.Array):
            return policy.evaluate(params, observations, **{name: samples.actions}), samples.actions
        swapped = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (observations, samples.actions, samples.resets))
        carry = policy.initial_carry(swapped[2].shape[1:])
        if config.burn_in:
            observations, _, resets = jax.tree.map(lambda leaf: leaf[: config.burn_in], swapped)
            prepared = policy.apply(jax.lax.stop_gradient(params), observations, carry=carry, resets=resets)
            carry = jax.lax.stop_gradient(prepared[1]["carry"])
        observations, actions, resets = jax.tree.map(lambda leaf: leaf[config.burn_in :], swapped)
        return policy.evaluate(params, observations, **{name: actions}, carry=carry, resets=resets), actions

    def evaluate(params: Params, statistics: normalize.Normalizer, samples: Samples) -> Any:
        scores, actions = outputs_of(params, normalized(config, statistics, samples.observations), samples)
        weights = samples.weights if scores.outputs["mean_actions"].ndim == 2 else samples.weights.T
        log_prob, entropy = without_axis(policy, scores.log_prob), without_axis(policy, scores.entropy)
        distribution, counted = policy.distribution(scores.outputs), weights > 0
        count = jnp.maximum(jnp.sum(counted, dtype=log_prob.dtype), 1.0)

        def mean(values: Array) -> Array:
            return jnp.sum(jnp.where(counted, values, 0.0)) / count

        _, taken, _ = policy.kind.sample(distribution, None, "sum")
        # Stop gradients of outputs that are used only for metrics and weights.
        still, outputs = jax.lax.stop_gradient((distribution, scores.outputs))
        log_likelihood = mean(weights * log_prob) / mean(weights) / num_actions
        if config.loss == "log_prob":
            # The weight is the geometric mean of the variances, to the power of variance_weight.
            variance = 2.0 * config.variance_weight * jnp.mean(_log_stddev(still, outputs), axis=-1)
            objective, score = mean(weights * jnp.exp(variance) * log_prob), log_likelihood
        else:
            # A clip has no gradient, so the gradient at a bound of the Box is the mean's, and only the mean's.
            low, high = like_actions(*bounds, taken)
            means = scores.outputs["mean_actions"]
            passed = jax.lax.stop_gradient(taken) + (means - jax.lax.stop_gradient(means))
            errors = jnp.where((taken <= low) | (taken >= high), passed, taken) - actions
            objective = -mean(weights * jnp.mean(jnp.square(errors), axis=-1))
            score = objective / mean(weights)
        return -objective - config.entropy_coefficient * mean(entropy), {
            "score": score,
            "log_prob": mean(log_prob) / num_actions,
            "mean_error": mean(jnp.mean(jnp.abs(taken - actions), axis=-1)),
            "entropy": mean(entropy),
            "log_std_clipped": log_std_clipped(policy, outputs["log_std"]),
        }

    return evaluate


def make_learn(policy: Policy, evaluate: Evaluate, config: Config, batch: int) -> Callable[..., Any]:
    """Makes a pass over samples in minibatches, a pure function `(learner, statistics, samples, key) -> …`.

    It returns the new learner, and metrics and flags of usable gradients for each gradient step.
    """
    optimizer, space = make_optimizer(config), policy.spec.observation_space

    def loss(params: Params, statistics: normalize.Normalizer, samples: Samples) -> Any:
        return evaluate(params, statistics, samples)

    def learn(learner: Learner, statistics: normalize.Normalizer, samples: Samples, key: Array) -> Any:
        count = len(samples.weights)
        key, augment_key = keys.split(key)
        order = permutation(key, count)[: count - count % batch].reshape(-1, batch)
        drawn = keys.split(augment_key, len(order)) if config.augment else order

        def gradient_step(learner: Learner, step: tuple[Array, Any]) -> Any:
            rows, key = step
            chosen = jax.tree.map(lambda leaf: leaf[rows], samples)
            if config.augment:
                images = shifted(space, chosen.observations, key, config.augment)
                chosen = chosen._replace(observations=images)
            value_and_grad = jax.value_and_grad(loss, has_aux=True)
            (total, metrics), gradients = value_and_grad(learner.params, statistics, chosen)
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            usable = jnp.isfinite(metrics["gradient_norm"]) & jnp.isfinite(total)
            updates, following = optimizer.update(gradients, learner.optimizer, learner.params)
            new = Learner(optax.apply_updates(learner.params, updates), following)
            return where(usable, new, learner), (metrics, usable)

        return jax.lax.scan(gradient_step, learner, (order, drawn))

    return learn


def make_assess(evaluate: Evaluate, batch: int) -> Callable[..., dict[str, Array]]:
    """Makes a function `(params, statistics, samples) -> sums` of the metrics that validation has."""

    def assess(params: Params, statistics: normalize.Normalizer, samples: Samples) -> dict[str, Array]:
        def each(batch: Samples) -> dict[str, Array]:
            _, metrics = evaluate(params, statistics, batch)
            rows, weight = jnp.sum(batch.weights > 0, dtype=jnp.float32), jnp.sum(batch.weights)
            # A batch of nothing but filling has a score of 0 / 0.
            score = jnp.where(weight > 0, metrics["score"], 0.0)
            sums = {name: rows * metrics[name] for name in ("log_prob", "mean_error")}
            return {**sums, "score": weight * score, "rows": rows, "weight": weight}

        batches = jax.tree.map(lambda leaf: leaf.reshape(-1, batch, *leaf.shape[1:]), samples)
        return jax.tree.map(lambda sums: jnp.sum(sums, axis=0), jax.lax.map(each, batches))

    return assess


def _log_stddev(distribution: Any, outputs: dict[str, Any]) -> Array:
    """Logarithm of the standard deviation of each action, or log_std if the distribution does not define it."""
    try:
        stddev = distribution.stddev()
    except NotImplementedError:
        return outputs["log_std"]
    # A squashed action far beyond a bound may have a standard deviation that rounds to 0.
    return jnp.log(jnp.maximum(stddev, jnp.finfo(stddev.dtype).tiny))
