"""The multi-layer perceptron, and the base class of the policy networks."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from gaussjax import spaces
from gaussjax.networks.heads import GaussianHead, NetworkOutput
from gaussjax.networks.layers import Activation, Layers, convolved, kernel_initializer, promoting


class Network(nn.Module, kw_only=True):
    """The base class of policy networks: a trunk, a head and the options that all these networks have.

    Attributes:
        output_activation: Activation of the mean. The policy replaces "auto"; without a policy it means "tanh".
        std: How log_std is computed. `GaussianHead` describes it, initial_log_std, log_std_bounds, off_diagonal,
            std_activation, full_std, learn_features and std_floor.
        norm: None, or "layer" for layer normalisation before each activation.
        initializer: Name of the kernels' initialiser: "lecun_normal", "he_normal", "xavier_uniform" or "orthogonal".
        scale: Factor on the initial kernels of the hidden layers.
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
    std_activation: Activation = None
    full_std: bool = True
    learn_features: bool = False
    std_floor: float = 0.0

    def setup(self) -> None:
        self.layers = self.dense_layers()
        self.head = self.gaussian_head()

    def features(self, observations: spaces.Observations) -> Any:
        """Returns the trunk's output, which is the input of the head and of a shared critic."""
        space = self.observation_space
        return self.layers(observations if space is None else spaces.flatten(space, observations))

    def __call__(self, observations: spaces.Observations) -> NetworkOutput:
        """Returns the mean, log_std and a dict of further outputs."""
        with promoting():
            return self.head(self.features(observations))

    @nn.nowrap
    def dense_layers(self, **linen: Any) -> Layers:
        """Returns the trunk's dense layers as a module."""
        options = self.norm, self.initializer, self.scale, self.dtype
        return Layers(self.sizes, self.activation, *options, **linen)

    @nn.nowrap
    def convolution(self, features: int, kernel: int, stride: int, padding: str) -> nn.Conv:
        """Makes a convolution with a square kernel and the network's dtype and initialiser."""
        start = kernel_initializer(self.initializer, self.scale)
        options = {"dtype": self.dtype, "kernel_init": start, "conv_general_dilated": convolved}
        return nn.Conv(features, (kernel,) * 2, (stride,) * 2, padding, **options)

    @nn.nowrap
    def gaussian_head(self, **linen: Any) -> GaussianHead:
        """Returns the network's head as a module."""
        mean_activation = "tanh" if self.output_activation == "auto" else self.output_activation
        log_std = self.std, self.initial_log_std, self.log_std_bounds
        kernel = self.initializer, self.output_scale
        scale = self.std_activation, self.full_std, self.learn_features, self.std_floor
        return GaussianHead(self.num_actions, mean_activation, *log_std, *kernel, self.off_diagonal, *scale, **linen)


class MLP(Network):
    """The policy network for vectors: dense layers, then the head.

    Attributes:
        sizes: Width of each hidden layer.
        activation: A name from `gaussjax.networks.ACTIVATIONS`, a function, or a tuple with one of them for each layer.

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
