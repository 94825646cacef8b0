"""Strict policies: they validate the values of their arguments in addition to the shapes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.policy.policy import Policy

_ARGUMENTS = ("params", "observations", "carry", "noise", "taken_actions", "raw_actions")
_REPAIRS = {
    "params": "Go back to the last good parameters, and lower the learning rate.",
    "observations": "Find the cause in the environment, or in the code that changes its observations.",
    "carry": "Start again with policy.initial_carry.",
}


def strict(policy: Policy) -> Policy:
    """Returns a policy that raises for NaN, infinities and actions outside its support.

    Its functions validate observations, carry, noise and the actions to be scored; parameters may be infinite but
    not NaN. Each call copies its arguments from the device to the host. Outside `jit` a call raises ValueError.
    Under `jit` the program validates: JAX raises its own error with the same text when the program runs.

    Args:
        policy: A policy of any kind, of JAX or gaussjax.torch.

    Returns:
        A policy with the same results, which does not compare equal to `policy`.

    Example:
        >>> import gaussjax, jax, jax.numpy as jnp
        >>> policy = strict(gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (1,))))
        >>> params = policy.init(jax.random.key(0))
        >>> policy.act(params, jax.random.key(1), jnp.array([0.0, jnp.nan, 0.0]))
        Traceback (most recent call last):
        ValueError: observations: expected finite numbers, got nan at [1] (1 of 3 entries). ...
    """
    names = ("apply", "act", "evaluate", "entropy", "log_std")
    checked = {name: _Checked(getattr(policy, name), policy.kind.support) for name in names}
    factory = policy.kind.factory if isinstance(policy.kind.factory, _Strict) else _Strict(policy.kind.factory)
    return policy._replace(**checked, kind=policy.kind._replace(factory=factory))


class _Strict(NamedTuple):
    """Factory for strict policies; a record, because records compare and pickle by value."""

    factory: Any

    def __call__(self, *arguments: Any, **options: Any) -> Policy:
        return strict(self.factory(*arguments, **options))


class _Checked:
    """Wrapper that validates the arguments of a policy's function and passes its attributes through."""

    def __init__(self, function: Any, support: spaces.Box | None):
        functools.update_wrapper(self, function)
        self._function, self._support = function, support

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        passed = inspect.signature(self._function).bind_partial(*arguments, **options).arguments
        _check_values(passed, self._support)
        return self._function(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)


def _check_values(passed: Mapping[str, Any], support: spaces.Box | None) -> None:
    """Raises ValueError for NaN, inf or actions outside the support; under `jit`, when the program runs."""
    names, leaves = [], []
    for argument in _ARGUMENTS:
        value = passed.get(argument)
        if argument in ("noise", "taken_actions", "raw_actions") and isinstance(value, (list, tuple)):
            # These are never pytrees, and a list under `jit` holds tracers.
            value = jnp.asarray(value)
        for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
            leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
            if xp.is_floating(leaf) or argument == "taken_actions":
                names.append((argument, jax.tree_util.keystr(path)))
                leaves.append(leaf)
    check = functools.partial(_refuse, tuple(names), support)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        jax.debug.callback(check, *leaves)
    else:
        check(*leaves)


def _refuse(names: tuple[tuple[str, str], ...], support: spaces.Box | None, *leaves: Any) -> None:
    for (argument, path), leaf in zip(names, leaves, strict=True):
        values = np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf).astype(np.float64)
        bad = np.isnan(values) if argument == "params" else ~np.isfinite(values)
        expected = "finite numbers"
        repair = _REPAIRS.get(argument, "Check the values that they were computed from.")
        if argument == "taken_actions" and support is not None and not bad.any():
            # The bounds are rounded like the actions: a float32 action on a bound may lie just outside the Box.
            dtype = np.float64 if str(leaf.dtype).endswith("float64") else np.float32
            low, high = (side.astype(dtype).astype(np.float64) for side in spaces.bounds(support))
            if values.shape[-1:] == low.shape:
                bad = (values < low) | (values > high)
                expected = f"actions within the Box from {low.tolist()} to {high.tolist()}"
                repair = "This policy never takes them: use its own actions, or clip the others."
        if bad.any():
            first = np.argwhere(bad)[0]
            raise ValueError(
                f"{argument}{path}: expected {expected}, got {values[tuple(first)]} at {first.tolist()} "
                f"({int(bad.sum())} of {bad.size} entries). {repair}"
            )
