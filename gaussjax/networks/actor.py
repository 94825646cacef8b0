"""Functions that separate a policy's actor from its critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gaussjax.networks.actor_critic import ActorCritic, part_of, select
from gaussjax.networks.graph import Graph


def actor(policy: Any, params: Any) -> tuple[Any, Any]:
    """Removes the critic, and the observations that only the critic needs, from a policy.

    Args:
        policy: A policy of any kind.
        params: The parameters of the policy.

    Returns:
        The policy with the actor as its network, and the actor's parameters. Both are unchanged without a critic.

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
    """Returns a function that selects the actor's entries of a Dict observation.

    Args:
        network: A network, with or without a critic.

    Returns:
        A function `(observations) -> observations`. It returns observations unchanged that lack these entries.

    Example:
        >>> from gaussjax.networks import MLP
        >>> actor_observations(ActorCritic(MLP(), actor_keys=("state",)))({"state": 1.0, "goal": 2.0})
        1.0
    """
    keys = network.actor_keys if isinstance(network, ActorCritic) else None

    def pick(observations: Any) -> Any:
        is_whole = keys is not None and isinstance(observations, Mapping) and set(keys) <= set(observations)
        return select(observations, keys) if is_whole else observations

    return pick
