"""Errors of a function over a grid, in units of roundoff."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.numerics.reference import Exact, exact

UNIT = {"bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
"""Unit roundoff of each type: half the distance from 1 to the next number."""


class Error(NamedTuple):
    """How far results are from the truth.

    Attributes:
        units: Greatest error in units of roundoff times the scale.
        bad: How many results are not finite.
        count: How many results there are.
    """

    units: float
    bad: int
    count: int


class Truth(NamedTuple):
    """True results, and what an error is measured against.

    Attributes:
        value: At 200 bits.
        scale: Positive, of the same shape.
    """

    value: Exact
    scale: Exact


def compare(got: Any, truth: Truth, unit: float) -> Error:
    """The greatest error of results that are finite, and the number of those that are not."""
    got = np.asarray(got, np.float64).ravel()
    finite = np.isfinite(got)
    scale = np.broadcast_to(truth.scale, truth.value.shape).ravel()
    difference = np.abs(exact(got[finite]) - truth.value.ravel()[finite]) / scale[finite]
    worst = float(difference.max()) / unit if finite.any() else float("nan")
    return Error(worst, int((~finite).sum()), got.size)


def evaluate_jax(
    function: Callable[..., jax.Array], inputs: Sequence[np.ndarray], by: Sequence[int], compiled: bool
) -> list[np.ndarray]:
    """The function's values, then its gradients by the arguments `by`, element by element."""

    run = _value_and_gradients(function, tuple(by), compiled)
    return [np.asarray(result) for result in run(*map(jnp.asarray, inputs))]


@functools.cache
def _value_and_gradients(function: Callable[..., jax.Array], by: tuple[int, ...], compiled: bool) -> Callable:
    """One function for all grids, so that it is compiled once."""

    def value_and_gradients(*arguments: jax.Array) -> list[jax.Array]:
        gradients = jax.grad(lambda *x: jnp.sum(function(*x)), by)(*arguments) if by else ()
        return [function(*arguments), *gradients]

    return jax.jit(value_and_gradients) if compiled else value_and_gradients


def evaluate_torch(function: Callable[..., Any], inputs: Sequence[np.ndarray], by: Sequence[int]) -> list[np.ndarray]:
    """The same for a function of torch tensors."""
    import torch

    arguments = [
        torch.tensor(x) if x.dtype != "bfloat16" else torch.tensor(x.astype(np.float32)).to(torch.bfloat16)
        for x in inputs
    ]
    for i in by:
        arguments[i].requires_grad_(True)
    value = function(*arguments)
    gradients = torch.autograd.grad(value.sum(), [arguments[i] for i in by]) if by else ()
    return [x.detach().double().numpy() for x in (value, *gradients)]
