"""Diagonal Gaussian with log_std, not std, as its parameter."""

from __future__ import annotations

from jaxtyping import Array, Float

from gaussjax.core.arrays import xp
from gaussjax.distributions.distribution import same_class
from gaussjax.distributions.normal import Normal
from gaussjax.distributions.normal_cdf import log_normal_cdf
from gaussjax.distributions.pytree import register
from gaussjax.distributions.special import align, reduce, scale_divergence


@register
class DiagGaussian(Normal):
    """Independent normal distributions, one for each dimension of the action.

    All results are float32 at the least (float64 where an input is).

    Attributes:
        loc: Mean, `(…, act)`.
        log_std: Natural logarithm of the standard deviation, `(…, act)`. The constructor broadcasts
            `(act,)`, `(…, 1)` and a scalar.

    Note:
        Floats limit what a narrow policy can express: around a mean of 1 float32 has steps of
        6e-8, so at log_std = -20 (std 2e-9) all samples are the mean itself.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> distribution = DiagGaussian(jnp.zeros((4, 2)), jnp.zeros(2))
        >>> distribution.log_prob(jnp.zeros((4, 2))).shape
        (4,)
    """

    loc: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The action that standard normal noise leads to: `loc + exp(log_std) * noise`."""
        loc, log_std, noise = align(self.loc, self.log_std, noise)
        return loc + xp.exp(log_std) * noise

    def to_noise(self, actions: Float[Array, "*batch act"]) -> Array:
        """The noise that leads to an action: `(action - loc) / exp(log_std)`."""
        loc, log_std, actions = align(self.loc, self.log_std, actions)
        # exp(-log_std) rather than a division by exp(log_std): the gradient stays finite when
        # the standard deviation under- or overflows.
        return (actions - loc) * xp.exp(-log_std)

    def log_cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability, in nats for each dimension, of a value at or below the action `(…, act)`."""
        return log_normal_cdf(self.to_noise(actions))

    def log_survival(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability, in nats for each dimension, of a value above the action `(…, act)`."""
        return log_normal_cdf(-self.to_noise(actions))

    def kl_divergence(self, other: DiagGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats: never negative, and exact where the two almost agree.

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
