"""Executes an exported policy with Python 3.10 or newer and NumPy alone.

    import numpy_act
    act = numpy_act.load("policy.npz")
    actions = act(observations=observations)["actions"]

`act.inputs` and `act.outputs` name the arrays; the name of an only input may be omitted. The first axis is the batch;
a single observation may omit it.
Copy this file and the policy to the machine that needs them.
"""

import json
import math

import numpy as np


def load(path):
    """Loads an exported policy as a function of named arrays. The file has names of operations but no code."""
    with np.load(path, allow_pickle=False) as file:
        program = json.loads(file["program"].tobytes())
        return Act(program, [file[f"constant_{i}"] for i in range(program["constants"])])


class Act:
    """An exported policy as a function from named input arrays to named output arrays."""

    def __init__(self, program, constants):
        self.inputs = [(name, tuple(shape), dtype) for name, shape, dtype in program["inputs"]]
        self.outputs = list(program["outputs"])
        self._program, self._constants = program, constants

    def __call__(self, *only, **arrays):
        """Runs the policy for one batch and returns a dict of output arrays by name."""
        names = [name for name, _, _ in self.inputs]
        if only and len(only) == len(names) == 1 and not arrays:
            arrays = {names[0]: only[0]}
        elif only:
            raise TypeError(f"inputs: expected the arrays {names} by name, got {len(only)} without a name.")
        if set(arrays) != set(names):
            raise ValueError(f"inputs: expected {names}, got {sorted(arrays)}.")
        values, batches = [], set()
        for name, shape, dtype in self.inputs:
            given = np.asarray(arrays[name])
            if given.dtype.kind in "cmMOSU" or np.ma.isMaskedArray(arrays[name]):
                raise TypeError(f"{name}: expected real numbers, got {type(arrays[name]).__name__} of {given.dtype}.")
            if given.dtype.kind == "f" and np.dtype(dtype).kind in "iu":
                raise TypeError(f"{name}: expected integers, got {given.dtype}. Use array.astype({dtype!r}).")
            array = given.astype(dtype)
            if array.dtype.kind in "iu" and (array != given).any():
                raise ValueError(f"{name}: expected numbers of {dtype}, got {given.min()} to {given.max()}. Clip them.")
            if array.shape[array.ndim - len(shape) :] != shape or array.ndim - len(shape) not in (0, 1):
                raise ValueError(f"{name}: expected (batch, {', '.join(map(str, shape))}), got {array.shape}.")
            batches.add(array.shape[: array.ndim - len(shape)])
            values.append(array.reshape(-1 if array.ndim > len(shape) else 1, *shape) if array.size else array)
        if len(batches) != 1:
            raise ValueError(f"inputs: expected one batch size, got {sorted(batches)}.")
        (batch,) = batches
        slots = dict(enumerate([*self._constants, *values]))
        with np.errstate(all="ignore"):
            for operation, inputs, output, options in self._program["steps"]:
                options = {name: _sized(value, batch[0] if batch else 1) for name, value in options.items()}
                slots[output] = OPERATIONS[operation](*(slots[i] for i in inputs), **options)
        results = (slots[i] for i in self._program["results"])
        return {n: r if batch else r[0] for n, r in zip(self.outputs, results, strict=True)}


def _sized(value, batch):
    # Replaces each option value {"batch": k} by k times the batch size.
    if isinstance(value, dict) and "batch" in value:
        return value["batch"] * batch
    return [_sized(part, batch) for part in value] if isinstance(value, list) else value


def _logistic(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _dot(x, y, numbers, dtype):
    (cx, cy), (bx, by) = numbers
    if not bx:
        return np.tensordot(x, y, (cx, cy)).astype(dtype)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    lx, ly = ([next(letters) for _ in range(z.ndim)] for z in (x, y))
    for i, j in [*zip(cx, cy, strict=True), *zip(bx, by, strict=True)]:
        ly[j] = lx[i]
    rest = [lx[i] for i in range(x.ndim) if i not in (*cx, *bx)] + [ly[i] for i in range(y.ndim) if i not in (*cy, *by)]
    return np.einsum(f"{''.join(lx)},{''.join(ly)}->{''.join([lx[i] for i in bx] + rest)}", x, y).astype(dtype)


def _broadcast(x, shape, axes):
    sizes = dict(zip(axes, x.shape, strict=True))
    return np.broadcast_to(x.reshape([sizes.get(axis, 1) for axis in range(len(shape))]), shape)


def _convolve(x, kernel, strides, padding):
    # x has the axes (batch, height, width, channels); the kernel has the axes (height, width, in, out).
    x = np.pad(x, [(0, 0), *(tuple(side) for side in padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel, optimize=True).astype(x.dtype)


def _place(x, index, updates, axes, window):
    # Sets x[:, i, j] for axes [1, 2] and the rows (i, j) of the index; axes in `window` of updates are whole axes of x.
    result = np.array(x)
    first = list(range(len(axes)))
    last = list(range(-len(window), 0))
    np.moveaxis(result, axes, first)[tuple(np.moveaxis(index, -1, 0))] = np.moveaxis(updates, window, last)
    return result


def _window(x, start, axes, sizes, drop):
    index = [slice(None)] * x.ndim
    for axis, size, first in zip(axes, sizes, np.ravel(start), strict=True):
        index[axis] = slice(int(first), int(first) + size)
    return x[tuple(index)].squeeze(tuple(drop))


def _each(function):
    return lambda x: np.vectorize(function, otypes=[x.dtype])(x)


# Operations that NumPy has as functions: `operation`, or `operation=function` if NumPy uses another name.
_NUMPY = """
abs add and=logical_and cos div=divide eq=equal exp expm1 floor ge=greater_equal gt=greater is_finite=isfinite
le=less_equal log log1p lt=less max=maximum min=minimum mul=multiply ne=not_equal neg=negative not=logical_not
or=logical_or sign sin sqrt square sub=subtract tanh xor=logical_xor
"""

OPERATIONS = {
    **{name: getattr(np, other or name) for name, _, other in (entry.partition("=") for entry in _NUMPY.split())},
    "broadcast": _broadcast,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "concatenate": lambda *parts, axis: np.concatenate(parts, axis),
    "convert": lambda x, dtype: x.astype(dtype),
    "convolve": _convolve,
    "dot": _dot,
    "erf": _each(math.erf),
    "erfc": _each(math.erfc),
    "iota": lambda shape, axis, dtype: np.indices(shape, dtype)[axis],
    "logistic": _logistic,
    "place": _place,
    "power": lambda x, exponent: x**exponent,
    "reduce_and": lambda x, axes: x.all(tuple(axes)),
    "reduce_max": lambda x, axes: x.max(tuple(axes)),
    "reduce_min": lambda x, axes: x.min(tuple(axes)),
    "reduce_or": lambda x, axes: x.any(tuple(axes)),
    "reduce_sum": lambda x, axes: x.sum(tuple(axes), dtype=x.dtype),
    "reduce_xor": lambda x, axes: np.logical_xor.reduce(x, tuple(axes)),
    "reshape": lambda x, shape: x.reshape(shape),
    "rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype),
    "select": lambda which, *cases: np.where(which, cases[1], cases[0]),
    "slice": lambda x, start, stop, step: x[tuple(map(slice, start, stop, step))],
    "stack": lambda *parts, axis: np.stack(parts, axis),
    "transpose": lambda x, axes: x.transpose(axes),
    "window": _window,
}
