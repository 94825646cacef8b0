"""Compiled functions, choices within them, and the validation of arguments and options."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_batching import custom_vmap
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from gaussjax.core.text import quoted

# Argument types and dtypes that need no validation. Types of device arrays and tracers are added at their first use.
_PASSED: set[type] = {bool, float, type(None)}
_FLOAT32 = np.dtype("f4")
_PLAIN = {np.dtype(name) for name in ("bool", "f2", "f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")}

_MOST_NUMBERS = 2**40

_CONFIG: Any = jax.config  # Typed as Any, because type checkers do not know the flags of jax.config.

# Floating dtypes of arguments. JAX promotes no narrower ones and has no wider ones.
FLOATING = {np.dtype(name) for name in ("f2", "f4", "f8", jnp.bfloat16)}


class Compiled:
    """A pure function compiled by `jax.jit` that validates its NumPy arguments before each call.

    JAX ignores the byte order and the mask of a NumPy array. The validation raises TypeError for such arrays,
    text and objects, and keeps large integers from wrapping around. `benchmarks/NOTES.md` has its time. Inside
    another `jit`, `vmap`, `grad` or `scan` the function becomes part of that program.

    Attributes:
        jit: The function compiled by `jax.jit`, without the validation.
        static_argnames: Names of the arguments that are constants of the program: numbers, text or tuples.

    Example:
        >>> double = Compiled(lambda x: 2 * x)
        >>> double(np.ones(3)).tolist(), jax.vmap(double)(jnp.ones(3)).tolist()
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])
        >>> double(np.ones(3, ">f4"))
        Traceback (most recent call last):
        TypeError: x: expected native byte order, got >f4. Use x.astype(x.dtype.newbyteorder('=')).
    """

    def __init__(self, function: Callable[..., Any], static_argnames: tuple[str, ...] = ()):
        functools.update_wrapper(self, function)
        self.jit: Any = jax.jit(function, static_argnames=static_argnames)
        self.static_argnames = static_argnames

    # Properties, because jax.vmap and jax.jit copy the attributes of an instance to the functions that they return.
    lower = property(lambda self: self.jit.lower)
    trace = property(lambda self: self.jit.trace)
    eval_shape = property(lambda self: self.jit.eval_shape)
    clear_cache = property(lambda self: self.jit.clear_cache)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Validates the arguments and returns the result of the compiled function."""
        if _CONFIG.jax_disable_jit:
            # `jax.jit` then converts nothing, and NumPy would compute in the dtypes of NumPy.
            arguments, options = self.validated(arguments, options)
        groups: list[Any] = [arguments, options.values()] if options else [arguments]
        # A loop that appends the entries of dicts; JAX's tree_leaves sorts the keys, which takes longer.
        for group in groups:
            for value in group:
                kind = type(value)
                if kind in _PASSED:
                    continue
                if kind is dict:
                    groups.append(value.values())
                elif kind is np.ndarray and (value.dtype is _FLOAT32 or value.dtype in _PLAIN):
                    continue
                elif isinstance(value, jax.Array):
                    _PASSED.add(kind)
                elif leaves := _leaves(value):
                    groups.append(leaves)
                else:
                    arguments, options = self.validated(arguments, options)
                    groups.clear()
                    break
        try:
            return self.jit(*arguments, **options)
        except (TypeError, ValueError):
            # JAX reports keys that it cannot sort and static arguments that are arrays without a name.
            self.validated(arguments, options)
            _refuse_static(self.jit, self.static_argnames, arguments, options)
            raise

    def validated(self, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict]:
        """Validates every leaf of the arguments and returns arrays; integers too large for int32 become float32."""
        try:
            names = list(inspect.signature(self.jit).bind(*arguments, **options).arguments)
        except TypeError:
            # The arguments do not fit the signature; the call of the function then raises Python's own error.
            return arguments, dict(options)

        def argument(name: str, value: Any) -> Any:
            if name in self.static_argnames:
                return value
            if name != "key":
                return jax.tree.map(jnp.asarray, checked_tree(value, name))
            try:
                return jax.tree.map(jnp.asarray, checked(value, name, name))
            except TypeError:
                self.__wrapped__(*arguments, **options)  # type: ignore[attr-defined]  # It raises the error about keys.
                raise

        positional = [argument(name, value) for name, value in zip(names, arguments, strict=False)]
        return tuple(positional), {name: argument(name, value) for name, value in options.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.__wrapped__, self.static_argnames)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<compiled {getattr(self, '__qualname__', 'function')}>"


def _leaves(value: Any) -> list[Any]:
    """Returns the leaves of a pytree, or an empty list for a leaf."""
    leaves = jax.tree_util.tree_leaves(value)
    return [] if len(leaves) == 1 and leaves[0] is value else [None, *leaves]


