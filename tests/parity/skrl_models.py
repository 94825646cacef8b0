"""Our models beside skrl's mixins; pytest runs this file with skrl's own Python."""

import copy
import itertools
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from skrl.models.jax import GaussianMixin as JaxMixin
from skrl.models.jax import Model as JaxModel
from skrl.models.torch import GaussianMixin as TorchMixin
from skrl.models.torch import Model as TorchModel
from skrl.models.torch import MultivariateGaussianMixin
from skrl.utils.spaces.torch import flatten_tensorized_space, tensorize_space

import gaussjax
from gaussjax import networks
from gaussjax.interop import skrl

sys.path.insert(0, str(Path(__file__).parent))
import skrl_recurrent

SEEN = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
BOX = gymnasium.spaces.Box(-0.5, 0.5, (2,))
BOUNDS = {
    "full": ((-0.5, -0.5), (0.5, 0.5)),
    "half": ((-0.5, -0.5), (np.inf, 0.5)),
    "none": ((-np.inf,) * 2, (np.inf,) * 2),
}
ROWS = list(itertools.product(BOUNDS, (False, True), ("sum", "mean", "prod", "none")))
LOG_STD = np.array([-0.5, 2.5], np.float32)
generator = np.random.default_rng(0)
WEIGHTS = generator.normal(size=(3, 2)).astype(np.float32)
X, TAKEN = (generator.normal(size=(6, width)).astype(np.float32) for width in (3, 2))
PARAMS = {"params": {"head": {"mean": {"kernel": WEIGHTS, "bias": np.zeros(2, np.float32)}, "log_std": LOG_STD}}}
FRAMEWORKS = pytest.mark.parametrize("framework", ["torch", "jax"])


class InTorch(TorchMixin, TorchModel):
    def __init__(self, actions, **options):
        TorchModel.__init__(self, observation_space=SEEN, action_space=actions, device="cpu")
        TorchMixin.__init__(self, **options)

    def compute(self, inputs, role):
        return inputs["observations"] @ torch.from_numpy(WEIGHTS), {"log_std": torch.from_numpy(LOG_STD)}


class InJax(JaxMixin, JaxModel):
    def __init__(self, observation_space, state_space, action_space, device=None, options=None, **linen):
        spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
        JaxModel.__init__(self, **spaces, device=device, **linen)
        JaxMixin.__init__(self, **options)

    def apply(self, params, inputs, role=""):
        return inputs["observations"] @ WEIGHTS, {"log_std": jnp.asarray(LOG_STD)}


def made(framework, policy, **options):
    """Our model in one framework."""
    if framework == "torch":
        return skrl.torch_model(policy, device="cpu", **options)
    return skrl.jax_model(policy, jax.random.key(0), device="cpu", **options)


def array(framework, value):
    return torch.from_numpy(np.array(value)) if framework == "torch" else jnp.asarray(value)


def numbers(value):
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def close(found, expected, **options):
    assert tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_allclose(numbers(found), numbers(expected), **{"rtol": 2e-5, "atol": 2e-6, **options})


def linear(box=BOX, factory=gaussjax.gaussian, **options):
    network = networks.MLP((), output_activation=None)
    return factory(network, SEEN, box, **options)


