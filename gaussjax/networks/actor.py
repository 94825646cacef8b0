"""The acting half of a policy: the actor without its critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gaussjax.networks.actor_critic import ActorCritic, part_of
from gaussjax.networks.graph import Graph


def actor(policy: Any, params: Any) -> tuple[Any, Any]:
    """A policy and its parameters without the critic, and without the observations that only the critic needs.

    Args:
        policy: A policy of any kind.
        params: Its parameters.

    Returns:
        A policy of the same kind whose network is the actor alone, and its parameters. A network without a
        critic leaves both unchanged.

    Example:
        >>> import gaussjax, jax
        >>> network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,)))
        >>> policy = gaussjax.gaussian(network, 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> alone, params = actor(policy, policy.init(jax.random.key(0)))
        >>> sorted(params["params"])
        ['head', 'layers']
    """
    spec, network = policy.spec, policy.spec.network
    if isinstance(network, ActorCritic):
        alone, space = network.actor, part_of(spec.observation_space, network.actor_keys)
        if "params" in params:
            params = {"params": params["params"]["actor"]}
        else:
            params = {name.removeprefix("actor."): x for name, x in params.items() if name.startswith("actor.")}
    elif isinstance(network, Graph) and network.value is not None:
        alone, space = network.clone(value=None), spec.observation_space
        if "params" in params:
            params = {"params": {name: x for name, x in params["params"].items() if name != "value_layer"}}
        else:
            params = {name: x for name, x in params.items() if not name.startswith("value_layer.")}
    else:
        return policy, params
    return policy.kind.factory(alone, space, spec.action_space, **dict(spec.options)), params


def actor_observations(network: Any) -> Callable[[Any], Any]:
    """A function that selects the actor's entries of a Dict observation.

    Args:
        network: A network, with or without a critic.

    Returns:
        `(observations) -> observations`. Observations that are not a Dict with these entries pass unchanged.

    Example:
        >>> from gaussjax.networks import MLP
        >>> network = ActorCritic(MLP((8,)), actor_keys=("state",), critic_keys=("state", "goal"))
        >>> actor_observations(network)({"state": 1.0, "goal": 2.0})
        1.0
    """
    keys = network.actor_keys if isinstance(network, ActorCritic) else None

    def select(observations: Any) -> Any:
        if keys is None or not isinstance(observations, Mapping) or not set(keys) <= set(observations):
            return observations
        return observations[keys[0]] if len(keys) == 1 else {key: observations[key] for key in keys}

    return select
