"""A policy network with a value, for PPO and other actor-critic methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.networks.layers import Activation, Layers, dense
from gaussjax.networks.recurrent.cells import refuse_none

_OWN_SIZES = (64, 64)


class ActorCritic(nn.Module):
    """An actor and a critic in one forward pass; the value `(…)` is in `outputs["value"]`.

    The critic has dense layers on the observations, on the features of its own network (`critic=`) or on the
    actor's features (`shared=True`). The carry is `{"actor": …, "critic": …}` with the recurrent parts.

    Attributes:
        actor: The policy's network, such as `MLP` or `LSTM`.
        sizes: Width of each dense layer of the critic; None is (64, 64), or no layers after a trunk.
        activation: Activation of the critic's layers.
        initializer: Initialiser of the critic's kernels.
        scale: Factor on the critic's initial hidden kernels.
        critic: A network for the critic's features; its head is not used.
        shared: Whether the critic starts from the actor's features. The trunk then gets both gradients.
        actor_keys: Names of the Dict entries that the actor sees; None is all. A single entry is passed as
            it is, not as a Dict of one.
        critic_keys: Likewise for the critic, such as a state that only a simulator knows.
        norm: None or "layer", for the critic's layers.
        dtype: Compute dtype of the critic's layers; the value stays in float32.
        observation_space: Filled in by the policy's factory.

    Example:
        >>> import jax, gaussjax
        >>> network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP(), sizes=(64, 64))
        >>> policy = gaussjax.gaussian(network, 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
        >>> params = policy.init(jax.random.key(0))
        >>> policy.apply(params, jax.numpy.zeros((5, 3)))[1]["value"].shape
        (5,)
    """

    actor: nn.Module
    sizes: tuple[int, ...] | None = None
    activation: Activation = "tanh"
    initializer: str = "orthogonal"
    scale: float = 2.0**0.5
    critic: nn.Module | None = None
    shared: bool = False
    actor_keys: tuple[str, ...] | None = None
    critic_keys: tuple[str, ...] | None = None
    norm: str | None = None
    dtype: str | None = None
    observation_space: spaces.Space | None = None

    def setup(self) -> None:
        """The critic's layers; the trunks are fields."""
        self.check()
        sizes = self.critic_sizes()
        self.critic_layers = Layers(sizes, self.activation, self.norm, self.initializer, self.scale, self.dtype)
        self.critic_value = dense(1, None, self.initializer, 1.0)

    @nn.nowrap
    def critic_sizes(self) -> tuple[int, ...]:
        """Width of each dense layer of the critic."""
        from_trunk = self.shared or self.critic is not None
        return self.sizes if self.sizes is not None else () if from_trunk else _OWN_SIZES

    @nn.nowrap
    def check(self) -> None:
        """Refuse fields that contradict each other."""
        if self.shared and (self.critic is not None or self.critic_keys is not None):
            raise ValueError(
                "shared: expected neither critic= nor critic_keys=, for a shared critic starts from the actor's "
                "features. Leave them out, or set shared=False."
            )
        for name in ("actor", "critic"):
            network = getattr(self, name)
            if network is not None and (name == "critic" or self.shared) and not hasattr(network, "features"):
                raise ValueError(
                    f"{name}: expected a network with a method features(observations), got "
                    f"{type(network).__name__}. Give it one that returns the input of its head."
                )

    @nn.nowrap
    def part_spaces(self, space: spaces.Space) -> dict[str, spaces.Space]:
        """The spaces of the actor's and the critic's observations."""
        return {"actor": part_of(space, self.actor_keys), "critic": part_of(space, self.critic_keys)}

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> Any:
        """The carries of the recurrent parts, or `()`."""
        networks = {"actor": self.actor, "critic": self.critic}
        carries = {
            name: network.initial_carry(batch_shape, *(() if zeros is None else (zeros,)))
            for name, network in networks.items()
            if network is not None and hasattr(network, "initial_carry")
        }
        return {name: carry for name, carry in carries.items() if jax.tree.leaves(carry)} or ()

    def __call__(
        self, observations: spaces.Observations, carry: Any = (), resets: Any = None
    ) -> tuple[Float[Array, "... act"], Float[Array, "..."], dict[str, Any]]:
        """The actor's mean, log_std and outputs, with the value `(…)` among the outputs."""
        return run(self, observations, carry, resets)


def run(network: Any, observations: Any, carry: Any, resets: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The forward pass of an `ActorCritic` in any library."""
    expected = network.initial_carry()
    if expected:
        refuse_none(carry)
    carries = {}
    seen = _select(observations, network.actor_keys)
    state = (carry["actor"], resets) if "actor" in expected else ()
    if network.shared:
        features = network.actor.features(seen, *state)
        if state:
            features, carries["actor"] = features
        mean, log_std, outputs = network.actor.head(features)
    else:
        mean, log_std, outputs = network.actor(seen, *state)
        if state:
            carries["actor"] = outputs["carry"]
        features = _select(observations, network.critic_keys)
        if network.critic is None:
            features = _flat(network, features)
        elif "critic" in expected:
            features, carries["critic"] = network.critic.features(features, carry["critic"], resets)
        else:
            features = network.critic.features(features)
    features = network.critic_layers(features)
    value = xp.squeeze(network.critic_value(*xp.at_least_float32(features)), -1)
    return mean, log_std, {**outputs, "value": value, **({"carry": carries} if expected else {})}


def _select(observations: Any, keys: tuple[str, ...] | None) -> Any:
    if keys is None:
        return observations
    if len(keys) == 1:
        return observations[keys[0]]
    return {key: observations[key] for key in keys}


def _flat(network: Any, observations: Any) -> Array:
    if network.observation_space is None:
        return observations
    return spaces.flatten(part_of(network.observation_space, network.critic_keys), observations)


def part_of(space: spaces.Space, keys: tuple[str, ...] | None) -> spaces.Space:
    """The named entries of a Dict space: the entry itself for one key, a smaller Dict for several keys.

    Raises:
        ValueError: The space is not a Dict, or has no such entry.
    """
    if keys is None:
        return space
    if not isinstance(space, spaces.Dict) or not keys:
        raise ValueError(f"keys: expected names of entries of a Dict observation space, got {keys} for {space}.")
    entries: Mapping[str, spaces.Space] = dict(space.items)
    chosen = tuple((key, choose(entries, key, "observation key")) for key in keys)
    return chosen[0][1] if len(chosen) == 1 else spaces.Dict(chosen)
