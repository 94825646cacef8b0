"""Compiled functions that validate NumPy arguments before JAX reads their memory."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Argument types and dtypes that need no validation. Types of device arrays and tracers are added at their first use.
_PASSED: set[type] = {bool, float}
_PLAIN = {np.dtype(name) for name in ("bool", "f2", "f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")}


class Compiled:
    """A pure function compiled by `jax.jit` that validates its NumPy arguments before each call.

    JAX ignores the byte order and the mask of a NumPy array. The validation raises TypeError for such arrays,
    text and objects, and keeps 64-bit integers from wrapping around. It takes at most 3 µs. Inside another `jit`,
    `vmap`, `grad` or `scan` the function becomes part of that program.

    Attributes:
        jit: The function compiled by `jax.jit`, without the validation.
        static_argnames: Names of the arguments that are constants of the program: numbers, text or tuples.

    Example:
        >>> double = Compiled(lambda x: 2 * x)
        >>> double(np.ones(3)).tolist(), jax.vmap(double)(jnp.ones(3)).tolist()
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])
        >>> double(np.ones(3, ">f4"))
        Traceback (most recent call last):
        TypeError: x: expected native byte order, got >f4. Use x.astype(x.dtype.newbyteorder('=')).
    """

    def __init__(self, function: Callable[..., Any], static_argnames: tuple[str, ...] = ()):
        functools.update_wrapper(self, function)
        self.jit: Any = jax.jit(function, static_argnames=static_argnames)
        self.static_argnames = static_argnames
        self.lower, self.trace, self.eval_shape = self.jit.lower, self.jit.trace, self.jit.eval_shape
        self.clear_cache = self.jit.clear_cache

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Validates the arguments and returns the result of the compiled function."""
        for leaf in jax.tree_util.tree_leaves((arguments, options)):
            kind = type(leaf)
            if kind in _PASSED or (kind is np.ndarray and leaf.dtype in _PLAIN):
                continue
            if isinstance(leaf, jax.Array):
                _PASSED.add(kind)
                continue
            arguments, options = _validated(self.jit, self.static_argnames, arguments, options)
            break
        try:
            return self.jit(*arguments, **options)
        except (TypeError, ValueError):
            _refuse_static(self.jit, self.static_argnames, arguments, options)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.__wrapped__, self.static_argnames)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<compiled {getattr(self, '__qualname__', 'function')}>"


def _validated(
    function: Callable[..., Any], static: tuple[str, ...], arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Validates every leaf of the arguments and returns them; integers too large for int32 become float32."""
    try:
        names = list(inspect.signature(function).bind(*arguments, **options).arguments)
    except TypeError:
        # The arguments do not fit the signature; the call of the function then raises Python's own error.
        return arguments, dict(options)

    def argument(name: str, value: Any) -> Any:
        if name in static:
            return value
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: checked(leaf, f"{name}{jax.tree_util.keystr(path)}", name), value
        )

    positional = [argument(name, value) for name, value in zip(names, arguments, strict=False)]
    return tuple(positional), {name: argument(name, value) for name, value in options.items()}


def _refuse_static(
    function: Callable[..., Any], static: tuple[str, ...], arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    """Raises TypeError if a static argument is an array or cannot be hashed, which JAX reports without its name."""
    try:
        passed = inspect.signature(function).bind(*arguments, **options).arguments
    except TypeError:
        return
    for name in static:
        value = passed.get(name)
        if isinstance(value, jax.Array) or not isinstance(value, Hashable):
            kind = "a traced array" if isinstance(value, Tracer) else f"{type(value).__name__} {value!r}"
            raise TypeError(
                f"{name}: expected a constant of Python such as True, text or a tuple, got {kind}. Each value has a "
                f"compiled program of its own; to choose inside a program, use jax.lax.cond with one call for each."
            ) from None


def checked(leaf: Any, where: str, name: str) -> Any:
    """Returns a leaf, integers beyond int32 as float32; raises TypeError for masks, byte orders, text and objects."""
    if isinstance(leaf, (jax.Array, int, float)) or hasattr(leaf, "__jax_array__"):
        return leaf
    if not isinstance(leaf, (np.ndarray, np.generic)):
        kind = type(leaf).__name__
        raise TypeError(
            f"{where}: expected numbers in arrays of JAX or NumPy, got {kind}. Convert them first, with "
            f"np.asarray({name}, np.float32)."
        )
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(f"{where}: expected an array without a mask, got a masked array. Use {name}.filled(value).")
    if not leaf.dtype.isnative:
        raise TypeError(
            f"{where}: expected native byte order, got {leaf.dtype.str}. "
            f"Use {name}.astype({name}.dtype.newbyteorder('='))."
        )
    if leaf.dtype.kind not in "biuf" and not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise TypeError(
            f"{where}: expected real numbers, got {leaf.dtype}. Convert them first, with "
            f"np.asarray({name}, np.float32)."
        )
    config: Any = jax.config  # Typed as Any, because type checkers do not know the flags of jax.config.
    if leaf.dtype.kind in "iu" and leaf.dtype.itemsize == 8 and leaf.size and not config.jax_enable_x64:
        # Without x64 JAX would keep only the lower 32 bits of each number.
        limits = np.iinfo(np.int32)
        return leaf if limits.min <= leaf.min() and leaf.max() <= limits.max else leaf.astype(np.float32)
    return leaf
