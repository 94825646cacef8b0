"""Export of a policy as a list of NumPy operations, which `numpy_act` executes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.export
import numpy as np
from jax.extend.core import Literal

from gaussjax import normalize
from gaussjax.core import atomic_file
from gaussjax.core.compiled import flag
from gaussjax.core.text import listed
from gaussjax.export import numpy_act
from gaussjax.export.program import Program, make_program, write
from gaussjax.policy import Params, Policy

# Operations of `numpy_act` whose meaning or options differ from those of the JAX primitive of the same name.
_OTHER = {"broadcast", "concatenate", "convert", "dot", "power", "slice", "stack", "window"}
_SAME = frozenset(numpy_act.OPERATIONS) - _OTHER
_REDUCTIONS = ("reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_sum", "reduce_xor")
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
# For each JAX primitive, the operation of `numpy_act` and a function from parameters and output to its options.
_TRANSLATED: dict[str, tuple[str, Callable[[Mapping[str, Any], Any], dict[str, Any]]]] = {
    "broadcast_in_dim": ("broadcast", lambda p, out: {"shape": out.shape, "axes": p["broadcast_dimensions"]}),
    "concatenate": ("concatenate", lambda p, out: {"axis": p["dimension"]}),
    "convert_element_type": ("convert", lambda p, out: {"dtype": out.dtype.name}),
    "dot_general": ("dot", lambda p, out: {"numbers": p["dimension_numbers"], "dtype": out.dtype.name}),
    "iota": ("iota", lambda p, out: {"shape": out.shape, "axis": p["dimension"], "dtype": out.dtype.name}),
    "select_n": ("select", lambda p, out: {}),
    "slice": ("slice", lambda p, out: _bounds(p["start_indices"], p["limit_indices"], p["strides"])),
    "stack": ("stack", lambda p, out: {"axis": p["axis"]}),
    "transpose": ("transpose", lambda p, out: {"axes": p["permutation"]}),
    **{name: (name, lambda p, out: {"axes": p["axes"]}) for name in _REDUCTIONS},
    **{name: ("reshape", lambda p, out: {"shape": out.shape}) for name in ("reshape", "squeeze", "expand_dims")},
}


def numpy(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Normalizer = None,
    deterministic: bool = True,
) -> Program:
    """Writes a policy as an .npz file, and beside it `numpy_act.py`, which executes it with NumPy alone.

    Args:
        path: As for `stablehlo`.
        policy: As for `stablehlo`.
        params: As for `stablehlo`.
        normalizer: As for `stablehlo`.
        deterministic: False for a program with an input `noise` of standard normal numbers, `(batch, *noise_shape)`.

    Returns:
        The exported program with the names of its inputs and outputs.

    Raises:
        ValueError: The program and `policy.act` return different actions, or another file has the name `numpy_act.py`;
            nothing is written.
        NotImplementedError: `numpy_act` lacks an operation of the policy.

    Example:
        >>> import gaussjax, pathlib, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "policy.npz"
        >>> _ = numpy(path, policy, policy.init(jax.random.key(0)))
        >>> numpy_act.load(path)(observations=np.zeros((5, 3)))["actions"].shape
        (5, 1)
    """
    path, reader = Path(path), Path(path).with_name("numpy_act.py")
    source = Path(numpy_act.__file__).read_bytes()
    title = source.partition(b"\n")[0]
    if path == reader or (reader.exists() and not (reader.is_file() and reader.read_bytes().startswith(title[:30]))):
        raise ValueError(
            f"{path}: expected room for the program that reads it, got a file of yours named {reader}. Choose another "
            f"name or folder."
        )
    program = make_program(policy, params, normalizer, None if flag(deterministic, "deterministic") else "noise")
    (batch,) = jax.export.symbolic_shape("b")
    payload = build(program.function, program.shapes(batch), batch)
    act = numpy_act.load(io.BytesIO(payload))
    write(path, program, payload, lambda arrays: act(**arrays))
    atomic_file.write(reader, source)
    return program


def build(function: Callable[[dict[str, Any]], dict[str, Any]], inputs: Mapping[str, Any], batch: Any) -> bytes:
    """Translates a function into the bytes of an .npz file for `numpy_act.load`; `batch` is its symbolic batch size."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(dict(inputs))
    program = _Builder(batch)
    arguments = [program.slot() for _ in closed.jaxpr.invars]
    results = program.inline(closed.jaxpr, closed.consts, arguments)
    return program.pack(inputs, list(shapes), arguments, results)