@FRAMEWORKS
@pytest.mark.parametrize(("bounds", "clip", "reduction"), ROWS)
def test_values_shapes_reductions_and_clips_are_those_of_skrl(framework, bounds, clip, reduction):
    box = gymnasium.spaces.Box(*(np.array(side, np.float32) for side in BOUNDS[bounds]))
    options = {"clip_actions": clip, "clip_mean_actions": clip, "reduction": reduction}
    model = made(framework, linear(box, **options), params=PARAMS)
    if framework == "torch":
        torch.manual_seed(1)
        found = model.act({"observations": torch.from_numpy(X), "states": None}, role="policy")
        if bounds == "none" and clip:
            # skrl raises here; a clip that has nothing to clip is no error.
            free = made(framework, linear(box, reduction=reduction), params=PARAMS)
            torch.manual_seed(1)
            assert (found[0] == free.act({"observations": torch.from_numpy(X)})[0]).all()
            with pytest.raises(RuntimeError):
                InTorch(box, **options).act({"observations": torch.from_numpy(X)})
            return
        theirs = InTorch(box, **options)
        torch.manual_seed(1)
        expected = theirs.act({"observations": torch.from_numpy(X)}, role="policy")
        entropies = model.get_entropy(role="policy"), theirs.get_entropy(role="policy")
        shown, other = model.distribution(role="policy"), theirs.distribution(role="policy")
        for name in ("loc", "scale", "stddev", "mean"):
            close(getattr(shown, name), getattr(other, name))
        close(shown.entropy(), other.entropy())
        close(shown.log_prob(torch.from_numpy(TAKEN)), other.log_prob(torch.from_numpy(TAKEN)))
    else:
        theirs = InJax(SEEN, None, box, device="cpu", options=options)
        theirs.state_dict = SimpleNamespace(params={})
        model._key, model._calls = theirs._g_key, 1
        found = model.act({"observations": X, "states": None}, role="policy")
        expected = theirs.act({"observations": X}, role="policy")
        entropies = model.get_entropy(found[1]["stddev"], role="policy"), theirs.get_entropy(expected[1]["stddev"])
        # skrl gives one number where log_std is a parameter, and promises (N, 1).
        assert entropies[0].shape == (6, 1)
        entropies = entropies[0][0], entropies[1]
        close(found[1]["stddev"], np.broadcast_to(expected[1]["stddev"], (6, 2)))
    close(found[0], expected[0])
    close(*entropies)
    for name in ("log_prob", "mean_actions"):
        close(found[1][name], expected[1][name])
    close(found[1]["log_std"], np.broadcast_to(numbers(expected[1]["log_std"]), (6, 2)))
    inputs = {"observations": array(framework, X), "taken_actions": array(framework, TAKEN)}
    close(model.act(dict(inputs), role="policy")[1]["log_prob"], theirs.act(dict(inputs), role="policy")[1]["log_prob"])


@FRAMEWORKS
def test_the_conventions_of_three_versions(framework):
    found = {}
    for version in ("1.4.3", "2.0.0", "2.1.1"):
        model = made(framework, linear(), params=PARAMS, version=version)
        name = "states" if version == "1.4.3" else "observations"
        found[version] = model.act({name: array(framework, X)}, role="policy")
        stddev = [] if framework == "torch" else [found[version][-1]["stddev"]]
        entropy = model.get_entropy(*stddev, role="policy")
        assert tuple(entropy.shape) == ((6, 1) if version == "2.1.1" else (6, 2))
        np.testing.assert_allclose(numbers(entropy).sum(-1), np.log(2 * np.pi * np.e) + 1.5, rtol=1e-6)
    assert [len(result) for result in found.values()] == [3, 2, 2]
    assert tuple(found["1.4.3"][1].shape) == (6, 1)
    assert "log_prob" in found["2.0.0"][1]
    with pytest.raises(ValueError, match=r"version: expected one of .*got '2.1'"):
        made(framework, linear(), version="2.1")


@FRAMEWORKS
@pytest.mark.parametrize("kind", ["squashed", "multivariate", "censored", "state"])
def test_other_kinds_give_the_numbers_of_their_policies(framework, kind):
    network = networks.MLP((8,), std="state" if kind == "state" else "parameter", initial_log_std=-0.5)
    factory = {"squashed": gaussjax.squashed_gaussian, "multivariate": gaussjax.multivariate_gaussian}
    options = {"clip_actions": True, "clipped_log_prob": "censored"} if kind == "censored" else {}
    policy = factory.get(kind, gaussjax.gaussian)(network, SEEN, BOX, **options)
    params = jax.tree.map(lambda leaf: leaf + 0.1, policy.init(jax.random.key(1)))
    model = made(framework, policy, params=params)
    torch.manual_seed(2)
    actions, outputs = model.act({"observations": array(framework, X)}, role="policy")
    key = {"noise": torch.randn(6, 2, generator=torch.manual_seed(2)).numpy()} if framework == "torch" else {}
    expected = policy.act(params, None if key else jax.random.fold_in(model._key, 0), X, **key)
    close(actions, expected.actions)
    close(outputs["log_prob"], expected.log_prob)
    entropy = policy.entropy(params, X).sum(-1, keepdims=True)
    close(model.get_entropy(*([] if framework == "torch" else [outputs["stddev"]]), role="policy"), entropy)
    taken = np.clip(TAKEN, -0.4, 0.4)
    inputs = {"observations": array(framework, X), "taken_actions": array(framework, taken)}
    close(model.act(inputs, role="policy")[1]["log_prob"], policy.evaluate(params, X, taken).log_prob)
    if framework == "torch":
        close(model.distribution().stddev, policy.apply(params, X)[0].stddev())


