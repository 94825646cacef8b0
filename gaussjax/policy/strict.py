"""Strict policies: they validate the values of their arguments in addition to the shapes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.compiled import Compiled
from gaussjax.policy import checks
from gaussjax.policy.policy import Policy
from gaussjax.spaces.arrays import has_pixels

_ARGUMENTS = ("params", "observations", "carry", "noise", "taken_actions", "raw_actions")
_REPAIRS = {
    "params": "Go back to the last good parameters, and lower the learning rate.",
    "observations": "Find the cause in the environment, or in the code that changes its observations.",
    "carry": "Start again with policy.initial_carry.",
}


def strict(policy: Policy) -> Policy:
    """Returns a policy that raises for NaN, infinities, and values outside its spaces.

    Its functions validate observations, carry, noise and the actions to be scored; parameters may be infinite but
    not NaN. Observations of discrete spaces have to be elements of them, and images of dtype uint8 from 0 to 255. Each
    call copies its arguments from the device to the host. Outside `jit` a call raises ValueError. Under `jit` the
    program validates: JAX raises its own error with the same text when the program runs. This holds for the attribute
    `jit` too.

    Args:
        policy: A policy of any kind, of JAX or gaussjax.torch.

    Returns:
        A policy with the same results, which does not compare equal to `policy`.

    Raises:
        TypeError: `policy` is not a policy.

    Example:
        >>> import gaussjax, jax, jax.numpy as jnp
        >>> policy = strict(gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (1,))))
        >>> params = policy.init(jax.random.key(0))
        >>> policy.act(params, jax.random.key(1), jnp.array([0.0, jnp.nan, 0.0]))
        Traceback (most recent call last):
        ValueError: observations: expected finite numbers, got nan at [1] (1 of 3 entries). ...
    """
    checks.policy(policy)
    names = ("apply", "act", "evaluate", "entropy", "log_std")
    spaces_of = policy.spec.observation_space, policy.kind.support
    checked = {name: _Checked(getattr(policy, name), *spaces_of) for name in names}
    factory = policy.kind.factory if isinstance(policy.kind.factory, _Strict) else _Strict(policy.kind.factory)
    return policy._replace(**checked, kind=policy.kind._replace(factory=factory))


class _Strict(NamedTuple):
    """Factory for strict policies; a record, because records compare and pickle by value."""

    factory: Any

    def __call__(self, *arguments: Any, **options: Any) -> Policy:
        return strict(self.factory(*arguments, **options))


class _Checked:
    """Wrapper that validates the arguments of a policy's function, and passes the attributes of torch's through."""

    def __init__(self, function: Any, space: spaces.Space, support: spaces.Box | None):
        functools.update_wrapper(self, function)
        self._function, self._space, self._support = function, space, support
        if isinstance(function, Compiled):
            validating = functools.wraps(function)(lambda *arguments, **options: self(*arguments, **options))
            program = Compiled(validating, function.static_argnames)
            for name in ("jit", "lower", "trace", "eval_shape", "clear_cache"):
                setattr(self, name, getattr(program, name))

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if isinstance(self._function, Compiled):
            arguments, options = self._function.validated(arguments, options)
        passed = inspect.signature(self._function).bind_partial(*arguments, **options).arguments
        _check_values(passed, self._space, self._support)
        return self._function(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)


class Limits(NamedTuple):
    """Bounds of the entries of one argument, the error's text about them, and the repair."""

    low: np.ndarray
    high: np.ndarray
    expected: str
    repair: str


def _check_values(passed: Mapping[str, Any], space: spaces.Space, support: spaces.Box | None) -> None:
    """Raises ValueError for NaN, inf or values outside of the spaces; under `jit`, when the program runs."""
    try:
        values = list(_values(passed, space, support))
    except (TypeError, ValueError):
        return  # The policy itself raises the error for arguments that are not arrays of numbers.
    names, leaves = [value[:3] for value in values], [value[3] for value in values]
    check = functools.partial(_refuse, tuple(names))
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        jax.debug.callback(check, *leaves)
    else:
        check(*leaves)


def _values(
    passed: Mapping[str, Any], space: spaces.Space, support: spaces.Box | None
) -> Iterator[tuple[str, str, Limits | None, Any]]:
    """Yields the argument, the path, the limits and the array of each leaf to be checked."""
    for argument in _ARGUMENTS:
        value = passed.get(argument)
        if argument in ("noise", "taken_actions", "raw_actions") and isinstance(value, (list, tuple)):
            # These are never pytrees, and a list under `jit` holds tracers.
            value = jnp.asarray(value)
        for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
            leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
            if xp.is_floating(leaf) or (argument == "taken_actions" and xp.is_real(leaf)):
                limits = action_limits(support, leaf) if argument == "taken_actions" and support else None
                yield argument, jax.tree_util.keystr(path), limits, leaf
    for path, leaf, limits in element_limits(space, passed.get("observations"), ""):
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        if xp.is_real(leaf):
            yield "observations", path, limits, leaf


def action_limits(support: spaces.Box, actions: Any) -> Limits:
    """Returns the bounds of the actions, widened to their copies in float32 and in the dtype of the actions."""
    low, high = spaces.bounds(support)
    text = f"actions within the Box from {low.tolist()} to {high.tolist()}"
    own = jnp.dtype(str(actions.dtype).removeprefix("torch.")) if xp.is_floating(actions) else np.float32
    with np.errstate(over="ignore"):
        for dtype in (np.float32, own):
            low, high = np.minimum(low, low.astype(dtype)), np.maximum(high, high.astype(dtype))
    return Limits(low, high, text, "This policy never takes them: use its own actions, or clip the others.")


def element_limits(space: spaces.Space, value: Any, path: str) -> Iterator[tuple[str, Any, Limits]]:
    """Yields the path, the array and the limits of each discrete part of the observations, and of images of uint8."""
    match space:
        case spaces.Discrete(n, start):
            low, high = np.array(start), np.array(start + n - 1)
        case spaces.MultiDiscrete(nvec):
            low, high = np.zeros(len(nvec), int), np.array(nvec) - 1
        case spaces.Box() if has_pixels(space):
            low, high = np.array(0), np.array(255)
        case spaces.Dict() | spaces.Tuple():
            parts: Any = space.items if isinstance(space, spaces.Dict) else enumerate(space.items)
            for key, inner in parts:
                try:
                    part = value[key]
                except (TypeError, LookupError):
                    continue  # The policy itself raises the error for observations of another structure.
                yield from element_limits(inner, part, f"{path}[{key!r}]")
            return
        case _:
            return
    text = f"elements of {space}, from {low.tolist()} to {high.tolist()}"
    yield path, value, Limits(low, high, text, "Correct the environment, its space, or the code that changes them.")


def _refuse(names: tuple[tuple[str, str, Limits | None], ...], *leaves: Any) -> None:
    for (argument, path, limits), leaf in zip(names, leaves, strict=True):
        values = np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf).astype(np.float64)
        bad = np.isnan(values) if argument == "params" else ~np.isfinite(values)
        expected = "finite numbers"
        repair = _REPAIRS.get(argument, "Check the values that they were computed from.")
        if limits is not None and not bad.any() and values.shape[values.ndim - limits.low.ndim :] == limits.low.shape:
            bad = (values < limits.low) | (values > limits.high)
            expected, repair = limits.expected, limits.repair
        if bad.any():
            first = np.argwhere(bad)[0]
            raise ValueError(
                f"{argument}{path}: expected {expected}, got {values[tuple(first)]} at {first.tolist()} "
                f"({int(bad.sum())} of {bad.size} entries). {repair}"
            )
