"""Starts of new episodes in the copies of an environment inside a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Key

from gaussjax.core.compiled import unsharded, varying, where
from gaussjax.envs import Environment
from gaussjax.envs.protocol import checked_reset
from gaussjax.random import keys

# Resets are computed in groups, each of this share of all copies and of at least so many.
_SHARE, _LEAST = 16, 16


def cached_starts(starts: Any, ended: Bool[Array, " envs"], reset_keys: Key[Array, " envs"], after: Any) -> Any:
    """States and observations of all copies: the cached start, with new keys, of each copy whose episode ended."""
    return jax.tree.map(partial(_chosen, ended), jax.vmap(_rekeyed)(starts, reset_keys), after)


def new_starts(
    environment: Environment, ended: Bool[Array, " envs"], reset_keys: Key[Array, " envs"], after: Any
) -> Any:
    """States and observations of all copies: those of a new reset of each copy whose episode ended.

    Copies of all trainings in a `vmap` are reset together, in groups, so the cost grows with the number of ended
    episodes and not with the number of copies.

    Args:
        environment: One environment.
        ended: Flags of the copies whose episodes ended.
        reset_keys: Key of each copy, consumed.
        after: States and observations after the step.
    """
    typed = jnp.issubdtype(reset_keys.dtype, jax.dtypes.prng_key)
    impl = jax.random.key_impl(reset_keys) if typed else None

    def reset(words: Array) -> Any:
        key = jax.random.wrap_key_data(words, impl=impl) if typed else words
        return jax.tree.map(_words, checked_reset(environment, key))

    words = _words(reset_keys)
    # The arrays that the functions of an environment refer to may differ among the trainings of a `vmap`.
    program, made = jax.make_jaxpr(reset, return_shape=True)(words[0])
    # A function with a derivative of its own outlives the trace, so it must not refer to the arrays of the trace.
    jaxpr, arrays = program.jaxpr, program.consts

    def starts(constants: Any, words: Array) -> Any:
        leaves = jax.vmap(partial(eval_jaxpr, jaxpr, constants))(words)
        return jax.tree.unflatten(jax.tree.structure(made), leaves)

    def chosen(new: Array, old: Array) -> Array:
        if jnp.issubdtype(jnp.result_type(old), jax.dtypes.prng_key):
            new = jax.random.wrap_key_data(new, impl=jax.random.key_impl(old))
        return _chosen(ended, new, old)

    return jax.tree.map(chosen, _in_groups(starts, made)(arrays, ended, words), after)


def _in_groups(starts: Callable[[Any, Array], Any], made: Any) -> Callable[[Any, Array, Array], Any]:
    """A function that calls `starts` with the keys of ended copies, and has zeros as the rows of the other copies.

    `made` has the shapes of one start.
    """

    @custom_vmap
    def rows(constants: Any, ended: Bool[Array, " envs"], words: Array) -> Any:
        number = ended.shape[0]
        size = min(number, max(_LEAST, -(-number // _SHARE)))
        # Indices of the ended copies, and then indices out of range, which are dropped.
        (order,) = jnp.nonzero(ended, size=-(-number // size) * size, fill_value=number)
        count = jnp.sum(ended)

        def group(carried: tuple[Array, Any]) -> tuple[Array, Any]:
            begun, table = carried
            indices = jax.lax.dynamic_slice_in_dim(order, begun, size)
            new = starts(constants, words.at[indices].get(mode="clip"))
            return begun + size, jax.tree.map(lambda old, new: old.at[indices].set(new, mode="drop"), table, new)

        table = jax.tree.map(lambda leaf: jnp.zeros((number, *leaf.shape), leaf.dtype), made)
        first = varying((jnp.zeros_like(count), table), like=(constants, ended, words))
        return jax.lax.while_loop(lambda carried: carried[0] < count, group, first)[1]

    @rows.def_vmap
    def _(size: int, batched: Any, constants: Any, ended: Array, words: Array) -> tuple[Any, Any]:
        everywhere = jax.tree.map(lambda _: True, made)
        if any(jax.tree.leaves(batched[0])):
            axes = jax.tree.map(lambda flag: 0 if flag else None, tuple(batched))
            return jax.vmap(rows.fun, axes)(constants, ended, words), everywhere
        pairs = zip((ended, words), batched[1:], strict=True)
        both = [array if flag else jnp.broadcast_to(array, (size, *array.shape)) for array, flag in pairs]
        table = rows(constants, *(unsharded(array).reshape(-1, *array.shape[2:]) for array in both))
        return jax.tree.map(lambda leaf: leaf.reshape(both[0].shape + leaf.shape[1:]), table), everywhere

    # A loop of unknown length has no derivative in reverse mode, so the derivative is that of all starts at once.
    @jax.custom_jvp
    def differentiable(constants: Any, ended: Bool[Array, " envs"], words: Array) -> Any:
        return rows(constants, ended, words)

    @differentiable.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
        constants, ended, words = primals

        def all_at_once(constants: Any) -> Any:
            table = starts(constants, words)
            return where(ended, table, jax.tree.map(jnp.zeros_like, table))

        return rows(*primals), jax.jvp(all_at_once, (constants,), (tangents[0],))[1]

    return differentiable


def _words(array: Any) -> Array:
    """The array, or the words of an array of typed keys."""
    array = jnp.asarray(array)
    return jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array


def _chosen(ended: Bool[Array, " envs"], new: Array, old: Array) -> Array:
    """Rows of `new` where `ended` is True, and rows of `old` elsewhere; both may be arrays of keys."""
    # States of MuJoCo Warp share leaves among all copies, and each step overwrites them.
    return where(ended, new, old) if new.shape == old.shape and new.shape[:1] == ended.shape else old


def _rekeyed(start: Any, reset_key: Key[Array, ""]) -> Any:
    """The start of an episode, with keys that depend on its own ones and on the key of this reset."""

    def new(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        mixed = jax.vmap(lambda key: keys.fold_in(key, keys.bits(reset_key)))(leaf.reshape(-1))
        return mixed.reshape(leaf.shape)

    return jax.tree.map(new, start)
