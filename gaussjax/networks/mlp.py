"""The multi-layer perceptron, and the options that all policy networks share."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.networks.heads import GaussianHead
from gaussjax.networks.layers import Activation, Layers


class Network(nn.Module, kw_only=True):
    """Options that all of gaussjax's policy networks share.

    Attributes:
        output_activation: Activation of the mean: a name, a function, an expression such as "2 * tanh(mean)", or
            None. "auto" leaves the choice to the kind of policy; without a policy it is "tanh".
        std: As in `GaussianHead`, like initial_log_std, log_std_bounds and off_diagonal.
        norm: None or "layer".
        initializer: "lecun_normal", "he_normal", "xavier_uniform" or "orthogonal".
        scale: Factor on the initial hidden kernels.
        output_scale: Factor on the mean's initial kernel.
        dtype: Compute dtype of the trunk, such as "bfloat16". The head stays in float32.
        num_actions: Length of the action vector; the policy's factory fills it in.
        observation_space: Filled in by the policy's factory.
    """

    output_activation: Activation = "auto"
    std: str = "parameter"
    initial_log_std: float = 0.0
    log_std_bounds: tuple[float, float] | None = None
    norm: str | None = None
    initializer: str = "lecun_normal"
    scale: float = 1.0
    output_scale: float = 1.0
    dtype: str | None = None
    num_actions: int | None = None
    observation_space: spaces.Space | None = None
    off_diagonal: bool | None = None

    @nn.nowrap
    def dense_layers(self, sizes: tuple[int, ...], activation: Any, **linen: Any) -> Layers:
        """Dense layers with these options."""
        return Layers(sizes, activation, self.norm, self.initializer, self.scale, self.dtype, **linen)

    def flat(self, observations: spaces.Observations) -> Float[Array, "*batch features"]:
        """Each observation as one vector."""
        if self.observation_space is None:
            return observations
        return spaces.flatten(self.observation_space, observations)

    @nn.nowrap
    def gaussian_head(self, **linen: Any) -> GaussianHead:
        """The head with these options."""
        return GaussianHead(
            self.num_actions,
            "tanh" if self.output_activation == "auto" else self.output_activation,
            self.std,
            self.initial_log_std,
            self.log_std_bounds,
            self.initializer,
            self.output_scale,
            self.off_diagonal,
            **linen,
        )


class MLP(Network):
    """The policy network for vectors: dense layers, then the head.

    Attributes:
        sizes: Width of each hidden layer.
        activation: Name from `gaussjax.networks.ACTIVATIONS`, a function, or a tuple with one for each layer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = MLP((64, 32), num_actions=2)
        >>> params = network.init(jax.random.key(0), jnp.zeros((1, 3)))
        >>> mean, log_std, outputs = network.apply(params, jnp.zeros((5, 3)))
        >>> mean.shape, log_std.shape
        ((5, 2), (2,))
    """

    sizes: tuple[int, ...] = (64, 32)
    activation: Activation | tuple[Activation, ...] = "relu"

    def setup(self) -> None:
        """The trunk and the head."""
        self.layers = self.dense_layers(self.sizes, self.activation)
        self.head = self.gaussian_head()

    def features(self, observations: spaces.Observations) -> Float[Array, "*batch width"]:
        """The trunk's output, which the head and a shared critic start from."""
        return self.layers(self.flat(observations))

    def __call__(
        self, observations: spaces.Observations
    ) -> tuple[Float[Array, "*batch act"], Float[Array, "..."], dict[str, Any]]:
        """The mean `(…, act)`, log_std and the head's outputs."""
        return self.head(self.features(observations))
