"""The initial standard deviation of gSDE, which depends on the number and on the size of the features."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import networks, spaces
from gaussjax.policy import Policy, checks

# A log_std of the features with which the log_std of the actions is within the limits of all policies.
_PROBE = -2.0


def scaled(policy: Policy) -> Policy:
    """The policy with another `initial_log_std`: its actions begin with the one that its features would begin with."""
    network, options = policy.spec.network, dict(policy.spec.options)
    start = getattr(network, "actor", network).initial_log_std
    checks.initial_log_std(networks.MLP(initial_log_std=start), options["min_log_std"], options["max_log_std"])
    return with_actor(policy, initial_log_std=start - gain(policy))


def with_actor(policy: Policy, **fields: Any) -> Policy:
    """The policy with other values of fields of its network, or of the actor in an `ActorCritic`."""
    network, spec = policy.spec.network, policy.spec
    is_pair = isinstance(network, networks.ActorCritic)
    network = network.clone(actor=network.actor.clone(**fields)) if is_pair else network.clone(**fields)
    factory: Any = policy.kind.factory
    return factory(network, spec.observation_space, spec.action_space, **dict(spec.options))


def gain(policy: Policy, params: Any = None) -> float:
    """Mean of the log_std of the actions for standard normal observations, if the log_std of the features is 0.

    Args:
        policy: A policy with `std="gsde"`.
        params: Parameters with the features, by default initial ones.

    Returns:
        The mean in nats. It is the logarithm of the size of the feature vector.
    """
    draws, shape = np.random.default_rng(0), (256,)
    probe = with_actor(policy, initial_log_std=_PROBE, log_std_bounds=None, std_activation=None)

    def draw(leaf: Any) -> Any:
        if leaf.dtype == np.uint8:
            return draws.integers(0, 256, leaf.shape, np.uint8)
        return draws.standard_normal(leaf.shape, np.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    with jax.ensure_compile_time_eval():
        fresh, carry = probe.init(jax.random.key(0)), probe.initial_carry(shape)
        if params is not None:
            fresh = jax.tree_util.tree_map_with_path(
                lambda path, new, old: new if is_log_std(path) else old, fresh, params
            )
        observations = jax.tree.map(draw, spaces.zeros(policy.spec.observation_space, shape))
        log_std = probe.log_std(fresh, observations, **({"carry": carry} if jax.tree.leaves(carry) else {}))
        # Rounded, so that last digits, which differ between machines, make no other policy.
        return round(float(jnp.mean(log_std)) - _PROBE, 2)


def is_log_std(path: Any) -> bool:
    """True for the path of the trained log_std in the parameters of a policy."""
    return {"head", "log_std"} <= {getattr(entry, "key", None) for entry in path}
