"""Networks that estimate values, for PPO, SAC and other actor-critic methods, and functions that drop the critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.networks.cnn import CNN
from gaussjax.networks.graph import Graph
from gaussjax.networks.heads import NetworkOutput
from gaussjax.networks.layers import Activation, Layers, dense, promoting
from gaussjax.networks.recurrent.cells import guarded, refuse_none
from gaussjax.spaces.arrays import has_pixels


class Wiring(NamedTuple):
    """Facts about an `ActorCritic` that do not depend on its inputs.

    Attributes:
        recurrent: Names of the recurrent parts, "actor" or "critic" or both.
        space: Space of the observations that the critic's dense layers get; None if they get features or any array.
        is_divided: Whether these observations are pixels that the actor divides by 255.
    """

    recurrent: frozenset[str]
    space: spaces.Space | None
    is_divided: bool


class ActorCritic(nn.Module):
    """A network with an actor and a critic; `outputs["value"]` has the critic's value, of shape `(…)`.

    The critic's dense layers get the observations, the features of a second network (`critic=`) or the features of
    the actor (`shared=True`). Pixels that the actor divides by 255 are divided for the critic too. The carry is a dict
    with the entries "actor" and "critic", if these are recurrent.

    Attributes:
        actor: The policy's network, such as `MLP` or `LSTM`.
        sizes: Width of each dense layer of the critic. None means (64, 64) for observations, no layers for features.
        activation: Activation of the critic's dense layers, as in `MLP`.
        initializer: Name of the initialiser of the critic's kernels, as in `MLP`.
        scale: Factor on the initial kernels of the critic's dense layers.
        critic: A network that computes the critic's features; its head is not used.
        shared: Whether the critic gets the actor's features. The actor's trunk then gets the gradients of both losses.
        actor_keys: Names of the Dict entries that the actor gets; None means all. One name gives the entry itself.
        critic_keys: Names of the Dict entries that the critic gets, such as the hidden state of a simulator.
        norm: None, or "layer" for layer normalisation in the critic's dense layers.
        dtype: Compute dtype of the critic's dense layers. The value stays in float32.
        observation_space: Space of the observations; the policy's factory sets it.

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
        self.check()
        self.critic_layers = self.dense_layers()
        self.critic_value = dense(1, None, self.initializer, 1.0)

    @nn.nowrap
    def dense_layers(self, **linen: Any) -> Layers:
        """Returns the critic's dense layers as a module."""
        sizes = () if self.shared or self.critic is not None else (64, 64)
        options = self.norm, self.initializer, self.scale, self.dtype
        return Layers(sizes if self.sizes is None else self.sizes, self.activation, *options, **linen)

    @nn.nowrap
    def check(self) -> None:
        """Raises ValueError if the fields contradict each other."""
        if self.shared and (self.critic is not None or self.critic_keys is not None):
            raise ValueError(
                "shared: expected neither critic= nor critic_keys=, because a shared critic gets the actor's features. "
                "Leave them out, or set shared=False."
            )
        name, trunk = ("actor", self.actor) if self.shared else ("critic", self.critic)
        if trunk is not None and not hasattr(trunk, "features"):
            raise ValueError(
                f"{name}: expected a network with a method features(observations), got {type(trunk).__name__}. "
                f"Add a method that returns the input of the head."
            )

    @nn.nowrap
    def part_spaces(self, space: spaces.Space) -> dict[str, spaces.Space]:
        """Returns the spaces of the actor's and the critic's observations."""
        return {"actor": part_of(space, self.actor_keys), "critic": part_of(space, self.critic_keys)}

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> Any:
        """Returns a dict with the initial carries of a recurrent actor and critic, or `()` if neither is recurrent."""
        arguments = (batch_shape,) if zeros is None else (batch_shape, zeros)
        carries = {
            name: network.initial_carry(*arguments)
            for name, network in (("actor", self.actor), ("critic", self.critic))
            if network is not None and hasattr(network, "initial_carry")
        }
        return {name: carry for name, carry in carries.items() if jax.tree.leaves(carry)} or ()

    def __call__(self, observations: spaces.Observations, carry: Any = (), resets: Any = None) -> NetworkOutput:
        """Returns the actor's mean, log_std and outputs, with the critic's value `(…)` among the outputs."""
        with promoting():
            return run(self, wiring(self, self.initial_carry()), observations, carry, resets)


def wiring(described: ActorCritic, carry: Any) -> Wiring:
    """Returns the facts that `run` needs; `carry` is an initial carry, of JAX or of torch."""
    space = None if described.shared or described.critic is not None else described.observation_space
    space = None if space is None else part_of(space, described.critic_keys)
    # Statistics leave pixels alone that the actor divides, so the critic has to divide them too.
    is_divided = space is not None and has_pixels(space) and scales_pixels(described.actor, space)
    return Wiring(frozenset(carry), space, is_divided)


