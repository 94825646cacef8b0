import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax.networks import CNN
from gaussjax.torch import to_torch
from tests import policies

ACTIONS = gaussjax.spaces.Box(shape=(2,))
SMALL = CNN(channels=(4, 5), kernels=(4, 3), strides=(2, 1), sizes=(8,), activation="tanh")


def images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_the_default_is_the_network_of_torch_with_the_flatten_order_permuted():
    space = gaussjax.spaces.Box(0, 255, (64, 64, 3), "uint8")
    policy = gaussjax.gaussian(CNN(output_activation=None), space, ACTIONS)
    params = policies.random_params(policy)
    x = images((2, 64, 64, 3))
    tensors = to_torch(policy.spec, params)

    def weights(name):
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    features = torch.from_numpy(x).permute(0, 3, 1, 2) / 255
    for i, stride in enumerate((4, 2, 1)):
        features = torch.relu(torch.nn.functional.conv2d(features, *weights(f"convolutions.{i}"), stride))
    assert features.shape == (2, 64, 4, 4)
    features = features.flatten(1)
    for i, activation in enumerate((torch.relu, torch.tanh, torch.tanh, torch.tanh)):
        features = activation(torch.nn.functional.linear(features, *weights(f"layers.dense_{i}")))
    mean = torch.nn.functional.linear(features, *weights("head.mean")).detach().numpy()
    np.testing.assert_allclose(policy.apply(params, x)[0].mean(), mean, rtol=1e-6, atol=1e-6)


def test_flat_images_have_the_numbers_of_shaped_ones():
    policy = gaussjax.gaussian(SMALL, gaussjax.spaces.Box(0, 255, (8, 9, 3), "uint8"), ACTIONS)
    params = policies.random_params(policy)
    x = images((3, 2, 8, 9, 3))
    mean = policy.apply(params, x)[0].mean()
    assert mean.shape == (3, 2, 2)
    np.testing.assert_array_equal(policy.apply(params, x.reshape(3, 2, -1))[0].mean(), mean)


def test_pixels_of_a_uint8_space_are_scaled_and_others_are_not():
    x = images((2, 8, 8, 1))
    means = []
    for dtype, observations in (("uint8", x), ("float32", x / np.float32(255))):
        policy = gaussjax.gaussian(SMALL, gaussjax.spaces.Box(0, 255, (8, 8, 1), dtype), ACTIONS)
        params = policies.random_params(policy)
        means.append(policy.apply(params, observations)[0].mean())
    np.testing.assert_allclose(*means, atol=1e-6)
    raw = gaussjax.gaussian(SMALL.clone(scale_pixels=False), gaussjax.spaces.Box(0, 255, (8, 8, 1), "uint8"), ACTIONS)
    assert np.abs(raw.apply(params, x)[0].mean() - means[0]).max() > 1e-3


def test_an_image_without_channels_has_one():
    plain = gaussjax.gaussian(SMALL, (8, 8), ACTIONS)
    with_channel = gaussjax.gaussian(SMALL, (8, 8, 1), ACTIONS)
    params = policies.random_params(plain)
    x = images((2, 8, 8)).astype(np.float32) / 255
    expected = with_channel.apply(params, x[..., None])[0].mean()
    np.testing.assert_array_equal(plain.apply(params, x)[0].mean(), expected)


def test_a_too_small_image_is_refused_with_the_sizes():
    policy = gaussjax.gaussian(CNN(), gaussjax.spaces.Box(shape=(35, 64, 3)), ACTIONS)
    with pytest.raises(ValueError, match=r"at least 36 × 36 for the kernels \(8, 4, 3\) .* got 35 × 64"):
        policy.init(jax.random.key(0))
    smallest = gaussjax.gaussian(CNN(), gaussjax.spaces.Box(shape=(36, 36, 3)), ACTIONS)
    kernel = jax.eval_shape(smallest.init, jax.random.key(0))["params"]["layers"]["dense_0"]["kernel"]
    assert kernel.shape == (64, 512)
    same = gaussjax.gaussian(SMALL.clone(padding="SAME"), gaussjax.spaces.Box(shape=(2, 2, 1)), ACTIONS)
    jax.eval_shape(same.init, jax.random.key(0))


@pytest.mark.parametrize(
    ("network", "space", "says"),
    [
        (CNN(), 3, r"expected a Box of shape \(height, width, channels\)"),
        (CNN(channels=(4,)), (64, 64, 3), "expected one entry for each convolution"),
        *((CNN(padding=name), (64, 64, 3), r"padding: expected one of \['SAME', 'VALID'\]") for name in ("valid", 1)),
    ],
)
def test_what_is_no_image_or_no_convolution_is_refused(network, space, says):
    with pytest.raises(ValueError, match=says):
        gaussjax.gaussian(network, space, ACTIONS).init(jax.random.key(0))


def test_a_bfloat16_trunk_has_a_float32_head():
    policy = gaussjax.gaussian(SMALL.clone(dtype="bfloat16"), (8, 8, 1), ACTIONS)
    exact = gaussjax.gaussian(SMALL, (8, 8, 1), ACTIONS)
    params = policies.random_params(policy)
    x = images((4, 8, 8, 1)).astype(np.float32) / 255
    mean = policy.apply(params, x)[0].mean()
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, exact.apply(params, x)[0].mean(), atol=0.02)
