"""skrl's checkpoints: files of arrays are read, all others are refused without running code."""

import collections
import io
import itertools
import pickle
import re
import zipfile

import flax.serialization
import flax.traverse_util
import jax
import msgpack
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax.interop import skrl
from tests import policies
from tests.faults.malice import Bomb, zipped

STORED = zipfile.ZIP_STORED
BOX = gaussjax.spaces.Box(-0.3, 0.3, (2,))
NAMES = {"net.0": "layers.dense_0", "net.2": "head.mean", "log_std_parameter": "head.log_std"}
IN_FLAX = {"Dense_0": "layers.dense_0", "Dense_1": "head.mean", "log_std_parameter": "head.log_std"}


@pytest.fixture(scope="module")
def policy():
    return gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, BOX, clip_actions=True)


def state_dict():
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Tanh())
    arrays = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    return net, collections.OrderedDict(arrays, log_std_parameter=torch.tensor([-0.5, 0.25]))


@pytest.fixture
def module():
    """Arrays of a model, as `read` returns them."""
    return {name: tensor.numpy() for name, tensor in state_dict()[1].items()}


def test_torch_agents_are_read_and_mapped(policy, tmp_path):
    net, state = state_dict()
    optimizer = torch.optim.Adam(net.parameters())
    torch.save({"policy": state, "optimizer": optimizer.state_dict()}, tmp_path / "agent.pt")
    torch.save(state, tmp_path / "model.pt")
    # A state_dict has an attribute, shared and transposed tensors have strides, and an optimizer has numbers.
    weight = torch.arange(6.0).reshape(2, 3)
    parts = {"a": weight, "b": weight.T, "c": weight[1:, ::2], "d": weight.bfloat16(), "e": torch.nn.Parameter(weight)}
    numbers = {"lr": 0.5, "betas": (0.9, None), "n": [2**70, True]}
    torch.save({**parts, "net": net.state_dict(), **numbers}, tmp_path / "x.pt")
    found = skrl.arrays(tmp_path / "x.pt")
    for name, tensor in parts.items():
        assert np.array_equal(found[name], tensor.detach().float().numpy())
    assert np.array_equal(found["net"]["0.weight"], state["net.0.weight"].numpy())
    assert {name: found[name] for name in numbers} == numbers
    module = skrl.arrays(tmp_path / "agent.pt")["policy"]
    assert all((module[name] == array).all() for name, array in skrl.arrays(tmp_path / "model.pt").items())
    # A name that is mapped to None is dropped.
    params = skrl.params(policy.spec, {**module, "target.weight": np.zeros(3)}, {**NAMES, "target": None})
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    outputs = policy.apply(params, observations)[1]
    expected = net(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_allclose(outputs["mean_actions"], expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(outputs["log_std"][0], np.float32([-0.5, 0.25]))


def test_jax_models_and_agents_are_read_and_mapped(policy, tmp_path):
    params = policies.random_params(policy)["params"]
    theirs = {"params": {"Dense_0": params["layers"]["dense_0"], "Dense_1": params["head"]["mean"]}}
    theirs["params"]["log_std_parameter"] = params["head"]["log_std"]
    data = flax.serialization.to_bytes(theirs)
    (tmp_path / "model.flax").write_bytes(data)
    (tmp_path / "agent.pickle").write_bytes(pickle.dumps({"policy": data}, protocol=4))
    for module in (skrl.arrays(tmp_path / "model.flax"), skrl.arrays(tmp_path / "agent.pickle")["policy"]):
        jax.tree.map(np.testing.assert_array_equal, skrl.params(policy.spec, module, IN_FLAX), {"params": params})


def in_jax(layers, tmp_path, order=None):
    """Writes a model in JAX whose layers `layers` holds by name; returns its path."""
    model = {name: layers[name] for name in order or layers}
    path = tmp_path / "model.flax"
    path.write_bytes(flax.serialization.to_bytes({"params": {**model, "log_std_parameter": np.zeros(2, np.float32)}}))
    return path


def deep(count=12):
    """A policy with `count` layers of equal shapes between the first and the last, and the arrays of all layers."""
    draw = np.random.default_rng(0)
    widths = [3, *[4] * (count + 1), 2]
    layers = [
        {"kernel": draw.normal(size=pair).astype(np.float32), "bias": draw.normal(size=pair[1:]).astype(np.float32)}
        for pair in itertools.pairwise(widths)
    ]
    return gaussjax.gaussian(gaussjax.networks.MLP(tuple(widths[1:-1])), 3, BOX), layers


@pytest.mark.parametrize("name", ["Dense_{}", "net.layers_{}", "block_{}.Dense_0"])
def test_layers_of_flax_have_the_order_of_their_numbers_however_a_file_sorts_them(name, tmp_path):
    policy, layers = deep()
    nested = flax.traverse_util.unflatten_dict
    model = nested({tuple(name.format(i).split(".")): layer for i, layer in enumerate(layers)})
    # An optimizer's step sorts the names, with Dense_10 before Dense_2.
    for tree in (model, jax.tree.map(lambda leaf: leaf, model)):
        found = skrl.read(in_jax(tree, tmp_path), policy).params["params"]
        for i, layer in enumerate(layers[:-1]):
            assert np.array_equal(found["layers"][f"dense_{i}"]["kernel"], layer["kernel"]), i


def test_layers_of_flax_with_equal_shapes_and_no_numbers_need_names(tmp_path):
    policy, layers = deep(2)
    names = ("hidden_one", "hidden_two", "hidden_three", "out")
    path = in_jax(dict(zip(names, layers, strict=True)), tmp_path, sorted(names))
    with pytest.raises(ValueError, match=r"names: expected a map .*\['hidden_three', 'hidden_two'\]"):
        skrl.read(path, policy)
    ours = ("layers.dense_0", "layers.dense_1", "layers.dense_2", "head.mean", "head.log_std")
    found = skrl.read(path, policy, dict(zip((*names, "log_std_parameter"), ours, strict=True))).params["params"]
    assert np.array_equal(found["layers"]["dense_2"]["kernel"], layers[2]["kernel"])
    # Layers of different shapes fit in one order only.
    policy, layers = deep(0)
    path = in_jax({"first": layers[0], "second": layers[1]}, tmp_path)
    assert np.array_equal(skrl.read(path, policy).params["params"]["head"]["mean"]["kernel"], layers[1]["kernel"])


NETWORKS = {
    "no hidden layer": gaussjax.networks.MLP(()),
    "a hidden layer": gaussjax.networks.MLP((8,)),
    "a GRU": gaussjax.networks.GRU(8, sizes=()),
    "an LSTM": gaussjax.networks.LSTM(8),
    "a MinGRU": gaussjax.networks.MinGRU(8),
    "an actor and a critic": gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,))),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_small_deviations_of_a_scaler_divide_as_in_skrl(network, tmp_path):
    policy = gaussjax.gaussian(network, 3, BOX)
    params = policies.random_params(policy)
    state = gaussjax.torch.to_torch(policy.spec, params)
    std = np.array([1.0, 1e-4, 1e-5])
    scaler = {"running_mean": np.full(3, 0.25), "running_variance": std**2, "current_count": np.array(1e10)}
    scaler = {name: torch.tensor(array) for name, array in scaler.items()}
    torch.save({"policy": dict(state), "observation_preprocessor": scaler}, tmp_path / "agent.pt")
    with pytest.raises(ValueError, match=r"of 1e-4 or more, .* in the entries \[2\]\. Pass clip=np\.inf if no .* 5 "):
        skrl.read(tmp_path / "agent.pt", policy)
    with pytest.raises(ValueError, match=r"^module: .* in the entries \[2\]\. Leave them out"):
        skrl.statistics(scaler)
    loaded = skrl.read(tmp_path / "agent.pt", policy, clip=np.inf)
    observations = (0.25 + std * np.random.default_rng(0).normal(size=(5, 3))).clip(-9, 9)
    # The formula of skrl's RunningStandardScaler.
    scaled = ((observations - 0.25) / (std + 1e-8)).astype(np.float32)
    carry = policy.initial_carry((5,))
    options = {"carry": carry} if jax.tree.leaves(carry) else {}
    expected = policy.act(params, None, scaled, deterministic=True, **options).actions
    found = loaded.act(observations, **options).actions
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_small_deviations_before_other_networks_are_refused(tmp_path):
    nodes = [{"name": "net", "input": "observations", "layers": [8], "activations": "elu"}]
    policy = gaussjax.gaussian(gaussjax.networks.from_spec({"nodes": nodes, "output": "net"}), 3, BOX)
    state = gaussjax.torch.to_torch(policy.spec, policies.random_params(policy))
    scaler = {"running_mean": torch.zeros(3), "current_count": torch.tensor(1e10)}
    for variance, fits in ((1e-8, True), (1e-10, False)):
        given = {**scaler, "running_variance": torch.full((3,), variance)}
        torch.save({"policy": dict(state), "observation_preprocessor": given}, tmp_path / "agent.pt")
        if fits:
            assert skrl.read(tmp_path / "agent.pt", policy).normalizer is not None
            continue
        with pytest.raises(ValueError, match=r"standard deviations of 1e-4 or more, .*, and the network is Graph"):
            skrl.read(tmp_path / "agent.pt", policy, clip=np.inf)


