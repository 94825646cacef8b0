"""A served policy acts as the policy does."""

import jax
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax import normalize
from tests import policies

BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.common
@pytest.mark.parametrize("name", ["gaussian", "squashed", "truncated", "multivariate"])
def test_served_actions_are_those_of_act(name) -> None:
    policy, params = policies.make(name)
    statistics = normalize.update(normalize.init((3,)), 3.0 * OBSERVATIONS + 1.0)
    for normalizer in (None, statistics):
        seen = OBSERVATIONS if normalizer is None else normalize.apply(normalizer, OBSERVATIONS)
        act = gaussjax.serve(policy, params, normalizer)
        for key in (None, jax.random.key(1)):
            expected = policy.act(params, key, seen, deterministic=key is None).actions
            np.testing.assert_allclose(act(OBSERVATIONS, key), expected, rtol=1e-6, atol=1e-7)


def test_later_changes_of_the_parameters_have_no_effect() -> None:
    policy = policies.build("gaussian")
    params = jax.tree.map(np.array, policies.random_params(policy))
    tensors = gaussjax.torch.to_torch(policy.spec, params)
    twin = gaussjax.torch.serve(gaussjax.torch.from_spec(policy.spec), tensors)
    acts = (gaussjax.serve(policy, params), lambda seen: twin(torch.tensor(seen)))
    before = [np.asarray(act(OBSERVATIONS)) for act in acts]
    jax.tree.map(lambda leaf: leaf.fill_(5.0) if torch.is_tensor(leaf) else leaf.fill(5.0), (params, tensors))
    for act, expected in zip(acts, before, strict=True):
        # Another number of rows is another program.
        np.testing.assert_allclose(act(OBSERVATIONS[:3]), expected[:3], rtol=1e-6)


def test_a_recurrent_policy_is_refused() -> None:
    policy = gaussjax.gaussian(gaussjax.networks.GRU(hidden_size=4, sizes=(4,)), 3, BOX)
    with pytest.raises(ValueError, match=r"policy: expected a network that is not recurrent"):
        gaussjax.serve(policy, policies.random_params(policy))


@pytest.mark.parametrize("keys", [("state",), ("state", "mode")])
@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_critic_and_its_observations_are_not_needed(keys, shared) -> None:
    space = gaussjax.spaces.Dict(
        (("state", gaussjax.spaces.Box(shape=(3,))), ("mode", gaussjax.spaces.Discrete(2)), ("all", BOX))
    )
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,)), shared=shared, actor_keys=keys)
    policy = gaussjax.gaussian(network, space, BOX)
    params = policies.random_params(policy)
    whole = {"state": OBSERVATIONS, "mode": np.array([0, 1, 1, 0, 1]), "all": np.zeros((5, 2), np.float32)}
    expected = policy.act(params, None, whole, deterministic=True).actions
    act = gaussjax.serve(policy, params)
    seen = whole["state"] if len(keys) == 1 else {key: whole[key] for key in keys}
    for given in (whole, seen):
        np.testing.assert_allclose(act(given), expected, rtol=1e-6, atol=1e-7)
    alone, params = gaussjax.networks.actor(policy, params)
    assert "value" not in alone.act(params, None, seen, deterministic=True).outputs


@pytest.mark.parametrize("torch", [False, True], ids=["jax", "torch"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["mlp", "gru"])
def test_a_loaded_policy_acts_with_its_normaliser(tmp_path, recurrent, torch) -> None:
    make = gaussjax.networks.GRU if recurrent else gaussjax.networks.MLP
    sizes = {"hidden_size": 4, "sizes": (4,)} if recurrent else {"sizes": (8,)}
    network = gaussjax.networks.ActorCritic(make(**sizes), critic=make(**sizes))
    policy = gaussjax.gaussian(network, 3, BOX)
    params = policies.random_params(policy)
    # The clip of a training is in its file, and bounds some of the observations.
    statistics = normalize.update(normalize.init((3,), clip=0.25), 3.0 * OBSERVATIONS + 1.0)
    file = tmp_path / "policy.safetensors"
    gaussjax.save(file, policy, params, normalizer=statistics)
    seen = normalize.apply(statistics, OBSERVATIONS, clip=0.25)
    assert np.any(np.abs(seen) == 0.25)
    memory = {"carry": policy.initial_carry((5,))} if recurrent else {}
    expected = policy.act(params, None, seen, deterministic=True, **memory)
    loaded = gaussjax.torch.load(file) if torch else gaussjax.load(file)
    for carry in [loaded.initial_carry((5,)), loaded.policy.initial_carry((5,))] if recurrent else [None]:
        found = loaded.act(OBSERVATIONS, carry=carry)
        np.testing.assert_allclose(np.asarray(found.actions), expected.actions, rtol=2e-6, atol=1e-6)
        assert "value" not in found.outputs
    if recurrent:
        again = loaded.act(OBSERVATIONS, carry=found.outputs["carry"], resets=np.ones(5, bool))
        np.testing.assert_allclose(np.asarray(again.actions), expected.actions, rtol=2e-6, atol=1e-6)
    else:
        served = (gaussjax.torch.serve if torch else gaussjax.serve)(*loaded[:3])
        np.testing.assert_allclose(np.asarray(served(OBSERVATIONS)), expected.actions, rtol=2e-6, atol=1e-6)
    noise = np.full((5, 2), 0.5, np.float32)
    moved = loaded.act(OBSERVATIONS, noise=noise, carry=loaded.initial_carry((5,)) if recurrent else None)
    by_hand = policy.act(params, None, seen, noise=noise, **memory)
    np.testing.assert_allclose(np.asarray(moved.actions), by_hand.actions, rtol=2e-6, atol=1e-6)
    key = (gaussjax.torch.key if torch else jax.random.key)(1)
    sampled = loaded.act(OBSERVATIONS, key, carry=loaded.initial_carry((5,)) if recurrent else None)
    assert np.abs(np.asarray(sampled.actions) - expected.actions).max() > 0.1
