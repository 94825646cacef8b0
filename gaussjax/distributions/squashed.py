"""Gaussian squashed by tanh into a Box, scored in the units of the Box."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from gaussjax.core.arrays import align, elementwise, fill, like_actions, xp
from gaussjax.core.text import quoted
from gaussjax.distributions.diagonal import DiagGaussian, exact_product
from gaussjax.distributions.distribution import Distribution, as_bounds, reduce, register, same_box, same_class, static
from gaussjax.distributions.quadrature import expected_log_det, expected_tanh, tanh_stddev
from gaussjax.distributions.special import absolute, inverse_affine_tanh, tanh, tanh_log_det

# Newton steps toward the mode, by the size of a float in bits. Where three roots merge, a step leaves ⅔ of the error.
_NEWTON_STEPS = {32: 24, 64: 60}


@register
class TanhGaussian(Distribution):
    """Distribution of actions `center + half * tanh(u)` within a bounded Box, with u normal.

    Densities and entropies refer to the units of the Box, not to those of tanh in (-1, 1). All results
    are at least float32, and float64 if an input is. The bounds are a static part of the pytree.

    Attributes:
        loc: Mean of u, `(…, act)`.
        log_std: Natural logarithm of the standard deviation of u, `(…, act)`. The constructor
            broadcasts `(act,)`, `(…, 1)` and a scalar.
        low: Lower bounds of the Box, a tuple of `act` numbers. The constructor takes any array
            that broadcasts to `(act,)`.
        high: Upper bounds of the Box, in the same form.

    Raises:
        TypeError: A bound is a traced array.
        ValueError: A bound is infinite, `low` is not below `high`, half the width is below 2⁻¹²⁶ or above 8.5e37, or
            `log_std` does not fit `loc`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> distribution = TanhGaussian(jnp.zeros((4, 2)), jnp.zeros(2), low=-2.0, high=2.0)
        >>> distribution.log_prob(jnp.full((4, 2), 2.0)).shape
        (4,)

    Source:
        Haarnoja et al. 2018 (arXiv:1801.01290), appendix C.
    """

    loc: Float[Array, "*batch act"]
    log_std: Float[Array, "*batch act"]
    low: Any = static()
    high: Any = static()

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = bounded(self.low, self.high, *self.event_shape, float(xp.finfo(self.loc.dtype).eps))
        fill(self, low=low, high=high)

    @property
    def base(self) -> DiagGaussian:
        """Distribution of the raw actions u, before tanh."""
        return DiagGaussian(self.loc, self.log_std)

    def squash(self, raw_actions: Float[Array, "*batch act"]) -> Array:
        """Maps `raw_actions` u, `(…, act)`, to actions in the Box; rounding never moves an action out of it."""
        return self._affine(tanh(self._cast(raw_actions)))

    def unsquash(self, actions: Float[Array, "*batch act"]) -> Array:
        """Maps actions in the Box, `(…, act)`, to raw actions u, which are finite even for an action at a bound."""
        # float32 actions of a float64 policy, and float64 copies of float32 actions, have the digits of float32.
        eps = max(float(xp.finfo(x.dtype).eps) for x in (self.loc, *xp.at_least_float32(actions)))
        actions = self._cast(actions)
        return inverse_affine_tanh(actions, *self._bounds(actions), 0.5 * eps)

    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """Maps standard normal noise of shape `(…, act)` to actions in the Box."""
        return self.squash(self.base.from_noise(noise))

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats of the actions `from_noise(noise)`, computed without inverting tanh."""
        terms = self.base.noise_log_prob(noise, "none")
        return reduce(terms - self._log_volume(self.base.from_noise(noise)), reduction)

    def log_prob(
        self, actions: Float[Array, "*batch act"], reduction: str = "sum", *, raw_actions: Array | None = None
    ) -> Array:
        """Log-density of actions in nats, finite for every finite action.

        Near a bound many raw actions u round to one float32 action, and all beyond ±8.66 round to the bound.
        So pass the raw actions if you have them. Otherwise an action at or beyond a bound is scored as if it
        were inside by 2⁻²⁴ half-widths of the Box (2⁻⁵³ if `loc` and the actions are float64).

        Args:
            actions: Actions in units of the Box, `(…, act)`, which may have more leading axes than `loc`.
            reduction: "sum" (the joint density), "mean", "prod" or "none".
            raw_actions: Raw actions u, `(…, act)`; `actions` is then ignored.
        """
        raw_actions = self.unsquash(actions) if raw_actions is None else self._cast(raw_actions)
        base = self.base
        noise, error = base.noise_and_error(raw_actions)
        # The density of the base leaves out the rounding of (raw - loc) * exp(-log_std), for speed. With the error of
        # `_log_volume` added, the density would be off by up to 6.6 units of roundoff; tests/numerics allows 6.
        loc, log_std, raw = align(base.loc, base.log_std, raw_actions)
        error = error + exact_product(raw - loc, xp.exp(-log_std))[1]
        return reduce(base.corrected_log_prob(noise, error, "none") - self._log_volume(raw), reduction)

    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, computed by quadrature, so it is differentiable and needs no samples."""
        volume = expected_log_det(self.loc, self.log_std) + xp.log(self._half(self.loc))
        return reduce(self.base.entropy("none") + volume, reduction)

    def kl_divergence(self, other: TanhGaussian, reduction: str = "sum") -> Array:
        """KL(self || other) in nats. It is exact, because tanh maps both distributions alike and leaves KL unchanged.

        Raises:
            TypeError: `other` is of another class.
            ValueError: `other` has another Box, so the supports differ.
        """
        same_class(self, other)
        same_box(self, other, "rescale the actions to one Box")
        return self.base.kl_divergence(other.base, reduction)

    def mean(self) -> Array:
        """Expected action, computed by quadrature; `median` is cheaper."""
        return self._affine(expected_tanh(self.loc, self.log_std))

    def median(self) -> Array:
        """Median of each dimension of the action, which is the squashed mean of u."""
        return self.squash(self.loc)

    def mode(self) -> Array:
        """The most likely action, which is nearer to a bound than the median.

        With a standard deviation of u above 1/√2 and a mean near 0 the density has two peaks. The result
        is the higher peak, or the upper one of two equal peaks.
        """
        return self.squash(raw_mode(self.loc, self.log_std))

    def stddev(self) -> Array:
        """Standard deviation of each dimension in units of the Box, computed by quadrature."""
        return self._half(self.loc) * tanh_stddev(self.loc, self.log_std)

    def _cast(self, actions: Array) -> Array:
        return xp.at_least_float32(self.loc, actions)[1]

    def _log_volume(self, raw_actions: Array) -> Array:
        return tanh_log_det(raw_actions) + xp.log(self._half(raw_actions))

    def _bounds(self, like: Array) -> tuple[Array, Array]:
        return like_actions(np.asarray(self.low), np.asarray(self.high), like)

    def _half(self, like: Array) -> Array:
        low, high = self._bounds(like)
        return 0.5 * (high - low)

    def _affine(self, t: Array) -> Array:
        # Maps t in [-1, 1] to the Box. For |t| of ½ or more the result is computed from the nearer bound. So
        # t = ±1 gives exactly the bound, and rounding cannot move a result out of the Box.
        (low, high), half, size = self._bounds(t), self._half(t), xp.abs(t)
        outer = xp.where(t < 0, low + half * (1.0 - size), high - half * (1.0 - size))
        return xp.where(size < 0.5, (0.5 * low + 0.5 * high) + half * t, outer)


def usable(low: float, high: float, eps: float = 0.0) -> bool:
    """True if tanh can map to these two bounds: they differ, and float32 holds the half-width and its reciprocal."""
    half = 0.5 * high - 0.5 * low
    return low < high and 2.0**-126 <= half <= 8.5e37 and 4.0 * half >= eps * max(abs(low), abs(high))


def bounded(low: Any, high: Any, num_actions: int, eps: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Converts the bounds of a Box to tuples of Python floats; `eps` is the machine epsilon of the actions' dtype."""
    numbers = isinstance(low, tuple) and isinstance(high, tuple) and len(low) == len(high) == num_actions
    if numbers and all(usable(a, b, eps) for a, b in zip(low, high, strict=True)):
        return low, high
    sides = as_bounds(low, high, num_actions)
    narrow = [i for i, (a, b) in enumerate(zip(*sides, strict=True)) if not usable(a, b, eps)]
    if narrow:
        lows, highs = (quoted([side[i] for i in narrow]) for side in sides)
        raise ValueError(
            f"low, high: expected finite bounds with low < high and half a width from 2**-126 to 8.5e37, got low "
            f"{lows} and high {highs} in the dimensions {quoted(narrow)}. tanh needs both ends: bound these dimensions "
            f"(gymnasium.wrappers.RescaleAction), or use an unsquashed Gaussian."
        )
    return sides


