"""What all networks are made of: named activations, initialisers and a stack of dense layers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaussjax.networks.product import dot_general

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def elu(x: jax.Array) -> jax.Array:
    """The exponential linear unit through exp, within 1e-7 of the true value, its derivatives likewise.

    A third of the time of the form with expm1 on CPU, and no less accurate near its values of
    order one; relative digits of a result near 0, and of a derivative near 0, are given up.
    """
    x = jnp.asarray(x)
    # In fewer digits than float32's too little of the derivative would be left in the output.
    wide = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits >= 32
    return _wide_elu(x) if wide else _elu(x)


def _elu(x: jax.Array) -> jax.Array:
    # The inner where keeps a large x out of exp, whose gradient would be inf * 0.
    return jnp.where(x > 0, x, jnp.exp(jnp.where(x > 0, 0.0, x)) - 1.0)


_wide_elu = jax.custom_jvp(_elu)


@_wide_elu.defjvp
def _elu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The derivative read off the output, exp(x) = y + 1, so that the backward pass needs no array but that."""
    y = _wide_elu(primals[0])
    return y, tangents[0] * jnp.where(y > 0, 1.0, y + 1.0)


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "celu": jax.nn.celu,
    "elu": elu,
    "gelu": jax.nn.gelu,
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
}

_INITIALIZERS: Mapping[str, Callable[[float], Any]] = {
    "lecun_normal": lambda scale: nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal"),
    "he_normal": lambda scale: nn.initializers.variance_scaling(2.0 * scale**2, "fan_in", "truncated_normal"),
    "xavier_uniform": lambda scale: nn.initializers.variance_scaling(scale**2, "fan_avg", "uniform"),
    "orthogonal": nn.initializers.orthogonal,
}


def choose(table: Mapping[str, Any], name: str | None, what: str) -> Any:
    """The entry of a table of named choices; None is "identity".

    Raises:
        ValueError: There is no such name. The nearest one is suggested.
    """
    name = "identity" if name is None else name
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{what}: expected one of {sorted(table)}, got {name!r}.{hint}")


def activation(name: str | None) -> Callable[[jax.Array], jax.Array]:
    """The activation function of that name; None is the identity.

    Example:
        >>> float(activation("relu")(-1.0))
        0.0
    """
    return choose(ACTIVATIONS, name, "activation")


def kernel_initializer(name: str, scale: float = 1.0) -> Any:
    """The named initialiser of kernels times `scale`."""
    return choose(_INITIALIZERS, name, "initializer")(scale)


def dense(features: int, name: str | None, initializer: str, scale: float, dtype: Any = None) -> nn.Dense:
    """A dense layer whose kernel starts with the named initialiser times `scale`, its bias at 0."""
    start = kernel_initializer(initializer, scale)
    return nn.Dense(features, name=name, dtype=dtype, kernel_init=start, dot_general=dot_general)


class Layers(nn.Module):
    """Dense layers, each followed by an optional norm and an activation.

    Attributes:
        sizes: Width of each layer.
        activation: Name from `ACTIVATIONS`, or one for each layer.
        norm: None or "layer" (layer normalisation before the activation).
        initializer: Name of the kernels' initialiser.
        scale: Factor on the kernels' standard deviation at the start.
        dtype: Type to compute in, such as "bfloat16"; None keeps that of the inputs.
    """

    sizes: tuple[int, ...]
    activation: str | tuple[str | None, ...] | None = "relu"
    norm: str | None = None
    initializer: str = "lecun_normal"
    scale: float = 1.0
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch width"]:
        """The features after the last layer."""
        for i, (width, activate) in enumerate(zip(self.sizes, self._activations(), strict=True)):
            x = dense(width, f"dense_{i}", self.initializer, self.scale, self.dtype)(x)
            if choose({"identity": False, "layer": True}, self.norm, "norm"):
                x = nn.LayerNorm(name=f"norm_{i}", dtype=self.dtype)(x)
            x = activate(x)
        return x

    def _activations(self) -> list[Callable[[jax.Array], jax.Array]]:
        if self.activation is None or isinstance(self.activation, str):
            return [activation(self.activation)] * len(self.sizes)
        if len(self.activation) != len(self.sizes):
            raise ValueError(
                f"activation: expected one name, or one for each of the {len(self.sizes)} sizes, got {self.activation}."
            )
        return [activation(name) for name in self.activation]
