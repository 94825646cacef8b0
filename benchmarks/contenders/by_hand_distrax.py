"""A policy in plain Flax and distrax, as one compiled function with the fewest outputs."""

from __future__ import annotations

from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import inputs
from benchmarks.contenders.with_jax import MLP, flax_params, hardware, norms, ppo_loss
from benchmarks.worker import Built

__all__ = ["act", "evaluate", "hardware"]


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN) -> Built:
    network, params, key = MLP(tuple(hidden)), flax_params(inputs.weights(tuple(hidden))), jax.random.key(1)

    @jax.jit
    def choose(params: Any, key: jax.Array, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_std = network.apply(params, observations)
        distribution = distrax.MultivariateNormalDiag(mean, jnp.exp(jnp.clip(log_std, -20.0, 2.0)))
        return distribution.sample_and_log_prob(seed=key)

    observations = inputs.observations(batch)
    check = network.apply(params, observations)[0][0]
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
