"""Array functions that call JAX or another registered array library, so that a formula is written once.

`xp.exp(x)` calls `jax.numpy.exp(x)`. If an argument is an array, a dtype or a shape of the registered
library, `xp.exp` calls the function of that name in the library. `gaussjax.torch` registers torch.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.compiled import FLOATING, broadcast_together, checked, unsharded
from gaussjax.random.keys import standard_normal

_registered: dict[str, Any] = {"types": (), "library": None}
FORMULAS: list[tuple[Callable[..., Any], Callable[..., tuple[Any, ...]]]] = []
"""The functions that `elementwise` decorates, each with the function that returns its partial derivatives."""


def register(types: tuple[type, ...], library: Any) -> None:
    """Makes `xp` call the functions of `library` if an argument has one of `types`."""
    _registered.update(types=types, library=library)


def is_other(*arguments: Any) -> bool:
    """True if an argument, or an entry of a list or tuple, is of a type that `register` named, such as a tensor."""
    types = _registered["types"]
    for argument in arguments:  # A generator in `any` takes 3 times as long, which rollouts in torch would notice.
        if isinstance(argument, types) or (isinstance(argument, (list, tuple)) and is_other(*argument)):
            return True
    return False


class _Functions:
    """Namespace of array functions; each call chooses the library by the types of its arguments."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        ours = _JAX[name] if name in _JAX else getattr(jnp, name)

        def function(*arguments: Any, **options: Any) -> Any:
            if is_other(*arguments, *options.values()):
                return getattr(_registered["library"], name)(*arguments, **options)
            return ours(*arguments, **options)

        setattr(self, name, function)
        return function


xp: Any = _Functions()


