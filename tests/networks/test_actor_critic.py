import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax.networks import CNN, GRU, LSTM, MLP, ActorCritic
from gaussjax.spaces import Box, Dict
from tests import policies

ACTIONS = Box(shape=(2,))
SIGHT = Dict((("camera", Box(0, 255, (6, 6, 1), "uint8")), ("goal", Box(shape=(2,))), ("state", Box(shape=(4,)))))


def sights(batch, seed=0):
    generator = np.random.default_rng(seed)
    return {
        "camera": generator.integers(0, 256, (*batch, 6, 6, 1)).astype(np.uint8),
        "goal": generator.normal(size=(*batch, 2)).astype(np.float32),
        "state": generator.normal(size=(*batch, 4)).astype(np.float32),
    }


def make(network, space=3):
    policy = gaussjax.gaussian(network, space, ACTIONS)
    return policy, policies.random_params(policy)


def differs(a, b):
    return np.max(np.abs(np.asarray(a) - np.asarray(b))) > 1e-4


@pytest.mark.parametrize("shared", [False, True])
def test_the_value_trains_the_actors_trunk_only_if_it_is_shared(shared):
    policy, params = make(ActorCritic(MLP((8,)), shared=shared))
    assert params["params"]["critic_value"]["kernel"].shape == ((8, 1) if shared else (64, 1))

    def trained(output):
        gradient = jax.grad(lambda p: jnp.sum(policy.apply(p, np.ones((5, 3), np.float32))[1][output]))
        leaves = jax.tree_util.tree_leaves_with_path(jax.jit(gradient)(params)["params"])
        return {jax.tree_util.keystr(path) for path, leaf in leaves if np.any(leaf)}

    by_value, by_mean = trained("value"), trained("mean_actions")
    assert not any("head" in path for path in by_value)
    assert any("critic" in path for path in by_value)
    assert any("head" in path for path in by_mean)
    assert not any("critic" in path for path in by_mean)
    assert by_value & by_mean == {path for path in by_mean if "layers" in path and shared}


@pytest.mark.parametrize("batch_shape", [(), (5,), (4, 5)])
def test_the_value_is_float32_and_has_no_last_axis_behind_bfloat16_trunks_too(batch_shape):
    for dtype in (None, "bfloat16"):
        policy, params = make(ActorCritic(MLP((8,), dtype=dtype), dtype=dtype))
        distribution, outputs = jax.eval_shape(policy.apply, params, np.ones((*batch_shape, 3), np.float32))
        assert outputs["value"].shape == batch_shape
        assert outputs["value"].dtype == distribution.loc.dtype == jnp.float32


def test_actor_and_critic_see_only_their_own_observations():
    network = ActorCritic(
        CNN(channels=(2,), kernels=(3,), strides=(1,), sizes=(8,), activation="relu"),
        actor_keys=("camera",),
        critic_keys=("state", "goal"),
    )
    policy, params = make(network, SIGHT)
    observations = sights((3,))
    distribution, outputs = policy.apply(params, observations)
    for key in SIGHT.items:
        changed, other = policy.apply(params, {**observations, key[0]: sights((3,), 1)[key[0]]})
        assert differs(changed.mean(), distribution.mean()) == (key[0] == "camera")
        assert differs(other["value"], outputs["value"]) == (key[0] != "camera")


@pytest.mark.parametrize(
    "network",
    [
        ActorCritic(LSTM(hidden_size=5, sizes=(4,)), sizes=(4,)),
        ActorCritic(LSTM(hidden_size=5, sizes=(4,)), shared=True),
        pytest.param(
            ActorCritic(LSTM(hidden_size=5, sizes=(4,)), critic=GRU(hidden_size=6, sizes=())), marks=pytest.mark.slow
        ),
        ActorCritic(MLP((4,)), critic=GRU(hidden_size=6, sizes=())),
    ],
    ids=["own", "shared", "both", "critic-only"],
)
def test_recurrent_parts_step_and_unroll_alike(network):
    policy, params = make(network)
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(9, 4, 3)).astype(np.float32)
    resets = generator.random((9, 4)) < 0.3
    carry = policy.initial_carry((4,))
    recurrent = {name for name in ("actor", "critic") if hasattr(getattr(network, name), "initial_carry")}
    assert carry.keys() == recurrent

    def step(carry, inputs):
        distribution, outputs = policy.apply(params, inputs[0], carry=carry, resets=inputs[1])
        return outputs["carry"], (distribution.mean(), outputs["value"])

    last, (means, values) = jax.lax.scan(step, carry, (observations, resets))
    distribution, outputs = policy.apply(params, observations, carry=carry, resets=resets)
    np.testing.assert_allclose(distribution.mean(), means, atol=1e-6)
    np.testing.assert_allclose(outputs["value"], values, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), outputs["carry"], last)
    with pytest.raises(ValueError, match="carry: expected the state of this recurrent network, got None"):
        policy.apply(params, observations)


def test_a_critic_network_has_no_parameters_of_a_head():
    _, params = make(ActorCritic(MLP((8,)), critic=MLP((8, 6))))
    assert params["params"]["critic"].keys() == {"layers"}
    assert params["params"]["critic_value"]["kernel"].shape == (6, 1)


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="shared: expected neither critic= nor critic_keys="):
        make(ActorCritic(MLP(), critic=MLP(), shared=True))
    with pytest.raises(ValueError, match=r"observation key: expected one of .* got 'gaol'. Did you mean 'goal'\?"):
        make(ActorCritic(MLP(), critic_keys=("gaol",)), SIGHT)
    with pytest.raises(ValueError, match="keys: expected names of entries of a Dict observation space"):
        make(ActorCritic(MLP(), actor_keys=("goal",)))


def test_the_critic_gets_the_pixels_scaled_as_the_actor_does():
    images = Box(0, 255, (6, 6, 2), "uint8")

    def make(scale_pixels):
        actor = CNN((3,), (3,), (2,), sizes=(4,), activation="tanh", scale_pixels=scale_pixels)
        network = ActorCritic(actor, sizes=(4,))
        return gaussjax.gaussian(network, images, ACTIONS)

    policy, pixels = make(None), np.random.default_rng(0).integers(0, 256, (4, 6, 6, 2)).astype(np.uint8)
    params = policies.random_params(policy)
    expected = make(False).apply(params, pixels.astype(np.float32) / 255)[1]["value"]
    twin = gaussjax.torch.from_spec(policy.spec).apply(gaussjax.torch.to_torch(policy.spec, params), pixels)
    for value in (policy.apply(params, pixels)[1]["value"], twin[1]["value"].detach()):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