def _refuse_static(
    function: Callable[..., Any], static: tuple[str, ...], arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    """Raises TypeError if a static argument is an array or cannot be hashed, which JAX reports without its name."""
    try:
        passed = inspect.signature(function).bind(*arguments, **options).arguments
    except TypeError:
        return
    for name in static:
        value = passed.get(name)
        if isinstance(value, jax.Array) or not isinstance(value, Hashable):
            kind = "a traced array" if isinstance(value, Tracer) else f"{type(value).__name__} {value!r}"
            raise TypeError(
                f"{name}: expected a constant of Python such as True, text or a tuple, got {kind}. Each value has a "
                f"compiled program of its own; to choose inside a program, use jax.lax.cond with one call for each."
            ) from None


def checked_tree(value: Any, name: str) -> Any:
    """Calls `checked` for every leaf of a pytree; raises TypeError for dicts whose keys JAX cannot sort."""
    try:
        leaves, structure = jax.tree_util.tree_flatten_with_path(value)
    except (TypeError, ValueError) as error:
        raise unsorted_keys(name) from error
    return structure.unflatten(checked(leaf, f"{name}{jax.tree_util.keystr(path)}", name) for path, leaf in leaves)


def unsorted_keys(name: str) -> TypeError:
    """Makes the error about a dict with keys of several types."""
    return TypeError(
        f"{name}: expected dicts with keys of one type, got keys that cannot be sorted. Use text for every key."
    )


def checked(leaf: Any, where: str, name: str) -> Any:
    """Returns a leaf, large integers as float32; raises TypeError for masks, byte orders, text and other objects."""
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        return _without_wrap(leaf, where)
    if leaf is None or isinstance(leaf, (jax.Array, bool, float)) or hasattr(leaf, "__jax_array__"):
        return leaf
    if not isinstance(leaf, (np.ndarray, np.generic)):
        repair = f"Convert them first, with np.asarray({name}, np.float32)."
        if callable(leaf):
            repair = "Pass the arrays that a function returns, such as the parameters of policy.init(key)."
        elif where != name:
            repair = f"Convert every leaf first, with jax.tree.map(np.asarray, {name})."
        raise TypeError(f"{where}: expected numbers in arrays of JAX or NumPy, got {type(leaf).__name__}. {repair}")
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(f"{where}: expected an array without a mask, got a masked array. Use {name}.filled(value).")
    if not leaf.dtype.isnative:
        raise TypeError(
            f"{where}: expected native byte order, got {leaf.dtype.str}. "
            f"Use {name}.astype({name}.dtype.newbyteorder('='))."
        )
    if leaf.dtype.kind not in "biu" and leaf.dtype not in FLOATING:
        raise not_real(where, leaf.dtype, name)
    if leaf.dtype.kind in "iu" and leaf.dtype.itemsize == 8 and leaf.size and not _CONFIG.jax_enable_x64:
        # Without x64 JAX would keep only the lower 32 bits of each number.
        limits = np.iinfo(np.int32)
        return leaf if limits.min <= leaf.min() and leaf.max() <= limits.max else leaf.astype(np.float32)
    return leaf


def not_real(where: str, dtype: Any, name: str) -> TypeError:
    """Makes the error about an array at a place in the argument `name` whose dtype has no real numbers."""
    repair = f"Convert them first, with np.asarray({name}, np.float32)."
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        repair = "Only init, act and noise take a key: act(params, key, observations)."
    return TypeError(f"{where}: expected real numbers, got {dtype}. {repair}")


def _without_wrap(number: int, where: str) -> int | float:
    bits = 64 if _CONFIG.jax_enable_x64 else 32
    if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        return number
    try:
        return float(number)
    except OverflowError as error:
        raise ValueError(
            f"{where}: expected numbers below 1.8e308, got an integer of {number.bit_length()} bits. Rescale it."
        ) from error


def refuse_traced(value: Any, name: str, space: str | None = None) -> None:
    """Raises TypeError if an option, or a number of a space, is a traced array, whose value is unknown."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
        place, made = (f" in a {space}", "the space") if space else ("", "it")
        raise TypeError(
            f"{name}: expected a constant, got a traced array{place}. Make {made} outside of jit, or under "
            f"jax.ensure_compile_time_eval()."
        )


def flag(value: Any, name: str) -> bool:
    """Returns an option as a bool; raises TypeError unless it is True or False."""
    refuse_traced(value, name)
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}. A text is always true: convert it first.")
    return bool(value)


def number(value: Any, name: str) -> float:
    """Returns an option as a float; raises TypeError unless it is a real number."""
    refuse_traced(value, name)
    kinds = (int, float, np.number, np.ndarray, jax.Array)
    if isinstance(value, bool) or not isinstance(value, kinds) or np.ndim(value) or np.iscomplexobj(value):
        raise TypeError(f"{name}: expected a number, got {value!r}. Convert it first, with float.")
    return float(value)


def check_number(value: Any, name: str, words: str, holds: Callable[[float], bool]) -> None:
    """Raises unless an option is a number for which `holds` is true; traced arrays and tensors of torch pass."""
    known = isinstance(value, (np.number, np.ndarray, jax.Array)) and not isinstance(value, Tracer)
    if hasattr(value, "dtype") and not known:
        return
    if not holds(number(value, name)):
        raise ValueError(f"{name}: expected a number {words}, got {value}. Leave it out for the default.")


def integer(value: Any, name: str) -> int:
    """Returns an option as an int; raises TypeError unless it is an integer, which True and False are not."""
    refuse_traced(value, name)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {value!r}. Convert it first, with int.")
    return int(value)


def count(value: Any, name: str, least: int = 1) -> int:
    """Returns an option as an int; raises TypeError unless it is an integer, and ValueError if it is below `least`."""
    whole = integer(value, name)
    if whole < least:
        raise ValueError(f"{name}: expected at least {least}, got {whole}.")
    return whole


def refuse_huge(shape: Any, name: str) -> None:
    """Raises ValueError for a shape so large that JAX would end the process, which Python cannot catch."""
    # An exported program has symbolic sizes.
    if math.prod(int(n) for n in shape if isinstance(n, (int, float, np.integer))) > _MOST_NUMBERS:
        raise ValueError(
            f"{name}: expected an array of at most 2**40 numbers, got the shape {quoted(tuple(shape))}. Choose smaller "
            f"sizes."
        )


def varying_axes(array: Any) -> frozenset[str]:
    """Returns the `shard_map` axes over which an array differs. The attribute's name depends on the jax version."""
    abstract: Any = jax.typeof(array)
    return abstract.mat.varying if hasattr(abstract, "mat") else abstract.vma


def varying(tree: Any, like: Any) -> Any:
    """Casts arrays to vary over the same axes of `jax.shard_map` as `like`, because a loop keeps its types."""
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves(like)))
    # jax 0.7 has the older function only, and later versions the newer one only.
    lax: Any = jax.lax
    cast = functools.partial(lax.pcast, to="varying") if hasattr(lax, "pcast") else lax.pvary

    def vary(leaf: Any) -> Any:
        missing = axes - varying_axes(leaf)
        return cast(leaf, tuple(missing)) if missing else leaf

    return jax.tree.map(vary, tree)


