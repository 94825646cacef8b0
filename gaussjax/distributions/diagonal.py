"""Diagonal Gaussian, parametrised by the logarithm of the standard deviation."""

from __future__ import annotations

import abc

from jaxtyping import Array, Float

from gaussjax.core.arrays import align, xp
from gaussjax.distributions.distribution import Distribution, same_class
from gaussjax.distributions.normal_cdf import log_normal_cdf
from gaussjax.distributions.pytree import register
from gaussjax.distributions.special import HALF_LOG_2PI, reduce, scale_divergence


class Normal(Distribution):
    """A Gaussian with the log-density `-noise²/2 - log_std - log(2π)/2` in each dimension."""

    log_std: Array

    @abc.abstractmethod
    def to_noise(self, actions: Float[Array, "*batch act"]) -> Array:
        """The noise `(…, act)` for which `from_noise` returns these actions."""

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density, in nats, of the action `from_noise(noise)`, also where std is far below loc."""
        # The difference `action - loc` would lose its digits there.
        log_std, noise = align(self.log_std, noise)
        if reduction == "sum":
            # With two sums XLA reduces a log_std that all rows share once, before the broadcast.
            return -0.5 * xp.sum(xp.square(noise), axis=-1) - xp.sum(log_std + HALF_LOG_2PI, axis=-1)
        return reduce(-0.5 * xp.square(noise) - log_std - HALF_LOG_2PI, reduction)

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats; "none" gives that of each dimension given the dimensions before it."""
        return self.noise_log_prob(self.to_noise(actions), reduction)

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, a function of log_std alone."""
        return reduce(self.log_std + (0.5 + HALF_LOG_2PI), reduction)

    def mean(self) -> Array:
        """Expected action."""
        return self.loc

    def median(self) -> Array:
        """The action that each dimension exceeds half of the time: the mean."""
        return self.loc

    def mode(self) -> Array:
        """The most likely action: the mean."""
        return self.loc


@register
class DiagGaussian(Normal):
    """Independent normal distributions, one for each dimension of the action.

    All results are float32 at the least (float64 where an input is).

    Attributes:
        loc: Mean, `(…, act)`.
        log_std: Natural logarithm of the standard deviation, `(…, act)`. The constructor broadcasts
            `(act,)`, `(…, 1)` and a scalar.

    Note:
        Rounding limits a narrow policy: around a mean of 1 float32 has steps of 6e-8, so at
        log_std = -20 (std 2e-9) all samples are the mean itself.

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

    def to_noise(self, actions: Float[Array, "*batch act"]) -> Array:
        """The noise `(actions - loc) / exp(log_std)`."""
        loc, log_std, actions = align(self.loc, self.log_std, actions)
        # A division by exp(log_std) would have an infinite gradient where exp under- or overflows.
        return (actions - loc) * xp.exp(-log_std)

    def log_cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability of a value at or below the actions, in nats for each dimension, `(…, act)`."""
        return log_normal_cdf(self.to_noise(actions))

    def log_survival(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability of a value above the actions, in nats for each dimension, `(…, act)`."""
        return log_normal_cdf(-self.to_noise(actions))

    def kl_divergence(self, other: DiagGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats, with a reduction; never negative, and accurate near zero.

        Raises:
            TypeError: `other` is of another class.
        """
        same_class(self, other)
        loc, log_std, other_loc, other_log_std = align(self.loc, self.log_std, other.loc, other.log_std)
        z = (loc - other_loc) * xp.exp(-other_log_std)
        return reduce(0.5 * xp.square(z) + scale_divergence(log_std, other_log_std), reduction)

    def stddev(self) -> Array:
        """Standard deviation of each dimension, in units of the action."""
        return xp.exp(self.log_std)
