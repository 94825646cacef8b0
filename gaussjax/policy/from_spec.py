"""The kinds of policy a user can ask for by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gaussjax import networks, spaces
from gaussjax.core.choices import choose
from gaussjax.policy.gaussian import gaussian as gaussian
from gaussjax.policy.multivariate import multivariate_gaussian as multivariate_gaussian
from gaussjax.policy.policy import Policy, Spec
from gaussjax.policy.squashed import squashed_gaussian as squashed_gaussian

_FACTORIES: Mapping[str, Callable[..., Policy]] = {
    "gaussian": gaussian,
    "multivariate_gaussian": multivariate_gaussian,
    "squashed_gaussian": squashed_gaussian,
}


def from_spec(spec: Spec | Mapping[str, Any], network: Any = None) -> Policy:
    """The policy that a spec describes.

    Args:
        spec: `policy.spec`, or the dict that `policy.spec.to_dict()` gave.
        network: Your own network, where the dict describes a network that gaussjax does not ship.

    Returns:
        A policy of the same functions and numbers as the one that was described.

    Raises:
        ValueError: A name in the description is unknown, or the network is missing.

    Example:
        >>> import gaussjax, json
        >>> policy = gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> text = json.dumps(policy.spec.to_dict())
        >>> from_spec(json.loads(text)).spec == policy.spec
        True
    """
    if isinstance(spec, Spec):
        factory = choose(_FACTORIES, spec.kind, "policy kind")
        chosen = spec.network if network is None else network
        return factory(chosen, spec.observation_space, spec.action_space, **dict(spec.options))
    missing = {"kind", "network", "observation_space", "action_space", "options"} - set(spec)
    if missing:
        raise ValueError(f"spec: expected what policy.spec.to_dict() gives, but {sorted(missing)} is missing.")
    factory = choose(_FACTORIES, spec["kind"], "policy kind")
    for option in spec["options"]:
        choose(inspect.signature(factory).parameters, option, f"option of {spec['kind']}")
    return factory(
        networks.from_spec(spec["network"]) if network is None else network,
        spaces.from_dict(spec["observation_space"]),
        spaces.from_dict(spec["action_space"]),
        **{name: float(value) if value in ("inf", "-inf") else value for name, value in spec["options"].items()},
    )
