"""Validation of a policy's arguments, by shape, dtype and structure alone.

The checks run while a call is traced. They cost nothing in a compiled program, and their errors read the
same with and without `jit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.arrays import xp
from gaussjax.core.trees import check_shapes


def key(value: Any) -> None:
    """Raises for anything but one PRNG key, typed or legacy.

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


def params(value: Any, expected: Callable[[], Any]) -> None:
    """Raises for parameters whose leaves are not those that `expected` returns."""
    wanted = expected()
    if jax.tree.map(np.shape, value) != jax.tree.map(np.shape, wanted):
        check_shapes(value, wanted, "params")


def same_shape(array: Any, expected: tuple[int, ...], name: str) -> jax.Array:
    """The array as floating numbers, if it has exactly the expected shape. Nothing is broadcast.

    Raises:
        TypeError: The array does not hold real numbers.
        ValueError: The shape differs, even if it would broadcast.
    """
    if array is None:
        raise TypeError(f"{name}: expected an array of shape {tuple(expected)}, got None. There is no default for it.")
    array = array if hasattr(array, "dtype") else jnp.asarray(array)
    if not xp.is_real(array):
        raise TypeError(
            f"{name}: expected real numbers, got {array.dtype}. Convert them first, with "
            f"np.asarray({name}, np.float32)."
        )
    if tuple(array.shape) != tuple(expected):
        raise ValueError(
            f"{name}: expected shape {tuple(expected)}, got {tuple(array.shape)}. Nothing is broadcast; for one row "
            f"for the whole batch use broadcast_to."
        )
    array = xp.asarray(array)
    # Integers would truncate the bounds and the noise that they meet.
    return array if xp.is_floating(array) else xp.to_float32(array)


def noise(array: Any, expected: tuple[int, ...], deterministic: bool) -> Any:
    """The noise, if it has the shape of the actions and the call is not deterministic."""
    if deterministic:
        raise ValueError(
            "noise: expected None for a deterministic action, got an array. Leave noise out, or set "
            "deterministic=False."
        )
    return same_shape(array, expected, "noise")


def one_of(taken_actions: Any, raw_actions: Any) -> None:
    """Raises unless exactly one of the two is given."""
    if (taken_actions is None) == (raw_actions is None):
        came = "none" if raw_actions is None else "both"
        raise TypeError(
            f"evaluate: expected exactly one of raw_actions and taken_actions, got {came}. Pass "
            f"raw_actions=outputs['raw_actions'] of act where it is at hand, else taken_actions."
        )


def taken_actions_of_unclipped(*_: Any) -> Any:
    """Raises: a policy with clipped_log_prob="unclipped" cannot score actions whose sample is unknown."""
    raise ValueError(
        "taken_actions: expected None with clipped_log_prob='unclipped', which scores the sample before the clip, got "
        "an array. Pass raw_actions=outputs['raw_actions'] of act to evaluate."
    )


def carry_and_resets(
    carry: Any, resets: Any, expected: Callable[[tuple[int, ...]], Any], batch_shape: tuple[int, ...]
) -> Any:
    """The resets as an array or None, if carry and resets fit observations of that batch shape.

    The carry decides the meaning of the observations' first axis. A carry of the same batch shape makes them one
    step; a carry without their first axis makes them a sequence.

    Args:
        carry: Recurrent state.
        resets: Flags of episode starts, or None.
        expected: `(batch_shape) -> carry`, or only its shapes.
        batch_shape: Leading axes of the observations.

    Raises:
        TypeError: The carry does not hold floating numbers, or the resets are not bool.
        ValueError: The carry is missing, or a shape differs.
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
        # The new carry has the dtype of the old one, and integers would lose every fraction.
        if not xp.is_floating(leaf):
            raise TypeError(f"carry: expected floating numbers, got {_dtype(leaf)}. {repair}")
    if resets is None:
        return None
    # Under jit a list holds tracers, which NumPy cannot read.
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


def no_carry(carry: Any, resets: Any) -> None:
    """Raises for a carry or resets of a network that is not recurrent."""
    if (carry is not None and jax.tree.leaves(carry)) or resets is not None:
        name, came = ("carry", carry) if resets is None else ("resets", resets)
        shapes = [tuple(xp.shape(leaf)) for leaf in jax.tree.leaves(came)]
        raise ValueError(
            f"{name}: expected None, got arrays of shapes {shapes}: this network is not recurrent. Leave the argument "
            f"out."
        )


def network(value: Any) -> Any:
    """The network, if it has `init` and `apply`.

    Raises:
        TypeError: It is a class, or has no such methods.
    """
    if isinstance(value, type):
        raise TypeError(
            f"network: expected a module, got the class {value.__name__}. Make an instance: {value.__name__}(…)."
        )
    if not (hasattr(value, "init") and hasattr(value, "apply")):
        raise TypeError(
            f"network: expected a flax.linen module, got {type(value).__name__}. gaussjax.networks.from_spec converts "
            f"a description, gaussjax.networks.from_nnx a flax.nnx module; a torch.nn.Module belongs to gaussjax.torch."
        )
    return value


def mean_and_log_std(returned: Any, batch_shape: tuple[int, ...], num_actions: int) -> tuple[Any, Any, dict]:
    """Mean, log_std and outputs that a network returned, the first two in float32 or float64.

    Raises:
        TypeError: The network did not return (mean, log_std, dict).
        ValueError: A shape differs from the actions' shape, or an output has a name of the policy's own.
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
    mean, log_std = xp.at_least_float32(mean, log_std)
    return mean, log_std, outputs


def _dtype(array: Any) -> str:
    """The name of an array's dtype, the same for JAX and torch."""
    return str(array.dtype).removeprefix("torch.")
