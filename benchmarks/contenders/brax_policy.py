"""brax's PPO policy, compiled with its parameters closed over, as brax's own examples run it."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from brax.training.agents.ppo import networks

from benchmarks import inputs
from benchmarks.contenders.with_jax import dense, hardware
from benchmarks.worker import Built

__all__ = ["act", "hardware"]


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN) -> Built:
    made = networks.make_ppo_networks(
        inputs.OBSERVATIONS,
        inputs.ACTIONS,
        policy_hidden_layer_sizes=tuple(hidden),
        activation=nn.elu,
        distribution_type="normal",
        noise_std_type="log",
    )
    weights = inputs.weights(tuple(hidden))
    *layers, mean = weights.layers
    params = {
        "params": {
            "MLP_0": {f"hidden_{i}": dense(layer) for i, layer in enumerate(layers)},
            "Dense_0": dense(mean),
            "std_logparam": {"log_value": jnp.asarray(weights.log_std)},
        }
    }
    if jax.tree.structure(params) != jax.tree.structure(made.policy_network.init(jax.random.key(0))):
        raise ValueError("brax's parameters are no longer laid out as these")
    make_policy = networks.make_inference_fn(made)
    key, observations = jax.random.key(1), inputs.observations(batch)
    check = make_policy((None, params), deterministic=True)(observations, key)[0][0]
    choose = jax.jit(make_policy((None, params)))
    if resident:
        held = jnp.asarray(observations)
        return Built(lambda: jax.block_until_ready(choose(held, key)), check)
    return Built(lambda: np.asarray(choose(observations, key)[0]), check)
