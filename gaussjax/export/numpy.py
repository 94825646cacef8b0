"""A JAX function as a list of NumPy operations, which `numpy_act` carries out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from gaussjax.export.numpy_act import OPERATIONS

# Operations that have the same name and meaning in both.
_OTHER = {"and", "or", "not", "broadcast", "concatenate", "convert", "dot", "power", "slice", "stack", "window"}
_SAME = frozenset(OPERATIONS) - _OTHER
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def build(function: Callable[..., Any], inputs: Mapping[str, Any], batch: Any) -> bytes:
    """The bytes of an `.npz` file that `numpy_act.load` reads.

    Args:
        function: From a dict of arrays to a dict of arrays.
        inputs: Shape and type of each, with the symbolic batch size first.
        batch: That batch size.

    Raises:
        NotImplementedError: The function uses an operation that has no counterpart here.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(dict(inputs))
    program = _Program(batch)
    arguments = [program.slot() for _ in closed.jaxpr.invars]
    results = program.inline(closed.jaxpr, closed.consts, arguments)
    return program.pack(inputs, list(shapes), arguments, results)


class _Program:
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
        # A multiple of the batch size.
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
            else:
                outputs = self.translate(equation, inputs)
            slots |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def translate(self, equation: Any, inputs: list[int]) -> list[int]:
        name, options = equation.primitive.name, equation.params
        out: Any = equation.outvars[0].aval
        match name:
            case "broadcast_in_dim":
                return [self.emit("broadcast", inputs, shape=out.shape, axes=options["broadcast_dimensions"])]
            case "reshape" | "squeeze" | "expand_dims":
                return [self.emit("reshape", inputs, shape=out.shape)]
            case "convert_element_type":
                return [self.emit("convert", inputs, dtype=out.dtype.name)]
            case "transpose":
                return [self.emit("transpose", inputs, axes=options["permutation"])]
            case "concatenate":
                return [self.emit("concatenate", inputs, axis=options["dimension"])]
            case "slice":
                start, stop = options["start_indices"], options["limit_indices"]
                return [self.emit("slice", inputs, start=start, stop=stop, step=options["strides"] or [1] * len(start))]
            case "stack":
                return [self.emit("stack", inputs, axis=options["axis"])]
            case "gather" if _is_window(equation):
                numbers, sizes = options["dimension_numbers"], options["slice_sizes"]
                axes, drop = numbers.start_index_map, numbers.collapsed_slice_dims
                return [self.emit("window", inputs, axes=axes, sizes=[sizes[axis] for axis in axes], drop=drop)]
            case "split":
                return self.split(inputs, equation)
            case "reduce_sum" | "reduce_max":
                return [self.emit(name, inputs, axes=options["axes"])]
            case "integer_pow" | "pow" if "y" in options:
                return [self.emit("power", inputs, exponent=options["y"])]
            case "pow":
                return [self.emit("power", inputs)]
            case "and" | "or" | "not" if out.dtype == bool:
                return [self.emit(name, inputs)]
            case "iota":
                return [self.emit("iota", [], shape=out.shape, axis=options["dimension"], dtype=out.dtype.name)]
            case "dot_general":
                contract, batch = options["dimension_numbers"]
                return [self.emit("dot", inputs, contract=contract, batch=batch, dtype=out.dtype.name)]
            case "conv_general_dilated":
                return [self.convolution(inputs, options)]
            case "copy" | "copy_p" | "stop_gradient" | "optimization_barrier":
                return inputs
            case "select_n":
                return [self.emit("select", inputs)]
            case _ if name in _SAME and out.dtype != jax.numpy.bfloat16:
                return [self.emit(name, inputs)]
        # Refused only if the results need it: what is traced holds much that they do not.
        return [self.emit(f"{name} of {variable.aval.dtype}", inputs) for variable in equation.outvars]

    def split(self, inputs: list[int], equation: Any) -> list[int]:
        outputs, position, axis = [], 0, equation.params["axis"]
        for variable in equation.outvars:
            shape = variable.aval.shape
            start = [position if i == axis else 0 for i in range(len(shape))]
            stop = [start[i] + size if i == axis else size for i, size in enumerate(shape)]
            outputs.append(self.emit("slice", inputs, start=start, stop=stop, step=[1] * len(shape)))
            position += shape[axis]
        return outputs

    def convolution(self, inputs: list[int], options: Mapping[str, Any]) -> int:
        spec, strides, padding = options["dimension_numbers"], options["window_strides"], options["padding"]
        plain = options["feature_group_count"] == 1 and set(options["lhs_dilation"] + options["rhs_dilation"]) == {1}
        if tuple(spec) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) or not plain:
            raise NotImplementedError("numpy: expected plain convolutions over images (height, width, channels).")
        return self.emit("convolve", inputs, strides=strides, padding=padding)

    def pack(self, inputs: Mapping[str, Any], names: list[str], arguments: list[int], results: list[int]) -> bytes:
        """The program without what its results do not need, its slots numbered constants first."""
        needed, kept = set(results), []
        for step in reversed(self.steps):
            if step[2] in needed:
                needed |= set(step[1])
                kept.append(step)
        constants = [slot for slot in self.constants if slot in needed]
        order = [*constants, *arguments, *(step[2] for step in reversed(kept))]
        number = {slot: i for i, slot in enumerate(order)}
        unknown = sorted({step[0] for step in kept} - set(OPERATIONS))
        if unknown:
            raise NotImplementedError(
                f"numpy: expected operations that NumPy has, got {', '.join(unknown)}. Export it as stablehlo or onnx."
            )
        program = {
            # A dict's leaves are those of its sorted names.
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


def _is_window(equation: Any) -> bool:
    """Whether a gather is `x[:, a:b]` at constant places, as it is written for an open batch size."""
    x, start = (variable.aval for variable in equation.invars)
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    whole = all(sizes[axis] == size for axis, size in enumerate(x.shape) if axis not in numbers.start_index_map)
    return whole and start.shape == (len(numbers.start_index_map),) and not numbers.operand_batching_dims
