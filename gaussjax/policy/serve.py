"""Policies bound to parameters and observation statistics, for robots and servers."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array

from gaussjax import networks, normalize
from gaussjax.core.compiled import Compiled, checked_tree
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.policy import checks
from gaussjax.policy.policy import ActOutput, Params, Policy


class Served(Protocol):
    """A served policy: `(observations, key=None) -> actions`."""

    def __call__(self, observations: Any, key: Any = None) -> Array:
        """Actions `(…, act)` of observations `(…, obs)`; deterministic without a key, which is consumed."""
        ...


class BoundAct(Protocol):
    """Function `policy.act` with bound parameters and observation statistics."""

    def __call__(
        self, observations: Any, key: Any = None, *, carry: Any = None, resets: Any = None, noise: Any = None
    ) -> ActOutput:
        """Actions `(…, act)`, log-densities and outputs; deterministic without noise and key, which is consumed.

        `carry` is the state of a recurrent network, and `resets` is True where an episode starts, `(…,)`.
        """
        ...


def serve(policy: Policy, params: Params, normalizer: normalize.Normalizer = None) -> Served:
    """Compiles a function from observations to actions, for a robot or a server.

    The parameters are constants of the compiled program, which computes only the actions. The program leaves out a
    critic and the observations that only the critic needs.

    Args:
        policy: A policy of JAX or gaussjax.torch whose network is not recurrent.
        params: Parameters of the policy.
        normalizer: Observation statistics of the training, if any. Later changes to them or to params have no effect.
            A network that scales its pixels gets them as they are.

    Returns:
        `(observations, key=None) -> actions`, `(…, act)`. The key is consumed; without one the actions are
        deterministic.

    Raises:
        ValueError: The network is recurrent, so that its carry has to be kept between calls.
        TypeError: `policy` is not a policy, `normalizer` is no `Statistics`, or a leaf of `params` is no array.

    Note:
        On CPU, JAX runs each call in another thread, which takes longer than a small policy itself. A process that
        serves single observations can disable these threads before its first JAX operation, for the whole process:
        `jax.config.update("jax_cpu_enable_async_dispatch", False)`.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> act = serve(policy, policy.init(jax.random.key(0)))
        >>> act(np.zeros((5, 3), np.float32)).shape, act(np.zeros(3, np.float32), jax.random.key(1)).shape
        ((5, 2), (2,))
    """
    checks.policy(policy)
    if jax.tree.leaves(policy.initial_carry()):
        raise ValueError(
            "policy: expected a network that is not recurrent, got one whose carry has to be kept between calls. Call "
            "policy.act with its carry, or gaussjax.load(file).act."
        )
    return bound_act(policy, params, normalizer, only_actions=True)


def bound_act(policy: Policy, params: Params, normalizer: Any, only_actions: bool = False) -> Any:
    """Binds `policy.act` to parameters and observation statistics, and leaves out a critic."""
    normalize.check(normalizer, "normalizer")
    network = policy.spec.network
    normalizer = networks.actor_observations(network)(normalizer)
    if in_jax := isinstance(policy.init, Compiled):
        # A copy of an array loses its mask, so the copy would pass the checks of the call.
        params = checked_tree(params, "params")
    policy, params = networks.actor(policy, params)
    normalizer = statistics_for(policy, normalizer)
    # Later changes do not reach a copy. NumPy arrays become constants of the program; JAX arrays would not.
    copied = np.array if in_jax else lambda leaf: leaf.detach().clone() if hasattr(leaf, "detach") else leaf
    params, normalizer = jax.tree.map(copied, (params, normalizer))

    # Pickle can write a partial call of a module's function, but no function that is defined here.
    act = functools.partial(_act, network, policy, params, normalizer, only_actions)
    return Compiled(act) if in_jax else act


def _act(
    network: Any,
    policy: Policy,
    params: Params,
    normalizer: Any,
    only_actions: bool,
    observations: Any,
    key: Any = None,
    *,
    carry: Any = None,
    resets: Any = None,
    noise: Any = None,
) -> Any:
    observations = networks.actor_observations(network)(observations)
    if normalizer is not None:
        observations = normalize.apply(normalizer, observations, name="observations")
    if isinstance(carry, dict) and set(carry) <= {"actor", "critic"}:
        carry = carry.get("actor")
    options = {"deterministic": key is None and noise is None, "carry": carry, "resets": resets, "noise": noise}
    output = policy.act(params, key, observations, **options)
    return output.actions if only_actions else output
