"""Our models copied, saved, averaged, initialised, compiled and trained by skrl's agents; run by skrl's Python."""

import copy
import pickle
import sys

import jax
import numpy as np
import pytest
import skrl_agents
import skrl_jax_agents
import torch

import gaussjax
from gaussjax import networks
from gaussjax.interop import skrl
from tests.parity.skrl_beside import (
    BOX,
    FRAMEWORKS,
    PARAMS,
    SEEN,
    WEIGHTS,
    X,
    array,
    close,
    linear,
    made,
    main,
    numbers,
)


@FRAMEWORKS
def test_models_are_copied_pickled_saved_and_averaged(framework, tmp_path):
    model = made(framework, linear(), params=PARAMS)
    model.enable_training_mode(True)
    inputs = {"observations": array(framework, X)}
    model.act(inputs, role="policy")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(copied) is type(model)
        assert copied.training
        torch.manual_seed(4)
        found = copied.act(inputs)[0]
        torch.manual_seed(4)
        calls = getattr(model, "_calls", None)
        close(found, model.act(inputs)[0], rtol=0, atol=0)
        if calls is not None:
            model._calls = calls
    other = made(framework, linear())
    other.update_parameters(model, polyak=0.25)

    def means(one):
        return numbers(one.act(inputs)[1]["mean_actions"])

    start = means(made(framework, linear())) if framework == "jax" else None
    if start is not None:
        np.testing.assert_allclose(means(other), 0.75 * start + 0.25 * X @ WEIGHTS, rtol=1e-5, atol=1e-6)
    other.update_parameters(model)
    np.testing.assert_allclose(means(other), means(model), rtol=1e-6)
    path = str(tmp_path / ("model.pt" if framework == "torch" else "model.flax"))
    model.save(path)
    read = skrl.read(path, linear())
    np.testing.assert_allclose(read.act(X).actions, means(model), rtol=1e-5, atol=1e-6)
    fresh = made(framework, linear())
    fresh.load(path)
    np.testing.assert_allclose(means(fresh), means(model), rtol=1e-6)
    model.freeze_parameters(True)
    model.init_state_dict(role="policy")
    np.testing.assert_allclose(means(model), X @ WEIGHTS, rtol=1e-5, atol=1e-6)
    if framework == "torch":
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.to("cpu") is model
        assert copy.deepcopy(model).get_entropy().shape == ()


@FRAMEWORKS
def test_init_parameters_weights_and_biases_reach_every_layer(framework):
    model = made(framework, gaussjax.gaussian(networks.MLP((8, 4)), SEEN, BOX))
    names = ("constant_", "constant_") if framework == "torch" else ("constant", "constant")
    model.init_weights(names[0], 0.25)
    model.init_biases(names[1], 0.5)
    params = (
        dict(model.named_parameters())
        if framework == "torch"
        else {
            jax.tree_util.keystr(place): leaf
            for place, leaf in jax.tree_util.tree_leaves_with_path(model.state_dict.params)
        }
    )
    ends = {"weight": 0.25, "kernel": 0.25, "bias": 0.5}
    checked = [(end, name) for name in params for end in ends if end in name]
    assert len(checked) == 6
    assert all((numbers(params[name]) == ends[end]).all() for end, name in checked)


def test_noise_within_a_callers_jit_differs_between_minibatches():
    model = made("jax", linear())
    act = jax.jit(lambda params, x: model.act({"observations": x}, role="policy", params=params)[0])
    params = model.state_dict.params
    noise = [act(params, x) - act(params, x).mean(0) for x in (X, X[::-1] + 1e-3, X)]
    assert (noise[0] == noise[2]).all()
    assert abs(noise[0] - noise[1]).min() > 1e-4
    given = {"observations": X, "key": jax.random.key(3)}
    assert (model.act(dict(given))[0] == model.act(dict(given))[0]).all()
    inputs = {"observations": X}
    assert not (model.act(inputs)[0] == model.act(inputs)[0]).any()
    assert set(inputs) == {"observations"}


def test_layers_start_as_those_of_torch_where_nobody_chose_an_initializer():
    policies = {"default": networks.MLP((64,)), "both": networks.ActorCritic(networks.MLP((64,)))}
    policies |= {
        "state": networks.MLP((64,), std="state", initial_log_std=-1.0),
        "scaled": networks.MLP((64,), scale=0.1),
    }
    policies["chosen"] = networks.ActorCritic(networks.MLP((64,), initializer="orthogonal"))
    for name, network in policies.items():
        torch.manual_seed(0)
        model = made("torch", gaussjax.gaussian(network, SEEN, BOX))
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
        log_stds = {name: layers.pop(name) for name in list(layers) if name.endswith("log_std")}
        assert all((layer.weight == 0).all() and (layer.bias == -1.0).all() for layer in log_stds.values())
        assert len(log_stds) == (name == "state")
        for layer in layers.values():
            bound = layer.in_features**-0.5
            as_torch = 0.9 * bound < abs(layer.weight).max() <= bound and abs(layer.bias).min() > 0
            assert as_torch == (name in ("default", "both", "state")), name
    params = policies["default"].clone(num_actions=2).init(jax.random.key(0), X)
    policy = gaussjax.gaussian(policies["default"], SEEN, BOX)
    found = made("torch", policy, params=params).network.layers.dense_0.weight
    close(found, params["params"]["layers"]["dense_0"]["kernel"].T, rtol=0, atol=0)


def test_a_module_of_ones_own_is_copied():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(x), torch.zeros(2), {}

    own = Own()
    policy = gaussjax.torch.gaussian(own, SEEN, BOX)
    model = skrl.torch_model(policy, device="cpu")
    assert model.network is not own
    assert (model.network.layer.weight == own.layer.weight).all()
    close(model.act({"observations": torch.from_numpy(X)})[1]["mean_actions"], own.layer(torch.from_numpy(X)))


@FRAMEWORKS
@pytest.mark.parametrize(("name", "steps"), [("PPO", 32), ("SAC", 12)])
def test_agents_train_a_truncated_policy(framework, name, steps):
    tools = {} if framework == "torch" else skrl_jax_agents.TOOLS
    policy = made(framework, gaussjax.truncated_gaussian(networks.MLP((8,)), SEEN, skrl_agents.ACTED))
    critics = [f"{target}critic_{i}" for i in (1, 2) for target in ("", "target_")] if name == "SAC" else ["value"]
    seen = skrl_agents.BOTH if name == "SAC" else SEEN
    network = networks.MLP((8,))
    values = {
        role: made(framework, gaussjax.gaussian(network, seen, skrl_agents.ONE), deterministic=True) for role in critics
    }
    inputs = {"observations": array(framework, X)}

    def means():
        return numbers(policy.act(inputs)[1]["mean_actions"]).copy()

    start = means()
    skrl_agents.trained(name, {"policy": policy, **values}, steps, **tools)
    assert abs(means() - start).max() > 1e-4
    actions, outputs = policy.act(inputs)
    assert abs(numbers(actions)).max() <= 1.0
    assert np.isfinite(numbers(outputs["log_prob"])).all()


if __name__ == "__main__":
    main(__file__, *sys.argv[1:])
