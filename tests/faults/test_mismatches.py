"""Undamaged files of another version or network: the error names every difference."""

import hashlib
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import gaussjax
from gaussjax import files
from gaussjax.files import container

SPACE = gaussjax.spaces.Box(-1.0, 1.0, (2,))


class Own(nn.Module):
    width: int = 4
    dtype: str = "float32"
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observations):
        features = nn.Dense(self.width, name="first", param_dtype=self.dtype)(observations)
        return nn.Dense(self.num_actions, name="last")(features), jnp.zeros(self.num_actions), {}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "policy.safetensors"
    policy = gaussjax.gaussian(Own(), 3, SPACE)
    gaussjax.save(path, policy, policy.init(jax.random.key(0)))
    return path


def changed(path, change, **description):
    """Changes arrays or description of a file, with a correct digest."""
    tensors, old = container.read(path)
    tensors = {name: array.copy() for name, array in tensors.items()}
    change(tensors)
    container.write(path, tensors, {**old, **description})


def rewritten(path, **description):
    """Changes any part of the description, versions included, with a correct digest."""
    tensors, old = container.read(path)
    text = json.dumps({**old, **description})
    payload = safetensors.numpy.save(tensors, {"gaussjax": text, "sha256": "0" * 64})
    path.write_bytes(payload.replace(b"0" * 64, hashlib.sha256(payload).hexdigest().encode(), 1))


def refusal(path, **options):
    with pytest.raises(gaussjax.PolicyFileError) as caught:
        gaussjax.load(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_other_architecture_lists_every_leaf(path):
    text = refusal(path, network=Own(width=5))
    for part in (
        "first/bias: expected (5,), got (4,)",
        "first/kernel: expected (3, 5), got (3, 4)",
        "last/kernel: expected (5, 2), got (4, 2)",
    ):
        assert part in text


def test_version_architecture_extra_leaf_and_type_are_listed_at_once(path):
    def change(tensors):
        tensors["params/params/extra"] = np.zeros(7, np.float32)
        del tensors["params/params/last/bias"]
        tensors["params/params/first/bias"] = tensors["params/params/first/bias"].astype(np.int32)

    changed(path, change, format=9)
    text = refusal(path, network=Own(width=5))
    for part in (
        "expected format 1, got 9: it was written by gaussjax",
        "params/params/extra is unknown (got (7,))",
        "params/params/last/bias is missing (expected (2,))",
        "params/params/first/bias: expected float32, got int32",
        "params/params/first/kernel: expected (3, 5), got (3, 4)",
    ):
        assert part in text


def test_network_of_another_type_is_refused(path):
    assert "first/kernel: expected bfloat16, got float32" in refusal(path, network=Own(dtype="bfloat16"))


def test_parameters_that_were_cast_on_purpose_come_back_as_they_were(path):
    policy = gaussjax.gaussian(Own(), 3, SPACE)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), policy.init(jax.random.key(0)))
    gaussjax.save(path, policy, params)
    loaded = gaussjax.load(path, network=Own()).params
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.bfloat16)}


def test_float64_parameters_are_not_narrowed_in_silence(path):
    policy = gaussjax.gaussian(Own(), 3, SPACE)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), policy.init(jax.random.key(0)))
    gaussjax.save(path, policy, params)
    assert "first/kernel: expected 32 bits, got float64, which needs jax_enable_x64" in refusal(path, network=Own())


def test_float64_parameters_are_read_with_x64(path, x64):
    policy = gaussjax.gaussian(Own(), 3, SPACE)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) / 3, policy.init(jax.random.key(0)))
    gaussjax.save(path, policy, params)
    jax.tree.map(np.testing.assert_array_equal, gaussjax.load(path, network=Own()).params, params)


def test_nan_in_a_file_is_refused(path):
    def change(tensors):
        tensors["params/params/last/bias"][1] = np.nan

    changed(path, change)
    assert "got NaN in ['params/params/last/bias']" in refusal(path, network=Own())


@pytest.mark.parametrize(
    ("part", "value"),
    [(part, value) for part in ("policy", "metadata", "versions") for value in ([1], 5, "x", None)]
    + [("cast", value) for value in ({}, 5, "x", None)],
)
def test_parts_of_another_type_are_named_by_every_reader(path, part, value):
    rewritten(path, **{part: value})
    kind = "list" if part == "cast" else "dict"
    expected = f"{part}: expected a {kind} in the description, got {type(value).__name__}"
    assert expected in refusal(path, network=Own())
    with pytest.raises(gaussjax.PolicyFileError, match=rf"{path.name}: {expected}"):
        files.summary(path)


@pytest.mark.parametrize("shape", [(), (2,), (1, 3)])
def test_statistics_of_other_observations_are_refused(path, shape):
    def change(tensors):
        for name, part in {"count": (), "mean": shape, "m2": shape}.items():
            tensors[f"normalizer/{name}"] = np.ones(part, np.float32)

    changed(path, change)
    assert f"mean and m2 of shape (3,), got (), {shape} and {shape}" in refusal(path, network=Own())


def test_unknown_option_of_a_newer_version_is_named(path):
    _, description = container.read(path)
    policy = {**description["policy"], "options": {**description["policy"]["options"], "temperature": 1.0}}
    changed(path, lambda tensors: None, policy=policy)
    assert "got 'temperature'" in refusal(path, network=Own())


def test_summary_needs_no_network_and_names_all(path):
    facts, arrays = files.summary(path)
    assert facts["kind"] == "gaussian"
    assert facts["version: jax"] == jax.__version__
    assert facts["parameters"] == "26"
    assert ("params/params/first/kernel", "float32", "(3, 4)") in arrays


@pytest.mark.parametrize("std", ["parameter", "fixed", "state"])
def test_a_file_that_was_written_without_x64_is_read_with_it(path, std, request):
    """Parameters are float32 with and without jax_enable_x64."""
    network = gaussjax.networks.MLP((4,), std=std)
    policy = gaussjax.multivariate_gaussian(network, 3, SPACE)
    gaussjax.save(path, policy, policy.init(jax.random.key(0)))
    request.getfixturevalue("x64")
    params = gaussjax.load(path).policy.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
