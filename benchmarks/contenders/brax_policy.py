"""brax's PPO policy, compiled with its parameters closed over, as brax's own examples run it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from brax.training.agents.ppo import networks

from benchmarks import inputs
from benchmarks.contenders.with_jax import dense, hardware, norms, ppo_loss
from benchmarks.worker import Built

__all__ = ["act", "hardware", "squashed"]


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN, alone: bool = False) -> Built:
    """One draw, with brax's other outputs or with the actions alone."""
    made = networks.make_ppo_networks(
        inputs.OBSERVATIONS,
        inputs.ACTIONS,
        policy_hidden_layer_sizes=tuple(hidden),
        activation=nn.elu,
        distribution_type="normal",
        noise_std_type="log",
    )
    params = params_of(inputs.weights(tuple(hidden)))
    if jax.tree.structure(params) != jax.tree.structure(made.policy_network.init(jax.random.key(0))):
        raise ValueError("brax's parameters are no longer laid out as these")
    make_policy = networks.make_inference_fn(made)
    key, observations = jax.random.key(1), inputs.observations(batch)
    check = make_policy((None, params), deterministic=True)(observations, key)[0][0]
    draw = make_policy((None, params))
    if alone:
        actions = jax.jit(lambda observations, key: draw(observations, key)[0])
        return Built(lambda: np.asarray(actions(observations, key)), check)
    choose = jax.jit(draw)
    if resident:
        held = jnp.asarray(observations)
        return Built(lambda: jax.block_until_ready(choose(held, key)), check)
    return Built(lambda: np.asarray(choose(observations, key)[0]), check)


def squashed(device: str, batch: int, actions: int) -> Built:
    """The gradient of PPO's loss with brax's tanh, whose entropy is that of one sample."""
    made = networks.make_ppo_networks(
        inputs.OBSERVATIONS,
        actions,
        policy_hidden_layer_sizes=inputs.HIDDEN,
        activation=nn.elu,
        noise_std_type="log",
    )
    *layers, mean = inputs.weights(actions=actions).layers
    std = np.exp(inputs.weights(actions=actions).log_std)
    # brax's standard deviations are softplus(·) + 0.001, here the same in every state.
    both = np.pad(mean[0], ((0, 0), (0, actions))), np.concatenate([mean[1], np.log(np.expm1(std - 1e-3))])
    params = {"params": {f"hidden_{i}": dense(layer) for i, layer in enumerate((*layers, both))}}
    samples = jax.tree.map(jnp.asarray, inputs.minibatch(batch, actions, squashed=True))
    distribution, key = made.parametric_action_distribution, jax.random.key(1)

    def loss(params: Any, samples: inputs.Minibatch, key: jax.Array, weight: float) -> jax.Array:
        logits = made.policy_network.apply(None, params, samples.observations)
        log_prob = distribution.log_prob(logits, samples.actions)[:, None]
        return ppo_loss(log_prob, weight * distribution.entropy(logits, key), samples)

    gradient = jax.jit(jax.grad(loss), static_argnums=3)
    # The entropy of one sample is another number for each key, so the check leaves it out.
    found = gradient(params, samples, key, 0.0)["params"]
    *hidden, last = (found[f"hidden_{i}"] for i in range(len(layers) + 1))
    check = norms([*hidden, {name: array[..., :actions] for name, array in last.items()}])
    return Built(lambda: jax.block_until_ready(gradient(params, samples, key, 1.0)), check)


def params_of(weights: inputs.Weights) -> Any:
    *layers, mean = weights.layers
    return {
        "params": {
            "MLP_0": {f"hidden_{i}": dense(layer) for i, layer in enumerate(layers)},
            "Dense_0": dense(mean),
            "std_logparam": {"log_value": jnp.asarray(weights.log_std)},
        }
    }
