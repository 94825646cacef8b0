"""A policy in plain Flax and distrax, or TFP, as one compiled function."""

from __future__ import annotations

from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates.jax import distributions as tfp

from benchmarks import inputs
from benchmarks.contenders.with_jax import MLP, flax_params, hardware, norms, ppo_loss
from benchmarks.worker import Built

__all__ = ["act", "evaluate", "hardware"]


def act(
    device: str,
    batch: int,
    resident: bool,
    hidden: tuple[int, ...] = inputs.HIDDEN,
    outputs: int = 2,
    truncated: bool = False,
) -> Built:
    """One draw; two outputs are actions and log-densities, five those of gaussjax, and one has bound parameters."""
    network, params, key = MLP(tuple(hidden)), flax_params(inputs.weights(tuple(hidden))), jax.random.key(1)

    def draw(params: Any, key: jax.Array, observations: jax.Array) -> tuple[jax.Array, ...]:
        mean, log_std = network.apply(params, observations)
        log_std = jnp.clip(log_std, -20.0, 2.0)
        if truncated:
            distribution = tfp.TruncatedNormal(mean, jnp.exp(log_std), -1.0, 1.0)
            actions = distribution.sample(seed=key)
            log_prob = distribution.log_prob(actions).sum(-1)
        else:
            actions, log_prob = distrax.MultivariateNormalDiag(mean, jnp.exp(log_std)).sample_and_log_prob(seed=key)
        return actions, log_prob, actions, mean, jnp.broadcast_to(log_std, mean.shape)

    observations = inputs.observations(batch)
    check = network.apply(params, observations)[0][0]
    if outputs == 1:
        bound = jax.jit(lambda key, observations: draw(params, key, observations)[0])
        return Built(lambda: np.asarray(bound(key, observations)), check)
    choose = jax.jit(lambda *given: draw(*given)[:outputs])
    if resident:
        observations = jnp.asarray(observations)
        return Built(lambda: jax.block_until_ready(choose(params, key, observations)), check)
    return Built(lambda: np.asarray(choose(params, key, observations)[0]), check)


def evaluate(device: str, batch: int) -> Built:
    network, params = MLP(inputs.HIDDEN), flax_params(inputs.weights())
    samples = jax.tree.map(jnp.asarray, inputs.minibatch(batch))

    def loss(params: Any, samples: inputs.Minibatch) -> jax.Array:
        mean, log_std = network.apply(params, samples.observations)
        distribution = distrax.MultivariateNormalDiag(mean, jnp.exp(jnp.clip(log_std, -20.0, 2.0)))
        log_prob = distribution.log_prob(samples.actions)
        return ppo_loss(log_prob[:, None], distribution.entropy(), samples)

    gradient = jax.jit(jax.grad(loss))
    found = gradient(params, samples)["params"]
    check = norms([found[f"Dense_{i}"] for i in range(len(inputs.HIDDEN) + 1)], found["log_std"])
    return Built(lambda: jax.block_until_ready(gradient(params, samples)), check)
