"""What the errors of a function are divided by, and the natural units of its arguments, all in float64."""

import math
from collections.abc import Callable

import numpy as np

from tests.numerics import reference
from tests.numerics.points import BOX, Inputs

Scales = Callable[[list[np.ndarray], Inputs], list[np.ndarray]]


def _size(x: np.ndarray) -> np.ndarray:
    """Absolute values; 1 for numbers below 1e-36, because XLA rounds float32 numbers below 1.2e-38 to 0 on the way."""
    size = np.abs(x)
    return np.where(size < 1e-36, 1.0, size)


def relative(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    return [_size(x) for x in results]


def by_unit(units: Callable[..., list[np.ndarray]]) -> Scales:
    """Against 1 nat, or the result where it is larger; gradients per natural unit."""

    def scales(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
        least = np.maximum(np.abs(results[0]), 1.0)
        sizes = [unit.reshape(len(least), -1) for unit in units(*inputs)]
        gradients = zip(results[1:], sizes, strict=True)
        return [least, *(np.maximum(np.abs(x), least[:, None] / size) for x, size in gradients)]

    return scales


def _density(mean: np.ndarray, log_std: np.ndarray, actions: np.ndarray) -> np.ndarray:
    z = (actions - mean) * np.exp(-log_std)
    return z * z / 2 + np.abs(log_std) + 0.92


def normal(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    _, by_mean, by_log_std, *by_actions = results
    return [_density(*inputs), _size(by_mean), by_log_std + 2, *map(_size, by_actions)]


def raw(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    volume = 2 * np.abs(inputs[2])
    return [_density(*inputs) + volume, _size(results[1]), results[2] + 2]


def taken(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    mean, log_std, actions = inputs
    raw, slope = np.arctanh(actions / 2), np.exp(-log_std)
    # The raw action is computed: its own roundoff, |raw| u, moves z by |raw| u / std.
    z, moved = np.abs(raw - mean) * slope, np.abs(raw) * slope
    volume = 2 * np.log(np.cosh(raw)) + math.log(2)
    value = _density(mean, log_std, raw) + volume + z * moved + 2 * np.abs(raw)
    return [value, ((z + moved) * slope)[:, None], (z * z + 1 + 2 * z * moved)[:, None]]


def clipped(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    mean, log_std, actions = inputs
    z = (actions - mean) * np.exp(-log_std)
    scale = np.abs(results[0]) + _density(*inputs)
    inside = (actions > BOX[0]) & (actions < BOX[1])
    # The roundoff of z moves the density at a bound by z² of itself.
    tails = [
        (1 + z * z) * np.maximum(np.abs(x[:, 0]), 1e-30 / unit)
        for x, unit in zip(results[1:], (np.exp(log_std), 1), strict=True)
    ]
    inner = np.abs(z) * np.exp(-log_std), z * z + 1
    return [scale, *(np.where(inside, _size(x), y)[:, None] for x, y in zip(inner, tails, strict=True))]


def truncated(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    # Distances from the mode, in which the density is exp(-y) over its integral.
    mean, log_std, actions = inputs
    mode = np.clip(mean, *BOX)
    s, slope = np.abs(actions - mode) * np.exp(-log_std), np.abs(mode - mean) * np.exp(-log_std)
    y = s * (slope + s / 2)
    value = y + np.abs(log_std) + 0.92 + np.abs(results[0] + y + log_std)
    # The spread of the distribution, because an expectation is subtracted.
    spread = np.minimum(1 / (1 + slope), (BOX[1] - BOX[0]) * np.exp(-log_std))
    by_mean, by_log_std = (s + spread) * np.exp(-log_std), 2 * (y + spread * (slope + spread))
    return [value, np.abs(results[1]) + by_mean[:, None], np.abs(results[2]) + by_log_std[:, None]]


def truncated_actions(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    # The derivative by the noise is the local scale of the distribution.
    spread = np.maximum(np.abs(results[3][:, 0]), 1e-30)
    value = np.abs(results[0]) + spread
    # An action is the mode and a distance from it, so it has the digits of both.
    both = value + np.abs(np.clip(inputs[0], *BOX).reshape(value.shape))
    return [both, np.ones_like(results[1]), value[:, None], value[:, None]]


def correlated(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    mean, log_std, pairs, actions = inputs
    noise = np.asarray(reference.correlated_noise(*inputs, exp=np.exp), np.float64)
    scaled = np.abs((actions - mean) * np.exp(-log_std))
    # The noise solves (I + N) noise = scaled, and gradients solve (I + N)ᵀ x = noise. Roundoff moves both this much.
    factor = np.zeros((*noise.shape, noise.shape[-1]))
    factor[:, *np.tril_indices(noise.shape[-1], -1)] = pairs
    inverse, sizes = np.abs(np.linalg.inv(factor + np.eye(noise.shape[-1]))), np.abs(factor)
    moved = np.einsum("nij,nj->ni", inverse, scaled + np.einsum("nij,nj->ni", sizes, np.abs(noise)))
    moved = moved + np.einsum("nij,ni->nj", sizes, np.abs(results[1] * np.exp(log_std)))
    moved = np.einsum("nij,ni->nj", inverse, moved)
    return [(noise * noise / 2 + np.abs(log_std) + 0.92).sum(-1), moved * np.exp(-log_std), moved * scaled + 1]


def explored(results: list[np.ndarray], inputs: Inputs) -> list[np.ndarray]:
    # The result adds the logarithms of the largest feature and of the largest deviation.
    features, log_std = inputs
    sizes = np.where(features == 0, 1.0, np.abs(features))
    added = np.abs(np.log(np.abs(features).max(-1))) + np.abs(log_std.max(-1))
    # A gradient is the share of a feature in the variance, an exponential of such a sum; shares below 1e-12 vanish.
    moved = 1 + added[:, None] + np.abs(np.log(sizes)) + np.abs(log_std)
    shares = np.maximum(results[2] * moved, 1e-12)
    return [np.abs(results[0]) + added + 0.92, shares / sizes, shares]


def std(mean: np.ndarray, log_std: np.ndarray, *_: np.ndarray) -> list[np.ndarray]:
    return [np.exp(log_std), np.ones_like(log_std)]


def ones(*inputs: np.ndarray) -> list[np.ndarray]:
    return [np.ones_like(x) for x in inputs]


def other_std(*inputs: np.ndarray) -> list[np.ndarray]:
    # The log_std of the second one of a pair of distributions.
    return [np.exp(inputs[len(inputs) // 2 + 1]), np.ones_like(inputs[1])]
