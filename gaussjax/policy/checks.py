"""Refusals at the policy's boundary: what was expected, what came, what to do.

Everything here looks at shapes, types and structure only, so it costs nothing in a compiled
program and says the same under `jit` and without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.arrays import xp
from gaussjax.core.trees import check_shapes
from gaussjax.distributions.special import at_least_float32


def key(value: Any) -> None:
    """Refuses anything but one PRNG key, typed or legacy.

    Raises:
        TypeError: An int, an array of another type, or several keys.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if value.shape == ():
            return
        came = f"{value.shape[0]} keys in an array of shape {value.shape}"
    elif dtype == np.uint32 and value.shape == jax.eval_shape(jax.random.PRNGKey, 0).shape:
        return
    elif dtype is None:
        came = repr(value)
    else:
        came = f"an array of type {dtype} and shape {value.shape}"
    raise TypeError(
        f"key: expected one PRNG key, got {came}. Make one with jax.random.key(0); for several keys "
        f"use jax.vmap, and jax.random.split for a new key at each call."
    )


def same_shape(array: Any, expected: tuple[int, ...], name: str) -> jax.Array:
    """A real, floating array of exactly that shape; nothing is broadcast.

    Raises:
        TypeError: It does not hold real numbers.
        ValueError: The shape is another one, be it one that would broadcast.
    """
    if array is None:
        raise TypeError(f"{name}: expected an array of shape {tuple(expected)}, got None. There is no default for it.")
    array = array if hasattr(array, "dtype") else jnp.asarray(array)
    if not xp.is_real(array):
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}. Convert them to float32 first.")
    if tuple(array.shape) != tuple(expected):
        raise ValueError(
            f"{name}: expected shape {tuple(expected)}, got {tuple(array.shape)}. Nothing is broadcast; for one row "
            f"for the whole batch use broadcast_to."
        )
    array = xp.asarray(array)
    # Bounds and noise that meet integers would be cut off to integers themselves.
    return array if xp.is_floating(array) else xp.to_float32(array)


def memory(carry: Any, resets: Any, expected: Callable[..., Any], batch_shape: tuple[int, ...]) -> Any:
    """Resets as an array, or None. Refuses a carry or resets that do not belong to observations of that batch shape.

    `expected(batch_shape)` is a carry, or only its shapes.

    The carry decides what the first axis of the observations is: with their batch shape they are
    one step; with all but their first axis, a sequence.

    Raises:
        TypeError: The carry does not hold floating numbers, or the resets are not bool.
        ValueError: The carry is missing, or a shape is another one.
    """
    sequence = f", or carry=policy.initial_carry({batch_shape[1:]}) for a sequence" if batch_shape else ""
    repair = f"Start with carry=policy.initial_carry({batch_shape}) for one step{sequence}."
    if carry is None:
        raise ValueError(f"carry: expected the state of this recurrent network, got None. {repair}")
    leaves, one = jax.tree.leaves(carry), jax.tree.leaves(expected(()))[0]
    lacking = len(batch_shape) + one.ndim - len(xp.shape(leaves[0])) if leaves else 0
    carry_batch = batch_shape[1:] if lacking == 1 else batch_shape
    check_shapes(carry, expected(carry_batch), "carry", repair)
    for leaf in leaves:
        # The new carry has the type of the old one, in which integers would forget all between -1 and 1.
        if not xp.is_floating(leaf):
            raise TypeError(f"carry: expected floating numbers, got {_dtype(leaf)}. {repair}")
    if resets is None:
        return None
    # Under jit the entries of a list are traced, and NumPy cannot read them.
    resets = resets if hasattr(resets, "dtype") else jnp.asarray(resets)
    if _dtype(resets) != "bool":
        raise TypeError(
            f"resets: expected bool, got {_dtype(resets)}. Make them with gaussjax.networks.episode_starts(terminated, "
            f"truncated) for a sequence, and with episode_ends of the step before for one step."
        )
    if tuple(xp.shape(resets)) != batch_shape:
        raise ValueError(
            f"resets: expected shape {batch_shape}, one for each observation, got {tuple(xp.shape(resets))}. "
            f"Nothing is broadcast."
        )
    return resets


def mean_and_log_std(returned: Any, batch_shape: tuple[int, ...], num_actions: int) -> tuple[Any, Any, dict]:
    """What a network returned, in float32 at the least.

    Raises:
        TypeError: It is not (mean, log_std, dict).
        ValueError: A shape is not that of the actions, or an output's name is taken.
    """
    if not isinstance(returned, (tuple, list)) or len(returned) != 3 or not isinstance(returned[2], dict):
        kind = type(returned).__name__
        raise TypeError(f"network: expected (mean, log_std, dict of outputs), got {kind}. Return all three.")
    mean, log_std, outputs = returned
    expected = (*batch_shape, num_actions)
    if tuple(xp.shape(mean)) != expected:
        raise ValueError(
            f"network: expected a mean of shape {expected}, got {tuple(xp.shape(mean))}. Its last layer needs "
            f"{num_actions} outputs."
        )
    if tuple(xp.shape(log_std)) not in (expected, (num_actions,)):
        raise ValueError(
            f"network: expected a log_std of shape {expected} or {(num_actions,)}, got {tuple(xp.shape(log_std))}."
        )
    taken = {"mean_actions", "log_std", "raw_actions"} & outputs.keys()
    if taken:
        raise ValueError(f"network: the outputs {sorted(taken)} are the policy's own. Give them another name.")
    mean, log_std = at_least_float32(mean, log_std)
    return mean, log_std, outputs


def _dtype(array: Any) -> str:
    """The name of an array's type, the same one for JAX and torch."""
    return str(array.dtype).removeprefix("torch.")
