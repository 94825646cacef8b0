"""The multi-layer perceptron, and the base class of the policy networks."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.networks.heads import GaussianHead, NetworkOutput
from gaussjax.networks.layers import Activation, Layers, kernel_initializer


class Network(nn.Module, kw_only=True):
    """A trunk and a head, with the options that all policy networks share.

    Attributes:
        output_activation: See `GaussianHead`. The kind of policy replaces "auto", which is "tanh" without a policy.
        std: See `GaussianHead`, also for initial_log_std, log_std_bounds and off_diagonal.
        norm: None or "layer" (layer normalisation before each activation).
        initializer: "lecun_normal", "he_normal", "xavier_uniform" or "orthogonal", for the kernels.
        scale: Factor on the initial hidden kernels.
        output_scale: Factor on the initial kernel of the mean.
        dtype: Compute dtype of the trunk, such as "bfloat16"; None keeps the dtype of the inputs.
        num_actions: Length of the action vector; the policy's factory sets it.
        observation_space: Space of the observations; the policy's factory sets it.
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

    def setup(self) -> None:
        self.layers = self.dense_layers()
        self.head = self.gaussian_head()

    def features(self, observations: spaces.Observations) -> Any:
        """The trunk's output, which the head and a shared critic start from."""
        return self.layers(self.flat(observations))

    def __call__(self, observations: spaces.Observations) -> NetworkOutput:
        """The head's outputs; see `NetworkOutput`."""
        return self.head(self.features(observations))

    def flat(self, observations: spaces.Observations) -> Float[Array, "*batch features"]:
        """Each observation as one vector."""
        if self.observation_space is None:
            return observations
        return spaces.flatten(self.observation_space, observations)

    @nn.nowrap
    def dense_layers(self, **linen: Any) -> Layers:
        """The trunk's dense layers with these options."""
        options = self.norm, self.initializer, self.scale, self.dtype
        return Layers(self.sizes, self.activation, *options, **linen)

    @nn.nowrap
    def convolution(self, features: int, kernel: int, stride: int, padding: str) -> nn.Conv:
        """A convolution with a square kernel and these options."""
        start = kernel_initializer(self.initializer, self.scale)
        return nn.Conv(features, (kernel,) * 2, (stride,) * 2, padding, dtype=self.dtype, kernel_init=start)

    @nn.nowrap
    def gaussian_head(self, **linen: Any) -> GaussianHead:
        """The head with these options."""
        bending = "tanh" if self.output_activation == "auto" else self.output_activation
        log_std = self.std, self.initial_log_std, self.log_std_bounds
        kernel = self.initializer, self.output_scale
        return GaussianHead(self.num_actions, bending, *log_std, *kernel, self.off_diagonal, **linen)


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
