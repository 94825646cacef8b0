"""The critic of soft actor-critic, a network that estimates the value of an action."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.networks.layers import Activation, Layers, dense


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
        x = jnp.concatenate([observations, actions], axis=-1)
        x = Layers(self.sizes, self.activation, self.norm, self.initializer, name="layers")(x)
        return jnp.squeeze(dense(1, "value", self.initializer, 1.0)(x), -1)
