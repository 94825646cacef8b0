"""Operations that a policy needs from the library of its network: JAX, or another such as torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gaussjax.core.compiled import Compiled
from gaussjax.networks.description import bind
from gaussjax.policy import checks
from gaussjax.random.keys import standard_normal


class Backend(NamedTuple):
    """Operations that a policy needs from the library of its network.

    Attributes:
        bind: `(network, observation_space, num_actions, fields) -> object` with `init` and `apply`.
        compile: `(function, names of static arguments) -> function` that converts and validates its arguments.
        full: `(shape, value, NumPy dtype) -> array`.
        draw: `(key, shape, dtype) -> standard normal noise`.
        float32: The float32 dtype.
        check_key: Raises TypeError unless its argument is one PRNG key.
        check_params: `(params, expected)`; raises if the shapes differ from the parameters that `expected()` returns.
        abstract: `(function, *arguments) -> result`; only the shapes and dtypes of the result are used.
        key: Makes a PRNG key for calls of which only the shapes are used.
    """

    bind: Callable[..., Any]
    compile: Callable[[Callable[..., Any], tuple[str, ...]], Callable[..., Any]]
    full: Callable[..., Any]
    draw: Callable[..., Any]
    float32: Any
    check_key: Callable[[Any], None]
    check_params: Callable[[Any, Callable[[], Any]], None]
    abstract: Callable[..., Any]
    key: Callable[[], Any]


JAX = Backend(
    bind=bind,
    compile=Compiled,
    full=jnp.full,
    draw=standard_normal,
    float32=jnp.float32,
    check_key=checks.key,
    check_params=checks.params,
    abstract=jax.eval_shape,
    key=functools.partial(jax.random.key, 0),
)
