"""Diagonal Gaussian, parametrised by the logarithm of the standard deviation."""

from __future__ import annotations

import abc

from jaxtyping import Array, Float

from gaussjax.core.arrays import align, elementwise, exact_sum, xp
from gaussjax.distributions.distribution import Distribution, reduce, register, row_sums, same_class
from gaussjax.distributions.special import HALF_LOG_2PI, log_normal_cdf, scale_divergence


def _over_std_slopes(difference: Array, log_std: Array) -> tuple[Array, Array]:
    return xp.exp(-log_std), -over_std(difference, log_std)


def exact_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Rounded product `a * b` and its rounding error, whose sum is exactly `a * b`; the error is 0 for a tiny factor.

    Source:
        Dekker 1971, a floating-point technique for extending the available precision.
    """
    product, a_high, b_high = a * b, xp.leading_half(a), xp.leading_half(b)
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    # The low half of a tiny factor is subnormal, and XLA treats it as zero.
    info = xp.finfo(product.dtype)
    return product, xp.where(xp.minimum(xp.abs(a), xp.abs(b)) < float(info.tiny) / float(info.eps), 0.0, error)


@elementwise(_over_std_slopes)
def over_std(difference: Array, log_std: Array) -> Array:
    """The noise `difference / exp(log_std)`, with the derivative -noise by log_std.

    The derivative of the formula itself is a product with the difference, which is subnormal for tiny actions.
    """
    # Dividing by exp(log_std) instead would give an infinite gradient where exp under- or overflows.
    return difference * xp.exp(-log_std)


def constant_error(error: Array) -> Array:
    """Rounding error as a constant without a gradient, and 0 instead of NaN, which it is for infinite noise."""
    return xp.stop_gradient(xp.where(error == error, error, 0.0))


class Normal(Distribution):
    """Base class of Gaussians whose log-density is `-noise²/2 - log_std - log(2π)/2` in each dimension."""

    log_std: Array

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats of the actions `from_noise(noise)`, accurate even for a tiny standard deviation."""
        # Uses the noise, because `actions - loc` loses its digits if the standard deviation is far below loc.
        log_std, noise = align(self.log_std, noise)
        if reduction == "sum":
            # Two sums, because XLA then sums a log_std that all rows share only once, before it broadcasts the sum.
            return -0.5 * xp.sum(xp.square(noise), axis=-1) - xp.sum(log_std + HALF_LOG_2PI, axis=-1)
        return reduce(-0.5 * xp.square(noise) - log_std - HALF_LOG_2PI, reduction)

    @abc.abstractmethod
    def noise_and_error(self, actions: Float[Array, "*batch act"]) -> tuple[Array, Array]:
        """The noise from which `from_noise` computes these actions, and what rounding removed, both `(…, act)`."""

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats. With "none" each dimension is conditioned on the dimensions before it."""
        return self.corrected_log_prob(*self.noise_and_error(actions), reduction)

    def corrected_log_prob(self, noise: Array, error: Array, reduction: str = "sum") -> Array:
        """Log-density in nats of the actions `from_noise(noise + error)`, where `error` is what rounding removed."""
        # The term -noise²/2 would double the relative error of the noise.
        error = constant_error(error)
        # The leading halves of the digits add up almost without rounding, and the rest is small.
        energy = 0.5 * xp.square(noise)
        finite = xp.isfinite(energy)
        rest = xp.stop_gradient(xp.where(finite, energy - xp.leading_half(energy), 0.0))
        log_std, energy, rest = align(self.log_std, energy - rest, rest + xp.where(finite, noise * error, 0.0))
        if reduction == "sum":
            return -row_sums(energy) - (xp.sum(log_std + HALF_LOG_2PI, axis=-1) + row_sums(rest))
        return reduce(-energy - (log_std + HALF_LOG_2PI + rest), reduction)

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, which depends only on log_std."""
        return reduce(self.log_std + (0.5 + HALF_LOG_2PI), reduction)

    def mean(self) -> Array:
        """Expected action, which is `loc`."""
        return self.loc

    def median(self) -> Array:
        """Median of each dimension of the action, which equals the mean."""
        return self.loc

    def mode(self) -> Array:
        """Most likely action, which equals the mean."""
        return self.loc


@register
class DiagGaussian(Normal):
    """Independent normal distributions, one for each dimension of the action.

    All results are at least float32; they are float64 if an input is float64.

    Attributes:
        loc: Mean, `(…, act)`.
        log_std: Natural logarithm of the standard deviation, `(…, act)`. The constructor broadcasts
            `(act,)`, `(…, 1)` and a scalar.

    Note:
        Rounding limits a narrow policy. Just below 1 neighbouring float32 numbers are 6e-8 apart. So at a
        mean of 1 and log_std = -20 (a standard deviation of 2e-9) all samples equal the mean.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> distribution = DiagGaussian(jnp.zeros((4, 2)), jnp.zeros(2))
        >>> distribution.log_prob(jnp.zeros((4, 2))).shape
        (4,)
    """

    loc: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The actions `loc + exp(log_std) * noise`."""
        loc, log_std, noise = align(self.loc, self.log_std, noise)
        return loc + xp.exp(log_std) * noise

    def noise_and_error(self, actions: Float[Array, "*batch act"]) -> tuple[Array, Array]:
        """The noise `(actions - loc) / exp(log_std)`, and what rounding of the difference removed from it."""
        loc, log_std, actions = align(self.loc, self.log_std, actions)
        difference, lost = exact_sum(actions, -loc)
        return over_std(difference, log_std), lost * xp.exp(-log_std)

    def log_cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability in nats that a sample is at most `actions`, for each dimension, `(…, act)`."""
        return log_normal_cdf(self.noise_and_error(actions)[0])

    def log_survival(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability in nats that a sample exceeds `actions`, for each dimension, `(…, act)`."""
        return log_normal_cdf(-self.noise_and_error(actions)[0])

    def kl_divergence(self, other: DiagGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats, reduced over the action axis; never negative, and accurate near zero.

        Raises:
            TypeError: `other` is of another class.
        """
        same_class(self, other)
        loc, log_std, other_loc, other_log_std = align(self.loc, self.log_std, other.loc, other.log_std)
        z = over_std(loc - other_loc, other_log_std)
        return reduce(0.5 * xp.square(z) + scale_divergence(log_std, other_log_std), reduction)

    def stddev(self) -> Array:
        """Standard deviation of each dimension, in units of the action."""
        return xp.exp(self.log_std)