def broadcast_together(arrays: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[Any, ...]:
    """Broadcasts each array to its shape and shards their leading axes alike; only the last axes may differ."""
    # On a mesh with explicit axes JAX selects only among arrays that are sharded alike, and constants are not sharded.
    wide = [jnp.broadcast_to(array, shape) for array, shape in zip(arrays, shapes, strict=True)]
    shardings = [jax.typeof(array).sharding for array in wide]
    if len(set(sharding.spec for sharding in shardings)) == 1:
        return tuple(wide)
    mesh = next(sharding.mesh for sharding in shardings if any(sharding.spec))
    *batch, last = (next(filter(None, axes), None) for axes in zip(*(each.spec for each in shardings), strict=True))
    spec = PartitionSpec(*batch, last if len(set(shapes)) == 1 else None)
    return tuple(jax.sharding.reshard(array, NamedSharding(mesh, spec)) for array in wide)


def unsharded(array: Any) -> Any:
    """Gathers an array that explicit axes of a mesh shard, because JAX neither indexes nor merges sharded axes."""
    sharding = jax.typeof(array).sharding
    return jax.sharding.reshard(array, NamedSharding(sharding.mesh, PartitionSpec())) if any(sharding.spec) else array


def where(condition: Bool[Array, "..."], new: Any, old: Any) -> Any:
    """Returns rows of the pytree `new` where the condition is true, else of `old`; leaves may be arrays of keys.

    Args:
        condition: A scalar, or flags along the first axes of all leaves.
        new: A pytree.
        old: A pytree like `new`.
    """

    def choose(new: Any, old: Any) -> Any:
        if jnp.issubdtype(jnp.result_type(old), jax.dtypes.prng_key):
            # JAX's checker of reused keys takes a select of keys as a use of both.
            data = choose(jax.random.key_data(new), jax.random.key_data(old))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(old))
        flags = jnp.expand_dims(condition, tuple(range(jnp.ndim(condition), jnp.ndim(old))))
        return jnp.where(flags if jnp.ndim(condition) else condition, new, old)

    return jax.tree.map(choose, new, old)


@custom_vmap
def anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Returns the flag; inside `jax.vmap`, returns True in all copies if the flag is true in any of them.

    With a flag of each copy, `jax.lax.cond` would compute both branches. The branch for True has to choose with `where`
    in which copies it applies.
    """
    return flag


@anywhere.def_vmap
def _anywhere(size: int, batched: list[bool], flags: Bool[Array, " copies"]) -> tuple[Bool[Array, ""], bool]:
    # An outer vmap applies the same rule to this call.
    return anywhere(jnp.any(flags)), False
