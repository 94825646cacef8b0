"""Recurrent policies beside the recurrent models of the real skrl 2.1.1: rollouts, training sequences, gradients."""

import jax
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax import networks
from gaussjax.interop import skrl
from gaussjax.networks.recurrent.cells import LSTMState
from gaussjax.torch import to_torch
from tests.parity.peer import run

LENGTH = 4
ROWS = {
    "rnn": networks.RNN(hidden_size=8, sizes=(16,), sequence_length=LENGTH),
    "gru": networks.GRU(hidden_size=8, sizes=(16,), sequence_length=LENGTH),
    "lstm": networks.LSTM(hidden_size=8, sizes=(16,), sequence_length=LENGTH),
    "deep-lstm": networks.LSTM(hidden_size=8, num_layers=2, sizes=(16,), sequence_length=LENGTH),
}
NAMES = {"memory": "memory", "net.0": "layers.dense_0", "net.2": "head.mean", "log_std_parameter": "head.log_std"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run("skrl_recurrent.py", tmp_path_factory.mktemp("skrl"))


def start(name, reference):
    """The policy, skrl's parameters in it, and its gradients by the names of the twin."""
    policy = gaussjax.gaussian(ROWS[name], 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))

    def part(what):
        prefix = f"{name} {what} "
        return {key.removeprefix(prefix): array for key, array in reference.items() if key.startswith(prefix)}

    params = skrl.params(policy.spec, part("value"), NAMES)
    # A gradient is mapped as its parameter is.
    return policy, params, to_torch(policy.spec, skrl.params(policy.spec, part("gradient"), NAMES))


def memory(states):
    """A carry from skrl's states `(T, states, layers, N, hidden)`."""
    states = np.moveaxis(states, 0, 2)
    return tuple(LSTMState(hidden=s[0], cell=s[1]) if len(s) == 2 else s[0] for s in np.moveaxis(states, 1, 0))


def env_major(array):
    """`(length, sequences, …)` in the order of skrl's memory: all of an environment, then the next."""
    array = np.asarray(array)
    blocks = array.reshape(LENGTH, -1, 5, *array.shape[2:])
    return np.moveaxis(blocks, (2, 1, 0), (0, 1, 2)).reshape(-1, *array.shape[2:])


def sequences(name, reference):
    """skrl's rollout as our training sequences, and the carries before them."""
    ended = reference["terminated"]
    resets = networks.episode_starts(ended, np.zeros_like(ended))
    rolled = {"observations": reference["observations"], "actions": reference[f"{name} actions"], "resets": resets}
    return networks.to_sequences(rolled, memory(reference[f"{name} carries"]), LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_rollouts_and_stored_states_are_those_of_skrl(reference, name):
    policy, params, _ = start(name, reference)
    stored, carry = memory(reference[f"{name} carries"]), policy.initial_carry((5,))
    resets = np.zeros(5, bool)
    for t, observations in enumerate(reference["observations"]):
        _, outputs = policy.apply(params, observations, carry=carry, resets=resets)
        np.testing.assert_allclose(outputs["mean_actions"], reference[f"{name} rollout means"][t], rtol=1e-5, atol=1e-6)
        # skrl zeroes the state behind the last step of an episode, we before the first of the next.
        for ours, theirs in zip(jax.tree.leaves(carry), jax.tree.leaves(stored), strict=True):
            np.testing.assert_allclose(np.where(resets[:, None], 0.0, ours), theirs[t], rtol=1e-5, atol=1e-6)
        carry, resets = outputs["carry"], reference["terminated"][t]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_training_sequences_with_terminations_are_those_of_skrl(reference, name):
    policy, params, expected = start(name, reference)
    assert 0.1 < reference["terminated"].mean() < 0.5
    rolled, carry = sequences(name, reference)
    assert (env_major(rolled["observations"]) == reference[f"{name} sampled"]).all()
    order = env_major(np.arange(60).reshape(LENGTH, -1))
    weights = np.empty((60, 1), np.float32)
    weights[order] = reference["weights"]
    weights = weights.reshape(LENGTH, -1, 1)

    def loss(params):
        options = {"carry": carry, "resets": rolled["resets"]}
        log_prob, _, outputs = policy.evaluate(params, rolled["observations"], rolled["actions"], **options)
        return (weights * log_prob).sum(), (log_prob, outputs["mean_actions"])

    gradients, found = jax.grad(loss, has_aux=True)(params)
    for value, what in zip(found, ("log_prob", "means"), strict=True):
        np.testing.assert_allclose(env_major(value), reference[f"{name} {what}"], rtol=1e-5, atol=1e-5)

    twin = gaussjax.torch.from_spec(policy.spec)
    leaves = {key: tensor.requires_grad_() for key, tensor in to_torch(policy.spec, params).items()}
    rolled, carry = jax.tree.map(lambda array: torch.from_numpy(np.array(array)), (rolled, carry))
    options = {"carry": carry, "resets": rolled["resets"]}
    log_prob, _, outputs = twin.evaluate(leaves, rolled["observations"], rolled["actions"], **options)
    (torch.from_numpy(weights) * log_prob).sum().backward()
    for value, what in ((log_prob, "log_prob"), (outputs["mean_actions"], "means")):
        np.testing.assert_allclose(env_major(value.detach()), reference[f"{name} {what}"], rtol=1e-5, atol=1e-5)

    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for key, gradient in to_torch(policy.spec, gradients).items():
        np.testing.assert_allclose(gradient, expected[key], rtol=0, atol=1e-5 * largest, err_msg=key)
        np.testing.assert_allclose(leaves[key].grad, expected[key], rtol=0, atol=1e-5 * largest, err_msg=key)
