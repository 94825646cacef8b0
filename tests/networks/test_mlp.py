"""The MLP against its sums written out, its options, and its place in an actor-critic."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax.networks import MLP, ActorCritic
from gaussjax.spaces import Box
from tests import policies

OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
BOX = Box(-1.0, 1.0, (2,))


def made(network):
    policy = gaussjax.gaussian(network, 3, BOX)
    return policy, policies.random_params(policy)


def first(network, layer, inputs=3):
    """The initial parameters of one layer alone, so that no others are compiled."""
    policy = gaussjax.gaussian(network, inputs, BOX)
    return jax.jit(lambda key: policy.init(key)["params"]["layers"][layer])(jax.random.key(0))


def test_the_defaults_are_64_and_32_relu_units_and_a_tanh():
    policy, params = made(MLP())
    layers, head = params["params"]["layers"], params["params"]["head"]
    assert layers["dense_0"]["kernel"].shape == (3, 64)
    assert layers["dense_1"]["kernel"].shape == (64, 32)
    assert head["mean"]["kernel"].shape == (32, 2)
    x = np.maximum(OBSERVATIONS @ layers["dense_0"]["kernel"] + np.asarray(layers["dense_0"]["bias"])[None], 0.0)
    x = np.maximum(x @ layers["dense_1"]["kernel"] + np.asarray(layers["dense_1"]["bias"])[None], 0.0)
    mean = np.tanh(x @ head["mean"]["kernel"] + np.asarray(head["mean"]["bias"])[None])
    np.testing.assert_allclose(policy.apply(params, OBSERVATIONS)[1]["mean_actions"], mean, rtol=1e-5, atol=1e-6)


def test_biases_start_at_zero_and_kernels_at_the_scale_of_their_inputs():
    layer = first(MLP((400,)), "dense_0", inputs=400)
    np.testing.assert_array_equal(layer["bias"], np.zeros(400))
    # lecun_normal: variance 1/400; 160,000 numbers know their deviation to 0.2 %.
    assert np.std(layer["kernel"]) == pytest.approx(1 / 20, rel=0.01)


def test_orthogonal_kernels_are_orthogonal_times_the_scale():
    kernel = np.asarray(first(MLP((8, 8), initializer="orthogonal", scale=2.0), "dense_1")["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, 4.0 * np.eye(8), atol=1e-5)


def test_layer_norm_makes_the_features_blind_to_a_shift_of_their_inputs():
    policy, params = made(MLP((8,), norm="layer", activation=None, output_activation=None))
    layer = params["params"]["layers"]["dense_0"]
    shifted = jax.tree.map(lambda leaf: leaf, params)
    shifted["params"]["layers"]["dense_0"] = {**layer, "bias": layer["bias"] + 3.0}
    before, after = (policy.apply(tree, OBSERVATIONS)[1]["mean_actions"] for tree in (params, shifted))
    np.testing.assert_allclose(after, before, atol=2e-5)


def test_the_identity_is_no_norm_in_either_library():
    policy, params = made(MLP((8,), norm="identity"))
    plain, same = made(MLP((8,)))
    jax.tree.map(np.testing.assert_array_equal, params, same)
    expected = plain.apply(params, OBSERVATIONS)[1]["mean_actions"]
    np.testing.assert_array_equal(policy.apply(params, OBSERVATIONS)[1]["mean_actions"], expected)
    twin, tensors = gaussjax.torch.from_spec(policy.spec), gaussjax.torch.to_torch(policy.spec, params)
    np.testing.assert_allclose(twin.apply(tensors, OBSERVATIONS)[1]["mean_actions"].detach(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "network",
    [MLP(8), MLP((8,), activation=8), MLP((8, 8), activation=("relu",)), MLP(norm="batch")],
    ids=["sizes", "number", "activations", "norm"],
)
def test_both_libraries_refuse_a_network_in_the_same_words(network):
    with pytest.raises((TypeError, ValueError), match=r"^(sizes|activation|norm): expected .*, got ") as ours:
        made(network)
    with pytest.raises(type(ours.value), match=re.escape(str(ours.value))):
        gaussjax.torch.gaussian(network, 3, BOX)


def test_an_activation_may_be_the_function_itself():
    by_name, params = made(MLP((8, 8), activation=("tanh", "relu"), output_activation="softsign"))
    functions = MLP((8, 8), activation=(jnp.tanh, jax.nn.relu), output_activation=jax.nn.soft_sign)
    policy, _ = made(functions)
    assert policy.spec == by_name.spec
    assert policy.spec.to_dict() == by_name.spec.to_dict()
    found, expected = (each.apply(params, OBSERVATIONS)[1]["mean_actions"] for each in (policy, by_name))
    np.testing.assert_array_equal(found, expected)
    twin, tensors = gaussjax.torch.from_spec(policy.spec), gaussjax.torch.to_torch(policy.spec, params)
    np.testing.assert_allclose(twin.apply(tensors, OBSERVATIONS)[1]["mean_actions"].detach(), expected, atol=1e-6)


@pytest.mark.parametrize("field", ["activation", "output_activation"])
def test_a_function_without_a_name_works_and_is_not_written(field, tmp_path):
    def cubed(x):
        return x**3

    policy, params = made(MLP((8,), **{"activation": None, "output_activation": None, field: cubed}))
    plain, _ = made(MLP((8,), activation=None, output_activation=None))
    if field == "output_activation":
        expected = plain.apply(params, OBSERVATIONS)[1]["mean_actions"] ** 3
        np.testing.assert_allclose(policy.apply(params, OBSERVATIONS)[1]["mean_actions"], expected, rtol=1e-6)
    says = "activation: expected a name from gaussjax.networks.ACTIVATIONS, got the function 'cubed'"
    for refused in (
        policy.spec.to_dict,
        lambda: gaussjax.save(tmp_path / "policy", policy, params),
        lambda: gaussjax.torch.from_spec(policy.spec),
    ):
        with pytest.raises(TypeError, match=says):
            refused()


def test_an_open_output_activation_is_a_tanh_unless_the_kind_of_policy_says_otherwise():
    from gaussjax.networks.description import bind

    space = Box(shape=(3,))
    for fields, expected in (((), "tanh"), ([("output_activation", None)], None)):
        bound = bind(MLP(), space, 2, fields)
        assert bound.gaussian_head(parent=None).output_activation == expected
    closed = MLP(output_activation="relu", off_diagonal=False)
    bound = bind(ActorCritic(closed, critic=MLP()), space, 2, [("output_activation", None), ("off_diagonal", True)])
    assert (bound.actor.output_activation, bound.actor.off_diagonal) == ("relu", False)
    assert (bound.critic.output_activation, bound.critic.off_diagonal) == (None, True)
    assert bound.actor.num_actions == 2


def test_a_bfloat16_trunk_keeps_float32_parameters_and_results():
    policy, params = made(MLP((8, 8), dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    mean = policy.apply(params, OBSERVATIONS)[1]["mean_actions"]
    assert mean.dtype == np.float32
    exact = made(MLP((8, 8)))[0].apply(params, OBSERVATIONS)[1]["mean_actions"]
    np.testing.assert_allclose(mean, exact, atol=0.03)  # two layers of roundoff 2⁻⁸
    assert np.any(mean != exact)
