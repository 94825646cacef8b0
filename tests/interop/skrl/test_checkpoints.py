"""skrl's checkpoints: files of arrays are read, all others are refused without running code."""

import collections
import io
import pickle
import zipfile
from pathlib import Path

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax.interop import skrl

BOX = gaussjax.spaces.Box(-0.3, 0.3, (2,))
NAMES = {"net.0": "layers.dense_0", "net.2": "head.mean", "log_std_parameter": "head.log_std"}
IN_FLAX = {"Dense_0": "layers.dense_0", "Dense_1": "head.mean", "log_std_parameter": "head.log_std"}


class Own(nn.Module):
    """A user's own network."""

    @nn.compact
    def __call__(self, observations):
        return nn.Dense(2)(observations), self.param("log_std", nn.initializers.zeros, (2,)), {}


@pytest.fixture(scope="module")
def policy():
    return gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, BOX, clip_actions=True)


def state_dict():
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Tanh())
    arrays = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    return net, collections.OrderedDict(arrays, log_std_parameter=torch.tensor([-0.5, 0.25]))


def test_torch_agents_are_read_and_mapped(policy, tmp_path):
    net, state = state_dict()
    optimizer = torch.optim.Adam(net.parameters())
    torch.save({"policy": state, "optimizer": optimizer.state_dict()}, tmp_path / "agent.pt")
    torch.save(state, tmp_path / "model.pt")
    module = skrl.read(tmp_path / "agent.pt")["policy"]
    assert all((module[name] == array).all() for name, array in skrl.read(tmp_path / "model.pt").items())
    params = skrl.params(policy.spec, module, NAMES)
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    outputs = policy.apply(params, observations)[1]
    expected = net(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_allclose(outputs["mean_actions"], expected, rtol=1e-5, atol=1e-6)
    assert (outputs["log_std"][0] == np.array([-0.5, 0.25], np.float32)).all()


def test_jax_models_and_agents_are_read_and_mapped(policy, tmp_path):
    params = policy.init(jax.random.key(0))["params"]
    theirs = {"params": {"Dense_0": params["layers"]["dense_0"], "Dense_1": params["head"]["mean"]}}
    theirs["params"]["log_std_parameter"] = params["head"]["log_std"]
    data = flax.serialization.to_bytes(theirs)
    (tmp_path / "model.flax").write_bytes(data)
    (tmp_path / "agent.pickle").write_bytes(pickle.dumps({"policy": data}, protocol=4))
    for module in (skrl.read(tmp_path / "model.flax"), skrl.read(tmp_path / "agent.pickle")["policy"]):
        found = skrl.params(policy.spec, module, IN_FLAX)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((np.asarray(a) == b).all()), {"params": params}, found))


def test_arrays_without_an_entry_in_the_map_are_named(policy):
    module = {name: tensor.numpy() for name, tensor in state_dict()[1].items()}
    with pytest.raises(ValueError, match=r"got none for \['net.2.weight', 'net.2.bias'\]"):
        skrl.params(policy.spec, module, {"net.0": "layers.dense_0", "log_std_parameter": "head.log_std"})
    with pytest.raises(ValueError, match=r"\['head.mean.weight'\] is missing"):
        skrl.params(policy.spec, module, {**NAMES, "net.2": None})
    with pytest.raises(ValueError, match=r"\['head.mean.weight'\]: expected \(2, 8\), got \(8, 3\)"):
        skrl.params(policy.spec, module, {**NAMES, "net.0": "head.mean", "net.2": "layers.dense_0"})


def test_two_arrays_for_one_name_are_refused(policy):
    module = {name: tensor.numpy() for name, tensor in state_dict()[1].items()}
    module["target.weight"] = module["net.0.weight"] + 1
    with pytest.raises(ValueError, match=r"'layers.dense_0.weight', got 'net.0.weight' and 'target.weight'\. Map one"):
        skrl.params(policy.spec, module, {**NAMES, "target": "layers.dense_0"})
    assert skrl.params(policy.spec, module, {**NAMES, "target": None})


