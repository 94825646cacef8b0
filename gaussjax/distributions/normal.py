"""The density that every unsquashed Gaussian has as a function of its noise."""

from __future__ import annotations

import abc

from jaxtyping import Array, Float

from gaussjax.core.arrays import xp
from gaussjax.distributions.distribution import Distribution
from gaussjax.distributions.special import HALF_LOG_2PI, align, reduce


class Normal(Distribution):
    """A Gaussian with the log-density `-noise²/2 - log_std - log(2π)/2` in each dimension."""

    log_std: Array

    @abc.abstractmethod
    def to_noise(self, actions: Float[Array, "*batch act"]) -> Array:
        """The noise that leads to an action, `(…, act)`; the inverse of `from_noise`."""

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density, in nats, of the action `from_noise(noise)`.

        It never forms `action - loc`, which loses its digits where std is far below loc.
        """
        log_std, noise = align(self.log_std, noise)
        if reduction == "sum":
            # XLA adds up one row of a log_std that all rows share, and only then broadcasts it.
            return -0.5 * xp.sum(xp.square(noise), axis=-1) - xp.sum(log_std + HALF_LOG_2PI, axis=-1)
        return reduce(-0.5 * xp.square(noise) - log_std - HALF_LOG_2PI, reduction)

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density of actions in nats, `(…)`; `(…, act)` for "none".

        Args:
            actions: `(…, act)`, with any leading axes before those of `loc`.
            reduction: "sum" (the joint density), "mean", "prod" or "none" (of each dimension
                given the dimensions before it).
        """
        return self.noise_log_prob(self.to_noise(actions), reduction)

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, straight from log_std."""
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
