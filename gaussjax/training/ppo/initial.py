"""The start of PPO from a trained policy: its actor, a critic, and its observation statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaussjax import files, networks, normalize, spaces
from gaussjax.core.trees import check_shapes
from gaussjax.networks.actor_critic import part_of
from gaussjax.policy import Params, Policy
from gaussjax.training import initial_std
from gaussjax.training.algorithm import check_argument, observation_keys, spaces_of
from gaussjax.training.ppo.config import Config

# A new policy has little to lose in an update; a trained one may lose all it can with twice this clip range.
_CLIP_RANGE = 0.1
# Share of the Box's width that is the std of a clone at first. With less of it PPO learns more slowly, and loses more.
_STD = 0.3
# Updates that train the critic alone, before the others change the policy too.
_WARMUP = 3
# An initial log_std keeps this share of the width from smooth bounds, where its gradient is small.
_MARGIN = 0.05


class Start(NamedTuple):
    """A trained policy as the start of a training.

    Attributes:
        policy: The policy with a critic.
        params: Parameters of the policy, or of its actor alone if the critic is new.
        statistics: Observation statistics of the policy, which the training leaves as they are, or None.
        keys: Names of the Dict entries that the statistics are for; None means all.
        is_new: Whether the critic is new.
        explores: Whether log_std is new.
    """

    policy: Policy
    params: Params
    statistics: normalize.Normalizer
    keys: tuple[str, ...] | None
    is_new: bool
    explores: bool

    def replace(self, params: Params, statistics: normalize.Normalizer) -> tuple[Params, normalize.Normalizer]:
        """Replaces new parameters and statistics of a training by those of the policy."""
        found = self.params
        if self.is_new:
            found = {**params, **{name: {**params[name], "actor": part} for name, part in found.items()}}

        def choose(path: Any, new: Array, old: Any) -> Array:
            return new if self.explores and initial_std.is_log_std(path) else jnp.asarray(old, new.dtype)

        return jax.tree_util.tree_map_with_path(choose, params, found), self.fixed(self.statistics, statistics)

    def fixed(self, ours: normalize.Normalizer, statistics: normalize.Normalizer) -> normalize.Normalizer:
        """Returns `statistics` in which those of the policy's entries are from `ours`, or from a dict of all of them.

        A few episodes more would move the mean and the variance of a small dataset, and with them all actions.
        """
        if self.statistics is None:
            return statistics
        if self.keys is None:
            return ours
        return {**statistics, **{key: ours[key] for key in self.keys}}


def start(loaded: files.Loaded, environments: Any, config: Config) -> tuple[Start, Config]:
    """The start from a policy in these environments, and the config with the options that the policy decides.

    Options of the policy that concern only the scores of actions become those that PPO needs.

    Raises:
        ValueError: The parameters do not fit the policy, its network has no critic and cannot get one, or the config
            chooses entries of the observations for a network that chooses them itself.
    """
    check_argument("config", config, Config, "Call make(environments, config, policy).")
    policy, statistics, keys = loaded.policy, loaded.normalizer, None
    check_shapes(loaded.params, jax.eval_shape(policy.init, jax.random.key(0)), "params")
    spec, options = policy.spec, dict(policy.spec.options)
    network, space, is_new = spec.network, spec.observation_space, not _has_value(policy)
    actor = network.actor if isinstance(network, networks.ActorCritic) else network
    log_std = config.initial_log_std
    if log_std is None and is_new:
        # The std of a clone says how well it fits the data, not how much to explore.
        log_std = _new_log_std(policy)
    explores = log_std is not None and hasattr(actor, "gaussian_head")
    if explores:
        actor = _exploring(actor, loaded, options, log_std)
        network = network.clone(actor=actor) if isinstance(network, networks.ActorCritic) else actor
    if is_new:
        observed = spaces.as_space(spaces_of(environments)[0])
        chosen = observation_keys(observed, config)
        # The policy may be for the actor's entries of a larger space, such as the state beside a privileged one.
        if _names(observed) == _names(space):
            chosen["actor_keys"] = None
        elif chosen["actor_keys"] is not None:
            space, keys = observed, chosen["actor_keys"]
            statistics = {keys[0]: statistics} if len(keys) == 1 and statistics is not None else statistics
        network = _with_critic(network, space, chosen)
    elif config.actor_keys or config.critic_keys:
        raise ValueError(
            f"actor_keys, critic_keys: expected None, because the network of the policy has a critic and chooses the "
            f"entries itself, got {config.actor_keys} and {config.critic_keys}. Leave them out."
        )
    if options.get("clip_actions") and options.get("clipped_log_prob") == "density":
        options["clipped_log_prob"] = "unclipped"
    factory: Any = policy.kind.factory
    policy = factory(network, space, spec.action_space, **{**options, "reduction": "sum"})
    warmup = config.critic_warmup
    if warmup is None:
        warmup = _WARMUP if is_critic(policy) is not None else 0
    decided = {"critic_warmup": warmup, "normalize_observations": statistics is not None}
    clip_range = _CLIP_RANGE if config.clip_range is None else config.clip_range
    config = dataclasses.replace(config, **decided, clip_range=clip_range)
    return Start(policy, loaded.params, statistics, keys, is_new, explores), config


def _has_value(policy: Policy) -> bool:
    def outputs(key: Array) -> Any:
        carry = policy.initial_carry((1,))
        recurrent = {"carry": carry} if jax.tree.leaves(carry) else {}
        return policy.apply(policy.init(key), spaces.zeros(policy.spec.observation_space, (1,)), **recurrent)[1]

    return "value" in jax.eval_shape(outputs, jax.random.key(0))


def _new_log_std(policy: Policy) -> float:
    """Logarithm of a share of the width of the Box, as a geometric mean over the actions; 0 without bounds."""
    # A squash stretches the interval from -1 to 1 to the Box.
    low, high = (-1.0, 1.0) if policy.kind.saturation_margin else spaces.bounds(policy.spec.action_space)
    widths = np.subtract(high, low)
    widths = widths[np.isfinite(widths)]
    return float(np.mean(np.log(_STD * widths))) if widths.size else 0.0


def _exploring(actor: Any, loaded: files.Loaded, options: dict[str, Any], log_std: Any) -> Any:
    """The actor's network with another initial log_std, as far as the bounds of policy and network allow it."""
    if options.get("clip_log_std"):
        log_std = min(max(log_std, options["min_log_std"]), options["max_log_std"])
    if actor.std == "gsde":
        log_std -= initial_std.gain(loaded.policy, loaded.params)
        # Tiny features would need more than a factory accepts.
        log_std = min(log_std, options["max_log_std"]) if options.get("clip_log_std") else log_std
    if actor.log_std_bounds is not None:
        low, high = actor.log_std_bounds
        log_std = min(max(log_std, low + _MARGIN * (high - low)), high - _MARGIN * (high - low))
    return actor.clone(initial_log_std=log_std)