class _Builder:
    """Builds a program: arrays in numbered slots, and steps that each compute one slot from other slots."""

    def __init__(self, batch: Any):
        self.batch, self.count = batch, 0
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[tuple[str, list[int], int, dict[str, Any]]] = []

    def slot(self) -> int:
        self.count += 1
        return self.count - 1

    def constant(self, value: Any) -> int:
        slot = self.slot()
        self.constants[slot] = np.asarray(value)
        return slot

    def emit(self, operation: str, inputs: list[int], **options: Any) -> int:
        output = self.slot()
        self.steps.append((operation, inputs, output, {name: self.plain(v) for name, v in options.items()}))
        return output

    def plain(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [self.plain(part) for part in value]
        if isinstance(value, (int, np.integer, float, str)) or value is None:
            return int(value) if isinstance(value, np.integer) else value
        factor = value // self.batch
        if isinstance(factor, int) or str(factor).isdecimal():
            return {"batch": int(factor)}
        raise NotImplementedError(f"numpy: expected sizes that are multiples of the batch, got {value}.")

    def inline(self, jaxpr: Any, constants: Any, arguments: list[int]) -> list[int]:
        slots: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
        slots |= {variable: self.constant(value) for variable, value in zip(jaxpr.constvars, constants, strict=True)}

        def read(atom: Any) -> int:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return self.constant(np.asarray(atom.val, aval.dtype))
            return slots[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            inner = next((equation.params[name] for name in _INNER if name in equation.params), None)
            if inner is not None and equation.primitive.name not in ("scan", "while", "cond"):
                closed = hasattr(inner, "consts")
                outputs = self.inline(inner.jaxpr if closed else inner, inner.consts if closed else (), inputs)
            elif equation.primitive.name == "cond" and len(equation.params["branches"]) == 2:
                # NumPy computes both branches, and selects the results of one.
                found = [self.inline(branch.jaxpr, branch.consts, inputs[1:]) for branch in equation.params["branches"]]
                outputs = [self.emit("select", [inputs[0], *pair]) for pair in zip(*found, strict=True)]
            else:
                outputs = self.translate(equation, inputs)
            slots |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def translate(self, equation: Any, inputs: list[int]) -> list[int]:
        name, options = equation.primitive.name, equation.params
        out: Any = equation.outvars[0].aval
        match name:
            case "and" | "or" | "xor" | "not" | "reduce_and" | "reduce_or" | "reduce_xor" if out.dtype != bool:
                pass
            case _ if name in _TRANSLATED:
                operation, translate = _TRANSLATED[name]
                return [self.emit(operation, inputs, **translate(options, out))]
            case "gather" if _is_window(equation):
                numbers, sizes = options["dimension_numbers"], options["slice_sizes"]
                axes, drop = numbers.start_index_map, numbers.collapsed_slice_dims
                return [self.emit("window", inputs, axes=axes, sizes=[sizes[axis] for axis in axes], drop=drop)]
            case "scatter" if _is_placement(equation):
                numbers = options["dimension_numbers"]
                axes, window = numbers.scatter_dims_to_operand_dims, numbers.update_window_dims
                return [self.emit("place", inputs, axes=axes, window=window)]
            case "split":
                return self.split(inputs, equation)
            case "integer_pow" | "pow":
                exponent = {"exponent": options["y"]} if "y" in options else {}
                return [self.emit("power", inputs, **exponent)]
            case "conv_general_dilated":
                return [self.convolution(inputs, options)]
            case "copy" | "copy_p" | "stop_gradient" | "optimization_barrier":
                return inputs
            case _ if name in _SAME and out.dtype != jax.numpy.bfloat16:
                return [self.emit(name, inputs)]
        # Emits an unknown operation; `pack` raises NotImplementedError only if the results depend on it.
        return [self.emit(f"{name} of {variable.aval.dtype}", inputs) for variable in equation.outvars]

    def split(self, inputs: list[int], equation: Any) -> list[int]:
        outputs, position, axis = [], 0, equation.params["axis"]
        for variable in equation.outvars:
            start, stop = [0] * variable.aval.ndim, list(variable.aval.shape)
            start[axis], stop[axis] = position, position + stop[axis]
            outputs.append(self.emit("slice", inputs, **_bounds(start, stop, None)))
            position = stop[axis]
        return outputs

    def convolution(self, inputs: list[int], options: Mapping[str, Any]) -> int:
        spec, strides, padding = options["dimension_numbers"], options["window_strides"], options["padding"]
        plain = options["feature_group_count"] == 1 and set(options["lhs_dilation"] + options["rhs_dilation"]) == {1}
        if tuple(spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) or not plain:
            raise NotImplementedError("numpy: expected plain convolutions over images (height, width, channels).")
        return self.emit("convolve", inputs, strides=strides, padding=padding)

    def pack(self, inputs: Mapping[str, Any], names: list[str], arguments: list[int], results: list[int]) -> bytes:
        """Serialises the program without unused steps; slots are renumbered, and constants get the first numbers."""
        needed, kept = set(results), []
        for step in reversed(self.steps):
            if step[2] in needed:
                needed |= set(step[1])
                kept.append(step)
        constants = [slot for slot in self.constants if slot in needed]
        order = [*constants, *arguments, *(step[2] for step in reversed(kept))]
        number = {slot: i for i, slot in enumerate(order)}
        unknown = sorted({step[0] for step in kept} - set(numpy_act.OPERATIONS))
        if unknown:
            raise NotImplementedError(
                f"numpy: expected operations that NumPy has, got {listed(unknown)}. Export it as stablehlo or onnx."
            )
        program = {
            # Names are sorted, because JAX orders the leaves of a dict by name.
            "inputs": [[name, inputs[name].shape[1:], str(inputs[name].dtype)] for name in sorted(inputs)],
            "outputs": sorted(names),
            "constants": len(constants),
            "steps": [[name, [number[i] for i in ins], number[out], options] for name, ins, out, options in kept[::-1]],
            "results": [number[slot] for slot in results],
        }
        arrays = {f"constant_{i}": self.constants[slot] for i, slot in enumerate(constants)}
        arrays["program"] = np.frombuffer(json.dumps(program).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()


def _bounds(start: Any, stop: Any, step: Any) -> dict[str, Any]:
    return {"start": start, "stop": stop, "step": step or [1] * len(start)}


def _is_window(equation: Any) -> bool:
    """True for a gather that is a slice such as `x[:, a:b]`, which JAX traces as a gather if sizes are symbolic."""
    x, start = (variable.aval for variable in equation.invars)
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    whole = all(sizes[axis] == size for axis, size in enumerate(x.shape) if axis not in numbers.start_index_map)
    return whole and start.shape == (len(numbers.start_index_map),) and not numbers.operand_batching_dims


def _is_placement(equation: Any) -> bool:
    """True for a scatter that sets entries such as `x[..., rows, columns]` to numbers that do not overlap."""
    x, _, updates = (variable.aval for variable in equation.invars)
    numbers = equation.params["dimension_numbers"]
    kept = [size for axis, size in enumerate(x.shape) if axis not in numbers.inserted_window_dims]
    whole = kept == [updates.shape[axis] for axis in numbers.update_window_dims]
    same = numbers.inserted_window_dims == tuple(sorted(numbers.scatter_dims_to_operand_dims))
    return whole and same and not numbers.operand_batching_dims