def elementwise(slopes: Callable[..., tuple[Any, ...]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that gives an elementwise function the partial derivatives that `slopes` returns."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        in_jax, number = jax.custom_jvp(function), len(FORMULAS)
        FORMULAS.append((function, slopes))

        @in_jax.defjvp
        def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            terms = (slope * tangent for slope, tangent in zip(slopes(*primals), tangents, strict=True))
            return in_jax(*primals), functools.reduce(operator.add, terms)

        @functools.wraps(function)
        def differentiable(*arguments: Any) -> Any:
            if is_other(*arguments):
                return _registered["library"].elementwise(number, *arguments)
            return in_jax(*arguments)

        return differentiable

    return decorate


def _at_least_float32(*arrays: Any) -> tuple[Any, ...]:
    # JAX ignores the byte order and the mask of a NumPy array.
    given = [checked(x, "array", "array") if isinstance(x, (np.ndarray, np.generic)) else x for x in arrays]
    # The cast is explicit, so it is allowed while `jax_numpy_dtype_promotion` is "strict".
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.promote_types(jnp.result_type(*map(jnp.asarray, given)), jnp.float32)
    return tuple(jnp.asarray(array, dtype) for array in given)


def _where(mask: Any, one: Any, other: Any) -> Any:
    arguments = mask, one, other
    if any(any(jax.typeof(argument).sharding.spec) for argument in arguments):
        arguments = broadcast_together(arguments, [jnp.broadcast_shapes(*map(jnp.shape, arguments))] * 3)
    with jax.numpy_dtype_promotion("standard"):
        return jnp.where(*arguments)


def _strictly_lower(entries: Any, count: int) -> Any:
    below = np.tril_indices(count, -1)
    if not any(jax.typeof(entries).sharding.spec):
        return jnp.zeros((*entries.shape[:-1], count, count), entries.dtype).at[..., *below].set(entries)
    # On explicit axes of a mesh JAX gathers but does not scatter (0.10.2). The zeros are appended to the entries.
    places = np.full((count, count), entries.shape[-1])
    places[below] = np.arange(entries.shape[-1])
    return jnp.take(jnp.pad(entries, [(0, 0)] * (entries.ndim - 1) + [(0, 1)]), places, axis=-1)


def _leading_half(array: Any) -> Any:
    wide = jnp.finfo(array.dtype).bits == 64
    word, mask = (jnp.uint64, np.uint64(2**64 - 2**27)) if wide else (jnp.uint32, np.uint32(2**32 - 2**12))
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(array, word) & mask, array.dtype)


def _solve_unit_lower(factor: Any, right: Any) -> Any:
    # Forward substitution. With triangular_solve a program with two solves never ends in about one of four runs on two
    # cores (CPU, jax 0.10.2).
    for i in range(factor.shape[-1] - 1):
        right = right - factor[..., :, i : i + 1] * right[..., i : i + 1, :]
    return right


def _to_int32(array: Any) -> Any:
    dtype: Any = array.dtype
    if dtype.itemsize < 4 or dtype == np.int32:
        return array.astype(np.int32)
    library: Any = np if isinstance(array, (np.ndarray, np.generic)) else jnp
    own, limits = np.iinfo(dtype), np.iinfo(np.int32)
    return library.clip(array, max(own.min, limits.min), limits.max).astype(np.int32)


# Functions of `xp` that jax.numpy lacks, or whose arguments in jax.numpy have no counterpart in torch.
_JAX: dict[str, Callable[..., Any]] = {
    # Casts arrays to their common floating dtype, or to float32 if that is narrower.
    "at_least_float32": _at_least_float32,
    # Broadcasts each array to its shape; the shapes differ at most in the last axis.
    "broadcast_together": broadcast_together,
    # The gradient at a bound is 1; jnp.clip has the gradient ½ there.
    "clip": lambda x, low, high: jnp.where(x < low, low, jnp.where(x > high, high, x)),
    "constant": lambda value, like: jnp.asarray(value, like.dtype),
    "einsum_exact": lambda *arguments: jnp.einsum(*arguments, precision=jax.lax.Precision.HIGHEST),
    # Selects the i-th entry of the last axis.
    "entry": lambda array, i: jax.lax.index_in_dim(array, i, -1, keepdims=False),
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "fori_loop": jax.lax.fori_loop,
    # Rounds bounds to the dtype of an array.
    "inwards": lambda low, high, like: inwards_once(low, high, like.dtype),
    # Clears the lower half of the significand, so that a product of two such numbers is exact.
    "leading_half": _leading_half,
    "is_floating": lambda array: array.dtype in FLOATING,
    "is_real": lambda array: array.dtype in FLOATING or jnp.issubdtype(array.dtype, jnp.integer),
    "one_hot": lambda indices, count: jax.nn.one_hot(indices.astype(jnp.int32), count, dtype=jnp.float32),
    "relu": jax.nn.relu,
    "rsqrt": jax.lax.rsqrt,
    # The largest number so far along the first axis.
    "running_maximum": jax.lax.cummax,
    "sigmoid": jax.nn.sigmoid,
    # Solves (I + factor) x = right for x, with a strictly lower triangular factor.
    "solve_unit_lower": _solve_unit_lower,
    "standard_normal": standard_normal,
    "stop_gradient": jax.lax.stop_gradient,
    # Fills the part below the diagonal of a matrix of zeros with the entries, row by row.
    "strictly_lower": _strictly_lower,
    "to_float32": lambda array: array.astype(jnp.float32),
    # Integers beyond int32 become its limits, because JAX's conversion wraps around.
    "to_int32": _to_int32,
    # Returns `value`, or if an entry of the mask is False the result of a function with the same types.
    "unless_all": lambda mask, function, value: jax.lax.cond(jnp.all(mask), lambda: value, function),
    "unsharded": unsharded,
    "where": _where,
}


def as_array(value: Any, name: str) -> Any:
    """Returns an array unchanged, and a number or nested lists as an array; raises for None and for ragged lists.

    Example:
        >>> as_array([[1.0], [2.0, 3.0]], "noise")
        Traceback (most recent call last):
        ValueError: noise: expected lists of equal lengths, got ragged ones. Pad the shorter lists, or pass one array.
    """
    if hasattr(value, "dtype"):
        return value
    if value is None:
        raise TypeError(f"{name}: expected an array, got None. Pass an array or nested lists of numbers.")
    # NumPy converts neither tracers nor tensors.
    foreign = is_other(value) or any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    try:
        return xp.asarray(value) if foreign else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(value, tuple):
            first = (
                ": env.reset() and env.step() return the observations first" if name.startswith("observation") else ""
            )
            raise ValueError(
                f"{name}: expected one array, got {type(value).__name__} with {len(value)} parts of several kinds or "
                f"shapes. Pass one of its parts{first}."
            ) from error
        raise ValueError(
            f"{name}: expected lists of equal lengths, got ragged ones. Pad the shorter lists, or pass one array."
        ) from error


def align(*arrays: Any) -> Any:
    """Casts arrays to one dtype and broadcasts them to one shape.

    Args:
        *arrays: Fields of a distribution, and actions or noise, which may have more leading axes.

    Returns:
        A tuple of the arrays in their common floating dtype, or in float32 if that is narrower.

    Raises:
        ValueError: The last axes differ in length.

    Example:
        >>> [array.shape for array in align(jnp.zeros((4, 2)), jnp.zeros((7, 4, 2)))]
        [(7, 4, 2), (7, 4, 2)]
    """
    arrays = xp.at_least_float32(*arrays)
    count = arrays[0].shape[-1]
    for array in arrays[1:]:
        if array.shape[-1:] != (count,):
            raise wrong_last_axis(array.shape, count)
    shape = xp.broadcast_shapes(*(array.shape for array in arrays))
    return xp.broadcast_together(arrays, [shape] * len(arrays))


def exact_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Rounded sum `a + b` and its rounding error, whose sum is exactly `a + b`.

    Source:
        Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.
    """
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


def inwards(low: Any, high: Any, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rounds two vectors of bounds to numbers of a dtype that lie between them: the lower up and the upper down.

    Args:
        low: Lower bounds, a float64 array of NumPy.
        high: Upper bounds in the same form.
        dtype: Floating dtype of NumPy or torch.

    Returns:
        The rounded bounds in float64. Both are the nearest number to their bound where no number of the dtype lies
        between them.

    Example:
        >>> low, high = inwards(np.array([-0.1]), np.array([0.1]), np.dtype("float32"))
        >>> float(low[0]) >= -0.1, float(high[0]) <= 0.1, float(np.float32(0.1)) <= 0.1
        (True, True, False)
    """
    info = xp.finfo(dtype)
    largest, least, ratio = float(info.max), float(info.tiny), float(info.eps) / 2.0**-52

    def rounded(side: np.ndarray, how: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        # Numbers of the dtype lie `ratio` times as far apart as those of float64. Under torch.compile NumPy has no
        # bfloat16 and no frexp (torch 2.13). XLA treats subnormal numbers as zero (CPU, jax 0.10.2).
        size = np.clip(np.abs(side), least, largest)
        spacing = np.where(np.abs(side) < least, least, ratio * (size - np.nextafter(size, 0.0)))
        return how(np.where(np.isinf(side), side, np.clip(side, -largest, largest)) / spacing) * spacing

    lowest, highest = rounded(low, np.ceil), rounded(high, np.floor)
    between = (lowest >= low) & (lowest <= highest) & (highest <= high)
    nearest = rounded(low, np.rint), rounded(high, np.rint)
    return np.where(between, lowest, np.minimum(*nearest)), np.where(between, highest, nearest[1])


@functools.lru_cache(1024)
def _inwards_of_bytes(low: bytes, high: bytes, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    return inwards(np.frombuffer(low), np.frombuffer(high), dtype)


def inwards_once(low: np.ndarray, high: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Calls `inwards` once for each pair of bounds, because it takes longer than an eager call of a small policy."""
    return _inwards_of_bytes(low.tobytes(), high.tobytes(), dtype)


def like_actions(low: Any, high: Any, actions: Any) -> tuple[Any, Any]:
    """Returns the bounds of a Box, two vectors `(act,)`, in the shape and the dtype of the actions, rounded inwards."""
    return _like(actions, *xp.inwards(low, high, actions))


def on_bounds(low: Any, high: Any, actions: Any) -> tuple[Any, Any]:
    """Returns two masks: True for actions at or below the lower bounds, and at or above the upper bounds, of a Box.

    Actions whose dtype is not float32 count as on a bound if they are copies of float32 actions on the bound.
    """
    below, above = _like(actions, *xp.inwards(low, high, xp.to_float32(actions)))
    lowest, highest = like_actions(low, high, actions)
    at_low = (actions <= xp.minimum(lowest, below)) | (actions == below)
    return at_low, (actions >= xp.maximum(highest, above)) | (actions == above)


def wrong_last_axis(shape: tuple[int, ...], count: int) -> ValueError:
    """Makes the error about actions of another number of dimensions than the action space has."""
    return ValueError(
        f"actions: expected (..., {count}), got {tuple(shape)}. The last axis has the dimensions of one action "
        f"and is never broadcast."
    )


def _like(actions: Any, low: np.ndarray, high: np.ndarray) -> tuple[Any, Any]:
    if actions.shape[-1:] != low.shape:
        raise wrong_last_axis(actions.shape, low.shape[-1])
    sides = (xp.constant(side, actions) for side in (low, high))
    _, lowest, highest = xp.broadcast_together((actions, *sides), [actions.shape] * 3)
    return lowest, highest


def fill(value: Any, **fields: object) -> Any:
    """Sets fields of a frozen object that is being constructed; returns the object."""
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value


def broadcast_leaves(value: Any) -> None:
    """Casts the array fields of a new distribution to one dtype and broadcasts them to one batch shape."""
    names = tuple(value._sizes)
    leaves = xp.at_least_float32(*(getattr(value, name) for name in names))
    shapes = {name: tuple(leaf.shape) for name, leaf in zip(names, leaves, strict=True)}
    if not shapes["loc"]:
        raise ValueError("loc: expected shape (..., act), got (). Give a single action the shape (1,).")
    act = shapes["loc"][-1]
    counts = {name: size(act) if size else act for name, size in value._sizes.items()}
    for name, shape in shapes.items():
        one_for_all = value._sizes[name] is None and shape in ((), (*shape[:-1], 1))
        if shape[-1:] != (counts[name],) and not one_for_all:
            raise ValueError(
                f"{name}: expected a last axis of {counts[name]} for {act} dimensions of loc, got shape {shape}. "
                f"Reshape it to (..., {counts[name]})."
            )
    try:
        batch = xp.broadcast_shapes(*(leaf.shape[:-1] for leaf in leaves))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{type(value).__name__}: expected leading axes that broadcast to one batch shape, got {shapes}. "
            f"Give them one batch shape, with axes of 1 where an array is shared."
        ) from error
    leaves = xp.broadcast_together(leaves, [(*batch, counts[name]) for name in names])
    for name, leaf in zip(names, leaves, strict=True):
        object.__setattr__(value, name, leaf)
