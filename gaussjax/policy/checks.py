"""Validation by shape, dtype and structure: arguments of a policy, results of its network, options of its factory.

In JAX the checks of a call run while it is traced, and cost nothing afterwards; in torch they run at each call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.errors
import jax
import numpy as np

from gaussjax.core.arrays import as_array, xp
from gaussjax.core.compiled import flag, not_real, number
from gaussjax.core.text import quoted
from gaussjax.core.trees import check_shapes
from gaussjax.networks.heads import HIGHEST, LOWEST
from gaussjax.networks.layers import ACTIVATIONS
from gaussjax.random import keys

LOG_STD_BOUNDS = (-20.0, 2.0)
IMPURE = (flax.errors.ModifyScopeVariableError, flax.errors.InvalidRngError)
KEY_IS_SECOND = " The key comes second in act(params, key, observations)."


# Raises TypeError unless its argument is one PRNG key, typed or legacy.
key = functools.partial(keys.check, note=KEY_IS_SECOND)


def policy(value: Any) -> None:
    """Raises TypeError unless the value is a policy."""
    if not hasattr(value, "spec") or not hasattr(value, "act"):
        raise TypeError(
            f"policy: expected a policy such as gaussjax.gaussian makes, got {type(value).__name__}. The policy comes "
            f"before its parameters."
        )


def exploration(value: Any) -> None:
    """Raises TypeError unless the value is a source of noise or None."""
    if value is not None and not hasattr(value, "step_rows"):
        raise TypeError(
            f"exploration: expected a gaussjax.exploration.Exploration, got {type(value).__name__}. Make one with "
            f"gaussjax.exploration.held."
        )


def batch_shape(value: Any) -> tuple[int, ...]:
    """Returns a batch shape; raises TypeError unless it is a tuple of sizes, and ValueError for a negative size."""
    # An exported program has symbols as sizes.
    wrong = (bool, float, str, tuple, list, type(None))
    if not isinstance(value, (tuple, list)) or any(isinstance(n, wrong) for n in value):
        dtype = getattr(value, "dtype", None)
        found = quoted(value) if dtype is None else f"an array of type {dtype}"
        raise TypeError(f"batch_shape: expected a tuple of sizes, got {found}. For one axis of length 4 pass (4,).")
    if any(isinstance(n, (int, np.integer)) and n < 0 for n in value):
        raise ValueError(f"batch_shape: expected sizes of 0 or more, got {quoted(tuple(value))}.")
    return tuple(value)


def outputs(value: Any) -> None:
    """Raises ValueError unless the value holds the outputs that a distribution is made from."""
    if not isinstance(value, dict) or not {"mean_actions", "log_std"} <= value.keys():
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise ValueError(
            f"outputs: expected a dict with mean_actions and log_std, got {found}. Pass the outputs of act, apply or "
            f"evaluate."
        )


def params(value: Any, expected: Callable[[], Any]) -> None:
    """Raises ValueError if structure or shapes differ from `expected()`, and TypeError unless leaves are floating."""
    wanted = expected()
    if jax.tree.map(np.shape, value) != jax.tree.map(np.shape, wanted):
        check_shapes(value, wanted, "params")
    leaves = jax.tree_util.tree_flatten_with_path(value)[0]
    for (path, leaf), other in zip(leaves, jax.tree.leaves(wanted), strict=True):
        if xp.is_floating(other) and hasattr(leaf, "dtype") and not xp.is_floating(leaf):
            where = f"params{jax.tree_util.keystr(path)}"
            raise TypeError(f"{where}: expected floating numbers, got {_dtype(leaf)}. Convert it to float32.")


def same_shape(array: Any, expected: tuple[int, ...], name: str) -> jax.Array:
    """Returns an array in a floating dtype; raises unless it holds real numbers and has the expected shape."""
    array = as_array(array, name)
    if not xp.is_real(array):
        raise not_real(name, array.dtype, name)
    if tuple(array.shape) != tuple(expected):
        raise ValueError(
            f"{name}: expected shape {tuple(expected)}, got {tuple(array.shape)}. Nothing is broadcast; for one row "
            f"for the whole batch use broadcast_to."
        )
    array = xp.asarray(array)
    # Bounds are cast to the dtype of the actions, so integer actions would truncate them.
    return array if xp.is_floating(array) else xp.to_float32(array)


def noise(array: Any, expected: tuple[int, ...], weights: Any, deterministic: bool) -> Any:
    """Returns the noise in a floating dtype; raises for another shape and for a deterministic call.

    With the weights of gSDE the noise may be a matrix for each action, of the shape of the weights.
    """
    if deterministic:
        raise ValueError(
            "noise: expected None for a deterministic action, got an array. Leave noise out or set deterministic=False."
        )
    array = as_array(array, "noise")
    if array.ndim != len(expected) + 1:
        return same_shape(array, expected, "noise")
    if weights is None:
        raise ValueError(
            f"noise: expected shape {tuple(expected)}, got {tuple(array.shape)}. Matrices, one for each action, need a "
            f"network with std='gsde'."
        )
    return same_shape(array, weights.shape, "noise")


def one_of(taken_actions: Any, raw_actions: Any) -> None:
    """Raises TypeError unless exactly one of `taken_actions` and `raw_actions` is passed."""
    if (taken_actions is None) == (raw_actions is None):
        found = "none" if raw_actions is None else "both"
        raise TypeError(
            f"evaluate: expected exactly one of raw_actions and taken_actions, got {found}. Pass "
            f"raw_actions=outputs['raw_actions'] of act if you have it, else taken_actions."
        )


def taken_actions_of_unclipped(*_: Any) -> Any:
    """Raises ValueError, always: serves as `log_prob` of a kind of policy that can score only raw actions."""
    raise ValueError(
        "taken_actions: expected None with clipped_log_prob='unclipped', which scores the sample before the clip, got "
        "an array. Pass raw_actions=outputs['raw_actions'] of act to evaluate."
    )


def carry_and_resets(
    carry: Any, resets: Any, expected: Callable[[tuple[int, ...]], Any], batch_shape: tuple[int, ...]
) -> Any:
    """Validates carry and resets for observations of a batch shape; returns the resets as an array or None.

    A carry of the same batch shape means one step; a carry without the first axis (time) means a sequence.
    `expected(batch_shape)` returns a carry, or the shapes of one.
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
        # The next carry gets the dtype of the passed carry, so an integer carry would truncate it.
        if not xp.is_floating(leaf):
            raise TypeError(f"carry: expected floating numbers, got {_dtype(leaf)}. {repair}")
    if resets is None:
        return None
    resets = as_array(resets, "resets")
    if _dtype(resets) != "bool":
        raise TypeError(
            f"resets: expected bool, got {_dtype(resets)}. Make them with gaussjax.networks.episode_starts(terminated, "
            f"truncated) for a sequence, and with episode_ends of the previous step for one step."
        )
    if tuple(xp.shape(resets)) != batch_shape:
        raise ValueError(
            f"resets: expected shape {batch_shape}, one for each observation, got {tuple(xp.shape(resets))}. Nothing "
            f"is broadcast."
        )
    return resets


