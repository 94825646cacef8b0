"""The kinds of policy a user can ask for by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from gaussjax import networks, spaces
from gaussjax.distributions import DiagGaussian
from gaussjax.distributions.special import check_reduction
from gaussjax.networks.layers import choose
from gaussjax.policy import Kind, Policy, Spec, build

if TYPE_CHECKING:
    from jaxtyping import Array

_CLIPPED_LOG_PROB = {name: name for name in ("density", "unclipped", "censored")}
_LOG_STD_BOUNDS = (-20.0, 2.0)


def gaussian(
    network: Any,
    observation_space: Any,
    action_space: Any,
    *,
    clip_actions: bool = False,
    clip_mean_actions: bool = False,
    clip_log_std: bool = True,
    min_log_std: float = _LOG_STD_BOUNDS[0],
    max_log_std: float = _LOG_STD_BOUNDS[1],
    reduction: str = "sum",
    clipped_log_prob: str = "density",
    keepdims: bool = True,
) -> Policy:
    """A policy with a diagonal Gaussian over the actions.

    Args:
        network: One of `gaussjax.networks`, or any object with `init(key, observations)` and
            `apply(params, observations)` that returns `(mean, log_std, dict)`, such as a
            `flax.linen` module of yours. A module's field `num_actions`, where None, is filled in.
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box. Actions are flat vectors whatever its shape.
        clip_actions: Clip the actions to the Box, each dimension on its own; an infinite bound
            leaves that side open.
        clip_mean_actions: Clip the mean to the Box before sampling.
        clip_log_std: Clip log_std to [min_log_std, max_log_std].
        min_log_std: Lower bound, natural logarithm.
        max_log_std: Upper bound.
        reduction: How the log-densities of the dimensions become one: "sum" (joint density),
            "mean", "prod" (of log-densities; for compatibility), or "none".
        clipped_log_prob: What `log_prob` says of a clipped action: "density" (of the clipped
            value under the unclipped normal), "unclipped" (of the sample before the clip) or
            "censored" (the probability of the whole side that was clipped to the bound).
        keepdims: Whether the reduced axis stays with size 1, `(…, 1)`.

    Returns:
        The policy's pure functions.

    Raises:
        ValueError: An option has no such choice, does not apply or contradicts another.
        TypeError: The action space is not a Box.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = gaussjax.networks.MLP((64, 32))
        >>> policy = gaussian(network, 3, gaussjax.spaces.Box((2,), -1.0, 1.0), clip_actions=True)
        >>> params = policy.init(jax.random.key(0))
        >>> actions, log_prob, outputs = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)))
        >>> actions.shape, log_prob.shape
        ((5, 2), (5, 1))

    Source:
        Williams 1992, simple statistical gradient-following algorithms, section 6.
    """
    check_reduction(reduction)
    choose(_CLIPPED_LOG_PROB, clipped_log_prob, "clipped_log_prob")
    if clipped_log_prob != "density" and not clip_actions:
        raise ValueError(
            f"clipped_log_prob: {clipped_log_prob!r} applies to clipped actions only, got clip_actions=False. "
            f"Set clip_actions=True or leave clipped_log_prob out."
        )
    if not min_log_std <= max_log_std:
        raise ValueError(
            f"min_log_std: expected a value <= max_log_std, got min_log_std={min_log_std} and "
            f"max_log_std={max_log_std}."
        )
    if not clip_log_std and (min_log_std, max_log_std) != _LOG_STD_BOUNDS:
        raise ValueError(
            f"clip_log_std: min_log_std={min_log_std} and max_log_std={max_log_std} apply only where log_std is "
            f"clipped, got clip_log_std=False. Set clip_log_std=True or leave the bounds out."
        )
    box = spaces.action_box(action_space)
    low, high = spaces.bounds(box)
    options = {
        "clip_actions": bool(clip_actions),
        "clip_mean_actions": bool(clip_mean_actions),
        "clip_log_std": bool(clip_log_std),
        "min_log_std": float(min_log_std),
        "max_log_std": float(max_log_std),
        "reduction": reduction,
        "clipped_log_prob": clipped_log_prob,
        "keepdims": bool(keepdims),
    }

    def bounds(actions: Array) -> tuple[Array, Array]:
        lowest, highest = jnp.asarray(low, actions.dtype), jnp.asarray(high, actions.dtype)
        return jnp.broadcast_to(lowest, actions.shape), jnp.broadcast_to(highest, actions.shape)

    def clip_to_box(actions: Array) -> Array:
        return jnp.clip(actions, *bounds(actions))

    def transform(mean: Array, log_std: Array) -> tuple[Array, Array]:
        mean = clip_to_box(mean) if clip_mean_actions else mean
        return mean, jnp.clip(log_std, min_log_std, max_log_std) if clip_log_std else log_std

    def act(distribution: DiagGaussian, noise: Array | None) -> tuple[Array, Array, Array]:
        if noise is None:
            raw_actions = distribution.mean()
            noise = jnp.zeros_like(raw_actions)
        else:
            raw_actions = distribution.from_noise(noise)
        exact = distribution.noise_log_prob(noise, "none")
        if not clip_actions:
            return raw_actions, raw_actions, exact
        actions = clip_to_box(raw_actions)
        if clipped_log_prob == "unclipped":
            return raw_actions, actions, exact
        return raw_actions, actions, jnp.where(actions == raw_actions, exact, log_prob(distribution, actions))

    def log_prob(distribution: DiagGaussian, actions: Array) -> Array:
        density = distribution.log_prob(actions, "none")
        if clipped_log_prob != "censored":
            return density
        lowest, highest = bounds(actions)
        above = jnp.where(actions >= highest, distribution.log_survival(actions), density)
        return jnp.where(actions <= lowest, distribution.log_cdf(actions), above)

    kind = Kind(transform, lambda mean, log_std, _: DiagGaussian(mean, log_std), act, log_prob)
    spec = Spec("gaussian", network, spaces.as_space(observation_space), box, tuple(options.items()))
    return build(spec, kind, reduction, keepdims)


_FACTORIES = {"gaussian": gaussian}


def from_spec(spec: Spec | Mapping[str, Any], network: Any = None) -> Policy:
    """The policy that a spec describes.

    Args:
        spec: `policy.spec`, or the dict that `policy.spec.to_dict()` gave.
        network: Your own network, where the dict describes a network that gaussjax does not ship.

    Raises:
        ValueError: A name in the description is unknown, or the network is missing.

    Example:
        >>> import gaussjax, json
        >>> policy = gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box((1,)))
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
        **spec["options"],
    )