UNFIT = {
    "got none for ['net.2.weight', 'net.2.bias']": {name: NAMES[name] for name in ("net.0", "log_std_parameter")},
    "['head.mean.weight'] is missing": {**NAMES, "net.2": None},
    "['head.mean.weight']: expected (2, 8), got (8, 3)": {**NAMES, "net.0": "head.mean", "net.2": "layers.dense_0"},
    "'layers.dense_0.weight', got 'net.0.weight' and 'target.weight'. Map one": {**NAMES, "target": "layers.dense_0"},
}


@pytest.mark.parametrize(("error", "names"), UNFIT.items(), ids=UNFIT)
def test_maps_of_names_that_do_not_fit_are_refused(policy, module, error, names):
    module |= {"target.weight": module["net.0.weight"] + 1} if "target" in names else {}
    with pytest.raises(ValueError, match=re.escape(error)):
        skrl.params(policy.spec, module, names)


def test_other_modules_and_policies_are_refused(policy, module):
    own = gaussjax.gaussian(gaussjax.networks.MLP((9,)), 3, BOX)
    for error, arguments, says in (
        (ValueError, (own.spec, module), r"got \(8,\).*Pass another map as names=, or make the policy"),
        (ValueError, (policy.spec, {"policy": module}), r"module: .*got the modules \['policy'\]"),
        (TypeError, (policy.spec, "agent.pt"), r"module: .*got str"),
        (TypeError, (policy, module), r"Pass policy\.spec"),
        (TypeError, (policies.build("gaussian-own-module").spec, module), r"gaussjax\.networks, got OwnModule"),
    ):
        with pytest.raises(error, match=says):
            skrl.params(*arguments, NAMES)
    given: dict = {"running_mean": np.zeros(3)}
    with pytest.raises(TypeError, match=r"state: expected Statistics, got dict.*gaussjax\.interop\.skrl\.statistics"):
        gaussjax.normalize.apply(given, np.zeros((5, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="normalizer: expected Statistics, got dict"):
        gaussjax.save("a", policy, policies.random_params(policy), normalizer=given)  # type: ignore[arg-type]


def test_damage_and_classes_in_a_torch_file_are_named(tmp_path):
    path = tmp_path / "agent.pt"
    torch.save({"policy": {"a": torch.full((64,), 0.5)}}, path)
    payload = path.read_bytes()
    value = torch.tensor(0.5).numpy().tobytes() * 8
    path.write_bytes(payload.replace(value, value[:-1] + b"\x00", 1))
    with pytest.raises(skrl.CheckpointError, match="damaged bytes in"):
        skrl.arrays(path)
    torch.save(torch.nn.Linear(3, 2), path)
    with pytest.raises(skrl.CheckpointError, match=r"a reference to torch\.nn\.modules\.linear\.Linear, which would"):
        skrl.arrays(path)
    torch.save({"policy": {"a": torch.zeros(3)}}, path)
    with pytest.raises(gaussjax.PolicyFileError, match=r"gaussjax\.interop\.skrl\.read"):
        gaussjax.load(path)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def array(shape, name, data):
    return msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb((shape, name, data)))})


