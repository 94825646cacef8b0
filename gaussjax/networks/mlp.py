"""The multi-layer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn

from gaussjax import spaces
from gaussjax.networks.heads import GaussianHead
from gaussjax.networks.layers import Layers

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Network(nn.Module, kw_only=True):
    """Options that all of gaussjax's policy networks share.

    Attributes:
        output_activation: Activation of the mean, or such as "2 * tanh(mean)"; None leaves it unbounded.
        std: How log_std is made: "parameter", "state" or "fixed" (see `GaussianHead`).
        initial_log_std: Where log_std starts, natural logarithm.
        log_std_bounds: Ends of a smooth bound on log_std, or None.
        norm: None or "layer".
        initializer: "lecun_normal", "he_normal", "xavier_uniform" or "orthogonal".
        scale: Factor on the hidden kernels at the start.
        output_scale: Factor on the mean's kernel at the start.
        dtype: Type the trunk computes in, such as "bfloat16". The head stays in float32.
        num_actions: Filled in by the policy's factory from the action space.
        observation_space: Filled in by the policy's factory.
        off_diagonal: Whether the head gives the correlations of the actions; filled in by
            `multivariate_gaussian`.
    """

    output_activation: str | None = "tanh"
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
        """The observations as one vector each."""
        if self.observation_space is None:
            return observations
        return spaces.flatten(self.observation_space, observations)

    @nn.nowrap
    def gaussian_head(self, **linen: Any) -> GaussianHead:
        """The head that these options describe."""
        return GaussianHead(
            self.num_actions,
            self.output_activation,
            self.std,
            self.initial_log_std,
            self.log_std_bounds,
            self.initializer,
            self.output_scale,
            self.off_diagonal,
            **linen,
        )


class MLP(Network):
    """Dense layers, then the head: the policy network for vectors of numbers.

    The defaults are 64 and 32 ReLU units and a tanh on the mean.

    Attributes:
        sizes: Width of each hidden layer.
        activation: Name from `gaussjax.networks.ACTIVATIONS`, or one for each layer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = MLP((64, 32), num_actions=2)
        >>> params = network.init(jax.random.key(0), jnp.zeros((1, 3)))
        >>> mean, log_std, outputs = network.apply(params, jnp.zeros((5, 3)))
        >>> mean.shape, log_std.shape
        ((5, 2), (2,))
    """

    sizes: tuple[int, ...] = (64, 32)
    activation: str | tuple[str | None, ...] | None = "relu"

    def setup(self) -> None:
        """The trunk and the head."""
        self.layers = self.dense_layers(self.sizes, self.activation)
        self.head = self.gaussian_head()

    def features(self, observations: spaces.Observations) -> Float[Array, "*batch width"]:
        """What the head, and a critic that shares the trunk, are given."""
        return self.layers(self.flat(observations))

    def __call__(
        self, observations: spaces.Observations
    ) -> tuple[Float[Array, "*batch act"], Float[Array, "..."], dict[str, Any]]:
        """Mean `(…, act)`, log_std and the head's outputs."""
        return self.head(self.features(observations))
