"""gaussjax, used as in its README."""

from __future__ import annotations

import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gaussjax
from benchmarks import inputs
from benchmarks.contenders.with_jax import dense, hardware, norms, ppo_loss
from benchmarks.worker import Built

__all__ = ["act", "copy", "evaluate", "hardware", "population", "sharded", "squashed"]


def make(hidden: tuple[int, ...], kind: str = "gaussian", actions: int = inputs.ACTIONS, std: str = "parameter") -> Any:
    network = gaussjax.networks.MLP(tuple(hidden), "elu", output_activation=None, std=std)
    return getattr(gaussjax, kind)(network, inputs.OBSERVATIONS, gaussjax.spaces.Box(-1.0, 1.0, (actions,)))


def params_of(weights: inputs.Weights, log_std: Any = None) -> Any:
    """Parameters of the policy; `log_std` replaces the part of the head that is not a number for each action."""
    *hidden, mean = weights.layers
    layers = {f"dense_{i}": dense(layer) for i, layer in enumerate(hidden)}
    head = {"mean": dense(mean), "log_std": jnp.asarray(weights.log_std) if log_std is None else log_std}
    return {"params": {"layers": layers, "head": head}}


def act(
    device: str,
    batch: int,
    resident: bool,
    hidden: tuple[int, ...] = inputs.HIDDEN,
    by: str = "act",
    kind: str = "gaussian",
    gsde: bool = False,
) -> Built:
    """One draw by `policy.act`, by `serve`, or by `act` of a loaded file; matrices of gSDE are held."""
    policy, weights = make(hidden, kind, std="gsde" if gsde else "parameter"), inputs.weights(tuple(hidden))
    params = params_of(weights, jnp.tile(weights.log_std, (hidden[-1], 1)) if gsde else None)
    key, observations, given = jax.random.key(1), inputs.observations(batch), {}
    if gsde:
        given = {"noise": gaussjax.exploration.held(policy, 8).init(key, (batch,)).noise}
        key = None
    check = policy.act(params, key, observations, **given).outputs["mean_actions"][0]
    if resident:
        observations = jnp.asarray(observations)
    if by == "serve":
        bound = gaussjax.serve(policy, params)
        wait = jax.block_until_ready if resident else np.asarray
        return Built(lambda: wait(bound(observations, key)), check)
    if by == "load":
        with tempfile.TemporaryDirectory() as folder:
            gaussjax.save(f"{folder}/policy.safetensors", policy, params)
            loaded = gaussjax.load(f"{folder}/policy.safetensors")
        return Built(lambda: np.asarray(loaded.act(observations, key).actions), check)
    if resident:
        return Built(lambda: jax.block_until_ready(policy.act(params, key, observations, **given)), check)
    return Built(lambda: np.asarray(policy.act(params, key, observations, **given).actions), check)


def evaluate(device: str, batch: int) -> Built:
    policy, params = make(inputs.HIDDEN), params_of(inputs.weights())
    samples = jax.tree.map(jnp.asarray, inputs.minibatch(batch))

    def loss(params: Any, samples: inputs.Minibatch) -> jax.Array:
        log_prob, entropy, _ = policy.evaluate(params, samples.observations, raw_actions=samples.actions)
        return ppo_loss(log_prob, entropy, samples)

    gradient = jax.jit(jax.grad(loss))
    found = gradient(params, samples)["params"]
    check = norms([*found["layers"].values(), found["head"]["mean"]], found["head"]["log_std"])
    return Built(lambda: jax.block_until_ready(gradient(params, samples)), check)


def squashed(device: str, batch: int, actions: int) -> Built:
    """The gradient of PPO's loss of a squashed policy, whose entropy is computed by quadrature."""
    weights = inputs.weights(actions=actions)
    policy = make(inputs.HIDDEN, "squashed_gaussian", actions, "state")
    # The same standard deviation in every state.
    params = params_of(weights, dense((np.zeros((inputs.HIDDEN[-1], actions)), weights.log_std)))
    samples = jax.tree.map(jnp.asarray, inputs.minibatch(batch, actions, squashed=True))

    def loss(params: Any, samples: inputs.Minibatch, weight: float) -> jax.Array:
        log_prob, entropy, _ = policy.evaluate(params, samples.observations, raw_actions=samples.actions)
        return ppo_loss(log_prob, weight * entropy, samples)

    gradient = jax.jit(jax.grad(loss), static_argnums=2)
    found = gradient(params, samples, 0.0)["params"]
    check = norms([*found["layers"].values(), found["head"]["mean"]])
    return Built(lambda: jax.block_until_ready(gradient(params, samples, 1.0)), check)


def population(device: str, policies: int, loop: bool = False) -> Built:
    """One observation for each policy, in one call for all policies or in one call per policy."""
    policy = make(inputs.HIDDEN)
    each = [params_of(inputs.weights(seed=seed)) for seed in range(min(policies, 64))]
    each = [each[i % len(each)] for i in range(policies)]
    keys = jax.random.split(jax.random.key(1), policies)
    observations = jnp.asarray(inputs.observations(policies))[:, None]
    if loop:
        # Prepare the arguments of each call, because slicing would cost more than `act`.
        ready = list(zip(each, keys, observations, strict=True))
        check = policy.act(*ready[-1]).outputs["mean_actions"][0]
        return Built(lambda: jax.block_until_ready([policy.act(*one) for one in ready]), check)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    together = jax.jit(jax.vmap(policy.act))
    check = together(stacked, keys, observations).outputs["mean_actions"][-1, 0]
    return Built(lambda: jax.block_until_ready(together(stacked, keys, observations)), check)


def sharded(device: str, batch: int, devices: int) -> Built:
    """One call of `act` with the batch sharded over devices."""
    policy, params, key = make(inputs.HIDDEN), params_of(inputs.weights()), jax.random.key(1)
    mesh = jax.make_mesh((devices,), ("batch",), devices=jax.devices()[:devices])
    everywhere, spread = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in ((), ("batch",)))
    params, key = jax.device_put((params, key), everywhere)
    observations = jax.device_put(inputs.observations(batch), spread)
    check = np.asarray(policy.act(params, key, observations).outputs["mean_actions"])[0]
    return Built(lambda: jax.block_until_ready(policy.act(params, key, observations)), check)


def copy(device: str, size: int) -> Built:
    """Read and write `size` bytes, to measure the device's bandwidth."""
    numbers, negative = jnp.ones(size // 4), jax.jit(jnp.negative)
    return Built(lambda: jax.block_until_ready(negative(numbers)), [0.0])
