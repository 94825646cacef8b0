"""Diagonal Gaussian truncated to a Box, so that its support is exactly the Box."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from gaussjax.core.arrays import align, fill, like_actions, xp
from gaussjax.core.text import quoted
from gaussjax.distributions import interval
from gaussjax.distributions.distribution import (
    Distribution,
    as_bounds,
    as_floats,
    reduce,
    register,
    same_box,
    same_class,
    static,
)

_LARGEST = float(np.finfo(np.float32).max)


@register
class TruncatedGaussian(Distribution):
    """Independent normal distributions, each conditioned on an interval of a Box.

    The density is the normal density divided by the probability of the interval, and 0 outside. All methods stay
    accurate if the mean is far outside of the Box. The implicit derivatives of the samples are those of the quantile.

    Attributes:
        loc: Mean of the normal distribution before the truncation, `(…, act)`.
        log_std: Natural logarithm of its standard deviation, `(…, act)`. The constructor broadcasts `(act,)`,
            `(…, 1)` and a scalar.
        low: Lower bounds, a tuple of `act` numbers; -inf for no bound. The constructor takes any array that broadcasts
            to `(act,)`.
        high: Upper bounds in the same form; inf for no bound.

    Raises:
        TypeError: A bound is a traced array.
        ValueError: `low` is not below `high`, or `log_std` does not fit `loc`.

    Example:
        >>> import jax.numpy as jnp
        >>> one = TruncatedGaussian(jnp.full(1, 5.0), jnp.zeros(1), low=-1.0, high=1.0)
        >>> one.mode(), one.mean(), one.entropy()
        (Array([1.], dtype=float32), Array([0.774453...], dtype=float32), Array(-0.490292, dtype=float32))

    Source:
        Robert 1995, simulation of truncated normal variables; the implicit derivatives: Figurnov et al. 2018
        (arXiv:1805.08498).
    """

    loc: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]
    low: Any = static()
    high: Any = static()

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = as_bounds(self.low, self.high, *self.event_shape)
        eps = float(xp.finfo(self.loc.dtype).eps)
        empty = [i for i, sides in enumerate(zip(low, high, strict=True)) if not has_width(*sides, eps)]
        if empty:
            raise ValueError(
                f"low, high: expected low < high, got low {quoted([low[i] for i in empty])} and high "
                f"{quoted([high[i] for i in empty])} in the dimensions {quoted(empty)}. Leave constant actions out."
            )
        fill(self, low=low, high=high)

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """Maps standard normal noise, `(…, act)`, to the actions with the same cumulative probability."""
        return interval.quantile(*self._aligned(noise))

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats of the actions `from_noise(noise)`, accurate even where the actions lose digits."""
        return reduce(interval.quantile_log_density(*self._aligned(noise)), reduction)

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats, which is -inf outside of the Box.

        A bound that is rounded to the dtype of the actions counts as the bound.
        """
        actions = as_floats(actions)
        outside = self._outside(actions, -1) | self._outside(actions, 1)
        loc, log_std, low, high, actions = self._aligned(actions)
        terms = interval.log_density(loc, log_std, low, high, xp.clip(actions, low, high))
        return reduce(xp.where(outside, -math.inf, terms), reduction)

    def log_cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability in nats that a sample is at most `actions`, for each dimension, `(…, act)`."""
        *fields, actions = self._aligned(actions)
        terms = interval.log_cdf(*fields, self._inside(actions, fields))
        return xp.where(actions >= fields[3], 0.0, xp.where(actions <= fields[2], -math.inf, terms))

    def log_survival(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability in nats that a sample exceeds `actions`, for each dimension, `(…, act)`."""
        loc, log_std, low, high, actions = self._aligned(actions)
        terms = interval.log_cdf(-loc, log_std, -high, -low, -self._inside(actions, (loc, log_std, low, high)))
        return xp.where(actions <= low, 0.0, xp.where(actions >= high, -math.inf, terms))

    def cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Probability that a sample is at most `actions`, for each dimension, `(…, act)`."""
        return xp.exp(self.log_cdf(actions))

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats; the logarithm of the width of the Box for a wide normal."""
        return reduce(interval.entropy(*self._fields()), reduction)

    def mean(self) -> Array:
        """Expected action."""
        return xp.stop_gradient(self.mode()) + interval.shift_and_stddev(*self._fields())[0]

    def median(self) -> Array:
        """Median of each dimension of the action."""
        return self.from_noise(xp.zeros_like(self.loc))

    def mode(self) -> Array:
        """Most likely action: `loc`, clipped to the Box."""
        loc, _, low, high = self._fields()
        return xp.clip(loc, low, high)

    def stddev(self) -> Array:
        """Standard deviation of each dimension, in units of the action."""
        return interval.shift_and_stddev(*self._fields())[1]

    def kl_divergence(self, other: TruncatedGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats; never negative, and accurate near zero.

        Raises:
            TypeError: `other` is of another class.
            ValueError: `other` has another Box.
        """
        same_class(self, other)
        same_box(self, other, "truncate both to one Box")
        loc, log_std, other_loc, other_log_std = align(self.loc, self.log_std, other.loc, other.log_std)
        terms = interval.divergence(loc, log_std, other_loc, other_log_std, *self._bounds(loc))
        return reduce(terms, reduction)

    def _bounds(self, like: Array) -> tuple[Array, Array]:
        return like_actions(np.asarray(self.low), np.asarray(self.high), like)

    def _fields(self) -> tuple[Array, ...]:
        return self.loc, self.log_std, *self._bounds(self.loc)

    def _aligned(self, actions: Array) -> tuple[Array, ...]:
        loc, log_std, actions = align(self.loc, self.log_std, actions)
        return loc, log_std, *self._bounds(loc), actions

    def _inside(self, actions: Array, fields: Any) -> Array:
        # At an infinite action derivatives are not finite. The mode replaces all actions that are not inside.
        loc, _, low, high = fields
        return xp.where((actions > low) & (actions < high), actions, xp.clip(loc, low, high))

    def _outside(self, actions: Array, side: int) -> Array:
        """True for actions beyond a bound, and beyond its copies in float32 and in the dtype of the actions."""
        bound = np.asarray(self.low if side < 0 else self.high, np.float64)
        # Conversion to float32 would overflow beyond its range.
        copy = np.clip(bound, -_LARGEST, _LARGEST).astype(np.float32).astype(np.float64)
        bound = side * np.maximum(side * bound, side * copy)
        limit = xp.broadcast_to(xp.constant(bound, actions), actions.shape)
        return actions < limit if side < 0 else actions > limit


def has_width(low: float, high: float, eps: float = 2.0**-23) -> bool:
    """True if `low` is below `high` by a number that a dtype with this machine epsilon can represent."""
    size = max(abs(side) if math.isfinite(side) else 0.0 for side in (low, high))
    return low < high and high - low >= 2.0**-126 and 2.0 * (high - low) >= eps * size
