"""Torch functions under their names in `jax.numpy`, with which formulas written for JAX run on tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad

from gaussjax.core import arrays
from gaussjax.torch import random


class _Elementwise(torch.autograd.Function):
    """An elementwise function with derivatives of its own; `slopes` returns its partial derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Callable[..., Any], slopes: Callable[..., Any], *tensors: torch.Tensor) -> torch.Tensor:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.slopes = inputs[1]
        ctx.save_for_backward(*inputs[2:])
        ctx.save_for_forward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        return None, None, *(gradient * slope for slope in ctx.slopes(*ctx.saved_tensors))

    @staticmethod
    def jvp(ctx: Any, _function: None, _slopes: None, *tangents: torch.Tensor) -> torch.Tensor:
        compiling = torch.compiler.is_compiling()
        if compiling and [layer.key() for layer in get_interpreter_stack() or ()].count(TransformType.Jvp) > 1:
            raise NotImplementedError(
                "torch.compile: expected at most one forward derivative, got torch.func.jvp within another. Take one "
                "of them in reverse with torch.func.grad, or do not compile."
            )
        # torch disables forward mode within jvp, so a second forward derivative would be zero without an error. With
        # forward mode torch.compile would call this function without end (torch 2.13).
        with forward_ad._set_fwd_grad_enabled(not compiling):
            points = (forward_ad.unpack_dual(tensor).primal for tensor in ctx.saved_tensors)
            terms = zip(ctx.slopes(*points), tangents, strict=True)
            return sum(slope * tangent for slope, tangent in terms if tangent is not None)  # type: ignore[return-value]


# Within torch.func.grad torch.compile differentiates the formula itself, unless it keeps the call (torch 2.13).
@torch.compiler.allow_in_graph
def _elementwise(number: int, *tensors: torch.Tensor) -> torch.Tensor:
    return _Elementwise.apply(*arrays.FORMULAS[number], *tensors)


def tensor(value: Any) -> Any:
    """Converts numbers to a tensor, and anything else to a NumPy array, for which the caller raises an error."""
    if isinstance(value, torch.Tensor) or value is None:
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return array
    # Python floats have no dtype. As in torch.tensor, they get torch's default dtype.
    if array.dtype.kind == "f" and not hasattr(value, "dtype"):
        return torch.from_numpy(array).to(torch.get_default_dtype())
    return torch.from_numpy(np.array(array))


def _at_least_float32(*values: Any) -> tuple[torch.Tensor, ...]:
    if len(values) == 1 and getattr(values[0], "dtype", None) is torch.float32:
        return values
    # Only tensors decide the dtype, as in JAX, because NumPy converts every Python float to float64.
    types = (value.dtype for value in values if isinstance(value, torch.Tensor))
    dtype = functools.reduce(torch.promote_types, types, torch.float32)
    return tuple(tensor(value).to(dtype) for value in values)


def _asarray(value: Any) -> torch.Tensor:
    """Joins the tensors of nested lists."""
    return value if isinstance(value, torch.Tensor) else torch.stack([_asarray(part) for part in value])


