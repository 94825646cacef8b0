"""What every Gaussian here shares: sampling from noise, shapes, and the bridge to distrax."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from gaussjax.core.arrays import xp
from gaussjax.distributions.special import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


class Distribution(abc.ABC):
    """A distribution over action vectors that is a function of standard normal noise.

    Attributes:
        loc: Centre before any squashing, `(…, act)`.
        log_std: Natural logarithm of the scale, `(…, act)` or `(act,)`.
    """

    loc: Array
    log_std: Array

    def _parameters(self) -> tuple[Array, Array]:
        mean, log_std = at_least_float32(self.loc, self.log_std)
        mean, log_std = broadcast_together(xp.broadcast_shapes(mean.shape, log_std.shape), mean, log_std)
        return mean, log_std

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: one distribution each."""
        return xp.broadcast_shapes(xp.shape(self.loc), xp.shape(self.log_std))[:-1]

    @property
    def event_shape(self) -> tuple[int]:
        """Shape of one action, `(act,)`."""
        return (xp.shape(self.loc)[-1],)

    def sample(self, key: Key[Array, ""], sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws actions, `(*sample_shape, …, act)`.

        Args:
            key: Consumed.
            sample_shape: Leading dimensions to add, one draw each.
        """
        return self.sample_and_log_prob(key, sample_shape)[0]

    def sample_and_log_prob(
        self, key: Key[Array, ""], sample_shape: tuple[int, ...] = (), reduction: str = "sum"
    ) -> tuple[Array, Array]:
        """Draws actions and scores them from the noise, exact even where the action has lost it.

        Args:
            key: Consumed.
            sample_shape: Leading dimensions to add, one draw each.
            reduction: As in `log_prob`.

        Returns:
            Actions `(*sample_shape, …, act)` and their log-density in nats.
        """
        mean, _ = self._parameters()
        noise = xp.standard_normal(key, (*sample_shape, *mean.shape), mean.dtype)
        return self.from_noise(noise), self.noise_log_prob(noise, reduction)

    @abc.abstractmethod
    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The action that noise leads to.

        Args:
            noise: Standard normal, `(…, act)`, with any leading dimensions before those of the mean.
        """

    @abc.abstractmethod
    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density, in nats, of the action `from_noise(noise)`.

        Args:
            noise: As of `from_noise`.
            reduction: "sum" (the joint density), "mean", "prod" or "none".
        """

    @abc.abstractmethod
    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density of actions in nats, `(…)`; `(…, act)` for the reduction "none".

        Args:
            actions: `(…, act)`, with any leading dimensions before those of the mean.
            reduction: "sum" (the joint density), "mean", "prod" or "none".
        """

    @abc.abstractmethod
    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, `(…)`; `(…, act)` for the reduction "none".

        Args:
            reduction: "sum", "mean", "prod" or "none".
        """

    @abc.abstractmethod
    def kl_divergence(self, other: Any, reduction: str = "sum") -> Array:
        """KL(self || other) in nats, `(…)`; `(…, act)` for the reduction "none".

        Args:
            other: Of the same class.
            reduction: "sum", "mean", "prod" or "none".
        """

    @abc.abstractmethod
    def mean(self) -> Array:
        """Expected action, `(…, act)`."""

    @abc.abstractmethod
    def median(self) -> Array:
        """The action that each dimension exceeds half of the time, `(…, act)`."""

    @abc.abstractmethod
    def mode(self) -> Array:
        """The most likely action, `(…, act)`."""

    @abc.abstractmethod
    def stddev(self) -> Array:
        """Standard deviation of each dimension, in units of the action, `(…, act)`."""

    def as_distrax(self) -> Any:
        """The same as a `distrax.Distribution` whose every number is computed here.

        Raises:
            ImportError: distrax cannot be imported.

        Example:
            >>> import jax.numpy as jnp, gaussjax
            >>> ours = gaussjax.distributions.DiagGaussian(jnp.zeros((4, 2)), jnp.zeros(2))
            >>> ours.as_distrax().batch_shape  # doctest: +SKIP
            (4,)
        """
        from gaussjax.distributions.bridge import as_distrax

        return as_distrax(self)


def broadcast_together(shape: Any, *arrays: Array) -> Any:
    """A tuple of the arrays, each broadcast to the shape."""
    return tuple(xp.broadcast_to(array, shape) for array in arrays)


def same_class(one: Distribution, other: Any) -> None:
    """Refuses a divergence between distributions of two kinds.

    Raises:
        TypeError: `other` is of another class.
    """
    if type(one) is not type(other):
        raise TypeError(
            f"other: expected a {type(one).__name__}, got {type(other).__name__}. "
            f"There is no closed form between two families; estimate it from samples and log_prob."
        )
