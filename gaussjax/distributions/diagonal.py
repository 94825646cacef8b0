"""The diagonal Gaussian, with log_std as the primary quantity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaussjax.core.arrays import xp
from gaussjax.distributions.distribution import Distribution, broadcast_together, same_class
from gaussjax.distributions.normal_cdf import log_normal_cdf
from gaussjax.distributions.pytree import fill, register
from gaussjax.distributions.special import HALF_LOG_2PI, at_least_float32, reduce, scale_divergence

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@register
class DiagGaussian(Distribution):
    """Independent normal distributions, one a dimension of the action.

    All results are float32 at the least (float64 where an input is). A frozen pytree: it
    passes through jit, vmap, scan and grad as its two arrays do.

    Attributes:
        loc: Centre, `(…, act)`; the constructor calls it `mean`.
        log_std: Natural logarithm of the standard deviation, `(…, act)` or `(act,)`; an action axis of
            1, or none, stands for all dimensions.

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

    def __init__(self, mean: Float[Array, "*batch act"], log_std: Float[Array, "*batch act"]):
        fill(self, loc=mean, log_std=log_std)

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The action that standard normal noise leads to: `mean + exp(log_std) * noise`."""
        mean, log_std = self._parameters()
        mean, log_std = broadcast_together(noise.shape, mean, log_std)
        return mean + xp.exp(log_std) * noise

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density, in nats, of the action `from_noise(noise)`.

        It never forms `action - mean`, which has lost its digits wherever std is far below
        the mean.
        """
        noise, log_std = at_least_float32(noise, self.log_std)
        return self._log_density(noise, log_std, reduction)

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density of actions.

        Args:
            actions: `(…, act)`, with any leading dimensions before those of the mean.
            reduction: "sum" (the joint density), "mean", "prod" or "none".

        Returns:
            Nats, `(…)`; `(…, act)` for "none".
        """
        z, log_std = at_least_float32(self._standardize(actions), self.log_std)
        return self._log_density(z, log_std, reduction)

    def _log_density(self, z: Array, log_std: Array, reduction: str) -> Array:
        if reduction == "sum":
            # One reduction of z² alone: log_std is summed before it is broadcast to the batch,
            # which saves a fifth of the time of a large batch.
            total = -0.5 * xp.sum(xp.square(z), axis=-1)
            terms = _for_each_action(log_std + HALF_LOG_2PI, z.shape[-1])
            return total - xp.broadcast_to(xp.sum(terms, axis=-1), total.shape)
        return reduce(-0.5 * xp.square(z) - xp.broadcast_to(log_std, z.shape) - HALF_LOG_2PI, reduction)

    def log_cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability, in nats a dimension, of a value at or below the action.

        Args:
            actions: `(…, act)`.
        """
        return log_normal_cdf(self._standardize(actions))

    def log_survival(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability, in nats a dimension, of a value above the action.

        Args:
            actions: `(…, act)`.
        """
        return log_normal_cdf(-self._standardize(actions))

    def _standardize(self, actions: Array) -> Array:
        mean, log_std, actions = at_least_float32(self.loc, self.log_std, actions)
        shape = xp.broadcast_shapes(mean.shape, log_std.shape, actions.shape)
        mean, log_std, actions = broadcast_together(shape, mean, log_std, actions)
        # exp(-log_std) rather than a division by exp(log_std): the gradient stays finite when
        # the standard deviation under- or overflows.
        return (actions - mean) * xp.exp(-log_std)

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, straight from log_std."""
        mean, log_std = at_least_float32(self.loc, self.log_std)
        terms = log_std + (0.5 + HALF_LOG_2PI)
        shape = xp.broadcast_shapes(mean.shape, terms.shape)
        if reduction == "sum":
            return xp.broadcast_to(xp.sum(_for_each_action(terms, shape[-1]), axis=-1), shape[:-1])
        return reduce(xp.broadcast_to(terms, shape), reduction)

    def kl_divergence(self, other: DiagGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats: never negative, and exact where the two almost agree.

        Source:
            The closed form for normals, with the part that the scales make as one function.
        """
        same_class(self, other)
        mean, log_std = self._parameters()
        other_mean, other_log_std = other._parameters()
        shape = xp.broadcast_shapes(mean.shape, other_mean.shape)
        mean, log_std, other_mean, other_log_std = broadcast_together(
            shape, *at_least_float32(mean, log_std, other_mean, other_log_std)
        )
        z = (mean - other_mean) * xp.exp(-other_log_std)
        return reduce(0.5 * xp.square(z) + scale_divergence(log_std, other_log_std), reduction)

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
        """Standard deviation a dimension, in units of the action."""
        return xp.exp(self._parameters()[1])


def _for_each_action(terms: Array, count: int) -> Array:
    # Not to the batch: a term that stands for several dimensions counts once for each of them.
    return xp.broadcast_to(terms, (*terms.shape[:-1], count))
