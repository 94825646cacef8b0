"""What all networks are made of: named activations, initialisers and a stack of dense layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from gaussjax.core.choices import choose
from gaussjax.networks.product import affine

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


def activation(name: str | None) -> Callable[[jax.Array], jax.Array]:
    """The activation function of that name; None is the identity.

    Example:
        >>> float(activation("relu")(-1.0))
        0.0
    """
    return choose(ACTIVATIONS, "identity" if name is None else name, "activation")


def kernel_initializer(name: str, scale: float = 1.0) -> Any:
    """The named initialiser of kernels times `scale`."""
    return choose(_INITIALIZERS, name, "initializer")(scale)


class Dense(nn.Module):
    """`flax.linen.Dense` with the same parameters and values, whose gradients are faster on CPU.

    Attributes:
        features: Width of the output.
        kernel_init: Initialiser of the kernel.
        bias_init: Initialiser of the bias.
        dtype: Type to compute in; None is that of the input and the parameters.
    """

    features: int
    kernel_init: Any
    bias_init: Any = nn.initializers.zeros_init()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        """`x @ kernel + bias`."""
        kernel = self.param("kernel", self.kernel_init, (jnp.shape(x)[-1], self.features), jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return affine(*promote_dtype(x, kernel, bias, dtype=self.dtype))


def dense(features: int, name: str | None, initializer: str, scale: float, dtype: Any = None) -> Dense:
    """A dense layer whose kernel starts with the named initialiser times `scale`, its bias at 0."""
    return Dense(features, kernel_initializer(initializer, scale), dtype=dtype, name=name)


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
        for i, (width, name) in enumerate(self.widths_and_activations()):
            x = dense(width, f"dense_{i}", self.initializer, self.scale, self.dtype)(x)
            if self.normalised():
                x = nn.LayerNorm(name=f"norm_{i}", dtype=self.dtype)(x)
            x = activation(name)(x)
        return x

    @nn.nowrap
    def widths_and_activations(self) -> list[tuple[int, str | None]]:
        """The width of each layer and the name of its activation.

        Raises:
            TypeError: The sizes are no tuple of whole numbers, or the activation is no name.
            ValueError: There are more or fewer names than sizes.
        """
        sizes, names = self.sizes, self.activation
        if not isinstance(sizes, (tuple, list)) or not all(isinstance(width, (int, np.integer)) for width in sizes):
            raise TypeError(f"sizes: expected a tuple of widths, got {sizes!r}. One layer of 64 units is sizes=(64,).")
        if names is None or isinstance(names, str):
            return [(width, names) for width in sizes]
        expected = f"expected a name from gaussjax.networks.ACTIVATIONS, or one for each of the {len(sizes)} sizes"
        if not isinstance(names, (tuple, list)):
            raise TypeError(f"activation: {expected}, got {names!r}. Functions have names here, such as 'relu'.")
        if len(names) != len(sizes):
            raise ValueError(f"activation: {expected}, got {names}.")
        return list(zip(sizes, names, strict=True))

    @nn.nowrap
    def normalised(self) -> bool:
        """Whether a norm follows each layer."""
        return self.norm is not None and choose({"layer": True}, self.norm, "norm")
