import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax import envs, normalize
from gaussjax.networks import CNN, MLP, ActorCritic, Graph, layers
from gaussjax.spaces import Box
from gaussjax.torch import to_torch
from gaussjax.training import ppo, sac
from tests import policies
from tests.training import probes

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


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((2, 0), (1, 3))])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2), (3, 2)])
def test_derivatives_of_a_convolution_are_those_of_jax(x64, padding, kernel, stride):
    def usual(x, w):
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (stride,) * 2, padding, dimension_numbers=order)

    def ours(x, w):
        return layers.convolved(x, w, (stride,) * 2, padding)

    keys = jax.random.split(jax.random.key(0), 4)
    x, x_tangent = jax.random.normal(keys[0], (2, 3, 9, 8, 2), jnp.float64)
    w, w_tangent = jax.random.normal(keys[1], (2, kernel, kernel, 2, 5), jnp.float64)

    def derivatives(convolve):
        def loss(x, w):
            return jnp.sum(jnp.tanh(convolve(x, w)) ** 2)

        def slope(x, w):
            return jax.jvp(loss, (x, w), (x_tangent, w_tangent))[1]

        gradient = jax.grad(loss, (0, 1))
        return (
            jax.jvp(convolve, (x, w), (x_tangent, w_tangent)),
            gradient(x, w),
            jax.jvp(gradient, (x, w), (x_tangent, w_tangent)),
            jax.grad(slope, (0, 1))(x, w),
            jax.vmap(jax.grad(loss, 1), (None, 0))(x, jnp.stack([w, w_tangent])),
            jax.linearize(convolve, x, w)[1](x_tangent, w_tangent),
        )

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), *map(derivatives, (usual, ours))
    )


def test_all_convolutions_of_a_gradient_have_the_usual_order_of_axes():
    """XLA computes other orders ten times slower in a loop on a CPU, and a training is a loop."""
    policy = gaussjax.gaussian(SMALL, Box(0, 255, (16, 16, 3), "uint8"), ACTIONS)
    params, x = policy.init(jax.random.key(0)), images((2, 16, 16, 3))

    def loss(params):
        return policy.evaluate(params, x, raw_actions=jnp.zeros((2, 2)))[0].sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(params))
    orders = re.findall(r"lhs_spec=(.*?), rhs_spec=(.*?), out_spec=(.*?)\)\n", text)
    # Two convolutions, the gradients of their kernels, and of the images between them.
    assert orders == [("(0, 3, 1, 2)", "(3, 2, 0, 1)", "(0, 3, 1, 2)")] * 5


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


PIXELS = gaussjax.spaces.Box(0, 255, (8, 8, 1), "uint8")


def first_input(monkeypatch):
    """Records the images that enter the first convolution."""
    seen = []
    own = CNN.images

    def images(self, observations):
        found = own(self, observations)
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), found[0])
        return found

    monkeypatch.setattr(CNN, "images", images)
    return seen


