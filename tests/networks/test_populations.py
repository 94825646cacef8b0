import jax
import numpy as np
import pytest

import gaussjax
from gaussjax.networks import CNN, GRU, LSTM, MLP, RNN, ActorCritic, Graph, MinGRU
from tests import policies

NETWORKS = {
    "mlp": (MLP((4,)), 3),
    "cnn": (CNN(channels=(2,), kernels=(3,), strides=(1,), sizes=(4,), activation="relu"), (5, 5, 1)),
    "rnn": (RNN(hidden_size=4, sizes=()), 3),
    "gru": (GRU(hidden_size=4, sizes=()), 3),
    "lstm": (LSTM(hidden_size=4, sizes=()), 3),
    "mingru": (MinGRU(hidden_size=4, sizes=()), 3),
    "actor-critic": (ActorCritic(LSTM(hidden_size=4, sizes=()), sizes=(4,)), 3),
    "graph": (Graph(nodes=[{"name": "a", "layers": [4, "relu", {"gru": 4}]}]), 3),
}


# The programs of the others are dear, and a population is one more axis to all of them.
@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in [*NETWORKS][1:])])
def test_256_policies_in_one_call_are_256_policies(name):
    network, shape = NETWORKS[name]
    policy = gaussjax.gaussian(network, shape, gaussjax.spaces.Box(shape=(2,)))
    keys = jax.random.split(jax.random.key(0), 256)
    params = jax.tree.map(np.asarray, jax.vmap(policy.init)(keys))
    shape = (shape,) if isinstance(shape, int) else shape
    observations = np.random.default_rng(0).normal(size=(256, 3, *shape)).astype(np.float32)
    carry = policy.initial_carry((256, 3))

    def act(params, key, observations, carry):
        return policy.act(params, key, observations, carry=carry)

    together = jax.jit(jax.vmap(act))(params, keys, observations, carry)
    assert together.actions.shape == (256, 3, 2)
    for i in (0, 255):
        one, state = jax.tree.map(lambda a, i=i: np.asarray(a)[i], (params, carry))
        alone = policy.init(keys[i])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, alone)
        expected = act(alone, keys[i], observations[i], state)
        got = jax.tree.map(lambda a, i=i: np.asarray(a)[i], together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected)
    assert np.unique(np.asarray(together.actions).reshape(256, -1), axis=0).shape[0] == 256
    assert np.all(np.isfinite(together.log_prob))


@pytest.mark.parametrize("std", ["parameter", "state", pytest.param("fixed", marks=pytest.mark.slow)])
def test_outputs_of_a_population_make_its_distribution(std):
    network = gaussjax.networks.MLP((4,), std=std)
    policy = gaussjax.multivariate_gaussian(network, 3, gaussjax.spaces.Box(shape=(2,)), keepdims=False)
    population = jax.tree.map(lambda *leaves: np.stack(leaves), *(policies.random_params(policy, i) for i in range(3)))
    seen, taken = np.ones((5, 3), np.float32), np.full((5, 2), 0.3, np.float32)
    found = jax.vmap(policy.evaluate, in_axes=(0, None, None))(population, seen, taken)
    distribution = policy.distribution(found.outputs)
    assert distribution.batch_shape == (3, 5)
    log_prob = jax.jit(lambda one: one.log_prob(np.broadcast_to(taken, (3, 5, 2))))(distribution)
    np.testing.assert_allclose(log_prob, found.log_prob, rtol=1e-6)
