"""Functions shared by the contenders written in JAX."""

from __future__ import annotations

import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import inputs

if os.environ.get("BENCHMARKS_DISPATCH") == "inline":
    # JAX does not read this option from the environment, and it has to be set before the first operation.
    jax.config.update("jax_cpu_enable_async_dispatch", False)

CLIP_RATIO, ENTROPY_COEFFICIENT = 0.2, 0.01


def hardware(device: str) -> str:
    found = jax.devices("gpu" if device == "cuda" else device)[0]
    return found.device_kind


class MLP(nn.Module):
    """The network, written in plain Flax."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = observations
        for width in self.hidden:
            x = nn.elu(nn.Dense(width)(x))
        return nn.Dense(inputs.ACTIONS)(x), self.param("log_std", nn.initializers.zeros, (inputs.ACTIONS,))


def dense(layer: tuple[np.ndarray, np.ndarray]) -> dict[str, jax.Array]:
    """The parameters of one Flax layer."""
    kernel, bias = layer
    return {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}


def flax_params(weights: inputs.Weights) -> dict[str, Any]:
    """The parameters of `MLP`."""
    layers = {f"Dense_{i}": dense(layer) for i, layer in enumerate(weights.layers)}
    return {"params": {**layers, "log_std": jnp.asarray(weights.log_std)}}


def ppo_loss(log_prob: jax.Array, entropy: jax.Array, batch: inputs.Minibatch) -> jax.Array:
    """PPO's clipped loss with its entropy bonus."""
    ratio = jnp.exp(log_prob - batch.log_prob)
    clipped = jnp.clip(ratio, 1.0 - CLIP_RATIO, 1.0 + CLIP_RATIO)
    surrogate = jnp.minimum(ratio * batch.advantages, clipped * batch.advantages)
    return -jnp.mean(surrogate) - ENTROPY_COEFFICIENT * jnp.mean(entropy)


def norms(layers: list[dict[str, Any]], *more: Any) -> list[float]:
    """The norm of each gradient, layer by layer, which has to be equal for all contenders."""
    arrays = [array for layer in layers for array in (layer["kernel"], layer["bias"])]
    return [float(jnp.linalg.norm(jnp.ravel(array))) for array in (*arrays, *more)]