def _names(space: spaces.Space) -> set[str] | None:
    return {name for name, _ in space.items} if isinstance(space, spaces.Dict) else None


def _with_critic(actor: Any, space: spaces.Space, keys: dict[str, Any]) -> networks.ActorCritic:
    """The actor with a critic like it; with dense layers if the critic gets other observations than the actor."""
    if not isinstance(actor, nn.Module):
        raise ValueError(
            f"policy: expected a network of flax.linen, which can get a critic, got {type(actor).__name__}. Return "
            f"outputs['value'] from it, and save the policy again."
        )
    same = part_of(space, keys["actor_keys"]) == part_of(space, keys["critic_keys"])
    # A linear critic would learn too little.
    if not same or not hasattr(actor, "features") or not getattr(actor, "sizes", True):
        return networks.ActorCritic(actor, **keys)
    fields = {"initializer": "orthogonal", "scale": 2.0**0.5, "fast_backward": True}
    critic = actor.clone(**{name: value for name, value in fields.items() if hasattr(actor, name)})
    return networks.ActorCritic(actor, critic=critic, **keys)


def is_critic(policy: Policy) -> Callable[[str], bool] | None:
    """A function that returns True for the critic's names in the parameters; None for a network of the user's own."""
    network = policy.spec.network
    if isinstance(network, networks.ActorCritic):
        return lambda name: name != "actor"
    return (lambda name: name == "value_layer") if isinstance(network, networks.Graph) else None


def critic_mask(policy: Policy) -> Callable[[Params], Any]:
    """Makes a function from parameters to a pytree like them, True for those of the critic alone.

    Raises:
        ValueError: The network is neither an `ActorCritic` nor a `Graph`.
    """
    found = is_critic(policy)
    if found is None:
        raise ValueError(
            f"critic_warmup: expected 0 for a network whose critic is unknown, a {type(policy.spec.network).__name__}, "
            f"got another number. Put the actor into gaussjax.networks.ActorCritic, or set 0."
        )
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, found(path[1].key), bool), params
    )
