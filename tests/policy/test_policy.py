"""A policy as a value: equality, hashing, pickling, copies, noise and kinds of one's own."""

import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax.networks import MLP
from gaussjax.policy import Kind, build
from gaussjax.spaces import Box
from tests import policies
from tests.distributions.test_distribution import Laplace

BOX = Box(-1.0, 1.0, (2,))


def test_a_torch_policy_pickles_and_differs_from_its_twin():
    policy = gaussjax.gaussian(MLP((4,)), 3, BOX)
    twin = gaussjax.torch.from_spec(policy.spec)
    assert pickle.loads(pickle.dumps(twin)) == twin == gaussjax.torch.gaussian(MLP((4,)), 3, BOX)
    assert twin != policy


def test_an_equal_policy_is_a_static_argument_that_does_not_retrace():
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def act(policy, params, observations):
        traced.append(policy)
        return policy.act(params, None, observations, deterministic=True).actions

    for _ in range(3):
        policy = gaussjax.gaussian(MLP((4,)), 3, BOX)
        act(policy, policies.random_params(policy), np.zeros(3, np.float32))
    assert len(traced) == 1


@pytest.mark.common
@pytest.mark.parametrize("name", ["gaussian", "squashed", "multivariate", "gaussian-cnn"])
@pytest.mark.parametrize("batch_shape", [(), (2, 3)])
def test_noise_is_what_act_draws(name, batch_shape):
    policy, params = policies.make(name)
    key, observations = jax.random.key(3), policies.observations(policy, batch_shape)
    drawn = policy.act(params, key, observations)
    given = policy.act(params, None, observations, noise=policy.noise(key, batch_shape))
    jax.tree.map(np.testing.assert_array_equal, drawn, given)


def test_noise_is_what_act_draws_in_torch():
    policy = gaussjax.torch.gaussian(MLP((4,)), 3, BOX)
    key = gaussjax.torch.key(1)
    params, observations = policy.init(gaussjax.torch.key(0)), np.zeros((5, 3), np.float32)
    drawn = policy.act(params, key, observations)
    given = policy.act(params, None, observations, noise=policy.noise(key, (5,)))
    assert bool((drawn.actions == given.actions).all())


def test_the_total_entropy_is_that_of_evaluate():
    policy, params = policies.make("gaussian")
    observations = policies.observations(policy, (4,))
    scored = policy.evaluate(params, observations, raw_actions=np.zeros((4, 2), np.float32))
    np.testing.assert_allclose(policy.entropy(params, observations, reduction="sum"), scored.entropy, rtol=1e-6)
    assert policy.entropy(params, observations).shape == (4, 2)


def make_laplace(mean, log_std, outputs):
    return Laplace(mean, log_std - 0.5 * jnp.log(2.0))


LAPLACE = Kind("laplace", make_laplace)


def test_a_kind_of_ones_own_is_a_policy_like_any_other(tmp_path):
    policy = build(LAPLACE, MLP((8,)), 3, BOX, note="mine")
    params, key = policies.random_params(policy), jax.random.key(1)
    observations = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    result = jax.jit(policy.act)(params, key, observations)
    scored = policy.evaluate(params, observations, raw_actions=result.outputs["raw_actions"])
    np.testing.assert_allclose(scored.log_prob, result.log_prob, rtol=1e-5, atol=1e-5)
    error = float(jnp.std(result.log_prob)) / 20_000**0.5
    assert float(-jnp.mean(result.log_prob)) == pytest.approx(float(jnp.mean(scored.entropy)), abs=5 * error)
    calm = policy.act(params, None, observations, deterministic=True)
    np.testing.assert_allclose(calm.actions, result.outputs["mean_actions"], atol=1e-6)
    assert pickle.loads(pickle.dumps(policy)) == policy == build(LAPLACE, MLP((8,)), 3, BOX, note="mine")
    described = policy.spec.to_dict()
    assert (described["kind"], described["options"]["note"]) == ("laplace", "mine")
    assert gaussjax.from_spec(json.loads(json.dumps(described)), kind=LAPLACE) == policy
    with pytest.raises(ValueError, match="policy kind: expected one of"):
        gaussjax.from_spec(described)
    with pytest.raises(ValueError, match="kind: expected the kind 'gaussian' that the spec names, got 'laplace'"):
        gaussjax.from_spec(policies.make("gaussian")[0].spec, kind=LAPLACE)
    gaussjax.strict(policy).act(params, key, observations[:2])
    gaussjax.save(tmp_path / "mine.safetensors", policy, params)
    assert gaussjax.load(tmp_path / "mine.safetensors", kind=LAPLACE).policy == policy
