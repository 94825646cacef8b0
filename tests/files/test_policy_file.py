import json
import os
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import gaussjax
from gaussjax import files, normalize

SPACE = gaussjax.spaces.Box((-1.0, -2.0), (1.0, float("inf")), (2,))


class Own(nn.Module):
    num_actions: int | None = None
    dtype: object = None

    @nn.compact
    def __call__(self, observations):
        return nn.Dense(self.num_actions)(observations), jnp.zeros(self.num_actions), {}


@pytest.fixture
def policy():
    return gaussjax.gaussian(gaussjax.networks.MLP((8,), activation="elu"), 3, SPACE, clip_actions=True)


@pytest.fixture
def params(policy):
    return policy.init(jax.random.key(0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.safetensors"


def test_a_loaded_policy_acts_as_the_saved_one(policy, params, path):
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    statistics = normalize.update(normalize.init((3,)), observations)
    gaussjax.save(path, policy, params, normalizer=statistics, metadata={"environment": "Pendulum-v1"})
    loaded = gaussjax.load(path)
    assert loaded.policy.spec == policy.spec
    assert loaded.metadata["environment"] == "Pendulum-v1"
    assert loaded.metadata["versions"]["jax"] == jax.__version__
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
    jax.tree.map(np.testing.assert_array_equal, loaded.normalizer, statistics)
    key = jax.random.key(1)
    before, after = policy.act(params, key, observations), loaded.policy.act(loaded.params, key, observations)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_file_is_plain_safetensors(policy, params, path):
    gaussjax.save(path, policy, params)
    tensors = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(tensors["params/params/head/log_std"], np.zeros(2))
    assert not any(name.startswith("normalizer") for name in tensors)


def test_bfloat16_and_transposed_arrays_survive(policy, params, path):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    kernel = np.asarray(params["params"]["layers"]["dense_0"]["kernel"])
    params["params"]["layers"]["dense_0"]["kernel"] = np.ascontiguousarray(kernel.T).T
    gaussjax.save(path, policy, params)
    loaded = gaussjax.load(path).params["params"]["layers"]["dense_0"]["kernel"]
    assert loaded.dtype == jnp.bfloat16
    np.testing.assert_array_equal(loaded, kernel)


def test_another_digest_in_the_metadata_does_not_hide_damage(policy, params, path):
    gaussjax.save(path, policy, params, metadata={"sha256": "0" * 64, "note": f'"sha256":"{"0" * 64}"'})
    assert gaussjax.load(path).metadata["sha256"] == "0" * 64


def test_failed_write_leaves_the_older_file_and_no_other(policy, params, path, monkeypatch):
    gaussjax.save(path, policy, params)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        gaussjax.save(path, policy, jax.tree.map(lambda leaf: leaf + 1, params))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_nan_is_not_saved(policy, params, path):
    params["params"]["head"]["log_std"] = jnp.array([0.0, jnp.nan])
    with pytest.raises(ValueError, match=r"got NaN in \['params/params/head/log_std'\]"):
        gaussjax.save(path, policy, params)
    assert not path.exists()


@pytest.mark.parametrize("shape", [(), (2,), (1, 3)])
def test_statistics_of_other_observations_are_not_saved(policy, params, path, shape):
    expected = rf"normalizer: expected .* of shape \(3,\), got \(\), {re.escape(f'{shape} and {shape}')}\. Begin with"
    with pytest.raises(ValueError, match=expected):
        gaussjax.save(path, policy, params, normalizer=normalize.init(shape))
    assert not path.exists()


def test_statistics_are_those_of_an_image_or_of_its_numbers_in_a_row(path):
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), (4, 2), SPACE)
    for shape in ((4, 2), (8,)):
        gaussjax.save(path, policy, policy.init(jax.random.key(0)), normalizer=normalize.init(shape))
        assert gaussjax.load(path).normalizer.mean.shape == shape


