"""The output layer of policy networks: the mean, the log standard deviation and the correlations."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.core.compiled import number
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.networks.expressions import apply_output_activation, parse_output_activation
from gaussjax.networks.layers import ACTIVATIONS, Activation, activation, dense

# The mean `(…, act)`, log_std and a dict of further outputs. log_std is `(…, act)` for `std="state"`, else `(act,)`.
NetworkOutput: TypeAlias = tuple[Float[Array, "... act"], Float[Array, "..."], dict[str, Any]]

STD_KINDS = ("parameter", "fixed", "state")
# Limits of log_std between which float32 holds the standard deviation and its reciprocal.
LOWEST, HIGHEST = -87.0, 88.0


def log_std(value: Any, name: str) -> float:
    """Returns a log standard deviation as a float; raises unless float32 holds the standard deviation."""
    if not LOWEST <= (log := number(value, name)) <= HIGHEST:
        raise ValueError(f"{name}: expected a number from {LOWEST:g} to {HIGHEST:g}, got {value}. It is a logarithm.")
    return log


class GaussianHead(nn.Module):
    """The output layer of policy networks, computed in float32 or wider.

    Attributes:
        num_actions: Length of the action vector.
        output_activation: The mean's activation: a name, a function, an expression such as "2 * tanh(mean)" or None.
        std: "parameter" (one trained log_std for all observations), "state" (log_std is the output of a layer
            whose kernel starts at zero) or "fixed" (log_std is a constant).
        initial_log_std: Natural logarithm of the initial standard deviation.
        log_std_bounds: None, or limits (lower, upper) between which a scaled tanh keeps log_std.
        initializer: Name of the initialiser of the mean's kernel.
        scale: Factor on the initial kernel of the mean; with 0.01 the initial policy nearly ignores its input.
        off_diagonal: Whether `outputs["off_diagonal"]` has the correlations of the actions, which start at zero.
            They are the output of a layer for `std="state"`, else one trained vector.
        std_activation: None, or the standard deviation as an expression of the numbers that otherwise are log_std, such
            as "softplus(std) + 0.001". initial_log_std is then the initial value of these numbers.

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
            log_std = self._trained("log_std", self.num_actions, start, features)
        if self.log_std_bounds is not None:
            log_std = self.bounded(log_std, jnp.tanh)
        if self.std_activation is not None:
            log_std = self.activated(log_std, ACTIVATIONS)
        if not self.off_diagonal:
            return mean, log_std, {}
        count = num_pairs(self.num_actions)
        pairs = self._trained("off_diagonal", count, 0.0, features) if count else jnp.zeros((0,), features.dtype)
        return mean, log_std, {"off_diagonal": pairs}

    def _trained(self, name: str, width: int, start: float, features: Array) -> Array:
        """Returns a trained vector, or for `std="state"` the output of a layer; all numbers are initially `start`."""
        initializer = nn.initializers.constant(start)
        if self.std == "state":
            layer = nn.Dense(
                width, dtype=features.dtype, kernel_init=nn.initializers.zeros, bias_init=initializer, name=name
            )
            return layer(features)
        return self.param(name, initializer, (width,), jnp.float32)

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
        std = apply_output_activation(parse_output_activation(self.std_activation, "std"), numbers, activations)
        # A standard deviation of 0 or less counts as the smallest one.
        return xp.log(xp.maximum(std, math.exp(LOWEST)))

    @nn.nowrap
    def start(self) -> float:
        """Returns the number that `bounded` maps to `initial_log_std`."""
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
