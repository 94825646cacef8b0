"""The Gaussian with full covariance, by a triangular factor whose rows carry their own scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gaussjax.core.arrays import xp
from gaussjax.distributions.distribution import Distribution, broadcast_together, same_class
from gaussjax.distributions.pytree import fill, register
from gaussjax.distributions.special import (
    HALF_LOG_2PI,
    at_least_float32,
    exact_difference,
    reduce,
    scale_divergence,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@register
class MultivariateGaussian(Distribution):
    """A normal distribution whose dimensions depend on each other.

    Actions are `mean + diag(exp(log_std)) (I + N) noise` with N strictly lower triangular.
    No covariance is ever formed or factorised, so dimensions of very different scale keep their
    digits, and every choice of the three arrays is a valid distribution. With N = 0 it is
    `DiagGaussian`.

    By the chain rule a dimension, given those before it, is normal with standard deviation
    `exp(log_std)`; the reduction "none" gives these conditional terms, which sum to the joint.

    Attributes:
        loc: Mean, `(…, act)`; the constructor calls it `mean`.
        log_std: Natural logarithm of each dimension's standard deviation given the dimensions
            before it, `(…, act)` or `(act,)`.
        off_diagonal: N row by row, `(…, act * (act - 1) / 2)`.

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
    off_diagonal: Float[Array, "*batch pairs"]

    def __init__(
        self,
        mean: Float[Array, "*batch act"],
        log_std: Float[Array, "*batch act"],
        off_diagonal: Float[Array, "*batch pairs"],
    ):
        expected = num_pairs(xp.shape(mean)[-1])
        if xp.shape(off_diagonal)[-1] != expected:
            raise ValueError(
                f"off_diagonal: expected a last axis of {expected} for {xp.shape(mean)[-1]} dimensions, got shape "
                f"{tuple(xp.shape(off_diagonal))}. It holds the strictly lower triangle row by row."
            )
        fill(self, loc=mean, log_std=log_std, off_diagonal=off_diagonal)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: one distribution each."""
        return xp.broadcast_shapes(*(xp.shape(part)[:-1] for part in (self.loc, self.log_std, self.off_diagonal)))

    def _parameters(self) -> tuple[Array, Array]:
        mean, log_std, _ = at_least_float32(self.loc, self.log_std, self.off_diagonal)
        mean, log_std = broadcast_together((*self.batch_shape, *self.event_shape), mean, log_std)
        return mean, log_std

    def _factor(self, *batch: Any) -> Array:
        # N, (*batch, act, act), zero on and above the diagonal.
        count = self.event_shape[0]
        entries = at_least_float32(self.loc, self.log_std, self.off_diagonal)[2]
        entries = xp.broadcast_to(entries, (*batch, entries.shape[-1]))
        return xp.strictly_lower(entries, count)

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The action that standard normal noise leads to."""
        mean, log_std = broadcast_together(noise.shape, *self._parameters())
        return mean + xp.exp(log_std) * (noise + _rows(self._factor(*noise.shape[:-1]), noise))

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density, in nats, of the action `from_noise(noise)`; no triangular solve."""
        (log_std,) = broadcast_together(noise.shape, self._parameters()[1])
        return reduce(-0.5 * xp.square(noise) - log_std - HALF_LOG_2PI, reduction)

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density of actions.

        Args:
            actions: `(…, act)`, with any leading dimensions before those of the mean.
            reduction: "sum" (the joint density), "mean", "prod" or "none" (of each dimension
                given the dimensions before it).

        Returns:
            Nats, `(…)`; `(…, act)` for "none".
        """
        mean, log_std, actions = at_least_float32(*self._parameters(), actions)
        shape = xp.broadcast_shapes(mean.shape, actions.shape)
        mean, log_std, actions = broadcast_together(shape, mean, log_std, actions)
        scaled = (actions - mean) * xp.exp(-log_std)
        noise = xp.solve_unit_lower(xp.astype(self._factor(*shape[:-1]), scaled.dtype), xp.expand_dims(scaled, -1))
        return reduce(-0.5 * xp.square(xp.squeeze(noise, -1)) - log_std - HALF_LOG_2PI, reduction)

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, straight from log_std: N does not change the volume."""
        return reduce(self._parameters()[1] + (0.5 + HALF_LOG_2PI), reduction)

    def kl_divergence(self, other: MultivariateGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats: never negative, and exact where the two almost agree.

        "none" gives the expected divergence of each dimension given the dimensions before it.

        Raises:
            TypeError: `other` is of another class.
        """
        same_class(self, other)
        batch = xp.broadcast_shapes(self.batch_shape, other.batch_shape)
        mean, log_std, other_mean, other_log_std = broadcast_together(
            (*batch, *self.event_shape), *at_least_float32(*self._parameters(), *other._parameters())
        )
        factor, other_factor = at_least_float32(self._factor(*batch), other._factor(*batch))
        # other's factor times M is this factor. M is diag(ratio) and a strictly lower part that
        # solves (I + N') M = diag(ratio) N - N' diag(ratio), written so that it vanishes
        # with the difference of the two.
        gap, rest = exact_difference(log_std, other_log_std)
        ratio = xp.exp(gap) * (1.0 + rest)
        along_rows, along_columns = xp.expand_dims(gap, -1), xp.expand_dims(gap, -2)
        difference = xp.expand_dims(ratio, -1) * (factor - other_factor)
        difference += other_factor * xp.expand_dims(ratio, -2) * xp.expm1(_below(along_rows - along_columns))
        shift = (mean - other_mean) * xp.exp(-other_log_std)
        solved = xp.solve_unit_lower(other_factor, xp.concatenate([difference, xp.expand_dims(shift, -1)], -1))
        return reduce(0.5 * xp.sum(xp.square(solved), -1) + scale_divergence(log_std, other_log_std), reduction)

    def mean(self) -> Array:
        """Expected action."""
        return self._parameters()[0]

    def median(self) -> Array:
        """The action that each dimension exceeds half of the time: the mean."""
        return self.mean()

    def mode(self) -> Array:
        """The most likely action: the mean."""
        return self.mean()

    def stddev(self) -> Array:
        """Standard deviation of each dimension by itself, in units of the action."""
        _, log_std = self._parameters()
        return xp.exp(log_std) * xp.sqrt(1.0 + xp.sum(xp.square(self._factor(*self.batch_shape)), -1))

    def scale_tril(self) -> Array:
        """The Cholesky factor of the covariance, `(…, act, act)`."""
        _, log_std = self._parameters()
        unit = xp.constant(np.eye(self.event_shape[0]), log_std)
        factor = self._factor(*self.batch_shape)
        return xp.expand_dims(xp.exp(log_std), -1) * (factor + xp.broadcast_to(unit, factor.shape))

    def covariance(self) -> Array:
        """The covariance matrix, `(…, act, act)`, for inspection: no result here goes through it."""
        factor = self.scale_tril()
        return xp.einsum_exact("...ik,...jk->...ij", factor, factor)


def num_pairs(num_actions: int) -> int:
    """Entries below the diagonal of a square matrix.

    Example:
        >>> num_pairs(3)
        3
    """
    return num_actions * (num_actions - 1) // 2


def _rows(factor: Array, vector: Array) -> Array:
    return xp.einsum_exact("...ij,...j->...i", factor, vector)


def _below(matrix: Array) -> Array:
    # Zero on and above the diagonal, so that what is not used there cannot overflow.
    return xp.tril(matrix, -1)
