"""The convolutional network for images."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.core.compiled import count
from gaussjax.core.text import quoted
from gaussjax.networks.layers import Activation, activation
from gaussjax.networks.mlp import Network
from gaussjax.spaces.arrays import has_pixels


class CNN(Network):
    """The policy network for one image: convolutions, dense layers, then the head.

    Images have the axes height, width and channel; an image `(height, width)` has one channel. The features of the
    last convolution are flattened in the order height, width, channel.

    Attributes:
        channels: Number of output channels of each convolution.
        kernels: Height of each convolution's kernel, which is also its width.
        strides: Stride of each convolution.
        padding: "VALID" or "SAME".
        convolution_activation: Name or function of the activation after each convolution.
        sizes: Width of each dense layer.
        activation: Activation of the dense layers, as in `MLP`.
        scale_pixels: Whether to divide the pixels by 255. None divides them if the space has dtype uint8: they are
            numbers from 0 to 255 then, integers or floats. Training loops, `serve` and other functions with observation
            statistics do not normalise pixels that are divided. For pixels that you have scaled or normalised yourself
            set False. Without a space None divides observations of dtype uint8.

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
    convolution_activation: Activation = "relu"
    sizes: tuple[int, ...] = (512, 16, 64, 32)
    activation: Activation | tuple[Activation, ...] = ("relu", "tanh", "tanh", "tanh")
    scale_pixels: bool | None = None

    def setup(self) -> None:
        self.check()
        shapes = zip(self.channels, self.kernels, self.strides, strict=True)
        self.convolutions = [self.convolution(*shape, self.padding) for shape in shapes]
        super().setup()

    @nn.nowrap
    def check(self) -> None:
        """Raises ValueError or TypeError if the fields do not describe convolutions."""
        fields = (self.channels, self.kernels, self.strides)
        if not all(isinstance(field, (tuple, list)) for field in fields) or len(set(map(len, fields))) > 1:
            raise ValueError(
                f"channels, kernels and strides: expected one entry for each convolution, got "
                f"{', '.join(map(quoted, fields))}."
            )
        for name, field in zip(("channels", "kernels", "strides"), fields, strict=True):
            for entry in field:
                count(entry, name)
        choose(dict.fromkeys(("VALID", "SAME")), self.padding, "padding")

    def features(self, observations: Float[Array, "..."]) -> Float[Array, "*batch width"]:
        """Returns the trunk's output, which is the input of the head and of a shared critic."""
        images, batch_shape = self.images(observations)
        activate = activation(self.convolution_activation)
        for convolution in self.convolutions:
            images = activate(convolution(images))
        return self.layers(images.reshape(*batch_shape, math.prod(images.shape[-3:])))

    @nn.nowrap
    def images(self, observations: Array) -> tuple[Float[Array, "n height width channels"], tuple[int, ...]]:
        """Returns the observations as floating-point images with one batch axis, and their original batch shape."""
        space = self.observation_space
        if space is None:
            shape, scales = observations.shape[-3:], observations.dtype == jnp.uint8
        elif isinstance(space, spaces.Box) and len(space.shape) in (2, 3):
            shape, scales = space.shape, has_pixels(space)
        else:
            raise ValueError(
                f"observation_space: expected a Box of shape (height, width, channels), got {space}. For a Dict "
                f"use from_spec with layers, or ActorCritic with actor_keys=."
            )
        batch_shape = observations.shape[: observations.ndim - len(shape)]
        shape = shape if len(shape) == 3 else (*shape, 1)
        self.refuse_small(shape)
        observations = observations if xp.is_floating(observations) else xp.to_float32(observations)
        if scales if self.scale_pixels is None else self.scale_pixels:
            observations = observations / 255
        return observations.reshape(math.prod(batch_shape), *shape), batch_shape

    @nn.nowrap
    def refuse_small(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError if the images are smaller than the convolutions need."""
        least = 1
        for kernel, stride in zip(self.kernels[::-1], self.strides[::-1], strict=True):
            least = (least - 1) * stride + kernel
        if self.padding == "VALID" and min(shape[:2]) < least:
            raise ValueError(
                f"observation_space: expected images of at least {least} × {least} for the kernels {self.kernels} "
                f"with the strides {self.strides}, got {shape[0]} × {shape[1]}. Choose smaller kernels or strides, or "
                f"padding='SAME'."
            )
