"""Diagonal Gaussian whose samples are clipped to a Box, so that each bound has a probability."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from gaussjax.core.arrays import align, fill, like_actions, on_bounds, xp
from gaussjax.core.text import quoted
from gaussjax.distributions import interval
from gaussjax.distributions.diagonal import DiagGaussian
from gaussjax.distributions.distribution import as_bounds, as_floats, reduce, register, same_box, same_class, static
from gaussjax.distributions.special import HALF_LOG_2PI, expm1_minus_x, log_normal_cdf


@register
class CensoredGaussian(DiagGaussian):
    """Independent normal distributions whose samples are clipped to the bounds of a Box.

    A bound has the probability of the tail beyond it, and `log_prob` returns the logarithm of this probability for an
    action on the bound. Between the bounds it returns a log-density. Entropy and divergence refer to this mixture.

    Attributes:
        loc: Mean before the clip, `(…, act)`.
        log_std: Natural logarithm of the standard deviation before the clip, `(…, act)`. The constructor broadcasts
            `(act,)`, `(…, 1)` and a scalar.
        low: Lower bounds, a tuple of `act` numbers; -inf for no bound. The constructor takes any array that
            broadcasts to `(act,)`.
        high: Upper bounds in the same form; inf for no bound.

    Raises:
        TypeError: A bound is a traced array.
        ValueError: The bounds cross or are NaN, or `log_std` does not fit `loc`.

    Example:
        >>> import jax.numpy as jnp
        >>> one = CensoredGaussian(jnp.zeros(1), jnp.zeros(1), low=-1.0, high=1.0)
        >>> jnp.exp(one.log_prob(jnp.ones(1))), one.entropy()
        (Array(0.15865526, dtype=float32), Array(1.3108991, dtype=float32))

    Source:
        Tobin 1958, estimation of relationships for limited dependent variables.
    """

    loc: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]
    low: Any = static()
    high: Any = static()
    has_atoms = True

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = as_bounds(self.low, self.high, *self.event_shape)
        right = [a <= b and a < math.inf and b > -math.inf for a, b in zip(low, high, strict=True)]
        wrong = [i for i, each in enumerate(right) if not each]
        if wrong:
            raise ValueError(
                f"low, high: expected low <= high with a finite number between them, got low "
                f"{quoted([low[i] for i in wrong])} and high {quoted([high[i] for i in wrong])} in the dimensions "
                f"{quoted(wrong)}. Use -inf and inf for no bounds."
            )
        fill(self, low=low, high=high)

    @property
    def base(self) -> DiagGaussian:
        """Distribution of the samples before the clip."""
        return DiagGaussian(self.loc, self.log_std)

    def clip(self, raw_actions: Float[Array, "*batch act"]) -> Array:
        """Clips `raw_actions`, samples of the base distribution, to the bounds."""
        return xp.clip(raw_actions, *self._bounds(raw_actions))

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """The actions `loc + exp(log_std) * noise`, clipped to the bounds."""
        return self.clip(self.base.from_noise(noise))

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density or log-probability in nats of the actions `from_noise(noise)`."""
        inside = self.base.noise_log_prob(noise, "none")
        return reduce(self._with_tails(self.base.from_noise(noise), inside), reduction)

    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-probability in nats of an action on or beyond a bound, log-density of another."""
        return reduce(self._with_tails(as_floats(actions), self.base.log_prob(actions, "none")), reduction)

    def log_cdf(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability in nats that a clipped sample is at most `actions`, for each dimension, `(…, act)`."""
        return self._beyond(actions, -math.inf, self.base.log_cdf, 0.0)

    def log_survival(self, actions: Float[Array, "*batch act"]) -> Array:
        """Log-probability in nats that a clipped sample exceeds `actions`, for each dimension, `(…, act)`."""
        return self._beyond(actions, 0.0, self.base.log_survival, -math.inf)

    def entropy(self, reduction: str = "sum") -> Array:
        """Entropy in nats: of the probabilities of the bounds, plus the differential entropy between them."""
        below, above, (inside, _, excess) = self._parts()
        density = inside * (self.log_std + (0.5 + HALF_LOG_2PI)) + 0.5 * excess
        terms = density - xp.exp(below) * _finite(below) - xp.exp(above) * _finite(above)
        low, high = self._bounds(terms)
        return reduce(xp.where(low == high, 0.0, terms), reduction)

    def mean(self) -> Array:
        """Expected action."""
        return self.median() + self._moments()[0]

    def median(self) -> Array:
        """Median of each dimension of the action, which is the clipped mean."""
        return self.clip(self.loc)

    def mode(self) -> Array:
        """Raises NotImplementedError, because a probability and a density cannot be compared."""
        self._refuse("mode")

    def stddev(self) -> Array:
        """Standard deviation of each dimension, in units of the action."""
        variance = self._moments()[1]
        least = float(xp.finfo(variance.dtype).tiny)
        return xp.sqrt(xp.where(variance > least, variance, least))

    def kl_divergence(self, other: CensoredGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats, of both the probabilities of the bounds and the density between them.

        Raises:
            TypeError: `other` is of another class.
            ValueError: `other` has another Box.
        """
        same_class(self, other)
        same_box(self, other, "clip the actions of both to one Box")
        loc, log_std, other_loc, other_log_std = align(self.loc, self.log_std, other.loc, other.log_std)
        sides, point = self._interval(loc)
        here = (*self._parts()[:2], interval.log_mass(loc, log_std, *sides))
        there = (*other._parts()[:2], interval.log_mass(other_loc, other_log_std, *sides))
        # First of which part an action is in, below, above or inside, and then of the densities inside.
        between = interval.divergence(loc, log_std, other_loc, other_log_std, *sides)
        terms = _discrete_divergence(here, there) + xp.exp(here[2]) * between
        return reduce(xp.where(point, 0.0, terms), reduction)

    def _bounds(self, like: Array) -> tuple[Array, Array]:
        return like_actions(np.asarray(self.low), np.asarray(self.high), like)

    def _beyond(self, actions: Array, below: float, inside: Callable[[Array], Array], above: float) -> Array:
        """`inside(actions)` from the lower bound on, `below` under it, and `above` from the upper bound on."""
        actions = xp.at_least_float32(self.loc, actions)[1]
        _, at_high = on_bounds(np.asarray(self.low), np.asarray(self.high), actions)
        under = actions < self._bounds(actions)[0]
        # The mean replaces actions beyond the bounds, because the gradient at an infinite action is not finite.
        terms = inside(xp.where(under | at_high, self.loc, actions))
        return xp.where(at_high, above, xp.where(under, below, terms))

    def _with_tails(self, actions: Array, inside: Array) -> Array:
        low, high = self._bounds(inside)
        at_low, at_high = on_bounds(np.asarray(self.low), np.asarray(self.high), actions)
        # For other actions the mean replaces the bound, because the gradient at an infinite bound is not finite.
        above = self.base.log_survival(xp.where(at_high, high, self.loc))
        below = self.base.log_cdf(xp.where(at_low, low, self.loc))
        terms = xp.where(at_low, below, xp.where(at_high, above, inside))
        return xp.where(low == high, 0.0, terms)

    def _parts(self) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """Log-probabilities of both bounds, and the moments of z between the bounds.

        The moments are the integrals of the standard normal density times 1, z and z² - 1 over the values
        `z = (actions - loc) / std` between the bounds.
        """
        low, high = self._bounds(self.loc)
        # An open side has probability 0. The mean replaces its bound, because the gradient there is not finite.
        open_low, open_high = xp.isinf(low), xp.isinf(high)
        alpha = self.base.noise_and_error(xp.where(open_low, self.loc, low))[0]
        beta = self.base.noise_and_error(xp.where(open_high, self.loc, high))[0]
        below = xp.where(open_low, -math.inf, log_normal_cdf(alpha))
        above = xp.where(open_high, -math.inf, log_normal_cdf(-beta))
        at_low = xp.where(open_low, 0.0, xp.exp(-0.5 * xp.square(alpha) - HALF_LOG_2PI))
        at_high = xp.where(open_high, 0.0, xp.exp(-0.5 * xp.square(beta) - HALF_LOG_2PI))
        # If both bounds are on one side of the mean, the difference of their tails keeps its digits.
        nearer = xp.exp(log_normal_cdf(xp.where(alpha > 0.0, -alpha, beta)))
        inside = xp.where(beta < 0.0, nearer - xp.exp(below), 1.0 - xp.exp(below) - xp.exp(above))
        inside = xp.where(alpha > 0.0, nearer - xp.exp(above), inside)
        return below, above, (inside, at_low - at_high, alpha * at_low - beta * at_high)

    def _moments(self) -> tuple[Array, Array]:
        """Expected difference of action and median, and the variance of the action."""
        median = self.median()
        sides, point = self._interval(median)
        low, high = (_finite(side - median) for side in self._bounds(median))
        shift, std = interval.shift_and_stddev(self.loc, self.log_std, *sides)
        shift = shift + (xp.stop_gradient(median) - median)
        inside = xp.where(point, 0.0, xp.exp(interval.log_mass(self.loc, self.log_std, *sides)))
        below, above = (xp.exp(side) for side in self._parts()[:2])
        # Differences of probabilities would lose their digits in a Box far below the standard deviation.
        between = above * xp.square(high - shift) + below * xp.square(shift - low)
        variance = inside * (xp.square(std) + between) + below * above * xp.square(high - low)
        return below * low + inside * shift + above * high, variance

    def _interval(self, like: Array) -> tuple[tuple[Array, Array], Array]:
        """Bounds for the formulas of an interval, which needs a width, and True for the dimensions that have none."""
        low, high = self._bounds(like)
        return (low, xp.where(low == high, low + 1.0, high)), low == high


def _discrete_divergence(here: tuple[Array, ...], there: tuple[Array, ...]) -> Array:
    """KL divergence in nats of probabilities, which are given by their logarithms; never negative."""
    # A part that neither distribution reaches adds 0, where the difference of its logarithms would be NaN.
    pairs = [(x, xp.where(xp.isinf(x) & xp.isinf(y), 0.0, y - x)) for x, y in zip(here, there, strict=True)]
    close = functools.reduce(operator.and_, (xp.abs(ratio) < 1.0 for _, ratio in pairs))
    near = sum(xp.exp(x) * expm1_minus_x(xp.where(close, ratio, 0.0)) for x, ratio in pairs)
    apart = sum(-xp.exp(x) * xp.where(xp.exp(x) > 0.0, ratio, 0.0) for x, ratio in pairs)
    return xp.where(close, near, apart)


def _finite(x: Array) -> Array:
    """Replaces infinities by 0: what has probability 0 contributes nothing."""
    return xp.where(xp.isinf(x), xp.zeros_like(x), x)
