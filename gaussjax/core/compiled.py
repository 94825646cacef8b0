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
_WIDE = ("xla_cpu_prefer_vector_width", "512")
# Left to itself XLA has YNNPACK multiply. Beside other work, such as the drawing of the noise, Eigen's products end
# sooner: it looks as if a thread that becomes free takes up pieces of theirs and none of YNNPACK's.
_IN_PIECES = ("xla_cpu_experimental_ynn_fusion_type", "")
# Of fewer rows there are too few pieces for that to show.
_MANY = 8192


def compiled(function: Callable[..., Any], static_argnames: tuple[str, ...] = ()) -> Callable[..., Any]:
    """`jax.jit(function)` whose bare calls on a CPU ask XLA for what is fastest there.

    That is vectors of 512 bits and, for many rows, matrix products in pieces. A call is bare outside of every jit,
    vmap and grad. JAX takes options of its compiler there and nowhere else: within another function, that
    function's program is what counts. The two may differ by a rounding.

    Args:
        function: Pure, of arrays.
        static_argnames: As for `jax.jit`.

    Returns:
        The compiled function, with the name and docstring of the plain one. What XLA_FLAGS says of an
        option holds for both ways.

    Example:
        >>> import jax.numpy as jnp
        >>> double = compiled(lambda x: 2 * x)
        >>> double(jnp.ones(3)).tolist(), jax.vmap(double)(jnp.ones(3)).tolist()
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])
    """
    plain = jax.jit(function, static_argnames=static_argnames)

    @functools.cache
    def bare(many: bool) -> Callable[..., Any]:
        options: dict[str, Any] = dict(option for option in (_WIDE, _IN_PIECES)[: 1 + many] if _taken(*option))
        return jax.jit(function, static_argnames=static_argnames, compiler_options=options) if options else plain

    @functools.wraps(plain)
    def call(*arguments: Any, **options: Any) -> Any:
        if _on_cpu() and current_trace() == _no_trace():
            return bare(_rows(arguments) >= _MANY)(*arguments, **options)
        return plain(*arguments, **options)

    return call


def _rows(arguments: tuple[Any, ...]) -> int:
    """Of the last argument: observations, or the actions that go with them.

    Of a matrix alone. The products of a sequence are those of its steps, one after the other.
    """
    shape = getattr(arguments[-1], "shape", ()) if arguments else ()
    return shape[0] if len(shape) == 2 else 0


@functools.cache
def _no_trace() -> Any:
    # Of a new thread, for the first call may come while something is traced.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(current_trace).result()


@functools.cache
def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


@functools.cache
def _taken(name: str, value: str) -> bool:
    """Whether the option is ours to set, and XLA knows it."""
    if name in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        # Options are XLA's own and no promise: a later one may not know this.
        jax.jit(lambda: 0).lower().compile({name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
