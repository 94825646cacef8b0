"""A policy as a value: equality, hashing, pickling, copies, noise and kinds of one's own."""

import copy
import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax import distributions
from gaussjax.networks import MLP
from gaussjax.policy import Kind, build
from gaussjax.spaces import Box
from tests import policies

BOX = Box(-1.0, 1.0, (2,))
ROWS = [row for row in policies.TABLE if "plain" not in row and "own" not in row]


@pytest.mark.parametrize("row", ROWS)
def test_policies_compare_by_their_spec_and_pickle(row):
    case = policies.TABLE[row]
    one, other = (
        case.factory(case.network, case.observation_space, case.action_space, **case.options) for _ in range(2)
    )
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert gaussjax.from_spec(json.loads(json.dumps(one.spec.to_dict()))) == one
    assert one != case.factory(case.network, case.observation_space, case.action_space, max_log_std=1.5)


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
        act(policy, policy.init(jax.random.key(0)), np.zeros(3, np.float32))
    assert len(traced) == 1


@pytest.mark.parametrize("row", ["gaussian", "squashed", "multivariate", "gaussian-cnn"])
@pytest.mark.parametrize("batch_shape", [(), (3,), (2, 3)])
def test_noise_is_what_act_draws(row, batch_shape):
    policy, params = policies.make(row)
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


@distributions.register
class Logistic(distributions.Distribution):
    """A logistic distribution, as a user writes one."""

    loc: jax.Array
    log_std: jax.Array

    def _scale(self):
        return jnp.exp(self.log_std) * (3.0**0.5 / jnp.pi)

    def from_noise(self, noise):
        return self.loc + self._scale() * (jax.scipy.stats.norm.logcdf(noise) - jax.scipy.stats.norm.logcdf(-noise))

    def noise_log_prob(self, noise, reduction="sum"):
        return self.log_prob(self.from_noise(noise), reduction)

    def log_prob(self, actions, reduction="sum"):
        terms = jax.scipy.stats.logistic.logpdf(actions, self.loc, self._scale())
        return distributions.reduce(terms, reduction)

    def entropy(self, reduction="sum"):
        return distributions.reduce(2.0 + jnp.log(self._scale()), reduction)

    def mean(self):
        return self.loc


def make_logistic(mean, log_std, outputs):
    return Logistic(mean, log_std)


LOGISTIC = Kind("logistic", make_logistic)


def test_a_kind_of_ones_own_is_a_policy_like_any_other(tmp_path):
    policy = build(LOGISTIC, MLP((8,)), 3, BOX, note="mine")
    params, key = policy.init(jax.random.key(0)), jax.random.key(1)
    observations = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    result = jax.jit(policy.act)(params, key, observations)
    scored = policy.evaluate(params, observations, raw_actions=result.outputs["raw_actions"])
    np.testing.assert_allclose(scored.log_prob, result.log_prob, rtol=1e-5, atol=1e-5)
    error = float(jnp.std(result.log_prob)) / 20_000**0.5
    assert float(-jnp.mean(result.log_prob)) == pytest.approx(float(jnp.mean(scored.entropy)), abs=5 * error)
    calm = policy.act(params, None, observations, deterministic=True)
    np.testing.assert_allclose(calm.actions, result.outputs["mean_actions"], atol=1e-6)
    assert pickle.loads(pickle.dumps(policy)) == policy == build(LOGISTIC, MLP((8,)), 3, BOX, note="mine")
    described = policy.spec.to_dict()
    assert (described["kind"], described["options"]["note"]) == ("logistic", "mine")
    assert gaussjax.from_spec(json.loads(json.dumps(described)), kind=LOGISTIC) == policy
    with pytest.raises(ValueError, match="policy kind: expected one of"):
        gaussjax.from_spec(described)
    with pytest.raises(ValueError, match="kind: expected the kind 'gaussian' that the spec names, got 'logistic'"):
        gaussjax.from_spec(policies.make("gaussian")[0].spec, kind=LOGISTIC)
    gaussjax.strict(policy).act(params, key, observations[:2])
