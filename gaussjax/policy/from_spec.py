"""Construction of a policy from its spec."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gaussjax import networks, spaces
from gaussjax.core.choices import choose
from gaussjax.core.text import quoted
from gaussjax.policy.build import build
from gaussjax.policy.gaussian import gaussian
from gaussjax.policy.multivariate import multivariate_gaussian
from gaussjax.policy.policy import Kind, Policy, Spec, remake
from gaussjax.policy.squashed import squashed_gaussian
from gaussjax.policy.truncated import truncated_gaussian

# Most actions of a described policy, whose parts take some 100 bytes for each.
_MOST_ACTIONS = 10**6
_KINDS = (gaussian, multivariate_gaussian, squashed_gaussian, truncated_gaussian)
_FACTORIES = {factory.__name__: factory for factory in _KINDS}


def from_spec(spec: Spec | Mapping[str, Any], network: Any = None, kind: Kind | None = None) -> Policy:
    """Makes the policy that a spec describes.

    Args:
        spec: `policy.spec`, or the dict that `policy.spec.to_dict()` returned.
        network: Your own network, if the dict describes a network that is not part of gaussjax.
        kind: Your own kind, if the spec names a kind that is not part of gaussjax.

    Returns:
        A policy with the same results as the policy that the spec was taken from.

    Raises:
        ValueError: A name in the spec is unknown, the network or the kind is missing, or a network or a space is too
            large.

    Example:
        >>> import gaussjax, json
        >>> policy = gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(-1.0, 1.0, (1,)))
        >>> text = json.dumps(policy.spec.to_dict())
        >>> from_spec(json.loads(text)) == policy
        True
    """
    if isinstance(spec, Spec):
        if network is not None:
            spec = dataclasses.replace(spec, network=network)
        return remake(_factory(spec.kind, kind), spec)
    missing = {"kind", "network", "observation_space", "action_space", "options"} - set(spec)
    if missing:
        raise ValueError(f"spec: expected a dict from policy.spec.to_dict(), got one without {sorted(missing)}.")
    factory = _factory(spec["kind"], kind)
    if kind is None:
        for option in spec["options"]:
            choose(inspect.signature(factory).parameters, option, f"option of {spec['kind']}")
    observed, actions = spaces.from_dict(spec["observation_space"]), spaces.from_dict(spec["action_space"])
    if spaces.size(actions) > _MOST_ACTIONS:
        raise ValueError(f"spec: expected at most {_MOST_ACTIONS:,} actions, got {spaces.size(actions):,}.")
    return factory(
        networks.from_spec(spec["network"]) if network is None else network,
        observed,
        actions,
        **{name: float(value) if value in ("inf", "-inf") else value for name, value in spec["options"].items()},
    )


def _factory(name: str, kind: Kind | None) -> Callable[..., Policy]:
    if kind is None:
        return choose(_FACTORIES, name, "policy kind")
    if kind.name != name:
        raise ValueError(f"kind: expected the kind {quoted(name)} that the spec names, got {kind.name!r}.")
    return functools.partial(build, kind)
