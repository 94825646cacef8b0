"""Action values: how good an action is where an observation is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax.numpy as jnp

from gaussjax import spaces
from gaussjax.networks.layers import Layers, dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ActionValue(nn.Module):
    """Dense layers on the observation and the action, to one number.

    Several are one network under `jax.vmap` over their parameters, as soft actor-critic wants.

    Attributes:
        sizes: Width of each hidden layer.
        activation: Name from `gaussjax.networks.ACTIVATIONS`.
        norm: None or "layer".
        initializer: Name of the kernels' initialiser.
        observation_space: None for vectors, else what is flattened.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> critic = ActionValue((8,))
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> params = jax.vmap(lambda key: critic.init(key, jnp.zeros((1, 3)), jnp.zeros((1, 2))))(keys)
        >>> jax.vmap(critic.apply, in_axes=(0, None, None))(params, jnp.zeros((5, 3)), jnp.zeros((5, 2))).shape
        (2, 5)
    """

    sizes: tuple[int, ...] = (256, 256)
    activation: str | None = "relu"
    norm: str | None = None
    initializer: str = "lecun_normal"
    observation_space: spaces.Space | None = None

    @nn.compact
    def __call__(
        self, observations: spaces.Observations, actions: Float[Array, "*batch act"]
    ) -> Float[Array, "*batch"]:
        """The value of each action, `(…)`."""
        if self.observation_space is not None:
            observations = spaces.flatten(self.observation_space, observations)
        x = jnp.concatenate([observations, actions], axis=-1)
        x = Layers(self.sizes, self.activation, self.norm, self.initializer, name="layers")(x)
        return jnp.squeeze(dense(1, "value", self.initializer, 1.0)(x), -1)
