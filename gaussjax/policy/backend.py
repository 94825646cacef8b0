"""What the functions of a policy need of a library of arrays, and JAX's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gaussjax import spaces
from gaussjax.core.compiled import compiled
from gaussjax.core.trees import check_shapes
from gaussjax.networks.description import bind
from gaussjax.policy import checks
from gaussjax.policy import strict as strictness
from gaussjax.policy.policy import Spec
from gaussjax.random.normal import standard_normal


class Backend(NamedTuple):
    """What a policy needs of the library that its network is written in.

    Attributes:
        bind: `(network, observation_space, num_actions, fields)` to an object with `init` and `apply`.
        compile: `(function, names of static arguments, spec) -> function`.
        arrays: A tree of what users pass to one of the library's arrays.
        full: `(shape, value, NumPy's dtype) -> array`.
        draw: `(key, shape, dtype) -> standard normal noise`.
        check_key: Refuses what is no key.
        check_params: `(params, function that gives the expected ones)`: refuses others.
        abstract: `(function, *arguments)` to its result, of which only shapes are read.
        key: Any key.
    """

    bind: Callable[..., Any]
    compile: Callable[..., Callable[..., Any]]
    arrays: Callable[[Any], Any]
    full: Callable[..., Any]
    draw: Callable[..., Any]
    check_key: Callable[[Any], None]
    check_params: Callable[[Any, Callable[[], Any]], None]
    abstract: Callable[..., Any]
    key: Callable[[], Any]


def _compiled(function: Callable[..., Any], static: tuple[str, ...], spec: Spec) -> Callable[..., Any]:
    """A compiled function whose refusal of observations that are no numbers is ours, not JAX's.

    In strict mode the values are looked at too.
    """
    jitted, space = compiled(function, static), spec.observation_space

    @functools.wraps(jitted)
    def explained(*arguments: Any, **options: Any) -> Any:
        if strictness.ON.get():
            given = inspect.signature(jitted).bind_partial(*arguments, **options).arguments
            strictness.look(given, strictness.support(spec.kind, dict(spec.options), spec.action_space))
        try:
            return jitted(*arguments, **options)
        except TypeError:
            # JAX refuses text and objects before any of our code is traced.
            given = inspect.signature(jitted).bind_partial(*arguments, **options).arguments
            if given.get("observations") is not None:
                spaces.cast(space, given["observations"])
            raise

    return explained


def _abstract(function: Callable[..., Any], *arguments: Any) -> Any:
    # Closed over, for a batch shape is no array.
    return jax.eval_shape(lambda: function(*arguments))


JAX = Backend(
    bind=bind,
    compile=_compiled,
    arrays=lambda tree: tree,
    full=jnp.full,
    draw=standard_normal,
    check_key=checks.key,
    check_params=lambda params, expected: check_shapes(params, expected(), "params"),
    abstract=_abstract,
    key=lambda: jax.random.key(0),
)
