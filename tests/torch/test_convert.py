"""Parameters of JAX as those of torch, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax.torch import from_spec, key, to_flax, to_torch
from tests import policies
from tests.parity.twins import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_round_trip_is_exact_and_the_first_parameters_of_a_key_are_the_same(name):
    policy, _ = policies.make(name)
    params = policy.init(jax.random.key(3))
    tensors = to_torch(policy.spec, params)
    back = to_flax(policy.spec, tensors)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(lambda one, other: bool((np.asarray(one) == other).all()), params, back))
    drawn = from_spec(policy.spec).init(key(3))
    assert drawn.keys() == tensors.keys()
    for name_, tensor in tensors.items():
        torch.testing.assert_close(drawn[name_], tensor, rtol=1e-5, atol=2e-6)


INITIALIZERS = {"he_normal": {}, "xavier_uniform": {"scale": 0.5}, "orthogonal": {"output_scale": 0.01}}


@pytest.mark.parametrize(
    ("network", "initializer", "options"),
    [
        pytest.param(network, *row, marks=pytest.mark.slow if network is gaussjax.networks.LSTM and i else ())
        for network in (gaussjax.networks.MLP, gaussjax.networks.LSTM)
        for i, row in enumerate(INITIALIZERS.items())
    ],
)
def test_initializers_draw_what_flax_draws(network, initializer, options):
    network = network(sizes=(8, 4), initializer=initializer, **options)
    policy = gaussjax.gaussian(network, 3, policies.UNIT)
    expected = to_torch(policy.spec, policy.init(jax.random.key(1)))
    for name, tensor in from_spec(policy.spec).init(key(1)).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=2e-6)


def test_memory_steps_draw_the_gates_biases_that_flax_draws():
    for network in (gaussjax.networks.LSTM, gaussjax.networks.GRU, gaussjax.networks.MinGRU):
        policy = gaussjax.gaussian(network(4, sizes=(), memory_steps=50), 3, policies.UNIT)
        expected = to_torch(policy.spec, policy.init(jax.random.key(1)))
        for name, tensor in from_spec(policy.spec).init(key(1)).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=2e-6)


def test_layouts_are_those_of_torch():
    network = gaussjax.networks.LSTM(hidden_size=6, num_layers=2, sizes=(8,))
    policy = gaussjax.gaussian(network, 3, policies.UNIT)
    tensors = to_torch(policy.spec, policy.init(jax.random.key(0)))
    module = torch.nn.LSTM(3, 6, num_layers=2)
    memory = {name.removeprefix("memory."): t for name, t in tensors.items() if name.startswith("memory.")}
    module.load_state_dict(memory)
    x = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(0))
    twin = from_spec(policy.spec)
    outputs = twin.apply(tensors, x, carry=twin.initial_carry((5,)))[1]
    torch.testing.assert_close(outputs["carry"][1].hidden, module(x)[1][0][1])


def test_the_images_of_a_plain_torch_network_are_flattened_in_its_order():
    images = gaussjax.spaces.Box(0.0, 255.0, (9, 8, 2), "uint8")
    network = gaussjax.networks.CNN((4,), (3,), (2,), sizes=(5,), activation="tanh", output_activation=None)
    policy = gaussjax.gaussian(network, images, policies.UNIT)
    params = policy.init(jax.random.key(0))
    tensors = to_torch(policy.spec, params)
    observations = np.random.default_rng(0).integers(0, 255, (3, 9, 8, 2)).astype(np.uint8)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 5), torch.nn.Tanh()
    )
    names = ["convolutions.0.weight", "convolutions.0.bias", "layers.dense_0.weight", "layers.dense_0.bias"]
    module.load_state_dict(dict(zip(module.state_dict(), (tensors[name] for name in names), strict=True)))
    features = module(torch.from_numpy(observations).float().permute(0, 3, 1, 2) / 255)
    mean = torch.nn.functional.linear(features, tensors["head.mean.weight"], tensors["head.mean.bias"])
    expected = policy.apply(params, observations)[1]["mean_actions"]
    np.testing.assert_allclose(mean.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused_by_name():
    policy, params = policies.make("gaussian")
    tensors = to_torch(policy.spec, params)
    wrong = {**tensors, "head.mean.weight": torch.zeros(3, 8), "extra": torch.zeros(1)}
    del wrong["layers.dense_1.bias"]
    with pytest.raises(ValueError, match="params: the leaves are not those of this policy") as raised:
        to_flax(policy.spec, wrong)
    for part in ("['layers.dense_1.bias'] is missing", "['extra'] is unknown", "expected (2, 8), got (3, 8)"):
        assert part in str(raised.value)
    with pytest.raises(ValueError, match=r"\['params'\]\['head'\]\['log_std'\] is missing"):
        to_torch(policy.spec, {"params": {**params["params"], "head": {"mean": params["params"]["head"]["mean"]}}})


def test_bfloat16_arrays_keep_their_bits():
    policy, params = policies.make("gaussian")
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    tensors = to_torch(policy.spec, half)
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors.values())
    back = to_flax(policy.spec, tensors)
    assert jax.tree.all(jax.tree.map(lambda one, other: bool((np.asarray(one) == other).all()), half, back))