def no_carry(carry: Any, resets: Any) -> None:
    """Raises ValueError if a network that is not recurrent gets a carry or resets."""
    if jax.tree.leaves(carry) or resets is not None:
        name, passed = ("carry", carry) if resets is None else ("resets", resets)
        shapes = [tuple(xp.shape(leaf)) for leaf in jax.tree.leaves(passed)]
        raise ValueError(
            f"{name}: expected None, got arrays of shapes {shapes}: this network is not recurrent. Leave {name} out."
        )


def network_outputs(returned: Any, batch_shape: tuple[int, ...], num_actions: int) -> tuple[Any, Any, dict, Any]:
    """Validates the result of a network.

    Returns the mean and log_std in at least float32, the other outputs, and the weights of gSDE or None.
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
    outputs = dict(outputs)
    weights = outputs.pop("gsde", None)
    if weights is not None:
        found = tuple(xp.shape(weights))
        if found[:-2] + found[-1:] != expected:
            raise ValueError(
                f"network: expected outputs['gsde'] of shape {(*batch_shape, 'features', num_actions)}, got {found}. "
                f"Return the weights of gaussjax.networks.gsde."
            )
        weights = xp.astype(weights, mean.dtype)
    return mean, log_std, outputs, weights


def impure(error: Exception) -> TypeError:
    """Converts an `IMPURE` error of Flax, about variables that change or numbers that are drawn, to one of ours."""
    found = f"Flax says: {str(error).splitlines()[0]}"
    if isinstance(error, flax.errors.InvalidRngError):
        return TypeError(
            f"network: expected a module that draws no numbers, as nn.Dropout does, got one that needs a key. Set its "
            f"deterministic=True. {found}"
        )
    return TypeError(
        f"network: expected a module that changes no variables, got one that does, as nn.BatchNorm does. "
        f"Use nn.LayerNorm, or BatchNorm with use_running_average=True. {found}"
    )


def network(value: Any) -> Any:
    """Returns the network; raises TypeError for a class and for an object without `init` and `apply`."""
    if isinstance(value, type):
        raise TypeError(
            f"network: expected a module, got the class {value.__name__}. Make an instance: {value.__name__}(…)."
        )
    if not (hasattr(value, "init") and hasattr(value, "apply")):
        raise TypeError(
            f"network: expected a flax.linen module, got {type(value).__name__}. gaussjax.networks.from_spec converts "
            f"a description, gaussjax.networks.from_nnx a flax.nnx module; use gaussjax.torch for a torch.nn.Module."
        )
    return value


def log_std_options(clip_log_std: bool, min_log_std: float, max_log_std: float) -> dict[str, Any]:
    """Validates the options that clip log_std and returns them as a dict."""
    clip_log_std = flag(clip_log_std, "clip_log_std")
    min_log_std, max_log_std = number(min_log_std, "min_log_std"), number(max_log_std, "max_log_std")
    if not min_log_std <= max_log_std:
        raise ValueError(
            f"min_log_std: expected a value <= max_log_std, got min_log_std={min_log_std} and "
            f"max_log_std={max_log_std}."
        )
    if min_log_std > HIGHEST or max_log_std < LOWEST:
        raise ValueError(
            f"min_log_std: expected at most {HIGHEST:g}, and max_log_std at least {LOWEST:g}, got {min_log_std:g} and "
            f"{max_log_std:g}. float32 holds no standard deviation beyond these logarithms."
        )
    if not clip_log_std and (min_log_std, max_log_std) != LOG_STD_BOUNDS:
        raise ValueError(
            f"clip_log_std: min_log_std={min_log_std} and max_log_std={max_log_std} apply only where log_std is "
            f"clipped, got clip_log_std=False. Set clip_log_std=True or leave the bounds out."
        )
    return {"clip_log_std": clip_log_std, "min_log_std": min_log_std, "max_log_std": max_log_std}


def initial_log_std(network: Any, min_log_std: float = -math.inf, max_log_std: float = math.inf) -> None:
    """Raises ValueError if a network starts with a log_std that the policy clips, which then has no gradient."""
    network = getattr(network, "actor", network)
    start = getattr(network, "initial_log_std", None)
    if not isinstance(start, (int, float, np.number, np.ndarray, jax.Array)):
        return
    log_std, after = start, ""
    if getattr(network, "std_activation", None) is not None and hasattr(network, "gaussian_head"):
        # The field is then an argument of this activation, whose result is the standard deviation.
        with jax.ensure_compile_time_eval():
            log_std = np.asarray(network.gaussian_head(parent=None).activated(np.float32(start), ACTIVATIONS))
        after = f", which is {np.array2string(log_std, precision=4)} after std_activation"
    # With gSDE each feature starts with this number. The action, whose variance is a sum over them, starts with more.
    lowest = -math.inf if getattr(network, "std", None) == "gsde" else min_log_std
    if not all(lowest <= each <= max_log_std and math.isfinite(each) for each in np.ravel(log_std)):
        raise ValueError(
            f"initial_log_std: expected a value from min_log_std={min_log_std} to max_log_std={max_log_std}, got "
            f"{start}{after}: a clipped log_std has no gradient and would never change. Change one of them."
        )


def _dtype(array: Any) -> str:
    """Returns the name of a dtype, such as "float32", for an array of JAX or torch."""
    return str(array.dtype).removeprefix("torch.")
