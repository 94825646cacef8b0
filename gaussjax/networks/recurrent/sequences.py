"""Episodes in rollouts: from done flags to resets, and from rollouts to training sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool


def episode_ends(terminated: Any, truncated: Any) -> Bool[Array, "..."]:
    """The last steps of episodes, ended by termination or by truncation.

    The result is also `resets` for the observations that follow. Flags are bool, integers or floats of
    any shape; every nonzero number is true. `resets` themselves have to be bool.

    Args:
        terminated: Whether the task ended.
        truncated: Whether the episode was cut, of the same shape.

    Returns:
        A bool array of the same shape.

    Raises:
        ValueError: The shapes differ.
        TypeError: A flag is not a real number.

    Example:
        >>> episode_ends(jnp.array([0.0, 1.0, 0.0]), jnp.array([0, 0, 1], jnp.int8)).tolist()
        [False, True, True]
    """
    flags = []
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        flag = flag if hasattr(flag, "dtype") else np.asarray(flag)
        if not (
            flag.dtype == bool or jnp.issubdtype(flag.dtype, jnp.integer) or jnp.issubdtype(flag.dtype, jnp.floating)
        ):
            raise TypeError(f"{name}: expected bool, integer or float flags, got {flag.dtype}. Pass one number a step.")
        flags.append(jnp.asarray(flag) != 0)
    if flags[0].shape != flags[1].shape:
        raise ValueError(
            f"truncated: expected the shape of terminated, {flags[0].shape}, got {flags[1].shape}. "
            f"Pass zeros where nothing is truncated."
        )
    return flags[0] | flags[1]


def episode_starts(terminated: Any, truncated: Any, first: Any = None) -> Bool[Array, " time *batch"]:
    """Resets of a rollout: observation t + 1 starts an episode where step t ended one.

    Args:
        terminated: Flags of each step, `(T, …)`; converted as in `episode_ends`.
        truncated: Likewise.
        first: Whether the first observations start an episode, `(…)`; None is False, which is right for a
            carry that is already zero there.

    Returns:
        `resets` for a sequence, `(T, …)`.

    Raises:
        ValueError: The shapes differ, or there is no time axis.
        TypeError: A flag is not a real number.

    Example:
        >>> episode_starts(jnp.array([0, 1, 0]), jnp.array([0, 0, 1])).tolist()
        [False, False, True]
    """
    ends = episode_ends(terminated, truncated)
    if ends.ndim == 0:
        raise ValueError("terminated: expected a time axis, got shape (). For one step use episode_ends.")
    first = jnp.zeros(ends.shape[1:], bool) if first is None else episode_ends(first, jnp.zeros(jnp.shape(first)))
    if first.shape != ends.shape[1:]:
        raise ValueError(f"first: expected shape {ends.shape[1:]}, got {first.shape}. It has no time axis.")
    return jnp.concatenate([first[None], ends[:-1]]) if ends.shape[0] else ends


def to_sequences(rollout: Any, carries: Any, sequence_length: int) -> tuple[Any, Any]:
    """A rollout `(T, N, …)` cut into training sequences `(sequence_length, N * T / sequence_length, …)`.

    Sequence `i * N + n` starts at step `i * sequence_length` of environment n. Shuffle the second axis and
    split it into minibatches. The resets belong in the rollout.

    Args:
        rollout: Pytree of arrays `(T, N, …)`.
        carries: The carries before each step, leaves `(T, N, …)`; or only those before each
            sequence, `(T / sequence_length, N, …)`.
        sequence_length: Steps of each sequence, a divisor of T.

    Returns:
        The sequences and the carry before the first step of each, leaves
        `(N * T / sequence_length, …)`.

    Raises:
        ValueError: The length does not divide T, or the leading axes differ.

    Example:
        >>> rollout = {"observations": jnp.zeros((20, 4, 3)), "resets": jnp.zeros((20, 4), bool)}
        >>> sequences, carry = to_sequences(rollout, (jnp.zeros((20, 4, 8)),), 10)
        >>> sequences["observations"].shape, carry[0].shape
        ((10, 8, 3), (8, 8))
    """
    leaves = jax.tree_util.tree_flatten_with_path(rollout)[0]
    if not leaves:
        raise ValueError("rollout: expected arrays (T, N, …), got none.")
    steps, envs = jnp.shape(leaves[0][1])[:2]
    for path, leaf in leaves:
        if jnp.shape(leaf)[:2] != (steps, envs):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"rollout{where}: expected leading axes {(steps, envs)}, got shape {jnp.shape(leaf)}.")
    if sequence_length < 1 or steps % sequence_length:
        divisors = [n for n in range(1, steps + 1) if steps % n == 0]
        raise ValueError(
            f"sequence_length: expected a divisor of T = {steps}, one of {divisors}, got {sequence_length}."
        )
    count = steps // sequence_length

    def cut(leaf: Any) -> Array:
        shape = jnp.shape(leaf)[2:]
        blocks = jnp.reshape(leaf, (count, sequence_length, envs, *shape))
        return jnp.swapaxes(blocks, 0, 1).reshape(sequence_length, count * envs, *shape)

    def start(path: Any, leaf: Any) -> Array:
        shape = jnp.shape(leaf)
        if shape[:2] not in ((steps, envs), (count, envs)):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"carries{where}: expected leading axes {(steps, envs)} or {(count, envs)}, got shape {shape}."
            )
        every = leaf if shape[0] == count else leaf[::sequence_length]
        return jnp.reshape(every, (count * envs, *shape[2:]))

    return jax.tree.map(cut, rollout), jax.tree_util.tree_map_with_path(start, carries)