def test_metadata_named_versions_is_refused(policy, params, path):
    with pytest.raises(ValueError, match=r"metadata: expected names other than 'versions'"):
        gaussjax.save(path, policy, params, metadata={"versions": {"robot": "2"}})
    gaussjax.save(path, policy, params, metadata={"run": 1})
    loaded = gaussjax.load(path)
    gaussjax.save(path, policy, params, metadata=loaded.metadata)
    assert gaussjax.load(path).metadata == loaded.metadata


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": jnp.bfloat16},
        {"dtype": np.dtype("float32")},
        {"initial_log_std": np.float32(-0.5)},
        {"initial_log_std": jnp.float32(-0.5)},
        {"sizes": (np.int64(8),)},
        {"sizes": [np.int64(8), 4], "log_std_bounds": (np.float64(-5.0), np.array(1.0))},
    ],
)
@pytest.mark.parametrize("critic", [False, True])
def test_types_and_numbers_of_numpy_and_jax_come_back_in_the_description(path, options, critic):
    network = gaussjax.networks.MLP(**options)
    policy = gaussjax.gaussian(gaussjax.networks.ActorCritic(network) if critic else network, 3, SPACE)
    params = policy.init(jax.random.key(0))
    gaussjax.save(path, policy, params)
    loaded = gaussjax.load(path)
    assert loaded.policy.spec == policy.spec
    observations = np.ones((5, 3), np.float32)
    before, after = (
        policy.act(params, jax.random.key(1), observations),
        loaded.policy.act(loaded.params, jax.random.key(1), observations),
    )
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_types_of_own_networks_stay_as_they_are():
    policy = gaussjax.gaussian(Own(dtype=jnp.bfloat16), 3, SPACE)
    assert policy.spec.network.dtype is jnp.bfloat16


class Listed:
    """A network whose parameters are a list."""

    def init(self, key, observations):
        return {"layers": [jax.random.normal(key, (3, 2))]}

    def apply(self, params, observations):
        return observations @ params["layers"][0], jnp.zeros(2), {}


class Sequence(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Sequential(nnx.Linear(3, 2, rngs=rngs))

    def __call__(self, observations):
        return self.body(observations), jnp.zeros(2), {}


@pytest.mark.parametrize(
    ("network", "came"),
    [
        (Listed(), r"params/layers: expected arrays in nested dicts, got list\."),
        (gaussjax.networks.from_nnx(Sequence), r"params/body/layers: expected names without '/' as keys, got 0\."),
    ],
)
def test_parameters_outside_nested_dicts_are_refused(path, network, came):
    policy = gaussjax.gaussian(network, 3, SPACE)
    with pytest.raises(ValueError, match=rf"{came} A policy file holds nested dicts .* or an nnx\.Sequential"):
        gaussjax.save(path, policy, policy.init(jax.random.key(0)))


def test_parameters_of_another_policy_are_refused(policy, path):
    other = gaussjax.gaussian(gaussjax.networks.MLP((9,)), 3, SPACE)
    with pytest.raises(ValueError, match=r"\['dense_0'\]\['kernel'\]: expected \(3, 8\), got \(3, 9\)"):
        gaussjax.save(path, policy, other.init(jax.random.key(0)))


def test_own_network_is_asked_for_by_name_and_accepted(path):
    policy = gaussjax.gaussian(Own(), 3, SPACE)
    params = policy.init(jax.random.key(0))
    gaussjax.save(path, policy, params)
    with pytest.raises(ValueError, match=r"'Own' is not one of gaussjax's own networks.*network="):
        gaussjax.load(path)
    loaded = gaussjax.load(path, network=Own())
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_newer_format_is_refused_with_the_version_that_wrote_it(policy, params, path, monkeypatch):
    monkeypatch.setattr(files.policy_file, "FORMAT", 2)
    gaussjax.save(path, policy, params)
    monkeypatch.undo()
    with pytest.raises(files.PolicyFileError, match=rf"expected format 1, got 2.*{gaussjax.__version__}"):
        gaussjax.load(path)


def test_files_of_other_kinds_are_refused(path):
    for payload in (b"", b"{}", json.dumps({"a": 1}).encode() * 20, safetensors.numpy.save({"a": np.zeros(3)})):
        path.write_bytes(payload)
        with pytest.raises(files.PolicyFileError, match=path.name):
            gaussjax.load(path)