def _mode_slopes(mean: Array, log_std: Array) -> tuple[Array, Array]:
    # Derivatives of the root u that `raw_mode` returns, by the implicit function theorem.
    u = raw_mode(mean, log_std)
    strength = 2.0 * xp.minimum(xp.exp(2.0 * log_std), 1e4)
    tanh = xp.tanh(u)
    slope = xp.maximum(1.0 - strength * (1.0 - xp.square(tanh)), xp.finfo(u.dtype).eps)
    return 1.0 / slope, 2.0 * strength * tanh / slope


@elementwise(_mode_slopes)
def raw_mode(mean: Array, log_std: Array) -> Array:
    """The raw action u at which the density of tanh(u) is highest, element by element.

    The mode is the outermost root of `u = mean + 2 std² tanh(u)` on the side of the mean. The
    difference of both sides is convex there, so Newton steps from outside never pass the root.
    """
    sign = xp.astype(xp.where(mean < 0, -1.0, 1.0), mean.dtype)
    size = absolute(mean)
    # The limit of 1e4 keeps std² from overflowing. Above it tanh(u) at the mode rounds to 1 in any case.
    strength = 2.0 * xp.minimum(xp.exp(2.0 * log_std), 1e4)

    def step(_: int, u: Array) -> Array:
        tanh = xp.tanh(u)
        slope = 1.0 - strength * (1.0 - xp.square(tanh))
        # The lower bound of eps avoids a division by 0: the slope rounds to 0 where two peaks of the density merge.
        down = (u - size - strength * tanh) / xp.maximum(slope, xp.finfo(u.dtype).eps)
        return xp.clip(u - down, size, u)

    return sign * xp.fori_loop(0, _NEWTON_STEPS[xp.finfo(mean.dtype).bits], step, size + strength)
