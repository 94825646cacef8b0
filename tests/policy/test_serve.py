"""A served policy acts as the policy does."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax.policy.serve import serve

BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.squashed_gaussian])
def test_served_actions_are_those_of_act(factory, deterministic) -> None:
    policy = factory(gaussjax.networks.MLP((8,), "elu"), 3, BOX)
    params, key = policy.init(jax.random.key(0)), jax.random.key(1)
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = policy.act(params, key, observations, deterministic=deterministic).actions
    act = serve(policy, params, deterministic=deterministic)
    np.testing.assert_allclose(act(key, observations), expected, rtol=1e-6, atol=1e-7)
    if deterministic:
        np.testing.assert_allclose(act(None, observations), expected, rtol=1e-6, atol=1e-7)


def test_a_policy_with_memory_is_refused() -> None:
    policy = gaussjax.gaussian(gaussjax.networks.GRU(hidden_size=4, sizes=(4,)), 3, BOX)
    with pytest.raises(ValueError, match=r"policy: expected one without memory"):
        serve(policy, policy.init(jax.random.key(0)))
