"""Strict mode: the values that a policy is given are looked at, not only their shapes."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gaussjax import spaces

ON: contextvars.ContextVar[bool] = contextvars.ContextVar("strict", default=False)

_REPAIRS = {
    "params": "Go back to the last good ones, and lower the learning rate.",
    "observations": "Find where the environment, or what is done to its observations, makes them.",
    "carry": "Start again with policy.initial_carry.",
}


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """Within the block the policies of JAX refuse NaN, infinities and actions outside their support.

    Looked at are the observations, carry, noise and the actions to be scored, and the parameters for
    NaN alone. Those of `gaussjax.torch` look at nothing. Off, as it is elsewhere, this costs nothing;
    on, each call reads its arguments back from the device. Bare calls raise ValueError. A function
    that is compiled within the block keeps its checks, and one that was compiled before has none; when
    it runs, JAX raises its own error around the same words, at the latest where the block ends.

    Example:
        >>> import gaussjax, jax, jax.numpy as jnp
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> params = policy.init(jax.random.key(0))
        >>> with strict():
        ...     policy.act(params, jax.random.key(1), jnp.array([0.0, jnp.nan, 0.0]))
        Traceback (most recent call last):
        ValueError: observations: expected finite numbers, got nan at [1] (1 of 3 entries). ...
    """
    before = ON.set(True)
    try:
        yield
        jax.effects_barrier()
    finally:
        ON.reset(before)


def support(kind: str, options: Mapping[str, Any], box: spaces.Box) -> spaces.Box | None:
    """The Box that all actions of a policy lie in, or None where any real vector has a density."""
    clipped = options.get("clip_actions") and options.get("clipped_log_prob") != "unclipped"
    return box if kind == "squashed_gaussian" or clipped else None


def look(given: Mapping[str, Any], box: spaces.Box | None) -> None:
    """Refuses values among the arguments of a policy's function; under `jit` when the program runs.

    Raises:
        ValueError: The argument, the first bad entry and how many there are.
    """
    names, leaves = [], []
    for argument in ("params", "observations", "carry", "noise", "taken_actions", "raw_actions"):
        for path, leaf in jax.tree_util.tree_flatten_with_path(given.get(argument))[0]:
            if jnp.issubdtype(getattr(leaf, "dtype", None) or np.asarray(leaf).dtype, jnp.floating):
                names.append((argument, jax.tree_util.keystr(path)))
                leaves.append(leaf)
    check = functools.partial(_refuse, tuple(names), box)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        jax.debug.callback(check, *leaves)
    else:
        check(*leaves)


def _refuse(names: tuple[tuple[str, str], ...], box: spaces.Box | None, *leaves: Any) -> None:
    for (argument, path), leaf in zip(names, leaves, strict=True):
        values = np.asarray(leaf).astype(np.float64)
        bad = np.isnan(values) if argument == "params" else ~np.isfinite(values)
        expected = "finite numbers"
        repair = _REPAIRS.get(argument, "Check what they were computed from.")
        if argument == "taken_actions" and box is not None and not bad.any():
            # A float32 action may be the float32 nearest to a bound, which can lie beyond it.
            low, high = (side.astype(np.asarray(leaf).dtype).astype(np.float64) for side in spaces.bounds(box))
            if values.shape[-1:] == low.shape:
                bad = (values < low) | (values > high)
                expected = f"actions within the Box from {low.tolist()} to {high.tolist()}"
                repair = "This policy never takes them: use its own actions, or clip those of others."
        if bad.any():
            first = np.argwhere(bad)[0]
            raise ValueError(
                f"{argument}{path}: expected {expected}, got {values[tuple(first)]} at {first.tolist()} "
                f"({int(bad.sum())} of {bad.size} entries). {repair}"
            )
