"""Parameters of JAX as those of torch, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax import networks
from gaussjax.torch import from_spec, key, to_flax, to_torch
from tests import policies
from tests.parity.twins import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_round_trip_is_exact(name):
    policy = policies.build(name)
    params = policies.random_params(policy)
    jax.tree.map(np.testing.assert_array_equal, to_flax(policy.spec, to_torch(policy.spec, params)), params)


def plain(network, space=3):
    return gaussjax.gaussian(network, space, policies.UNIT)


# Each kind of layer and of initializer, alone and inside another network.
CNN = policies.TABLE["gaussian-cnn"].network
LSTM = networks.LSTM(4, sizes=(), initializer="he_normal", memory_steps=50)
FEW = {
    "actor-critic": plain(networks.ActorCritic(LSTM, sizes=(8,))),
    "min-gru": plain(networks.MinGRU(4, sizes=(), memory_steps=50)),
    "state": plain(networks.MLP((8,), std="state", norm="layer", initializer="xavier_uniform", scale=0.5)),
    "cnn": plain(
        CNN.copy(initializer="orthogonal", output_scale=0.01), policies.TABLE["gaussian-cnn"].observation_space
    ),
}
INITIALIZERS = {"he_normal": {}, "xavier_uniform": {"scale": 0.5}, "orthogonal": {"output_scale": 0.01}}
MORE = {
    f"{network.__name__}, {initializer}": plain(network(sizes=(8, 4), initializer=initializer, **options, **size))
    for network, size in ((networks.MLP, {}), (networks.LSTM, {"hidden_size": 8}))
    for initializer, options in INITIALIZERS.items()
}
MORE |= {"gru": plain(networks.GRU(4, sizes=(), memory_steps=50)), **{name: policies.build(name) for name in NAMES}}


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_the_first_parameters_of_a_key_are_those_of_flax(name):
    policy = {**FEW, **MORE}[name]
    drawn, expected = from_spec(policy.spec).init(key(3)), to_torch(policy.spec, policy.init(jax.random.key(3)))
    assert drawn.keys() == expected.keys()
    for leaf, tensor in drawn.items():
        torch.testing.assert_close(tensor, expected[leaf], rtol=1e-5, atol=2e-6)


def test_layouts_are_those_of_torch():
    policy = policies.build("gaussian-lstm")
    tensors = to_torch(policy.spec, policies.random_params(policy))
    module = torch.nn.LSTM(3, 6, num_layers=2)
    memory = {name.removeprefix("memory."): t for name, t in tensors.items() if name.startswith("memory.")}
    module.load_state_dict(memory)
    x = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(0))
    twin = from_spec(policy.spec)
    outputs = twin.apply(tensors, x, carry=twin.initial_carry((5,)))[1]
    torch.testing.assert_close(outputs["carry"][1].hidden, module(x)[1][0][1])


def test_the_images_of_a_plain_torch_network_are_flattened_in_its_order():
    images = gaussjax.spaces.Box(0.0, 255.0, (9, 8, 2), "uint8")
    network = networks.CNN((4,), (3,), (2,), sizes=(5,), activation="tanh", output_activation=None)
    policy = gaussjax.gaussian(network, images, policies.UNIT)
    params = policies.random_params(policy)
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
    policy = policies.build("gaussian")
    params = policies.random_params(policy)
    tensors = to_torch(policy.spec, params)
    wrong = {**tensors, "head.mean.weight": torch.zeros(3, 8), "extra": torch.zeros(1)}
    del wrong["layers.dense_1.bias"]
    with pytest.raises(ValueError, match="params: expected the leaves of this policy, got others") as raised:
        to_flax(policy.spec, wrong)
    for part in ("['layers.dense_1.bias'] is missing", "['extra'] is unknown", "expected (2, 8), got (3, 8)"):
        assert part in str(raised.value)
    with pytest.raises(ValueError, match=r"\['params'\]\['head'\]\['log_std'\] is missing"):
        to_torch(policy.spec, {"params": {**params["params"], "head": {"mean": params["params"]["head"]["mean"]}}})


def test_bfloat16_arrays_keep_their_bits():
    policy = policies.build("gaussian")
    params = policies.random_params(policy)
    half = policies.as_type(params, jnp.bfloat16)
    tensors = to_torch(policy.spec, half)
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors.values())
    jax.tree.map(np.testing.assert_array_equal, to_flax(policy.spec, tensors), half)
