"""Inputs of our models: rows of every space, states, recurrent states, both roles of a model; run by skrl's Python."""

import sys

import gymnasium
import jax
import numpy as np
import pytest
import torch
from skrl.utils.spaces.torch import flatten_tensorized_space, tensorize_space

import gaussjax
from gaussjax import networks
from gaussjax.interop import skrl
from tests.parity import skrl_recurrent
from tests.parity.skrl_beside import (
    BOX,
    FRAMEWORKS,
    SEEN,
    X,
    array,
    close,
    generator,
    linear,
    made,
    main,
    numbers,
)


@pytest.mark.parametrize("name", skrl_recurrent.ROWS)
@FRAMEWORKS
def test_recurrent_models_take_and_give_the_states_and_sequences_of_skrl(framework, name):
    cell, layers = skrl_recurrent.ROWS[name]
    torch.manual_seed(1)
    theirs = skrl_recurrent.Recurrent(cell, layers)
    length, envs = skrl_recurrent.LENGTH, skrl_recurrent.ENVS
    kind = {"rnn": networks.RNN, "gru": networks.GRU}.get(name, networks.LSTM)
    network = kind(hidden_size=8, num_layers=layers, sizes=(16,), sequence_length=length)
    policy = gaussjax.gaussian(network, SEEN, skrl_recurrent.ACTED)
    arrays = {name: tensor.detach().numpy() for name, tensor in theirs.named_parameters()}
    names = {"memory": "memory", "net.0": "layers.dense_0", "net.2": "head.mean", "log_std_parameter": "head.log_std"}
    model = made(framework, policy, params=skrl.params(policy.spec, arrays, names), num_envs=envs)
    assert model.get_specification() == theirs.get_specification()
    assert made(framework, gaussjax.gaussian(networks.MLP(), SEEN, BOX)).get_specification() == {}
    with pytest.raises(ValueError, match="num_envs: expected the number of environments"):
        made(framework, policy)

    sizes = theirs.get_specification()["rnn"]["sizes"]
    states = [torch.from_numpy(generator.normal(size=size).astype(np.float32)) for size in sizes]
    x = torch.from_numpy(generator.normal(size=(envs, 3)).astype(np.float32))
    theirs.eval()
    expected = theirs.act({"observations": x, "rnn": states})[1]
    found = model.act({"observations": array(framework, x), "rnn": [array(framework, s) for s in states]})[1]
    close(found["mean_actions"], expected["mean_actions"])
    for one, other in zip(found["rnn"], expected["rnn"], strict=True):
        close(one, other)

    rows = envs * length
    x, taken = (torch.from_numpy(generator.normal(size=(rows, width)).astype(np.float32)) for width in (3, 2))
    ended = torch.from_numpy(generator.random((2, rows, 1)) < 0.25)
    states = [torch.from_numpy(generator.normal(size=(n, rows, h)).astype(np.float32)) for n, _, h in sizes]
    theirs.train()
    inputs = {"observations": x, "taken_actions": taken, "rnn": states, "terminated": ended[0] | ended[1]}
    expected = theirs.act(dict(inputs), role="policy")[1]
    inputs |= {"terminated": ended[0], "truncated": ended[1]}
    inputs = jax.tree.map(lambda leaf: array(framework, leaf), inputs)
    found = model.act(inputs, role="policy")[1]
    for key in ("log_prob", "mean_actions"):
        close(found[key], expected[key], rtol=1e-5, atol=1e-5)
    for one, other in zip(found["rnn"], expected["rnn"], strict=True):
        close(one, other)
    with pytest.raises(ValueError, match=rf"inputs\['rnn'\]: expected a list of states of shape \({layers}, N, 8\)"):
        model.act({"observations": inputs["observations"]})
    short = {**inputs, "rnn": [state[:, : length + 1] for state in inputs["rnn"]]}
    with pytest.raises(ValueError, match=f"expected consecutive sequences of {length} steps, got {length + 1} steps"):
        model.act(short)


@FRAMEWORKS
def test_an_actor_critic_of_recurrent_networks_has_the_states_of_both(framework):
    network = networks.ActorCritic(networks.LSTM(8, sequence_length=2), critic=networks.GRU(4))
    model = made(framework, gaussjax.gaussian(network, SEEN, BOX), num_envs=6)
    rnn = model.get_specification()["rnn"]
    assert rnn == {"sequence_length": 2, "sizes": [(1, 6, 8), (1, 6, 8), (1, 6, 4)]}
    inputs = {
        "observations": array(framework, X),
        "rnn": [array(framework, np.zeros(size, np.float32)) for size in rnn["sizes"]],
    }
    _, outputs = model.act(inputs, role="policy")
    assert [tuple(state.shape) for state in outputs["rnn"]] == rnn["sizes"]
    value, further = model.act(inputs, role="value")
    assert tuple(value.shape) == (6, 1)
    for one, other in zip(further["rnn"], outputs["rnn"], strict=True):
        close(one, other)


