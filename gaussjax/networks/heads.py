"""The last layer: features to the mean, the log standard deviation and the correlations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp

from gaussjax.core.choices import choose
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.networks.expressions import bend, bending
from gaussjax.networks.layers import ACTIVATIONS, Dense, dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_STD_KINDS = {kind: kind for kind in ("parameter", "fixed", "state")}


class GaussianHead(nn.Module):
    """Mean and log_std, in float32 at the least whatever the trunk computed in.

    Attributes:
        num_actions: Length of the action vector; the policy's factory fills it in.
        output_activation: Activation of the mean, or such as "2 * tanh(mean)"; None leaves it unbounded.
        std: "parameter" (one learnt log_std for all observations), "state" (a second output
            layer, zero at the start) or "fixed" (a constant).
        initial_log_std: Where log_std starts, natural logarithm.
        log_std_bounds: None, or the (lower, upper) ends between which tanh bends log_std
            smoothly, so that its gradient never stops as it does at a hard clip.
        initializer: Name of the mean kernel's initialiser.
        scale: Factor on the mean kernel at the start; 0.01 makes the first policy ignore its input.
        off_diagonal: Whether `outputs["off_diagonal"]` holds the correlations of the actions, zero
            at the start: a second output layer for `std="state"`, else learnt and the same for all
            observations. `multivariate_gaussian` switches it on.

    Example:
        >>> import jax
        >>> head = GaussianHead(num_actions=2, initial_log_std=-1.0)
        >>> (mean, log_std, outputs), params = head.init_with_output(jax.random.key(0), jnp.zeros((5, 8)))
        >>> mean.shape, log_std
        ((5, 2), Array([-1., -1.], dtype=float32))
    """

    num_actions: int | None = None
    output_activation: str | None = None
    std: str = "parameter"
    initial_log_std: float = 0.0
    log_std_bounds: tuple[float, float] | None = None
    initializer: str = "lecun_normal"
    scale: float = 1.0
    off_diagonal: bool | None = None

    @nn.compact
    def __call__(
        self, features: Float[Array, "*batch features"]
    ) -> tuple[Float[Array, "*batch act"], Float[Array, "..."], dict[str, Any]]:
        """Mean `(…, act)`, log_std, `(…, act)` for "state" and `(act,)` else, and outputs."""
        if self.num_actions is None:
            raise ValueError("num_actions: expected a number, got None. A policy's factory fills it in.")
        choose(_STD_KINDS, self.std, "std")
        features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        mean = dense(self.num_actions, "mean", self.initializer, self.scale)(features)
        mean = bend(bending(self.output_activation), mean, ACTIVATIONS)

        start = nn.initializers.constant(self._unbound(self.initial_log_std))
        if self.std == "parameter":
            log_std = self.param("log_std", start, (self.num_actions,), jnp.float32)
        elif self.std == "state":
            log_std = _flat_dense(self.num_actions, "log_std", start)(features)
        else:
            log_std = jnp.full((self.num_actions,), self._unbound(self.initial_log_std), features.dtype)
        return mean, self._bound(log_std), self._correlations(features) if self.off_diagonal else {}

    def _correlations(self, features: Array) -> dict[str, Array]:
        count = num_pairs(self.num_actions or 1)
        zeros = nn.initializers.zeros_init()
        if not count:
            return {"off_diagonal": jnp.zeros((0,), features.dtype)}
        if self.std == "state":
            return {"off_diagonal": _flat_dense(count, "off_diagonal", zeros)(features)}
        return {"off_diagonal": self.param("off_diagonal", zeros, (count,), jnp.float32)}

    def _bound(self, x: Array) -> Array:
        if self.log_std_bounds is None:
            return x
        low, high = self.log_std_bounds
        return low + 0.5 * (high - low) * (1.0 + jnp.tanh(x))

    @nn.nowrap
    def _unbound(self, log_std: float) -> float:
        if self.log_std_bounds is None:
            return log_std
        low, high = self.log_std_bounds
        if not low < log_std < high:
            raise ValueError(
                f"initial_log_std: expected a value between the log_std_bounds {self.log_std_bounds}, got {log_std}."
            )
        return math.atanh(2.0 * (log_std - low) / (high - low) - 1.0)


def _flat_dense(features: int, name: str, start: Any) -> Dense:
    # A layer whose output does not depend on its input until it is trained.
    zeros = nn.initializers.zeros_init()
    return Dense(features, zeros, start, name=name)