class Camera(gymnasium.Env):
    """Images of random pixels; an episode has one step."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, (8, 8, 1), np.uint8), {}

    def step(self, action):
        return self.np_random.integers(0, 256, (8, 8, 1), np.uint8), 1.0, True, False, {}


def camera():
    """The same as JAX functions."""

    def image(key):
        return jax.random.randint(key, (8, 8, 1), 0, 256).astype(jnp.uint8)

    def step(state, action):
        return envs.Step(state, image(jax.random.fold_in(state, 1)), jnp.ones(()), jnp.array(True), jnp.array(False))

    return envs.Environment(lambda key: (key, image(key)), step, PIXELS, gaussjax.spaces.Box(-1.0, 1.0, (2,)))


ACTOR = CNN(channels=(2,), kernels=(3,), strides=(3,), sizes=(4,), activation="tanh")
GRAPH_ACTOR = Graph([{"name": "all", "layers": ["flatten", 4]}], value="all")
LOOPS = {
    "ppo on the host": (ppo, lambda: probes.vector(Camera, 2), True),
    "ppo on the host without statistics": (ppo, lambda: probes.vector(Camera, 2), False),
    "ppo on flat images": (ppo, lambda: envs.make_vector(Camera, 2), True),
    "ppo compiled": (ppo, camera, True),
    "sac on the host": (sac, lambda: probes.vector(Camera, 2), True),
    "sac compiled": (sac, camera, True),
}


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "environments", "normalize_observations"), LOOPS.values(), ids=LOOPS)
def test_training_scales_pixels_once(algorithm, environments, normalize_observations, monkeypatch):
    seen, made = first_input(monkeypatch), environments()
    options = {"num_envs": 2, "num_steps": 8, "batch_size": 8, "normalize_observations": normalize_observations}
    if algorithm is ppo:
        network = ActorCritic(ACTOR, shared=True)
        policy = gaussjax.gaussian(network, PIXELS, Box(-1.0, 1.0, (2,)), keepdims=False)
        loop = ppo.make(made, ppo.Config(**options, num_epochs=1), policy)
    else:
        policy = gaussjax.squashed_gaussian(ACTOR, PIXELS, Box(-1.0, 1.0, (2,)))
        loop = sac.make(made, sac.Config(**options, learning_starts=4, buffer_size=64, hidden_sizes=(4,)), policy)
    state, _ = loop.step(loop.init(jax.random.key(0)))
    loop.step(state)
    jax.effects_barrier()
    # Pixels are uniform in [0, 1]. Initial observations of parameters, and an empty replay buffer, are zeros.
    pixels = np.concatenate([x.ravel() for x in seen if x.any()])
    assert pixels.max() == 1.0
    assert np.std(pixels) == pytest.approx(12**-0.5, rel=0.1)
    if loop.runner is not None:
        made.close()


SCALING = {
    "cnn": (ACTOR, True),
    "graph": (GRAPH_ACTOR, True),
    "actor-critic": (ActorCritic(ACTOR, shared=True), True),
    "unscaled": (ACTOR.clone(scale_pixels=False), False),
    "mlp": (MLP((4,)), False),
}


@pytest.mark.parametrize("name", [pytest.param(row, marks=pytest.mark.slow if row != "cnn" else ()) for row in SCALING])
def test_statistics_do_not_change_pixels_that_a_network_scales(name, tmp_path):
    (network, scales), x, file = SCALING[name], images((4, 8, 8, 1)), tmp_path / "policy.safetensors"
    statistics = normalize.update(normalize.init((8, 8, 1)), x)
    policy = gaussjax.gaussian(network, PIXELS, Box(-1.0, 1.0, (2,)))
    params = policies.random_params(policy)
    seen = x if scales else normalize.apply(statistics, x)
    expected = policy.act(params, None, seen, deterministic=True).actions
    gaussjax.save(file, policy, params, normalizer=statistics)
    found = [gaussjax.serve(policy, params, statistics)(x), gaussjax.load(file).act(x).actions]
    for actions in (*found, np.asarray(gaussjax.torch.load(file).act(x).actions)):
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", [ACTOR, pytest.param(GRAPH_ACTOR, marks=pytest.mark.slow)], ids=["cnn", "graph"])
def test_pixels_given_by_hand_are_scaled_alike_as_integers_and_as_floats(network):
    policy = gaussjax.gaussian(network, PIXELS, Box(-1.0, 1.0, (2,)))
    params, x = policies.random_params(policy), images((3, 8, 8, 1))
    twin = gaussjax.torch.from_spec(policy.spec)
    tensors = to_torch(policy.spec, params)
    expected = policy.apply(params, x)[0].mean()
    for dtype in (np.uint8, np.int32, np.int64, np.float32):
        for given in (x.astype(dtype), x.astype(dtype).reshape(3, 64)):
            np.testing.assert_allclose(policy.apply(params, given)[0].mean(), expected, rtol=1e-6, atol=1e-6)
            found = twin.apply(tensors, given)[0].mean().detach()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
