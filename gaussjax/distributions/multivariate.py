"""Gaussian with full covariance, parametrised by a unit triangular factor and a scale for each dimension."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Array, Float

from gaussjax.core.arrays import align, exact_sum, xp
from gaussjax.distributions.diagonal import Normal, constant_error, exact_product, over_std
from gaussjax.distributions.distribution import reduce, register, same_class, sized
from gaussjax.distributions.special import scale_divergence


def num_pairs(num_actions: int) -> int:
    """Number of entries below the diagonal of a square matrix with `num_actions` rows."""
    return num_actions * (num_actions - 1) // 2


@register
class MultivariateGaussian(Normal):
    """A normal distribution with correlated dimensions.

    Actions are `loc + diag(exp(log_std)) (I + N) noise` with N strictly lower triangular. No covariance
    is computed or factorised, so dimensions of very different scale stay accurate. Any values of the three
    arrays are valid; N = 0 gives `DiagGaussian`.

    Each dimension, conditioned on the dimensions before it, is normal with standard deviation
    `exp(log_std)`. The reduction "none" gives these conditional terms; their sum is the joint log-density.

    Attributes:
        loc: Mean, `(…, act)`.
        log_std: Natural logarithm of each dimension's standard deviation given the dimensions
            before it, `(…, act)`. The constructor broadcasts `(act,)`, `(…, 1)` and a scalar.
        off_diagonal: Entries of N below its diagonal, row by row, `(…, act * (act - 1) / 2)`.

    Example:
        >>> import jax.numpy as jnp
        >>> distribution = MultivariateGaussian(jnp.zeros((4, 3)), jnp.zeros(3), jnp.full(3, 0.5))
        >>> distribution.covariance()[0]
        Array([[1.  , 0.5 , 0.5 ],
               [0.5 , 1.25, 0.75],
               [0.5 , 0.75, 1.5 ]], dtype=float32)

    Source:
        Pourahmadi 1999, joint mean-covariance models by the modified Cholesky decomposition.
    """

    loc: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]
    off_diagonal: Float[Array, "*batch pairs"] = sized(num_pairs)

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The actions `loc + exp(log_std) * (noise + N @ noise)`; N is zero on and above its diagonal."""
        loc, log_std, noise = align(self.loc, self.log_std, noise)
        return loc + xp.exp(log_std) * (noise + xp.einsum_exact("...ij,...j->...i", self._factor(noise), noise))

    def noise_and_error(self, actions: Float[Array, "*batch act"]) -> tuple[Array, Array]:
        """The noise from which `from_noise` computes these actions, by a triangular solve, and what rounding removed.

        One step of iterative refinement gives the error: the equations are solved for the exact residual. The noise of
        actions beyond all numbers is so large that its square is infinite.
        """
        loc, log_std, actions = align(self.loc, self.log_std, actions)
        factor = self._factor(loc)

        def solve(right: Array) -> Array:
            return xp.squeeze(xp.solve_unit_lower(factor, xp.expand_dims(right, -1)), -1)

        (difference, lost), scale = exact_sum(actions, -loc), xp.exp(-log_std)
        # Infinite noise times a zero of the factor would be NaN. Selecting the noise instead takes longer: the gradient
        # of `evaluate` then takes 1.3 times as long.
        # Half of the largest number, because the exponential of its logarithm is infinite.
        largest = math.log(0.5 * float(xp.finfo(scale.dtype).max))
        far = xp.exp(xp.minimum(xp.stop_gradient(log_std) + 0.75 * largest, largest))
        difference = xp.clip(difference, -far, far)
        scaled, error = over_std(difference, log_std), exact_product(difference, scale)[1]
        noise = solve(scaled)
        products, errors = exact_product(factor, xp.expand_dims(noise, -2))
        error = error + lost * scale - xp.sum(errors, -1)
        residual = scaled
        for term in (noise, *(xp.entry(products, i) for i in range(loc.shape[-1] - 1))):
            residual, lost = exact_sum(residual, -term)
            error = error + lost
        return noise, solve(residual + error)

    def kl_divergence(self, other: MultivariateGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats; never negative, and accurate near zero.

        The reduction "none" gives the expected divergence of each dimension given the dimensions before it.

        Raises:
            TypeError: `other` is of another class.
        """
        same_class(self, other)
        loc, log_std, _, other_log_std = align(self.loc, self.log_std, other.loc, other.log_std)
        factor, other_factor = self._factor(loc), other._factor(loc)
        # The divergence needs the matrix M with (factor of other) M = (factor of self). M is diag(ratio) plus
        # a strictly lower X. With N' the N of other, (I + N') X = diag(ratio) N - N' diag(ratio). The right side
        # is written with ratio - 1, so that ratios near one lose no digits and equal distributions give exactly zero.
        gap, rest = exact_sum(log_std, -other_log_std)
        # The square of a ratio above the limit is infinite, and so is the divergence. An infinite ratio would give NaN.
        growth = xp.expm1(xp.minimum(gap, 0.5 * math.log(float(xp.finfo(gap.dtype).max))))
        growth = growth + rest * (1.0 + growth)
        difference = factor - other_factor
        difference += factor * xp.expand_dims(growth, -1) - other_factor * xp.expand_dims(growth, -2)
        solved = xp.solve_unit_lower(other_factor, difference)
        # Strong correlations would amplify the rounding of this noise, and a gradient would do so twice.
        noise, error = other.noise_and_error(loc)
        squares = xp.sum(xp.square(solved), -1) + xp.square(noise + constant_error(error))
        return reduce(0.5 * squares + scale_divergence(log_std, other_log_std), reduction)

    def stddev(self) -> Array:
        """Marginal standard deviation of each dimension, in units of the action."""
        return xp.exp(self.log_std) * xp.sqrt(1.0 + xp.sum(xp.square(self._factor(self.loc)), -1))

    def scale_tril(self) -> Array:
        """Cholesky factor of the covariance matrix, of shape `(…, act, act)`."""
        factor = self._factor(self.loc)
        unit = xp.constant(np.eye(*self.event_shape), factor)
        return xp.expand_dims(xp.exp(self.log_std), -1) * (factor + xp.broadcast_to(unit, factor.shape))

    def covariance(self) -> Array:
        """Covariance matrix, of shape `(…, act, act)`, for inspection; no other method uses it."""
        factor = self.scale_tril()
        return xp.einsum_exact("...ik,...jk->...ij", factor, factor)

    def _factor(self, like: Array) -> Array:
        """The matrices N, `(…, act, act)`, with the dtype and the batch shape of the array `like`, `(…, act)`."""
        entries = xp.astype(self.off_diagonal, like.dtype)
        return xp.strictly_lower(xp.broadcast_to(entries, (*like.shape[:-1], entries.shape[-1])), like.shape[-1])
