"""Weights and observations of every contender, made with NumPy only."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

OBSERVATIONS, ACTIONS, HIDDEN = 60, 8, (32, 32)


class Weights(NamedTuple):
    """Weights of a policy with ELU layers, a linear mean and a `log_std` parameter.

    Attributes:
        layers: Kernel `(in, out)` and bias `(out,)` of each hidden layer and of the mean.
        log_std: Log standard deviations, `(ACTIONS,)`.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    log_std: np.ndarray


class Minibatch(NamedTuple):
    """Samples of a PPO minibatch.

    Attributes:
        observations: Observations, `(B, OBSERVATIONS)`.
        actions: Unclipped samples of the policy itself, before tanh if it is squashed, `(B, ACTIONS)`.
        log_prob: Log-densities near those of the policy, `(B, 1)`.
        advantages: Standard normal advantages, `(B, 1)`.
    """

    observations: np.ndarray
    actions: np.ndarray
    log_prob: np.ndarray
    advantages: np.ndarray


def weights(hidden: tuple[int, ...] = HIDDEN, seed: int = 0, actions: int = ACTIONS) -> Weights:
    generator = np.random.default_rng(seed)
    sizes = (OBSERVATIONS, *hidden, actions)
    layers = tuple(
        (
            (generator.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32),
            (0.1 * generator.normal(size=fan_out)).astype(np.float32),
        )
        for fan_in, fan_out in itertools.pairwise(sizes)
    )
    return Weights(layers, np.linspace(-1.0, 0.5, actions, dtype=np.float32))


def observations(batch: int, seed: int = 1) -> np.ndarray:
    """Standard normal observations at an aligned address, `(batch, OBSERVATIONS)`."""
    return aligned(np.random.default_rng(seed).normal(size=(batch, OBSERVATIONS)))


def minibatch(batch: int, actions: int = ACTIONS, squashed: bool = False) -> Minibatch:
    """Samples of the policy of `weights`, before tanh if it is squashed."""
    generator = np.random.default_rng(2)
    policy, observed = weights(actions=actions), observations(batch)
    noise = generator.normal(size=(batch, actions))
    drawn = mean(policy, observed) + np.exp(policy.log_std) * noise
    density = -0.5 * noise**2 - policy.log_std - 0.5 * np.log(2 * np.pi)
    if squashed:
        density -= 2.0 * (np.log(2.0) - drawn - np.logaddexp(0.0, -2.0 * drawn))
    log_prob = density.sum(-1, keepdims=True) + 0.1 * generator.normal(size=(batch, 1))
    advantages = generator.normal(size=(batch, 1))
    return Minibatch(observed, aligned(drawn), aligned(log_prob), aligned(advantages))


def mean(policy: Weights, observed: np.ndarray) -> np.ndarray:
    """The mean action, computed with NumPy."""
    x = observed
    for kernel, bias in policy.layers[:-1]:
        x = x @ kernel + bias
        x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    kernel, bias = policy.layers[-1]
    return x @ kernel + bias


def aligned(array: Any) -> np.ndarray:
    """A float32 copy at an address that is a multiple of 64.

    XLA borrows the memory of such an array and copies any other array, which costs more than the policy
    at large batches. NumPy guarantees only multiples of 16.
    """
    array = np.asarray(array, np.float32)
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(np.float32).reshape(array.shape)
    copy[...] = array
    return copy


def recorded(rows: int, observations: int, actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal observations and uniform actions from -1 to 1, as a dataset to clone."""
    generator = np.random.default_rng(3)
    seen = generator.standard_normal((rows, observations), np.float32)
    return seen, generator.uniform(-1.0, 1.0, (rows, actions)).astype(np.float32)
