"""The convolutional network for images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.networks.layers import activation, kernel_initializer
from gaussjax.networks.mlp import Network

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class CNN(Network):
    """Convolutions, dense layers, then the head: the policy network for one image.

    Images are height × width × channels (`(H, W)` is one channel). Those of a uint8 space are scaled
    to [0, 1]. Flattened images are put in shape by the policy. The features of the last convolution
    are flattened in the order height, width, channel.

    Attributes:
        channels: Of each convolution.
        kernels: Height and width of each convolution's kernel.
        strides: Of each convolution.
        padding: "VALID" or "SAME".
        convolution_activation: Name from `gaussjax.networks.ACTIVATIONS`.
        sizes: Width of each dense layer.
        activation: A name for all dense layers, or one for each.
        scale_pixels: Whether to divide by 255; None does it for uint8 spaces.

    Example:
        >>> import jax, gaussjax
        >>> images = gaussjax.spaces.Box(0, 255, (64, 64, 3), "uint8")
        >>> policy = gaussjax.gaussian(CNN(), images, gaussjax.spaces.Box(shape=(2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> params["params"]["layers"]["dense_0"]["kernel"].shape
        (1024, 512)

    Source:
        The convolutions of Mnih et al. 2015, human-level control, methods.
    """

    channels: tuple[int, ...] = (32, 64, 64)
    kernels: tuple[int, ...] = (8, 4, 3)
    strides: tuple[int, ...] = (4, 2, 1)
    padding: str = "VALID"
    convolution_activation: str | None = "relu"
    sizes: tuple[int, ...] = (512, 16, 64, 32)
    activation: str | tuple[str | None, ...] | None = ("relu", "tanh", "tanh", "tanh")
    scale_pixels: bool | None = None

    def setup(self) -> None:
        """The convolutions, the dense layers and the head."""
        fields = (self.channels, self.kernels, self.strides)
        if not all(isinstance(field, (tuple, list)) for field in fields) or len(set(map(len, fields))) > 1:
            raise ValueError(
                f"channels, kernels and strides: expected one entry each a convolution, got {self.channels}, "
                f"{self.kernels} and {self.strides}."
            )
        choose(dict.fromkeys(("VALID", "SAME")), self.padding, "padding")
        self.convolutions = [
            nn.Conv(
                width,
                (kernel, kernel),
                (stride, stride),
                self.padding,
                dtype=self.dtype,
                kernel_init=kernel_initializer(self.initializer, self.scale),
            )
            for width, kernel, stride in zip(self.channels, self.kernels, self.strides, strict=True)
        ]
        self.layers = self.dense_layers(self.sizes, self.activation)
        self.head = self.gaussian_head()

    def features(self, observations: Float[Array, "..."]) -> Float[Array, "*batch width"]:
        """What the head, and a critic that shares the trunk, are given."""
        images, batch_shape = self._images(observations)
        activate = activation(self.convolution_activation)
        for convolution in self.convolutions:
            images = activate(convolution(images))
        return self.layers(images.reshape(*batch_shape, math.prod(images.shape[-3:])))

    def __call__(
        self, observations: Float[Array, "..."]
    ) -> tuple[Float[Array, "*batch act"], Float[Array, "..."], dict[str, Any]]:
        """Mean `(…, act)`, log_std and no further outputs."""
        return self.head(self.features(observations))

    def _images(self, observations: Array) -> tuple[Float[Array, "n height width channels"], tuple[int, ...]]:
        space = self.observation_space
        if space is None:
            shape, from_bytes = observations.shape[-3:], observations.dtype == jnp.uint8
        elif isinstance(space, spaces.Box) and len(space.shape) in (2, 3):
            shape, from_bytes = space.shape, space.dtype == "uint8"
        else:
            raise ValueError(
                f"observation_space: expected a Box of the shape (height, width, channels), got {space}. For a Dict "
                f"use from_spec with layers, or ActorCritic with actor_keys=."
            )
        batch_shape = observations.shape[: observations.ndim - len(shape)]
        shape = shape if len(shape) == 3 else (*shape, 1)
        self._refuse_small(shape)
        if not jnp.issubdtype(observations.dtype, jnp.floating):
            observations = observations.astype(jnp.float32)
        if from_bytes if self.scale_pixels is None else self.scale_pixels:
            observations = observations / 255
        return observations.reshape(math.prod(batch_shape), *shape), batch_shape

    @nn.nowrap
    def _refuse_small(self, shape: tuple[int, ...]) -> None:
        least = 1
        for kernel, stride in zip(self.kernels[::-1], self.strides[::-1], strict=True):
            least = (least - 1) * stride + kernel
        if self.padding == "VALID" and min(shape[:2]) < least:
            raise ValueError(
                f"observation_space: expected images of at least {least} × {least} for the kernels {self.kernels} "
                f"with the strides {self.strides}, got {shape[0]} × {shape[1]}. Choose smaller kernels or strides, or "
                f"padding='SAME'."
            )
