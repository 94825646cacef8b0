"""Every float32 number, once, in each function of one argument."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

import gaussjax.torch  # noqa: F401 - the functions take tensors too
from gaussjax.distributions import special
from gaussjax.random import threefry
from tests.numerics.rows import UNIT

# The intermediate arrays of a chunk stay in the processor's cache.
CHUNK = 2**18
ALL = 2**32
# Smaller results count as 0, because XLA treats subnormal numbers as zero.
LEAST = 1e-37
Stats = list[tuple[Any, Any, Any]]


def _jax_normal(uniforms: jax.Array) -> jax.Array:
    return lax.erf_inv(uniforms) * np.array(np.sqrt(2), uniforms.dtype)


def _compiled(function: Callable[..., Any], derivative: bool = True) -> Callable[[np.ndarray], Stats]:
    """Errors of a function, and of its derivative, in one program."""

    def results(x: jax.Array) -> list[jax.Array]:
        return [function(x), *([jax.grad(lambda x: jnp.sum(function(x)))(x)] if derivative else [])]

    return jax.jit(
        lambda x: [_compare(jnp, *pair) for pair in zip(results(x), results(x.astype(jnp.float64)), strict=True)]
    )


def _torch(function: Callable[..., Any]) -> Callable[[np.ndarray], Stats]:
    """The same for torch, operation by operation."""

    def results(x: np.ndarray) -> list[np.ndarray]:
        tensor = torch.tensor(x, requires_grad=True)
        value = function(tensor)
        return [each.detach().numpy() for each in (value, *torch.autograd.grad(value.sum(), tensor))]

    return lambda x: [_compare(np, *pair) for pair in zip(results(x), results(x.astype(np.float64)), strict=True)]


def _numpy_normal(inputs: np.ndarray) -> Stats:
    # The uniform numbers of a generator are 0 or at least 2⁻²⁴; smaller ones never occur.
    drawn = (np.abs(inputs) < 1) & (np.abs(inputs) >= 2.0**-24)
    inside = np.where(drawn, inputs, np.float32(0))
    return [_compare(np, *(threefry.quantile(x, x.dtype.name) for x in (inside, inside.astype(np.float64))))]


# Each function with its derivative; the noise, √2 erf⁻¹, has none.
FUNCTIONS: dict[str, Callable[[np.ndarray], Stats]] = {
    "normal log-cdf": _compiled(special.log_normal_cdf),
    "tanh log-det": _compiled(special.tanh_log_det),
    "√2 erf⁻¹ of jax.random": _compiled(_jax_normal, derivative=False),
    "tanh": _compiled(special.tanh),
    "exp(x) - 1 - x": _compiled(special.expm1_minus_x),
    "√2 erf⁻¹ of NumPy and torch": _numpy_normal,
    "normal log-cdf of torch": _torch(special.log_normal_cdf),
    "tanh log-det of torch": _torch(special.tanh_log_det),
    "tanh of torch": _torch(special.tanh),
    "exp(x) - 1 - x of torch": _torch(special.expm1_minus_x),
}


def _compare(library: Any, got: Any, true: Any) -> tuple[Any, Any, Any]:
    """The errors in units of roundoff, the largest of them, and the number of failures."""
    rounded, size = true.astype(np.float32), library.abs(true)
    difference = library.abs(got.astype(np.float64) - true)
    finite, normal = library.isfinite(rounded), size >= LEAST
    error = difference / library.where(normal, size, 1.0) / UNIT["float32"]
    right = library.where(normal, library.isfinite(got), difference <= LEAST)
    right = library.where(finite, right, (got == rounded) | (library.isnan(got) & library.isnan(rounded)))
    error = library.where(finite & normal & library.isfinite(error), error, 0.0)
    return error, library.max(error), library.sum(~right)


def search(names: list[str]) -> Iterator[tuple[str, list[list[Any]]]]:
    """For each function: of its value and its derivative the largest error, where it is, and the number of failures."""
    for name in names or FUNCTIONS:
        start, found = time.perf_counter(), []
        for first in range(0, ALL, CHUNK):
            inputs = (np.arange(CHUNK, dtype=np.uint32) + np.uint32(first)).view(np.float32)
            with jax.enable_x64(True), np.errstate(all="ignore"):
                parts = FUNCTIONS[name](inputs)
                found = found or [[0.0, 0.0, 0] for _ in parts]
                for entry, (errors, largest, failures) in zip(found, parts, strict=True):
                    entry[2] += int(failures)
                    if largest > entry[0]:
                        entry[:2] = float(largest), float(f"{inputs[np.argmax(errors)]:.9g}")
        print(name, found, f"{time.perf_counter() - start:.0f} s", flush=True)
        yield name, found


def page(record: dict[str, Any]) -> str:
    """The section of the page."""
    lines = [
        "## Every float32 number",
        "",
        "All 2³² numbers, once, compared with the same function in float64. A failure is a result that is not finite "
        "although the true one is, or the other way round, or one that is off by 1e-37 where the true one is smaller "
        "than that. Numbers beyond ±1 have no erf⁻¹, and those of NumPy and torch are counted from 2⁻²⁴ on, the "
        "least that their generator draws. They round u² to float32 as JAX does, which limits both near ±1. The slope "
        "of the log-cdf at -∞ counts as a failure: the largest number replaces infinity there, which times a gradient "
        "of 0 would be NaN.",
        "",
        "| function | | failures | largest error, in units of 2⁻²⁴ relative | at |",
        "|---|---|---|---|---|",
    ]
    for name, found in record.items():
        for part, (units, place, failures) in zip(("value", "derivative"), found, strict=False):
            lines.append(f"| {name} | {part} | {failures:,} | {units:.4g} | {place:.9g} |")
    return "\n".join(lines) + "\n"