def _bound(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    # As in JAX, the limit may be a number, and two equal arguments share the gradient.
    def bound(x: torch.Tensor, limit: Any) -> torch.Tensor:
        return function(x, limit if isinstance(limit, torch.Tensor) else torch.full_like(x, limit))

    return bound


def _strictly_lower(entries: torch.Tensor, count: int) -> torch.Tensor:
    # Elements below the diagonal are gathered from the entries, the others from a zero appended to the entries. The
    # places are lists, because torch.compile gives np.tril_indices another meaning (torch 2.13).
    zero = entries.shape[-1]
    places = [[i * (i - 1) // 2 + j if j < i else zero for j in range(count)] for i in range(count)]
    padded = torch.nn.functional.pad(entries, (0, 1))
    return padded[..., torch.tensor(places, device=entries.device)]


def _leading_half(x: torch.Tensor) -> torch.Tensor:
    # Veltkamp's split.
    scaled = (2.0 ** (27 if x.dtype == torch.float64 else 12) + 1.0) * x
    return scaled - (scaled - x)


def _is_floating(x: torch.Tensor) -> bool:
    # As in JAX, floats of 8 bits do not count, because they are promoted to no wider dtype.
    return x.is_floating_point() and x.element_size() > 1


def _expm1(x: torch.Tensor) -> torch.Tensor:
    # torch.compile computes expm1(x) as exp(x) - 1, which loses all digits near 0 (CPU, torch 2.13). Remove this when
    # the column "torch compile" of benchmarks/results/search.md shows no difference.
    if not torch.compiler.is_compiling():
        return torch.expm1(x)
    near = torch.where(x.abs() < 1.0, 0.5 * x, 0.0)
    return torch.where(x.abs() < 1.0, 2.0 * torch.exp(near) * torch.sinh(near), torch.exp(x) - 1.0)


def _to_int64(x: torch.Tensor) -> torch.Tensor:
    # As in JAX, an integer beyond the dtype becomes its limit. torch wraps it around.
    integers = x.long()
    return torch.where(integers < 0, torch.iinfo(torch.int64).max, integers) if x.dtype is torch.uint64 else integers


def _fori_loop(start: int, stop: int, step: Callable[[int, Any], Any], value: Any) -> Any:
    for i in range(start, stop):
        value = step(i, value)
    return value


maximum, minimum = _bound(torch.maximum), _bound(torch.minimum)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "asarray": _asarray,
    "astype": lambda x, dtype: x.to(dtype),
    "at_least_float32": _at_least_float32,
    "broadcast_together": lambda xs, shapes: tuple(map(torch.broadcast_to, xs, shapes)),
    "clip": lambda x, low, high: torch.where(x < low, low, torch.where(x > high, high, x)),
    "concatenate": lambda tensors, axis=0: torch.cat(tuple(tensors), axis),
    "constant": lambda value, like: torch.as_tensor(np.array(value), dtype=like.dtype, device=like.device),
    "einsum_exact": torch.einsum,
    "entry": lambda x, i: x[..., i],
    "expand_dims": torch.unsqueeze,
    "expm1": _expm1,
    "fori_loop": _fori_loop,
    # torch.compile traces NumPy's functions, but not a cache.
    "inwards": lambda low, high, like: (arrays.inwards if torch.compiler.is_compiling() else arrays.inwards_once)(
        low, high, like.dtype
    ),
    "is_floating": _is_floating,
    "is_real": lambda x: _is_floating(x) or not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool),
    # torch cannot accumulate a product of narrow operands in a wider dtype, so the operands are converted first.
    "matmul": lambda a, b, preferred_element_type: a.to(preferred_element_type) @ b.to(preferred_element_type),
    "leading_half": _leading_half,
    "maximum": maximum,
    "minimum": minimum,
    "ndim": torch.Tensor.dim,
    "one_hot": lambda x, count: (x.unsqueeze(-1) == torch.arange(count, device=x.device)).float(),
    "running_maximum": lambda x: torch.cummax(x, 0).values,
    "shape": lambda x: x.shape,
    "solve_unit_lower": lambda factor, right: torch.linalg.solve_triangular(
        factor, right, upper=False, unitriangular=True
    ),
    "split": lambda x, parts, axis: torch.chunk(x, parts, axis),
    "standard_normal": random.normal,
    "stop_gradient": torch.Tensor.detach,
    "strictly_lower": _strictly_lower,
    "to_float32": torch.Tensor.float,
    "to_int32": _to_int64,
    "unless_all": lambda mask, function, value: function(),
}


class Library:
    """A namespace that has torch functions under their names in `jax.numpy`."""

    elementwise = staticmethod(_elementwise)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Returns the torch function that corresponds to a name of `jax.numpy`."""
        return _FUNCTIONS[name] if name in _FUNCTIONS else getattr(torch, name)


arrays.register((torch.Tensor, torch.dtype, torch.Size), Library())
