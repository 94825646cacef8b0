"""Functions that compute resets and training sequences from a rollout."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool


def episode_ends(terminated: Any, truncated: Any) -> Bool[Array, "..."]:
    """Marks the last step of each episode, which ends by termination or by truncation.

    Args:
        terminated: Whether the task ended at the step: bool, integers or floats `(…)`; nonzero numbers are true.
        truncated: Whether the episode was cut off at the step, `(…)`.

    Returns:
        A bool array `(…)`, which is also the `resets` of the next observations.

    Raises:
        ValueError: The shapes differ.
        TypeError: The flags are not real numbers.

    Example:
        >>> episode_ends(jnp.array([0.0, 1.0, 0.0]), jnp.array([0, 0, 1], jnp.int8)).tolist()
        [False, True, True]
    """
    flags = []
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        flag = flag if hasattr(flag, "dtype") else np.asarray(flag)
        if not any(jnp.issubdtype(flag.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)):
            raise TypeError(f"{name}: expected bool, integer or float flags, got {flag.dtype}. Pass a number per step.")
        flags.append(jnp.asarray(flag).astype(bool))
    if flags[0].shape != flags[1].shape:
        raise ValueError(
            f"truncated: expected the shape of terminated, {flags[0].shape}, got {flags[1].shape}. "
            f"Pass zeros where nothing is truncated."
        )
    return flags[0] | flags[1]


def episode_starts(terminated: Any, truncated: Any, first: Any = None) -> Bool[Array, " time *batch"]:
    """Returns the resets of a rollout: observation t + 1 starts an episode if step t ended one.

    Args:
        terminated: Whether the task ended at each step, `(T, …)`.
        truncated: Whether the episode was cut off at each step, `(T, …)`.
        first: Whether the first observations start an episode, `(…)`. None means False, which suits a zero carry.

    Returns:
        The `resets` of the sequence, a bool array `(T, …)`.

    Raises:
        ValueError: The shapes differ, or there is no time axis.

    Example:
        >>> episode_starts(jnp.array([0, 1, 0]), jnp.array([0, 0, 1])).tolist()
        [False, False, True]
    """
    ends = episode_ends(terminated, truncated)
    if ends.ndim == 0:
        raise ValueError("terminated: expected a time axis, got shape (). For one step use episode_ends.")
    first = jnp.zeros(ends.shape[1:], bool) if first is None else episode_ends(first, jnp.zeros(jnp.shape(first)))
    if first.shape != ends.shape[1:]:
        raise ValueError(f"first: expected shape {ends.shape[1:]}, got {first.shape}. Leave out the time axis.")
    return jnp.concatenate([first[None], ends[:-1]]) if ends.shape[0] else ends


def to_sequences(rollout: Any, carries: Any, sequence_length: int) -> tuple[Any, Any]:
    """Cuts a rollout `(T, N, …)` into training sequences `(sequence_length, N * T / sequence_length, …)`.

    Sequence `i * N + n` starts at step `i * sequence_length` of environment n. For minibatches shuffle and split
    the second axis.

    Args:
        rollout: Pytree of arrays `(T, N, …)`, with the resets among them.
        carries: Carries before each step, with leaves `(T, N, …)`; or carries before the first step of each
            sequence, with leaves `(T / sequence_length, N, …)`.
        sequence_length: Number of steps of each sequence, a divisor of T.

    Returns:
        The sequences, and the carries before their first steps, with leaves `(N * T / sequence_length, …)`.

    Raises:
        ValueError: The length does not divide T, or the leading axes differ.

    Example:
        >>> rollout = {"observations": jnp.zeros((20, 4, 3)), "resets": jnp.zeros((20, 4), bool)}
        >>> sequences, carry = to_sequences(rollout, (jnp.zeros((20, 4, 8)),), 10)
        >>> sequences["observations"].shape, carry[0].shape
        ((10, 8, 3), (8, 8))
    """
    leaves = jax.tree.leaves(rollout)
    if not leaves:
        raise ValueError("rollout: expected arrays (T, N, …), got none.")
    steps, envs = jnp.shape(leaves[0])[:2]
    _check_axes("rollout", rollout, (steps, envs))
    if sequence_length < 1 or steps % sequence_length:
        divisors = [n for n in range(1, steps + 1) if steps % n == 0]
        raise ValueError(
            f"sequence_length: expected a divisor of T = {steps}, one of {divisors}, got {sequence_length}."
        )
    count = steps // sequence_length
    _check_axes("carries", carries, (steps, envs), (count, envs))

    def cut(leaf: Any) -> Array:
        shape = jnp.shape(leaf)[2:]
        blocks = jnp.reshape(leaf, (count, sequence_length, envs, *shape))
        return jnp.swapaxes(blocks, 0, 1).reshape(sequence_length, count * envs, *shape)

    def start(leaf: Any) -> Array:
        shape = jnp.shape(leaf)
        starts = leaf if shape[0] == count else leaf[::sequence_length]
        return jnp.reshape(starts, (count * envs, *shape[2:]))

    return jax.tree.map(cut, rollout), jax.tree.map(start, carries)


def _check_axes(name: str, tree: Any, *allowed: tuple[int, int]) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jnp.shape(leaf)[:2] not in allowed:
            where, axes = jax.tree_util.keystr(path), " or ".join(map(str, dict.fromkeys(allowed)))
            raise ValueError(f"{name}{where}: expected leading axes {axes}, got shape {jnp.shape(leaf)}.")