def malicious(trap):
    bomb = Bomb(trap)
    good = pickle.dumps({"policy": b""}, protocol=4)
    pickles = [pickle.dumps(value, protocol=protocol) for protocol in range(6) for value in (bomb, {"policy": bomb})]
    pickles += [pickle.dumps(value) for value in (np.zeros(3), [b"a"], {"policy": "text"})]
    pickles += [good[:-3], b"", b"Pid\n.", b"cbuiltins\neval\n(S'1'\ntR.", b"\x80\x02\x82\x01.", b"(" * 100_000]
    pickles += [b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x."]
    huge = (torch.zeros(1).expand(3 * 10**8), torch.zeros(1, dtype=torch.bfloat16).expand(1000, 1000))
    values = (bomb, torch.nn.Linear, torch.nn.Linear(2, 2), *huge)
    archives = [saved(value) for value in (bomb, values[2], [1, 2], *({"policy": value} for value in values))]
    archives += [zipped({"archive/data.pkl": b"0" * 100_000}, how) for how in (STORED, zipfile.ZIP_DEFLATED)]
    archives += [zipped({"../../escaped": b"x"}, STORED), zipped({"archive/data.pkl": pickle.dumps(bomb)}, STORED)]
    archives += [saved({"a": torch.zeros(3)})[:-40], pickle.dumps(bomb), b""]
    flax = [b"\x81" * 100_000, b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b""]
    flax += [msgpack.packb({"a": msgpack.ExtType(7, b"x")}), array((1,), "object", b"\x00" * 8)]
    flax += [array((2**40,), "float32", b"\x00" * 4), array((-1, 0), "float32", b""), array((3,), "V8", b"\x00" * 24)]
    return [(suffix, p) for suffix, ps in {".pickle": pickles, ".pt": archives, ".flax": flax}.items() for p in ps]


def test_malicious_files_run_nothing_and_get_one_clear_error(tmp_path):
    trap = tmp_path / "trap"
    files = malicious(trap)
    assert len(files) >= 30
    for i, (suffix, payload) in enumerate(files):
        path = tmp_path / f"file_{i}{suffix}"
        path.write_bytes(payload)
        with pytest.raises(skrl.CheckpointError) as raised:
            skrl.arrays(path)
        assert str(path) in str(raised.value), i
        assert not trap.exists(), i
    with pytest.raises(ValueError, match=r"suffix: expected one of .*got '.zip'"):
        skrl.arrays(tmp_path / "agent.zip")
