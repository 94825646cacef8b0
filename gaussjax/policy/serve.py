"""A policy bound to its parameters and its normaliser, for robots and servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array

from gaussjax import networks, normalize
from gaussjax.core.compiled import Compiled
from gaussjax.policy.policy import ActOutput, Params, Policy


class Served(Protocol):
    """A served policy: `(observations, key=None) -> actions`."""

    def __call__(self, observations: Any, key: Any = None) -> Array: ...


class BoundAct(Protocol):
    """`act` with the parameters and the normaliser filled in, deterministic without a key."""

    def __call__(self, observations: Any, key: Any = None, *, carry: Any = None, resets: Any = None) -> ActOutput: ...


def serve(policy: Policy, params: Params, normalizer: normalize.Statistics | None = None) -> Served:
    """A compiled function from observations to actions, for a robot or a server.

    The parameters are constants of the program, and nothing but the actions is computed. A critic is dropped,
    and with it the observations that only the critic needs.

    Args:
        policy: A policy whose network is not recurrent, of gaussjax.torch too.
        params: Its parameters. Later changes to them have no effect.
        normalizer: Observation statistics of the training, if it had any.

    Returns:
        `(observations, key=None) -> actions`, `(…, act)`. Without a key the actions are deterministic; a key is
        consumed.

    Raises:
        ValueError: The network is recurrent, so that its carry has to be kept between calls.

    Note:
        On CPU JAX hands each call to another thread, which costs a small policy more than acting does. A process
        that serves single observations can switch that off before its first JAX operation, with
        `jax.config.update("jax_cpu_enable_async_dispatch", False)`. The setting holds for the whole process.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> act = serve(policy, policy.init(jax.random.key(0)))
        >>> act(np.zeros((5, 3), np.float32)).shape, act(np.zeros(3, np.float32), jax.random.key(1)).shape
        ((5, 2), (2,))
    """
    if jax.tree.leaves(policy.initial_carry()):
        raise ValueError(
            "policy: expected a network that is not recurrent, got one whose carry has to be kept between calls. Call "
            "policy.act with its carry, or gaussjax.load(file).act."
        )
    return _bound(policy, params, normalizer, lambda output: output.actions)


def bound_act(policy: Policy, params: Params, normalizer: normalize.Statistics | None) -> BoundAct:
    """`policy.act` of the actor alone, compiled with the parameters and the normaliser."""
    return _bound(policy, params, normalizer, lambda output: output)


def _bound(policy: Policy, params: Params, normalizer: normalize.Statistics | None, part: Callable[..., Any]) -> Any:
    select = networks.actor_observations(policy.spec.network)
    policy, params = networks.actor(policy, params)
    in_jax = isinstance(policy.init, Compiled)
    if in_jax:
        # NumPy arrays become constants of the program; JAX's arrays would be passed at each call.
        params = jax.tree.map(np.asarray, params)

    def act(observations: Any, key: Any = None, *, carry: Any = None, resets: Any = None) -> ActOutput:
        observations = select(observations)
        if normalizer is not None:
            observations = normalize.apply(normalizer, observations)
        if isinstance(carry, dict) and set(carry) <= {"actor", "critic"}:
            carry = carry.get("actor")
        return part(policy.act(params, key, observations, deterministic=key is None, carry=carry, resets=resets))

    return Compiled(act) if in_jax else act
