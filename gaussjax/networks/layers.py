"""Activations and initialisers by name, and dense layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from gaussjax.core.choices import choose
from gaussjax.core.compiled import number
from gaussjax.core.text import quoted

Activation: TypeAlias = str | Callable[[Array], Array] | None
# In a network, layers promote parameters and inputs of different dtypes, which JAX's strict mode refuses otherwise.
promoting = functools.partial(jax.numpy_dtype_promotion, "standard")
# Order of the axes of images, kernels and results.
_USUAL = ("NHWC", "HWIO", "NHWC")


def elu(x: Array) -> Array:
    """The exponential linear unit, within 1e-7 of the true value in float32."""
    x = jnp.asarray(x)
    # `_wide_elu` computes the derivative from the output, which has too few digits for it in a narrower dtype.
    wide = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits >= 32
    return _wide_elu(x) if wide else _elu(x)


# XLA: the expm1 in jax.nn.elu is slow on CPU. With exp instead, PPO's update takes 0.85 times as long (jax 0.10.2).
# `_wide_elu` computes the derivative as output + 1, so the backward pass reads one array less. Without this, the
# gradient of `evaluate` takes 1.2 times as long at 512 rows. Use jax.nn.elu again when
# tests/faults/test_overhead.py::test_expm1_is_still_slower_than_exp fails.
def _elu(x: Array) -> Array:
    # Without the inner where, exp of a large x would be inf, and the gradient inf * 0 would be NaN.
    return jnp.where(x > 0, x, jnp.exp(jnp.where(x > 0, 0.0, x)) - 1.0)


_wide_elu = jax.custom_jvp(_elu)


@_wide_elu.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = _wide_elu(primals[0])
    return y, tangents[0] * jnp.where(y > 0, 1.0, y + 1.0)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "celu": jax.nn.celu,
    "elu": elu,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "hard_tanh": jax.nn.hard_tanh,
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "sqrt": jnp.sqrt,
    "tanh": jnp.tanh,
}

# Gain of the variance, fan and distribution of each kernel initialiser; "orthogonal" has no such values.
INITIALIZERS: Mapping[str, Any] = {
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
    "xavier_uniform": (1.0, "fan_avg", "uniform"),
    "orthogonal": None,
}


# Choices of `norm`, and True for the choice with a layer norm after each dense layer.
NORMS: Mapping[str, bool] = {"identity": False, "layer": True}


def factor(value: Any, name: str) -> None:
    """Raises TypeError unless the factor on initial kernels is a number, and ValueError unless it is finite."""
    if not math.isfinite(value if isinstance(value, float) else number(value, name)):
        raise ValueError(f"{name}: expected a finite number, got {value}. The default is 1.")


def activation(chosen: Activation) -> Callable[[Array], Array]:
    """Returns the activation function with this name; None means the identity. A function is returned unchanged."""
    if callable(chosen):
        return chosen
    name = "identity" if chosen is None else chosen
    return ACTIVATIONS[name] if name in ACTIVATIONS else choose(ACTIVATIONS, name, "activation")


def named(value: Any) -> Any:
    """Returns the name of a function from `ACTIVATIONS` or of `jax.nn.elu`, and any other value unchanged."""
    functions = (*ACTIVATIONS.items(), ("elu", jax.nn.elu))
    return next((name for name, function in functions if function is value), value)


def refuse_function(chosen: Any) -> Any:
    """Returns the name of an activation, or None; raises TypeError for a function that is not in `ACTIVATIONS`."""
    if callable(named(chosen)):
        raise TypeError(
            f"activation: expected a name from gaussjax.networks.ACTIVATIONS, got the function "
            f"{getattr(chosen, '__name__', chosen)!r}, which works neither in a policy file nor in torch. Use one of "
            f"{sorted(ACTIVATIONS)}, or write a module of your own and pass it as network= when you load the policy."
        )
    return named(chosen)


def kernel_initializer(name: str, scale: float = 1.0) -> Any:
    """Returns the kernel initialiser with this name; the numbers that it draws are multiplied by `scale`."""
    if name == "orthogonal":
        return nn.initializers.orthogonal(scale)
    gain, fan, distribution = INITIALIZERS.get(name) or choose(INITIALIZERS, name, "initializer")
    return nn.initializers.variance_scaling(gain * scale**2, fan, distribution)


def dense(features: int, name: str | None, initializer: str, scale: float, dtype: Any = None, **linen: Any) -> nn.Dense:
    """Makes a dense layer with the named kernel initialiser; `linen` has further arguments of `nn.Dense`."""
    return nn.Dense(features, dtype=dtype, kernel_init=kernel_initializer(initializer, scale), name=name, **linen)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _convolve(images: Array, kernel: Array, strides: Any, padding: Any) -> Array:
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_USUAL)


@functools.partial(_convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(strides: Any, padding: Any, primals: Any, tangents: Any) -> tuple[Array, Any]:
    """The same derivative as JAX's, with axes in an order in which its transpose is a convolution in the usual order.

    In a loop, such as the updates of a training, XLA computes other orders ten times slower on a CPU.
    """
    (images, kernel), (by_images, by_kernel) = primals, tangents
    convolve = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding)
    result = _convolve(images, kernel, strides, padding)
    tangent = jnp.zeros_like(result)
    if not isinstance(by_images, SymbolicZero):
        tangent = convolve(by_images, kernel.swapaxes(2, 3), dimension_numbers=("NHWC", "HWOI", "NHWC"))
    if not isinstance(by_kernel, SymbolicZero):
        images, by_kernel = images.transpose(3, 1, 2, 0), by_kernel.transpose(2, 0, 1, 3)
        more = convolve(images, by_kernel, dimension_numbers=("CHWN", "IHWO", "HWNC"))
        tangent += more.transpose(2, 0, 1, 3)
    return result, tangent


def convolved(images: Array, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """A convolution for `flax.linen.Conv`; on explicit axes of a mesh the result is sharded like the images.

    Args:
        images: Images `(n, height, width, channels)`.
        kernel: Kernel `(height, width, channels, features)`.
        strides: Stride in each direction.
        padding: As for `jax.lax.conv_general_dilated`.
        **options: Flax's further arguments, which have their default values here.

    Returns:
        Images `(n, height, width, features)`.
    """

    def convolve(images: Array, kernel: Array) -> Array:
        return _convolve(images, kernel, strides, padding)

    sharding = jax.typeof(images).sharding
    if not any(sharding.spec):
        return convolve(images, kernel)
    # JAX does not shard the gradient of a convolution with explicit axes (jax 0.10.2).
    result = NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[0], None, None, None))
    automatic: Any = jax.sharding.auto_axes(convolve, out_sharding=result)
    return automatic(images, kernel)


class Layers(nn.Module):
    """Dense layers, each followed by an optional layer norm and an activation; `MLP` describes the fields."""

    sizes: tuple[int, ...]
    activation: Activation | tuple[Activation, ...] = "relu"
    norm: str | None = None
    initializer: str = "lecun_normal"
    scale: float = 1.0
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch width"]:
        for i, (width, chosen) in enumerate(self.widths_and_activations()):
            x = dense(width, f"dense_{i}", self.initializer, self.scale, self.dtype)(x)
            if self.norm is not None and self.normalised():
                x = nn.LayerNorm(name=f"norm_{i}", dtype=self.dtype)(x)
            x = activation(chosen)(x)
        return x

    @nn.nowrap
    def widths_and_activations(self) -> list[tuple[int, Activation]]:
        """Returns the width and the activation of each dense layer."""
        sizes, chosen = self.sizes, self.activation
        integers = isinstance(sizes, (tuple, list)) and all(isinstance(width, (int, np.integer)) for width in sizes)
        if not integers or any(isinstance(width, bool) for width in sizes):
            raise TypeError(
                f"sizes: expected a tuple of widths, got {quoted(sizes)}. One layer of 64 units is sizes=(64,)."
            )
        if any(width < 1 for width in sizes):
            raise ValueError(f"sizes: expected widths of at least 1, got {quoted(sizes)}. No hidden layer is sizes=().")
        if chosen is None or isinstance(chosen, str) or callable(chosen):
            return [(width, chosen) for width in sizes]
        expected = f"expected a name from gaussjax.networks.ACTIVATIONS, or one for each of the {len(sizes)} sizes"
        if not isinstance(chosen, (tuple, list)):
            raise TypeError(f"activation: {expected}, got {quoted(chosen)}. A function such as jax.nn.relu works too.")
        if len(chosen) != len(sizes):
            raise ValueError(f"activation: {expected}, got {quoted(chosen)}. One for all is activation='tanh'.")
        return list(zip(sizes, chosen, strict=True))

    @nn.nowrap
    def normalised(self) -> bool:
        """Returns True if a layer norm follows each dense layer."""
        return self.norm is not None and choose(NORMS, self.norm, "norm")
