"""Values and derivatives of a function in one library and mode, and how far they are from the truth."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from gaussjax.core.arrays import xp
from tests.numerics.points import TYPES, Inputs
from tests.numerics.reference import Exact, exact, results
from tests.numerics.rows import UNIT, Row

MODES = ("JAX jit", "JAX eager", "JAX vmap", "torch eager", "torch compile", "torch vmap")
"""Libraries, and how they evaluate: on whole arrays, or by `vmap` of a function of one point."""


class Worst(NamedTuple):
    """The largest error, in units of roundoff times the scale, and the point where it was found."""

    units: float
    point: list[list[float]]


class _Library(NamedTuple):
    grad: Callable[..., Any]
    jvp: Callable[..., Any]
    vmap: Callable[..., Any]
    compile: Callable[..., Any]


_LIBRARIES = {
    "JAX": _Library(jax.grad, jax.jvp, jax.vmap, jax.jit),
    "torch": _Library(torch.func.grad, torch.func.jvp, torch.func.vmap, torch.compile),
}


def evaluate(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    by: Sequence[int] = (),
    units: Sequence[np.ndarray] = (),
    mode: str = "JAX jit",
) -> list[np.ndarray]:
    """The value `(n,)`; its gradients `(n, k)` by the arguments `by`; and with units its second derivatives `(n, k)`.

    Second derivatives are taken forward over reverse, along the units of one argument and times those of the other.
    """
    run = _program(function, tuple(by), bool(units), mode)
    found = run(*(_array(x, mode) for x in (*inputs, *units)))
    numbers = [np.asarray(x) if mode.startswith("JAX") else x.double().numpy() for x in found]
    flat = [numbers[0], *(x.reshape(len(x), -1) for x in numbers[1:])]
    second = len(by) + 1
    sizes = [np.asarray(unit, np.float64).reshape(len(unit), -1) for unit in units]
    return [*flat[:second], *(x * sizes[k % len(by)] for k, x in enumerate(flat[second:]))]


def _array(x: np.ndarray, mode: str) -> Any:
    if mode.startswith("JAX"):
        return jnp.asarray(x)
    return torch.tensor(x.astype(np.float32)).bfloat16() if x.dtype == TYPES["bfloat16"] else torch.tensor(x)


@functools.lru_cache(64)
def _program(function: Callable[..., Any], by: tuple[int, ...], second: bool, mode: str) -> Callable[..., Any]:
    name, how = mode.split()
    library = _LIBRARIES[name]

    def run(*arrays: Any) -> list[Any]:
        count = len(arrays) - len(by) * second
        inputs, units = arrays[:count], arrays[count:]
        gradient = library.grad(lambda *x: xp.sum(function(*x)), by) if by else lambda *_: ()
        found = [function(*inputs), *gradient(*inputs)]
        for i, unit in zip(by, units, strict=False):
            tangents = tuple(unit if k == i else xp.zeros_like(x) for k, x in enumerate(inputs))
            found += library.jvp(gradient, inputs, tangents)[1]
        return found

    run = library.vmap(run) if how == "vmap" else run
    return run if how == "eager" or mode == "torch vmap" else library.compile(run)


def truths(row: Row, inputs: Inputs, order: int, by_formula: bool) -> list[Any]:
    """The true results: of our formula in float64, compiled, or of the reference at 330 bits."""
    wide = tuple(np.asarray(x, np.float64) for x in inputs)
    units = _units(row, inputs) if order == 2 else ()
    if by_formula:
        with jax.enable_x64(True):
            return evaluate(row.function, wide, row.by, [np.asarray(u, np.float64) for u in units])
    units = [np.asarray(u, np.float64) for u in _units(row, inputs)]
    return results(row.truth, tuple(map(exact, wide)), row.by, [exact(u) for u in units], order)


def _units(row: Row, inputs: Inputs) -> list[np.ndarray]:
    return [unit.astype(inputs[0].dtype) for unit in row.units(*(np.asarray(x, np.float64) for x in inputs))]


def errors(row: Row, inputs: Inputs, mode: str, truth: Sequence[Exact], order: int) -> list[np.ndarray]:
    """The error of each value, gradient and second derivative at each point, in the unit of the bars."""
    dtype, wide = inputs[0].dtype.name, tuple(np.asarray(x, np.float64) for x in inputs)
    with jax.enable_x64(dtype == "float64"):
        got = evaluate(row.function, inputs, row.by, _units(row, inputs) if order == 2 else (), mode)
    number, first = len(row.by), [np.asarray(x, np.float64) for x in truth[: len(row.by) + 1]]
    scales = row.scales(first, wide)
    natural = [s * u.reshape(len(s), -1) for s, u in zip(scales[1:], row.units(*wide), strict=True)]
    for k, true in enumerate(truth[number + 1 :]):
        scales.append(np.maximum(np.abs(np.asarray(true, np.float64)), row.floor * natural[k % number]))
    unit = UNIT["float32" if dtype == "bfloat16" else dtype]
    units = [unit, *[UNIT[dtype]] * number, *[1.0] * (len(got) - 1 - number)]
    found = []
    for one, true, scale, size in zip(got, truth, scales, units, strict=True):
        difference = np.abs(np.asarray(one, np.float64) - true) if true.dtype == np.float64 else _difference(one, true)
        error = difference / scale / size
        # A result that is not finite counts as an infinite error.
        found.append(np.where(np.isfinite(error), error, np.inf).reshape(len(error), -1).max(-1))
    return found


def _difference(got: np.ndarray, true: Exact) -> np.ndarray:
    finite = np.isfinite(got)
    return np.where(finite, np.float64(np.abs(exact(np.where(finite, got, 0.0)) - true)), np.inf)


def worst(errors: Sequence[np.ndarray], inputs: Inputs) -> list[Worst]:
    """The largest error of each value and derivative."""
    return [
        Worst(float(e.max()), [np.ravel(x[e.argmax()]).astype(np.float64).tolist() for x in inputs]) for e in errors
    ]