def run(network: Any, facts: Wiring, observations: Any, carry: Any, resets: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Runs the forward pass of an `ActorCritic`, in JAX or torch."""
    recurrent, space, is_divided = facts
    call: Any = guarded if recurrent else lambda part, x: part(x)
    if recurrent:
        refuse_none(carry)
    carries = {}
    seen = select(observations, network.actor_keys)
    state = (carry["actor"], resets) if "actor" in recurrent else ()
    if network.shared:
        features = network.actor.features(seen, *state)
        if state:
            features, carries["actor"] = features
        mean, log_std, outputs = call(network.actor.head, features)
    else:
        mean, log_std, outputs = network.actor(seen, *state)
        if state:
            carries["actor"] = outputs["carry"]
        features = select(observations, network.critic_keys)
        if network.critic is None:
            features = features if space is None else spaces.flatten(space, features)
            features = features / 255 if is_divided else features
        elif "critic" in recurrent:
            features, carries["critic"] = network.critic.features(features, carry["critic"], resets)
        else:
            features = network.critic.features(features)
    features = call(network.critic_layers, features)
    value = call(network.critic_value, *xp.at_least_float32(features)).squeeze(-1)
    return mean, log_std, {**outputs, "value": value, **({"carry": carries} if recurrent else {})}


def select(observations: Any, keys: tuple[str, ...] | None) -> Any:
    """Selects entries of Dict observations: one key gives the entry itself, several keys give a dict of entries."""
    if keys is None:
        return observations
    return observations[keys[0]] if len(keys) == 1 else {key: observations[key] for key in keys}


def part_of(space: spaces.Space, keys: tuple[str, ...] | None) -> spaces.Space:
    """Returns the space of the observations that `select` returns for these keys."""
    if keys is None:
        return space
    if not isinstance(space, spaces.Dict) or not keys:
        raise ValueError(f"keys: expected names of entries of a Dict observation space, got {keys} for {space}.")
    entries = dict(space.items)
    chosen = tuple((key, choose(entries, key, "observation key")) for key in keys)
    return chosen[0][1] if len(chosen) == 1 else spaces.Dict(chosen)


class ActionValue(nn.Module):
    """A network that maps an observation and an action to the action's value.

    `jax.vmap` over parameters evaluates several critics at once, as in soft actor-critic.

    Attributes:
        sizes: Width of each hidden layer.
        activation: Activation of the hidden layers, as in `MLP`.
        norm: None, or "layer" for layer normalisation before each activation.
        initializer: Name of the kernels' initialiser, as in `MLP`.
        observation_space: Space of the observations; None means that they are vectors.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> critic = ActionValue((8,))
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> params = jax.vmap(lambda key: critic.init(key, jnp.zeros((1, 3)), jnp.zeros((1, 2))))(keys)
        >>> jax.vmap(critic.apply, in_axes=(0, None, None))(params, jnp.zeros((5, 3)), jnp.zeros((5, 2))).shape
        (2, 5)
    """

    sizes: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    norm: str | None = None
    initializer: str = "lecun_normal"
    observation_space: spaces.Space | None = None

    @nn.compact
    def __call__(self, observations: spaces.Observations, actions: Float[Array, "... act"]) -> Float[Array, "..."]:
        """Returns the value of each action, of shape `(…)`."""
        if self.observation_space is not None:
            observations = spaces.flatten(self.observation_space, observations)
        observations = observations if xp.is_floating(observations) else xp.to_float32(observations)
        with promoting():
            x = jnp.concatenate([observations, actions], axis=-1)
            x = Layers(self.sizes, self.activation, self.norm, self.initializer, name="layers")(x)
            return jnp.squeeze(dense(1, "value", self.initializer, 1.0)(x), -1)


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


def scales_pixels(network: Any, space: spaces.Space) -> bool:
    """Returns True if a network divides the observations of a space by 255, so that statistics must not scale them.

    Args:
        network: A network, with or without a critic.
        space: Space of the observations.

    Returns:
        True for a `CNN` that scales its pixels, for a `Graph` on images of dtype uint8, and for an `ActorCritic` that
        has one of them.

    Example:
        >>> images = spaces.Box(0, 255, (64, 64, 3), "uint8")
        >>> scales_pixels(CNN(), images), scales_pixels(CNN(scale_pixels=False), images)
        (True, False)
    """
    if isinstance(network, ActorCritic):
        return scales_pixels(network.actor, space) or scales_pixels(network.critic, space)
    if isinstance(network, CNN) and network.scale_pixels is not None:
        return network.scale_pixels
    return isinstance(network, (CNN, Graph)) and has_pixels(space)


def statistics_for(policy: Any, statistics: Any) -> Any:
    """Returns the observation statistics that a policy's observations are normalised with.

    Args:
        policy: A policy of any kind.
        statistics: Statistics of the observations, or None.

    Returns:
        None for a network that scales its pixels, else `statistics`.

    Example:
        >>> import gaussjax
        >>> statistics = gaussjax.normalize.init((3,))
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, spaces.Box(-1.0, 1.0, (2,)))
        >>> statistics_for(policy, statistics) is statistics
        True
    """
    return None if scales_pixels(policy.spec.network, policy.spec.observation_space) else statistics


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