def test_the_multivariate_model_starts_as_that_of_skrl():
    class Theirs(MultivariateGaussianMixin, TorchModel):
        def __init__(self):
            TorchModel.__init__(self, observation_space=SEEN, action_space=BOX, device="cpu")
            MultivariateGaussianMixin.__init__(self)

        compute = InTorch.compute

    policy = linear(factory=gaussjax.multivariate_gaussian)
    params = policy.init(jax.random.key(0))
    params["params"]["head"] |= PARAMS["params"]["head"]
    model, theirs, inputs = made("torch", policy, params=params), Theirs(), {"observations": torch.from_numpy(X)}
    results = []
    for one in (model, theirs):
        torch.manual_seed(3)
        results.append((*one.act(inputs), one.get_entropy()))
    close(results[0][0], results[1][0])
    close(results[0][1]["log_prob"], results[1][1]["log_prob"])
    close(results[0][2], results[1][2])


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


@FRAMEWORKS
def test_values_and_action_values_are_deterministic_models(framework):
    one = gaussjax.spaces.Box(shape=(1,))
    both = gymnasium.spaces.Dict({"observations": SEEN, "taken_actions": BOX})
    critic = made(framework, gaussjax.gaussian(networks.MLP((8,)), both, one), deterministic=True)
    inputs = {"observations": array(framework, X), "taken_actions": array(framework, TAKEN)}
    q, further = critic.act(inputs, role="critic_1")
    assert tuple(q.shape) == (6, 1)
    assert further == {}
    assert (
        abs(numbers(critic.act({**inputs, "taken_actions": 2 * inputs["taken_actions"]})[0]) - numbers(q)).max() > 1e-3
    )
    # No log_std is trained, and no tanh bounds a value.
    names = list(critic.state_dict()) if framework == "torch" else critic.state_dict.params["params"]["head"].keys()
    assert not any("log_std" in name for name in names)
    wide = made(framework, gaussjax.gaussian(networks.MLP(()), SEEN, one), deterministic=True)
    assert abs(numbers(wide.act({"observations": array(framework, 100 * X)}, role="value")[0])).max() > 1.0
    actor = made(framework, gaussjax.gaussian(networks.MLP((8,)), SEEN, BOX, clip_actions=True), deterministic=True)
    assert abs(numbers(actor.act({"observations": array(framework, 100 * X)}, role="policy")[0])).max() <= 0.5


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


@FRAMEWORKS
def test_policies_that_cannot_score_an_environments_actions_are_refused(framework):
    policy = linear(clip_actions=True, clipped_log_prob="unclipped")
    with pytest.raises(ValueError, match="policy: expected a policy that scores the actions of its environment"):
        made(framework, policy)
    with pytest.raises(TypeError, match=r"policy: expected a policy such as gaussjax.gaussian makes"):
        made(framework, networks.MLP())


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


def test_empty_minibatches_pass():
    for framework in ("torch", "jax"):
        actions, outputs = made(framework, linear()).act({"observations": array(framework, X[:0])}, role="policy")
        assert tuple(actions.shape) == (0, 2)
        assert tuple(outputs["log_prob"].shape) == (0, 1)


def test_the_plain_gaussian_of_torch_is_the_policy():
    for options in (
        {},
        {"clip_actions": True},
        {"clip_mean_actions": True, "clip_log_std": False, "reduction": "prod"},
    ):
        model = made("torch", linear(**options), params=PARAMS)
        assert model._plain is not None
        results = []
        for plain in (model._plain, None):
            model._plain = plain
            torch.manual_seed(5)
            found = model.act({"observations": torch.from_numpy(X).requires_grad_()}, role="policy")
            loss = found[1]["log_prob"].sum() + found[0].sum() + model.get_entropy().sum()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            results.append((found[0], found[1]["log_prob"], *gradients))
        for one, other in zip(*results, strict=True):
            close(one, other, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(pytest.main(["-q", "--noconftest", "-c", "/dev/null", "-p", "no:cacheprovider", __file__, *sys.argv[1:]]))
