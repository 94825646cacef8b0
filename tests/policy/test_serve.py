"""A served policy acts as the policy does."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import normalize

BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["deterministic", "random"])
@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian])
def test_served_actions_are_those_of_act(factory, key) -> None:
    policy = factory(gaussjax.networks.MLP((8,), "elu"), 3, BOX)
    params = policy.init(jax.random.key(0))
    statistics = normalize.update(normalize.init((3,)), 3.0 * OBSERVATIONS + 1.0)
    for normalizer in (None, statistics):
        seen = OBSERVATIONS if normalizer is None else normalize.apply(normalizer, OBSERVATIONS)
        expected = policy.act(params, key, seen, deterministic=key is None).actions
        act = gaussjax.serve(policy, params, normalizer)
        np.testing.assert_allclose(act(OBSERVATIONS, key), expected, rtol=1e-6, atol=1e-7)


def test_a_recurrent_policy_is_refused() -> None:
    policy = gaussjax.gaussian(gaussjax.networks.GRU(hidden_size=4, sizes=(4,)), 3, BOX)
    with pytest.raises(ValueError, match=r"policy: expected a network that is not recurrent"):
        gaussjax.serve(policy, policy.init(jax.random.key(0)))


@pytest.mark.parametrize("keys", [("state",), ("state", "mode")])
@pytest.mark.parametrize("shared", [False, True])
def test_the_critic_and_its_observations_are_not_needed(keys, shared) -> None:
    space = gaussjax.spaces.Dict(
        (("state", gaussjax.spaces.Box(shape=(3,))), ("mode", gaussjax.spaces.Discrete(2)), ("all", BOX))
    )
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,)), shared=shared, actor_keys=keys)
    policy = gaussjax.gaussian(network, space, BOX)
    params = policy.init(jax.random.key(0))
    whole = {"state": OBSERVATIONS, "mode": np.array([0, 1, 1, 0, 1]), "all": np.zeros((5, 2), np.float32)}
    expected = policy.act(params, None, whole, deterministic=True).actions
    act = gaussjax.serve(policy, params)
    seen = whole["state"] if len(keys) == 1 else {key: whole[key] for key in keys}
    for given in (whole, seen):
        np.testing.assert_allclose(act(given), expected, rtol=1e-6, atol=1e-7)
    alone, params = gaussjax.networks.actor(policy, params)
    assert "value" not in alone.act(params, None, seen, deterministic=True).outputs
