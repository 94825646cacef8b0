"""A policy network with a value: what PPO and other actor-critic methods train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp

from gaussjax import spaces
from gaussjax.networks.layers import Layers, dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ActorCritic(nn.Module):
    """An actor beside a critic with layers of its own; the value is in `outputs["value"]`.

    Attributes:
        actor: The network of the policy, such as `MLP`.
        sizes: Width of each hidden layer of the critic.
        activation: Activation of the critic's layers.
        initializer: Initialiser of the critic's kernels.
        scale: Factor on the critic's hidden kernels at the start.
        observation_space: Filled in by the policy's factory.

    Example:
        >>> import jax, gaussjax
        >>> network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP(), sizes=(64, 64))
        >>> policy = gaussjax.gaussian(network, 3, gaussjax.spaces.Box((1,), -2.0, 2.0))
        >>> params = policy.init(jax.random.key(0))
        >>> policy.apply(params, jax.numpy.zeros((5, 3)))[1]["value"].shape
        (5,)
    """

    actor: nn.Module
    sizes: tuple[int, ...] = (64, 64)
    activation: str | None = "tanh"
    initializer: str = "orthogonal"
    scale: float = 2.0**0.5
    observation_space: spaces.Space | None = None

    @nn.compact
    def __call__(
        self, observations: spaces.Observations
    ) -> tuple[Float[Array, "*batch act"], Float[Array, "..."], dict[str, Any]]:
        """What the actor returns, with the value `(…)` among the outputs."""
        mean, log_std, outputs = self.actor(observations)
        flat = observations if self.observation_space is None else spaces.flatten(self.observation_space, observations)
        features = Layers(self.sizes, self.activation, None, self.initializer, self.scale, name="critic_layers")(flat)
        features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        value = dense(1, "critic_value", self.initializer, 1.0)(features)
        return mean, log_std, {**outputs, "value": jnp.squeeze(value, -1)}
