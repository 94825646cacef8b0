"""Pytrees: their comparison leaf by leaf with a sentence for each difference, and the choice between two."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool

from gaussjax.core.arrays import xp
from gaussjax.core.text import listed

_MAKE_PARAMS = "Make them with policy.init, for the same network and the same spaces."


def check_shapes(value: Any, expected: Any, name: str, repair: str = _MAKE_PARAMS) -> None:
    """Raises ValueError if leaves of a pytree are missing, unexpected or of another shape than expected."""
    faults = differences(_shapes(value), _shapes(expected))
    if faults:
        raise ValueError(f"{name}: expected the leaves of this policy, got others: {listed(faults, '; ')}. {repair}")


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Compares two dicts from paths to leaves; returns a sentence for each missing, unknown or different leaf."""
    faults = [f"{path} is missing (expected {leaf})" for path, leaf in expected.items() if path not in found]
    faults += [f"{path} is unknown (got {leaf})" for path, leaf in found.items() if path not in expected]
    common = ((path, leaf, found[path]) for path, leaf in expected.items() if path in found)
    return faults + [f"{path}: expected {leaf}, got {other}" for path, leaf, other in common if other != leaf]


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


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(value)[0]
    return {jax.tree_util.keystr(path): tuple(xp.shape(leaf)) for path, leaf in leaves}
