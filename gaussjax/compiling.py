"""Compiled functions that are as fast called on their own as a CPU lets them be."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from flax.core.tracers import current_trace

# For x86 with AVX-512 LLVM takes vectors of 256 bits unless it is told: a heritage of processors that
# slowed down for wider ones. Other processors take what they have.
_WIDTH = "xla_cpu_prefer_vector_width"
_BITS = "512"


def compiled(function: Callable[..., Any], static_argnames: tuple[str, ...] = ()) -> Callable[..., Any]:
    """`jax.jit(function)`; on a CPU that has them, a bare call computes with vectors of 512 bits.

    A call is bare outside of every jit, vmap and grad. JAX takes options of its compiler there and nowhere
    else: within another function, that function's program is what counts. The two may differ by a rounding.

    Args:
        function: Pure, of arrays.
        static_argnames: As for `jax.jit`.

    Returns:
        The compiled function, with the name and docstring of the plain one. What XLA_FLAGS says of the
        width of vectors holds for both ways.

    Example:
        >>> import jax.numpy as jnp
        >>> double = compiled(lambda x: 2 * x)
        >>> double(jnp.ones(3)).tolist(), jax.vmap(double)(jnp.ones(3)).tolist()
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])
    """
    plain = jax.jit(function, static_argnames=static_argnames)
    wide = jax.jit(function, static_argnames=static_argnames, compiler_options={_WIDTH: _BITS})

    @functools.wraps(plain)
    def call(*arguments: Any, **options: Any) -> Any:
        bare = _takes_width() and current_trace() == _no_trace()
        return (wide if bare else plain)(*arguments, **options)

    return call


@functools.cache
def _no_trace() -> Any:
    # Of a new thread, for the first call may come while something is traced.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(current_trace).result()


@functools.cache
def _takes_width() -> bool:
    if jax.default_backend() != "cpu" or _WIDTH in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        # Options are XLA's own and no promise: a later one may not know this.
        jax.jit(lambda: 0).lower().compile({_WIDTH: _BITS})
    except jax.errors.JaxRuntimeError:
        return False
    return True