@FRAMEWORKS
def test_both_roles_share_one_forward_pass_until_something_changes(framework):
    policy = gaussjax.gaussian(networks.ActorCritic(networks.MLP((8,)), shared=True), SEEN, BOX)
    model = made(framework, policy)
    calls = []
    if framework == "torch":
        model.network.register_forward_hook(lambda *_: calls.append(1))
    else:
        jitted, model._jitted = model._jitted, lambda *a, **k: (calls.append(1), jitted(*a, **k))[1]
    inputs = {"observations": array(framework, X)}
    model.act(inputs, role="policy")
    value, _ = model.act({**inputs, "taken_actions": None}, role="value")
    assert len(calls) == 1
    assert tuple(value.shape) == (6, 1)
    close(model.act(inputs, role="value")[0], value)
    assert len(calls) == 2
    model.act(inputs, role="policy")
    model.init_parameters(*(["normal_", 0.0, 0.5] if framework == "torch" else ["normal", 0.5]))
    changed, _ = model.act(inputs, role="value")
    assert len(calls) == 4
    assert abs(numbers(changed) - numbers(value)).max() > 1e-3
    if framework == "torch":
        model.act(inputs, role="policy")
        inputs["observations"].mul_(2.0)
        model.act(inputs, role="value")
        assert len(calls) == 6
        model.act(inputs, role="policy")
        model.init_biases("constant_", 0.5)
        model.act(inputs, role="value")
        assert len(calls) == 8
    with pytest.raises(ValueError, match="role: expected 'policy', because MLP has no value, got 'value'"):
        made(framework, linear()).act(inputs, role="value")


@FRAMEWORKS
def test_rows_of_every_space_are_separated_as_skrl_joined_them(framework):
    parts = {"z": gymnasium.spaces.Discrete(5, start=2), "a": gymnasium.spaces.Box(-1, 1, (2, 2))}
    parts["m"] = gymnasium.spaces.Tuple([gymnasium.spaces.MultiDiscrete([3, 2]), gymnasium.spaces.Box(-1, 1, (1,))])
    space = gymnasium.spaces.Dict(parts)
    space.seed(0)
    samples = [space.sample() for _ in range(6)]
    rows = torch.cat([flatten_tensorized_space(tensorize_space(space, sample)).float() for sample in samples])
    policy = gaussjax.gaussian(networks.MLP((8,)), space, BOX)
    params = policy.init(jax.random.key(0))
    model = made(framework, policy, params=params)
    assert model.num_observations == 5 + 4 + 5 + 1
    assert model.observation_space == space
    found = model.act({"observations": array(framework, rows)}, role="policy")[1]["mean_actions"]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    close(found, policy.act(params, None, stacked, deterministic=True).actions)


@FRAMEWORKS
def test_discrete_observations_are_one_column_of_skrls_rows(framework):
    policy = gaussjax.gaussian(networks.MLP((8,)), gymnasium.spaces.Discrete(4), BOX)
    params = policy.init(jax.random.key(0))
    found = made(framework, policy, params=params).act({"observations": array(framework, np.ones((6, 1), np.int32))})
    assert tuple(found[0].shape) == (6, 2)
    close(found[1]["mean_actions"], policy.act(params, None, np.ones(6, np.int32), deterministic=True).actions)


@FRAMEWORKS
def test_observations_and_states_of_isaac_lab_and_playground(framework):
    # Isaac Lab's wrapper hands `policy` and `critic` as flat rows, Playground's `state` and `privileged_state`.
    seen = gymnasium.spaces.Dict(
        {"image": gymnasium.spaces.Box(0, 1, (2, 2)), "pose": gymnasium.spaces.Box(-1, 1, (3,))}
    )
    states = gymnasium.spaces.Box(-np.inf, np.inf, (9,))
    both = gymnasium.spaces.Dict({"observations": seen, "states": states})
    network = networks.ActorCritic(networks.MLP((8,)), actor_keys=("observations",), critic_keys=("states",))
    policy = gaussjax.gaussian(network, both, BOX)
    model = made(framework, policy)
    assert (model.num_observations, model.num_states, model.num_actions) == (7, 9, 2)
    rows, state = (array(framework, generator.normal(size=(6, width)).astype(np.float32)) for width in (7, 9))
    inputs = {"observations": rows, "states": state}
    mean = model.act(inputs, role="policy")[1]["mean_actions"]
    value = model.act(inputs, role="value")[0]
    other = {"observations": rows, "states": 2 * state}
    close(model.act(other, role="policy")[1]["mean_actions"], mean)
    assert abs(numbers(model.act(other, role="value")[0]) - numbers(value)).max() > 1e-3
    assert tuple(model.random_act(inputs)[0].shape) == (6, 2)
    with pytest.raises(ValueError, match=r"expected arrays under \['observations', 'states'\].*got \['observations'\]"):
        model.act({"observations": rows, "states": None})
    alone = made(framework, gaussjax.gaussian(networks.MLP((8,)), seen, BOX), state_space=states)
    assert (alone.num_observations, alone.num_states) == (7, 9)
    assert tuple(alone.act({"observations": rows, "states": state})[0].shape) == (6, 2)


def test_empty_minibatches_pass():
    for framework in ("torch", "jax"):
        actions, outputs = made(framework, linear()).act({"observations": array(framework, X[:0])}, role="policy")
        assert tuple(actions.shape) == (0, 2)
        assert tuple(outputs["log_prob"].shape) == (0, 1)


if __name__ == "__main__":
    main(__file__, *sys.argv[1:])