def test_other_modules_and_policies_are_refused(policy):
    module = {name: tensor.numpy() for name, tensor in state_dict()[1].items()}
    own = gaussjax.gaussian(gaussjax.networks.MLP((9,)), 3, BOX)
    with pytest.raises(ValueError, match=r"got \(8,\).*Change the map of names, or make the policy"):
        skrl.params(own.spec, module, NAMES)
    with pytest.raises(ValueError, match=r"module: .*got the modules \['policy'\]"):
        skrl.params(policy.spec, {"policy": module}, NAMES)
    with pytest.raises(TypeError, match=r"module: .*got str"):
        skrl.params(policy.spec, "agent.pt", NAMES)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Pass policy\.spec"):
        skrl.params(policy, module, NAMES)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a network of gaussjax\.networks, got Own"):
        skrl.params(gaussjax.gaussian(Own(), 3, BOX).spec, module, NAMES)
    given: dict = {"running_mean": np.zeros(3)}
    with pytest.raises(TypeError, match=r"state: expected Statistics, got dict.*gaussjax\.interop\.skrl\.statistics"):
        gaussjax.normalize.apply(given, np.zeros((5, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="normalizer: expected Statistics, got dict"):
        gaussjax.save("a", policy, policy.init(jax.random.key(0)), normalizer=given)  # type: ignore[arg-type]


def test_damage_and_classes_in_a_torch_file_are_named(tmp_path):
    path = tmp_path / "agent.pt"
    torch.save({"policy": {"a": torch.full((64,), 0.5)}}, path)
    payload = path.read_bytes()
    value = torch.tensor(0.5).numpy().tobytes() * 8
    path.write_bytes(payload.replace(value, value[:-1] + b"\x00", 1))
    with pytest.raises(skrl.CheckpointError, match="damaged bytes in"):
        skrl.read(path)
    torch.save(torch.nn.Linear(3, 2), path)
    with pytest.raises(skrl.CheckpointError, match=r"a reference to torch\.nn\.modules\.linear\.Linear, which would"):
        skrl.read(path)
    torch.save({"policy": {"a": torch.zeros(3)}}, path)
    with pytest.raises(gaussjax.PolicyFileError, match=r"gaussjax\.interop\.skrl\.read"):
        gaussjax.load(path)


def test_a_profile_takes_a_role_and_names_the_key_it_needs(policy):
    model, params = skrl.profile(policy, "2.1.1"), policy.init(jax.random.key(0))
    observations = np.zeros((5, 3), np.float32)
    actions, _ = model.act(params, jax.random.key(1), {"observations": observations}, role="policy")
    assert (actions == policy.act(params, jax.random.key(1), observations).actions).all()
    with pytest.raises(ValueError, match=r"expected the observations as 'observations', got the names \['states'\]"):
        model.act(params, jax.random.key(1), {"states": observations})


def test_scalers_become_statistics():
    module = {
        "running_mean": np.array([1.0, 2.0]),
        "running_variance": np.array([4.0, 0.25]),
        "current_count": np.array(10.0),
    }
    found = gaussjax.normalize.apply(skrl.statistics(module), np.array([[3.0, 2.5]], np.float32), clip=5.0)
    np.testing.assert_allclose(found, [[1.0, 1.0]], rtol=1e-6)
    with pytest.raises(ValueError, match="module: expected the arrays"):
        skrl.statistics({})


def test_profiles_have_the_arity_names_and_shapes_of_their_versions(policy):
    params, key, observations = policy.init(jax.random.key(0)), jax.random.key(1), jnp.ones((5, 3))
    expected = policy.act(params, key, observations)
    actions, log_prob, outputs = skrl.profile(policy, "1.4.3").act(params, key, {"states": observations})
    assert (actions == expected.actions).all()
    assert set(outputs) == {"mean_actions", "log_std"}
    for version in ("2.0.0", "2.1.1"):
        actions, outputs = skrl.profile(policy, version).act(params, key, {"observations": observations})
        assert (outputs["log_prob"] == log_prob).all()
        assert log_prob.shape == (5, 1)
    assert skrl.profile(policy, "1.4.3").log_std(params, {"states": observations}).shape == (5, 2)
    assert skrl.profile(policy, "1.4.3").entropy(params, {"states": observations}).shape == (5, 2)
    assert skrl.profile(policy, "2.0.0").entropy(params, {"observations": observations}).shape == (5, 2)
    summed = skrl.profile(policy, "2.1.1").entropy(params, {"observations": observations})
    np.testing.assert_allclose(summed, np.full((5, 1), np.log(2 * np.pi * np.e)), rtol=1e-6)
    with pytest.raises(ValueError, match=r"version: expected one of .*got '2.1'"):
        skrl.profile(policy, "2.1")
    for factory in (gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian):
        with pytest.raises(ValueError, match="which skrl has"):
            skrl.profile(factory(gaussjax.networks.MLP(), 3, BOX), "2.1.1")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def zipped(name, compression=zipfile.ZIP_STORED, content=b"0" * 100_000):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def array(shape, name, data):
    return msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb((shape, name, data)))})


