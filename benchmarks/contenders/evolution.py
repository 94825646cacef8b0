"""A generation of an evolution strategy on Pendulum-v1, with policies of gaussjax or by hand, as with evosax."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from gymnasium.envs.phys2d.pendulum import PendulumFunctional
from jax.flatten_util import ravel_pytree

from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built

__all__ = ["evolution", "hardware"]

_HIDDEN, _STEPS, _NOISE = (32, 32), 200, 0.05
Fitness = Callable[[Any, jax.Array], jax.Array]


def evolution(device: str, policies: int, library: str = "gaussjax") -> Built:
    """One generation: all policies play an episode, and Adam follows the ranks of their returns."""
    fitness, params = {"gaussjax": _gaussjax, "hand": _by_hand}[library]()
    center, unravel = ravel_pytree(params)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def generation(center: jax.Array, state: Any, key: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
        key, noise_key, episode_key = jax.random.split(key, 3)
        noise = jax.random.normal(noise_key, (policies // 2, center.size))
        noise = jnp.concatenate([noise, -noise])
        returns = jax.vmap(lambda flat: fitness(unravel(flat), episode_key))(center + _NOISE * noise)
        ranks = jnp.argsort(jnp.argsort(returns)) / (policies - 1) - 0.5
        updates, state = optimizer.update(-ranks @ noise / (policies * _NOISE), state)
        return optax.apply_updates(center, updates), state, key

    latest = center, optimizer.init(center), jax.random.key(0)

    def call() -> None:
        nonlocal latest
        latest = jax.block_until_ready(generation(*latest))

    # The share of the lowest return that an episode of the same weights reaches.
    return Built(call, [float(fitness(params, jax.random.key(1))) / (-16.3 * _STEPS)])


def _kernels() -> list[jax.Array]:
    """Kernels of all layers; both libraries lay them out in their own way."""
    shapes = list(itertools.pairwise((3, *_HIDDEN, 1)))
    keys = jax.random.split(jax.random.key(2), len(shapes))
    return [jax.random.normal(key, shape) / shape[0] ** 0.5 for key, shape in zip(keys, shapes, strict=True)]


def _gaussjax() -> tuple[Fitness, Any]:
    import gaussjax

    environment = gaussjax.envs.make_functional("Pendulum-v1")
    network = gaussjax.networks.MLP(_HIDDEN, "elu", output_activation=None)
    policy = gaussjax.gaussian(network, environment.observation_space, environment.action_space)

    def fitness(params: Any, key: jax.Array) -> jax.Array:
        def step(carried: Any, _: None) -> Any:
            state, observation = carried
            stepped = environment.step(state, policy.act(params, None, observation, deterministic=True).actions)
            return (stepped.state, stepped.observation), stepped.reward

        return jax.lax.scan(step, environment.reset(key), None, length=_STEPS)[1].sum()

    *hidden, mean = _kernels()
    params = policy.init(jax.random.key(0))
    params["params"]["head"]["mean"]["kernel"] = mean
    for name, kernel in zip(params["params"]["layers"], hidden, strict=True):
        params["params"]["layers"][name]["kernel"] = kernel
    return fitness, params


def _by_hand() -> tuple[Fitness, Any]:
    environment = PendulumFunctional()

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for width in _HIDDEN:
                x = nn.elu(nn.Dense(width)(x))
            return nn.Dense(1)(x)

    network = MLP()

    def fitness(params: Any, key: jax.Array) -> jax.Array:
        def step(state: Any, _: None) -> Any:
            action = network.apply(params, environment.observation(state, None))
            following = environment.transition(state, action)
            return following, environment.reward(state, action, following, None)

        start = environment.initial(jax.random.split(key, 3)[0])
        return jax.lax.scan(step, start, None, length=_STEPS)[1].sum()

    params = network.init(jax.random.key(0), jnp.zeros(3))
    for i, kernel in enumerate(_kernels()):
        params["params"][f"Dense_{i}"]["kernel"] = kernel
    return fitness, params
