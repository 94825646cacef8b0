"""The output layer of policy networks: the mean, the log standard deviation and the correlations."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax.core.arrays import is_other, xp
from gaussjax.core.choices import choose
from gaussjax.core.compiled import flag, number
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.networks.expressions import apply_output_activation, parse_output_activation
from gaussjax.networks.layers import ACTIVATIONS, Activation, activation, dense

# The mean `(…, act)`, log_std and a dict of further outputs. log_std is `(…, act)` if it depends on the observation,
# else `(act,)`.
NetworkOutput: TypeAlias = tuple[Float[Array, "... act"], Float[Array, "..."], dict[str, Any]]

STD_KINDS = ("parameter", "fixed", "state", "gsde")
# Limits of log_std between which float32 holds the standard deviation and its reciprocal.
LOWEST, HIGHEST = -87.0, 88.0


def log_std(value: Any, name: str) -> float:
    """Returns a log standard deviation as a float; raises unless float32 holds the standard deviation."""
    if not LOWEST <= (log := number(value, name)) <= HIGHEST:
        raise ValueError(f"{name}: expected a number from {LOWEST:g} to {HIGHEST:g}, got {value}. It is a logarithm.")
    return log


def gsde(
    features: Float[Array, "*batch features"],
    log_std: Float[Array, "features act"],
    *,
    learn_features: bool = False,
    std_floor: float = 0.0,
) -> tuple[Float[Array, "*batch act"], Float[Array, "*batch features act"]]:
    """Log standard deviation of noise that is linear in the features, and the weights of this noise.

    A matrix of standard normals E, `(features, act)`, perturbs the mean by `φ (σ ∘ E)`, a function of the features φ.
    The perturbation is normal with the standard deviation `s = √(Σ φ² σ²)`. A network of your own returns
    `mean, log_std, {"gsde": weights}` with the results of this function; `GaussianHead` does so for `std="gsde"`.

    Args:
        features: The features φ, such as the output of the last hidden layer.
        log_std: Natural logarithm of σ, one number for each feature and action.
        learn_features: Whether the results have a gradient with respect to the features.
        std_floor: A standard deviation that is added to s in quadrature. As in Stable-Baselines3, the perturbation
            itself does not get it.

    Returns:
        The logarithm of s, and the weights, unit vectors over the features: `(weights * E).sum(-2)` is standard normal
        noise, and the perturbation in units of s. Both are finite for features that are all zero: s is then at its
        floor, and each feature counts as 1. With std_floor the weights are shorter by the factor by which s is larger.

    Raises:
        ValueError: `log_std` has another shape, or `std_floor` is negative.
        TypeError: `learn_features` is not True or False, or `std_floor` not a number.

    Example:
        >>> log_std, weights = gsde(jnp.array([3.0, 4.0]), jnp.zeros((2, 1)))
        >>> jnp.exp(log_std), weights[:, 0]
        (Array([5.], dtype=float32), Array([0.59999996, 0.79999995], dtype=float32))

    Source:
        Raffin, Kober and Stulp 2021, smooth exploration for robotic reinforcement learning (arXiv:2005.05719).
    """
    features, log_std = xp.at_least_float32(features, log_std)
    if log_std.ndim != 2 or tuple(features.shape[-1:]) != tuple(log_std.shape[:1]):
        raise ValueError(
            f"log_std: expected a number for each feature and action, for features of shape {tuple(features.shape)}, "
            f"got shape {tuple(log_std.shape)}. Make it of shape (features, act)."
        )
    if not isinstance(std_floor, float) or not 0.0 <= std_floor <= math.exp(HIGHEST):
        check_std_floor(std_floor, "std_floor")
    if learn_features is not True and learn_features is not False:
        learn_features = flag(learn_features, "learn_features")
    features = features if learn_features else xp.stop_gradient(features)
    largest = xp.stop_gradient(xp.amax(xp.abs(features), axis=-1, keepdims=True))
    alive = largest != 0.0
    # Features and deviations are divided by the largest ones, because their squares overflow.
    features, largest = xp.where(alive, features, 1.0), xp.where(alive, largest, 1.0)
    unit = features / largest
    highest = xp.stop_gradient(xp.amax(log_std, axis=0, keepdims=True))
    roots = xp.exp(0.5 * (log_std - highest))
    variance = xp.einsum_exact("...f,fa->...a", xp.square(unit), xp.square(xp.square(roots)))
    scale = sum(xp.broadcast_together((xp.log(largest), highest[0]), [variance.shape] * 2))
    quick = 0.5 * xp.log(xp.maximum(variance, 1e-30))
    shape = (*features.shape, log_std.shape[-1])

    def exact() -> tuple[Array, Array]:
        size, each = xp.broadcast_together((xp.expand_dims(xp.abs(features), -1), log_std), [shape] * 2)
        terms = xp.where(size > 0.0, xp.log(xp.where(size > 0.0, size, 1.0)) + each, -math.inf)
        top = xp.stop_gradient(xp.amax(terms, axis=-2, keepdims=True))
        marginal = xp.squeeze(top, -2) + 0.5 * xp.log(xp.sum(xp.exp(2.0 * (terms - top)), axis=-2))
        return marginal, marginal - scale

    # A large feature with a tiny deviation: squares may be lost to underflow. Derivatives compute the terms again,
    # because JAX would set memory aside for them even where they are not needed.
    again = exact if is_other(features) else jax.checkpoint(exact)
    marginal, relative = xp.unless_all(variance > 1e-25, again, (scale + quick, quick))
    # Two equal factors, because a deviation relative to s may overflow where its feature is zero.
    wide, factor = xp.broadcast_together((xp.expand_dims(unit, -1), roots), [shape] * 2)
    factor = factor * xp.expand_dims(xp.exp(-0.5 * relative), -2)
    weights = wide * factor * factor
    marginal = xp.where(alive, marginal, LOWEST)
    floor = xp.full_like(marginal, max(math.log(std_floor), LOWEST) if std_floor else LOWEST)
    floored = 0.5 * xp.logaddexp(2.0 * marginal, 2.0 * floor)
    return floored, weights * xp.expand_dims(xp.exp(marginal - floored), -2) if std_floor else weights


def check_std_floor(value: Any, name: str) -> None:
    """Raises TypeError unless the floor of a standard deviation is a number, and ValueError unless it is usable."""
    if not 0.0 <= number(value, name) <= math.exp(HIGHEST):
        raise ValueError(f"{name}: expected a number from 0 to {math.exp(HIGHEST):.2g}, got {value}. The default is 0.")


def gsde_noise(weights: Float[Array, "*batch features act"], matrices: Float[Array, "*batch features act"]) -> Array:
    """Returns the standard normal noise `(weights * matrices).sum(-2)`, `(…, act)`, of the weights of `gsde`."""
    products = weights * matrices
    return xp.sum(products, axis=-2) if is_other(products) or not products.shape[-2] else _sum_of_rows(products)


@jax.custom_jvp
def _sum_of_rows(array: Array) -> Array:
    # XLA: a sum over the rows of narrow matrices adds one row after the other. With one half added to the other again
    # and again, 256 sums of 32 rows take 0.3 to 0.65 times as long (jax 0.10.2, CPU).
    odd = []
    while (count := array.shape[-2]) > 1:
        half = count // 2
        if count % 2:
            odd.append(jax.lax.index_in_dim(array, -1, -2, keepdims=False))
        array = array[..., :half, :] + array[..., half : 2 * half, :]
    return functools.reduce(operator.add, odd, jnp.squeeze(array, -2))


# The gradient is one broadcast, and not an array of zeros for each half.
_sum_of_rows.defjvp(lambda primals, tangents: (_sum_of_rows(*primals), jnp.sum(tangents[0], -2)))


class GaussianHead(nn.Module):
    """The output layer of policy networks, computed in float32 or wider.

    Attributes:
        num_actions: Length of the action vector.
        output_activation: The mean's activation: a name, a function, an expression such as "2 * tanh(mean)" or None.
        std: "parameter" (one trained log_std for all observations), "state" (log_std is the output of a layer
            whose kernel starts at zero), "fixed" (log_std is a constant) or "gsde" (state-dependent exploration: each
            feature and action has a trained log_std, from which `gsde` computes the log_std of the actions).
        initial_log_std: Natural logarithm of the initial standard deviation, with "gsde" of the one of each feature.
        log_std_bounds: None, or limits (lower, upper) between which a scaled tanh keeps log_std.
        initializer: Name of the initialiser of the mean's kernel.
        scale: Factor on the initial kernel of the mean; with 0.01 the initial policy nearly ignores its input.
        off_diagonal: Whether `outputs["off_diagonal"]` has the correlations of the actions, which start at zero.
            They are the output of a layer for `std="state"`, else one trained vector.
        std_activation: None, or the standard deviation as an expression of the numbers that otherwise are log_std, such
            as "softplus(std) + 0.001". initial_log_std is then the initial value of these numbers. "expln" is exp(x)
            below zero and 1 + log1p(x) above, which grows slowly (Raffin, Kober and Stulp 2021, arXiv:2005.05719).
        full_std: False for one log_std for each feature, which all actions share, with `std="gsde"`.
        learn_features: Whether the gradient of log_std reaches the features, with `std="gsde"`.
        std_floor: A standard deviation that is added in quadrature, with `std="gsde"`, as `gsde` describes.

    Example:
        >>> import jax
        >>> head = GaussianHead(num_actions=2, initial_log_std=-1.0)
        >>> (mean, log_std, outputs), params = head.init_with_output(jax.random.key(0), jnp.zeros((5, 8)))
        >>> mean.shape, log_std
        ((5, 2), Array([-1., -1.], dtype=float32))
    """

    num_actions: int | None = None
    output_activation: Activation = None
    std: str = "parameter"
    initial_log_std: float = 0.0
    log_std_bounds: tuple[float, float] | None = None
    initializer: str = "lecun_normal"
    scale: float = 1.0
    off_diagonal: bool | None = None
    std_activation: Activation = None
    full_std: bool = True
    learn_features: bool = False
    std_floor: float = 0.0

    @nn.compact
    def __call__(self, features: Float[Array, "*batch features"]) -> NetworkOutput:
        """Returns the mean, log_std and a dict of further outputs."""
        if self.num_actions is None:
            raise ValueError(
                "num_actions: expected a number, got None. A policy's factory fills it in; inside a module of your own "
                "pass num_actions=."
            )
        if self.std not in STD_KINDS:
            choose(dict.fromkeys(STD_KINDS), self.std, "std")
        (features,) = xp.at_least_float32(features)
        mean = dense(self.num_actions, "mean", self.initializer, self.scale, features.dtype)(features)
        if self.output_activation in ACTIVATIONS:
            mean = activation(self.output_activation)(mean)
        elif self.output_activation is not None:
            mean = apply_output_activation(parse_output_activation(self.output_activation), mean, ACTIVATIONS)

        start = self.initial_log_std if self.log_std_bounds is None else self.start()
        if self.std == "fixed":
            log_std = jnp.full((self.num_actions,), start, features.dtype)
        else:
            shape = self.gsde_shape(features.shape[-1]) if self.std == "gsde" else (self.num_actions,)
            log_std = self._trained("log_std", shape, start, features)
        if self.log_std_bounds is not None:
            log_std = self.bounded(log_std, jnp.tanh)
        if self.std_activation is not None:
            log_std = self.activated(log_std, ACTIVATIONS)
        outputs = {}
        if self.std == "gsde":
            log_std, outputs["gsde"] = self.explored(features, log_std)
        if not self.off_diagonal:
            return mean, log_std, outputs
        count = num_pairs(self.num_actions)
        pairs = self._trained("off_diagonal", (count,), 0.0, features) if count else jnp.zeros((0,), features.dtype)
        return mean, log_std, {**outputs, "off_diagonal": pairs}

    def _trained(self, name: str, shape: tuple[int, ...], start: float, features: Array) -> Array:
        """Returns a trained array, or for `std="state"` the output of a layer; all numbers are initially `start`."""
        initializer = nn.initializers.constant(start)
        if self.std == "state":
            layer = nn.Dense(
                shape[-1], dtype=features.dtype, kernel_init=nn.initializers.zeros, bias_init=initializer, name=name
            )
            return layer(features)
        return self.param(name, initializer, shape, jnp.float32)

    @nn.nowrap
    def gsde_shape(self, num_features: int) -> tuple[int, int]:
        """Returns the shape of the trained log_std for `std="gsde"`."""
        return num_features, (self.num_actions or 0) if self.full_std else 1

    @nn.nowrap
    def explored(self, features: Any, log_std: Any) -> tuple[Any, Any]:
        """Returns the results of `gsde` with the options of this head, in JAX or torch."""
        each = xp.broadcast_to(log_std, (features.shape[-1], self.num_actions or 0))
        return gsde(features, each, learn_features=self.learn_features, std_floor=self.std_floor)

    @nn.nowrap
    def bounded(self, log_std: Any, tanh: Any) -> Any:
        """Maps log_std smoothly into `log_std_bounds`; `tanh` is the function of JAX or of torch."""
        if self.log_std_bounds is None:
            return log_std
        low, high = self.log_std_bounds
        return low + 0.5 * (high - low) * (1.0 + tanh(log_std))

    @nn.nowrap
    def activated(self, numbers: Any, activations: Any) -> Any:
        """Applies `std_activation` and returns log_std; `activations` are the functions of JAX or of torch."""
        if self.std_activation == "expln":
            return xp.where(numbers > 0.0, xp.log1p(xp.log1p(xp.maximum(numbers, 0.0))), numbers)
        std = apply_output_activation(parse_output_activation(self.std_activation, "std"), numbers, activations)
        # A standard deviation of 0 or less counts as the smallest one.
        return xp.log(xp.maximum(std, math.exp(LOWEST)))

    @nn.nowrap
    def start(self) -> float:
        """Returns the number that `bounded` maps to `initial_log_std`; raises ValueError for contradicting fields."""
        if self.std != "gsde" and (self.full_std, self.learn_features, self.std_floor) != (True, False, 0.0):
            raise ValueError(
                f"full_std, learn_features, std_floor: expected True, False and 0 with std={self.std!r}, got "
                f"{self.full_std}, {self.learn_features} and {self.std_floor}. They apply to std='gsde'."
            )
        if self.std_activation is not None and self.log_std_bounds is not None:
            raise ValueError(
                f"std_activation: expected None with log_std_bounds, got {self.std_activation!r}. Leave one of them "
                f"out."
            )
        if self.log_std_bounds is None:
            return self.initial_log_std
        if not isinstance(self.log_std_bounds, (tuple, list)) or len(self.log_std_bounds) != 2:
            raise TypeError(
                f"log_std_bounds: expected (lower, upper), got {self.log_std_bounds!r}. None sets no bounds."
            )
        low, high = (log_std(bound, "log_std_bounds") for bound in self.log_std_bounds)
        if not low < self.initial_log_std < high:
            raise ValueError(
                f"initial_log_std: expected a value in log_std_bounds, {low} to {high}, got {self.initial_log_std}."
            )
        return math.atanh(2.0 * (self.initial_log_std - low) / (high - low) - 1.0)