def malicious(trap):
    bomb = Bomb(trap)
    good = pickle.dumps({"policy": b""}, protocol=4)
    yield from ((".pickle", pickle.dumps(bomb, protocol=protocol)) for protocol in range(6))
    yield from ((".pickle", pickle.dumps({"policy": bomb}, protocol=protocol)) for protocol in range(6))
    yield ".pickle", pickle.dumps(np.zeros(3))
    yield ".pickle", pickle.dumps([b"a"])
    yield ".pickle", pickle.dumps({"policy": "text"})
    yield ".pickle", good[:-3]
    yield ".pickle", b""
    yield ".pickle", b"Pid\n."
    yield ".pickle", b"cbuiltins\neval\n(S'1'\ntR."
    yield ".pickle", b"\x80\x02\x82\x01."
    yield ".pickle", b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"x."
    yield ".pickle", b"(" * 100_000
    yield ".pt", saved({"policy": bomb})
    yield ".pt", saved(bomb)
    yield ".pt", saved({"policy": torch.nn.Linear})
    yield ".pt", saved(torch.nn.Linear(2, 2))
    yield ".pt", pickle.dumps(bomb)
    yield ".pt", zipped("archive/data.pkl")
    yield ".pt", zipped("archive/data.pkl", zipfile.ZIP_DEFLATED)
    yield ".pt", zipped("../../escaped", content=b"x")
    yield ".pt", zipped("archive/data.pkl", content=pickle.dumps(bomb))
    yield ".pt", saved({"a": torch.zeros(3)})[:-40]
    yield ".pt", b""
    yield ".pt", saved([1, 2])
    yield ".pt", saved({"a": torch.zeros(1).expand(3 * 10**8)})
    yield ".pt", saved({"a": torch.zeros(1, dtype=torch.bfloat16).expand(1000, 1000)})
    yield ".flax", b"\x81" * 100_000
    yield ".flax", b"\x91" * 100_000
    yield ".flax", b"\xdd\xff\xff\xff\xff"
    yield ".flax", b"\xdf\xff\xff\xff\xff"
    yield ".flax", msgpack.packb({"a": msgpack.ExtType(7, b"x")})
    yield ".flax", array((1,), "object", b"\x00" * 8)
    yield ".flax", array((2**40,), "float32", b"\x00" * 4)
    yield ".flax", array((-1, 0), "float32", b"")
    yield ".flax", array((3,), "V8", b"\x00" * 24)
    yield ".flax", b""


def test_malicious_files_run_nothing_and_get_one_clear_error(tmp_path):
    trap = tmp_path / "trap"
    files = list(malicious(trap))
    assert len(files) >= 30
    for i, (suffix, payload) in enumerate(files):
        path = tmp_path / f"file_{i}{suffix}"
        path.write_bytes(payload)
        with pytest.raises(skrl.CheckpointError) as raised:
            skrl.read(path)
        assert str(path) in str(raised.value), i
        assert not trap.exists(), i
    with pytest.raises(ValueError, match=r"suffix: expected one of .*got '.zip'"):
        skrl.read(tmp_path / "agent.zip")
