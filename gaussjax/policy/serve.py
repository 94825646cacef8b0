"""A policy bound to its parameters, for serving: observations in, actions out, nothing else computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from gaussjax.core import compiled
from gaussjax.policy.policy import Params, Policy

if TYPE_CHECKING:
    from jaxtyping import Array


def serve(policy: Policy, params: Params, *, deterministic: bool = False) -> Callable[..., Array]:
    """The actions of `policy.act` alone, compiled with the parameters in the program.

    The numbers are those of `policy.act` up to rounding; no log-density and no other output is
    computed, and the parameters are not handed over at each call.

    Args:
        policy: A feed-forward policy.
        params: Its parameters; later changes to them are not seen.
        deterministic: Whether to take the deterministic action.

    Returns:
        `(key, observations) -> actions`, `(…, act)`. The key is consumed; when `deterministic` it
        may be None.

    Raises:
        ValueError: The policy has a memory.

    Note:
        On CPU JAX hands each call to another thread, which costs a small policy more than acting
        does. A process that serves single observations can do without: before its first JAX
        operation, `jax.config.update("jax_cpu_enable_async_dispatch", False)`. It holds for the
        whole process, so no library should set it for you.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> act = serve(policy, policy.init(jax.random.key(0)))
        >>> act(jax.random.key(1), np.zeros((5, 3), np.float32)).shape
        (5, 2)
    """
    if jax.tree.leaves(policy.initial_carry()):
        raise ValueError(
            "policy: expected one without memory, got one whose carry has to be kept between calls. "
            "Call policy.act with its carry."
        )
    # NumPy's arrays become constants of the program; JAX's would be handed over all the same.
    constants = jax.tree.map(np.asarray, params)

    @compiled.compiled
    def act(key: Any, observations: Any) -> Array:
        return policy.act(constants, key, observations, deterministic=deterministic).actions

    return act
