"""A policy as a value: equality, hashing, pickling, copies, noise and kinds of one's own."""

import copy
import functools
import json
import multiprocessing
import pickle
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax.networks import MLP
from gaussjax.policy import Kind, build
from gaussjax.spaces import Box
from gaussjax.training import bc, ppo, sac
from tests import policies
from tests.distributions.test_distribution import Laplace

BOX = Box(-1.0, 1.0, (2,))


def test_a_torch_policy_differs_from_its_twin():
    policy = gaussjax.gaussian(MLP((4,)), 3, BOX)
    twin = gaussjax.torch.from_spec(policy.spec)
    assert twin == gaussjax.torch.gaussian(MLP((4,)), 3, BOX)
    assert twin != policy


KINDS = ("gaussian", "gaussian-censored", "squashed", "multivariate", "gaussian-own-module")
VALUES = {
    **{name: lambda name=name: policies.build(name) for name in KINDS},
    "strict": lambda: gaussjax.strict(policies.build("gaussian-lstm")),
    "torch": lambda: gaussjax.torch.from_spec(policies.build("squashed").spec),
    "strict torch": lambda: gaussjax.torch.strict(gaussjax.torch.from_spec(policies.build("gaussian-cnn").spec)),
    "ppo.Config": lambda: ppo.Config(hidden_sizes=(8,), activation="elu"),
    "sac.Config": lambda: sac.Config(hidden_sizes=(8,)),
    "bc.Config": lambda: bc.Config(hidden_sizes=(8,)),
}


@pytest.mark.parametrize("name", VALUES)
def test_policies_and_configurations_equal_their_copies(name):
    value = VALUES[name]()
    cloudpickle = pytest.importorskip("cloudpickle")
    for copied in (
        pickle.loads(pickle.dumps(value)),
        pickle.loads(cloudpickle.dumps(value)),
        copy.copy(value),
        copy.deepcopy(value),
    ):
        assert copied == value
        assert hash(copied) == hash(value)


@pytest.mark.parametrize("library", [gaussjax, gaussjax.torch], ids=["jax", "torch"])
def test_a_loaded_file_and_a_served_policy_have_copies_that_act_alike(library, tmp_path):
    policy, params = policies.make("squashed")
    statistics = gaussjax.normalize.Statistics(np.float32(2.0), np.ones(3, np.float32), np.ones(3, np.float32))
    gaussjax.save(tmp_path / "policy", policy, params, normalizer=statistics)
    loaded, observations = library.load(tmp_path / "policy"), policies.observations(policy, (2,))
    act = library.serve(loaded.policy, loaded.params, loaded.normalizer)
    expected = loaded.act(observations).actions
    for way in (lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy):
        copied = way(loaded)
        assert type(copied) is type(loaded)
        assert (copied.policy, copied.metadata) == (loaded.policy, loaded.metadata)
        for found in (copied.act(observations).actions, way(act)(observations)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_policies_and_served_functions_reach_spawned_processes():
    policy, params = policies.make("multivariate")
    observations, act = policies.observations(policy, (2,)), gaussjax.serve(policy, params)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(copy.copy, (policy,)) == policy
        np.testing.assert_allclose(pool.apply(act, (observations,)), act(observations), rtol=1e-6)


class Holding(nn.Module):
    """A module of a user with a field of any type."""

    table: Any = None
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observations):
        return nn.Dense(self.num_actions)(observations), jnp.zeros(self.num_actions), {}


FIELDS = {
    "array": (np.arange(3.0), np.arange(3)),
    "JAX array": (jnp.arange(5.0), jnp.arange(4.0)),
    "NumPy number": (np.float32(2.0), np.float32(3.0)),
    "dict": ({"a": [1, np.ones(2)], "b": 2}, {"a": [1, np.zeros(2)], "b": 2}),
    "list of arrays": ([np.ones(2)], [np.ones(3)]),
    "set": ({1, 2}, {1, 3}),
    "module": (nn.Dense(3), nn.Dense(4)),
}


@pytest.mark.without("jax_disable_jit")
def test_policies_compare_the_fields_of_a_users_module_whatever_their_type():
    made = {
        name: [gaussjax.gaussian(Holding(field), 3, BOX) for field in (one, copy.deepcopy(one), other)]
        for name, (one, other) in FIELDS.items()
    }
    for name, (one, same, other) in made.items():
        assert one == same, name
        assert hash(one) == hash(same), name
        assert one != other, name
    # JAX also compares static arguments with different hashes.
    traced = []
    spec = jax.jit(lambda policy: traced.append(policy), static_argnums=0)
    for triple in (*made.values(), *made.values()):
        for policy in triple:
            spec(policy)
    assert len(traced) == 2 * len(made)


@pytest.mark.without("jax_disable_jit")
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


@pytest.mark.without("jax_debug_key_reuse")
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


@pytest.mark.without("jax_debug_key_reuse")
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
