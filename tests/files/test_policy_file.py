"""Policy files: what was saved comes back, and an error names each difference between a file and a policy."""

import hashlib
import io
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
from flax import nnx

import gaussjax
import gaussjax.torch
from gaussjax import files, networks, normalize
from gaussjax.files import container
from tests import policies

SPACE = gaussjax.spaces.Box((-1.0, -2.0), (1.0, float("inf")), (2,))


class Own(nn.Module):
    """A user's own network."""

    width: int = 4
    dtype: object = "float32"
    num_actions: int | None = None

    @nn.compact
    def __call__(self, observations):
        features = nn.Dense(self.width, name="first", dtype="float32", param_dtype=self.dtype)(observations)
        return nn.Dense(self.num_actions, name="last")(features), jnp.zeros(self.num_actions), {}


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


def make(network):
    policy = gaussjax.gaussian(network, 3, SPACE)
    return policy, policies.random_params(policy)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.safetensors"


@pytest.fixture
def own(path):
    """A file of a policy with the network Own."""
    gaussjax.save(path, *make(Own()))
    return path


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def assert_acts_alike(loaded, policy, params):
    arguments = jax.random.key(1), np.ones((5, 3), np.float32)
    assert_equal(loaded.policy.act(loaded.params, *arguments), policy.act(params, *arguments))


@pytest.mark.without("jax_debug_key_reuse")
def test_a_loaded_policy_acts_as_the_saved_one(path):
    policy, params = policies.make("gaussian-clipped")
    statistics = normalize.update(normalize.init((3,)), np.random.default_rng(0).normal(size=(50, 3)))
    gaussjax.save(path, policy, params, normalizer=statistics)
    loaded = gaussjax.load(path)
    assert loaded.policy.spec == policy.spec
    assert_equal((loaded.params, loaded.normalizer), (params, statistics))
    assert_acts_alike(loaded, policy, params)
    plain = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(plain["params/params/head/log_std"], params["params"]["head"]["log_std"])


def test_metadata_come_back_with_the_versions_of_the_writer_and_hide_no_damage(path):
    policy, params = make(networks.MLP((8,)))
    metadata = {"environment": "Pendulum-v1", "sha256": "0" * 64, "note": f'"sha256":"{"0" * 64}"'}
    gaussjax.save(path, policy, params, metadata=metadata)
    loaded = gaussjax.load(path).metadata
    versions = loaded["versions"]
    assert loaded == {**metadata, "versions": versions}
    assert (versions["jax"], versions["gaussjax"]) == (jax.__version__, gaussjax.__version__)
    gaussjax.save(path, policy, params, metadata=loaded)
    assert gaussjax.load(path).metadata == loaded


def test_parameters_that_were_cast_or_transposed_come_back_as_they_were(path):
    policy, params = make(Own())
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    kernel = params["params"]["first"]["kernel"]
    params["params"]["first"]["kernel"] = np.ascontiguousarray(kernel.T).T
    gaussjax.save(path, policy, params)
    loaded = gaussjax.load(path, network=Own()).params
    assert_equal(loaded, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.without("jax_enable_x64")
def test_float64_parameters_are_read_with_x64_and_not_narrowed_without(path, request):
    policy, params = make(Own())
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) / 3, params)
    gaussjax.save(path, policy, params)
    assert "first/kernel: expected 32 bits, got float64, which needs jax_enable_x64" in refusal(path, network=Own())
    request.getfixturevalue("x64")
    assert_equal(gaussjax.load(path, network=Own()).params, params)


@pytest.mark.parametrize("std", ["parameter", "fixed", "state"])
def test_a_file_that_was_written_without_x64_is_read_with_it(path, std, request):
    """Parameters are float32 with and without jax_enable_x64."""
    policy = gaussjax.multivariate_gaussian(networks.MLP((4,), std=std), 3, SPACE)
    gaussjax.save(path, policy, policies.random_params(policy))
    request.getfixturevalue("x64")
    params = jax.eval_shape(gaussjax.load(path).policy.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_statistics_are_those_of_an_image_or_of_its_numbers_in_a_row(path):
    policy = gaussjax.gaussian(networks.MLP((8,)), (4, 2), SPACE)
    for shape in ((4, 2), (8,)):
        gaussjax.save(path, policy, policies.random_params(policy), normalizer=normalize.init(shape))
        assert gaussjax.load(path).normalizer.mean.shape == shape


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize(
    "network",
    [
        networks.MLP((np.int64(8),), dtype=jnp.bfloat16, initial_log_std=jnp.float32(-0.5)),
        networks.ActorCritic(
            networks.MLP(
                [np.int64(8), 4],
                dtype=np.dtype("float32"),
                initial_log_std=np.float32(-0.5),
                log_std_bounds=(np.float64(-5.0), np.array(1.0)),
            )
        ),
    ],
    ids=["of jax", "of numpy, inside another network"],
)
def test_types_and_numbers_of_numpy_and_jax_come_back_in_the_description(path, network):
    policy, params = make(network)
    gaussjax.save(path, policy, params)
    loaded = gaussjax.load(path)
    assert loaded.policy.spec == policy.spec
    assert_acts_alike(loaded, policy, params)


def test_types_of_own_networks_stay_as_they_are():
    assert gaussjax.gaussian(Own(dtype=jnp.bfloat16), 3, SPACE).spec.network.dtype is jnp.bfloat16


def test_summary_needs_no_network_and_names_all(own):
    facts, arrays = files.summary(own)
    assert facts["kind"] == "gaussian"
    assert facts["version: jax"] == jax.__version__
    assert facts["parameters"] == "26"
    assert ("params/params/first/kernel", "float32", "(3, 4)") in arrays


def with_nan(params):
    return {"params": {**params["params"], "head": {**params["params"]["head"], "log_std": np.array([0.0, np.nan])}}}


def of_parts():
    """A policy of a Dict space of three numbers, and its parameters."""
    parts = gaussjax.spaces.Dict(
        (("place", gaussjax.spaces.Box(shape=(1,))), ("speed", gaussjax.spaces.Box(shape=(2,))))
    )
    policy = gaussjax.gaussian(networks.MLP((8,)), parts, SPACE)
    return policy, policies.random_params(policy)


def of_statistics(shape):
    return rf"ValueError: normalizer: .* of shape \(3,\), got \(\), {re.escape(f'{shape} and {shape}')}\. Begin with"


STATISTICS = normalize.update(normalize.init((3,)), np.random.default_rng(0).normal(size=(50, 3)))
# Names of parts of statistics: a wrong value, what is expected, and how an error describes the value.
WRONG = {
    "count": (np.float32(-1.0), "finite and at least 0", "-1.0"),
    "mean": (np.float32([0.0, np.inf, 0.0]), "finite", "inf"),
    "m2": (np.float32([1.0, 1.0, -2.0]), "finite and at least 0", "-2.0"),
    "clip": (np.float32(0.0), "above 0", "0.0"),
    "count_rest": (np.zeros(3, np.float32), r"of shape \(2,\)", r"\(3,\)"),
    "m2_rest": (np.full((2, 3), np.nan, np.float32), "finite", "nan"),
    "mean_rest": (np.zeros((2, 3), np.int32), "as floats", "int32"),
}


# Class and text of an error: the arguments of `save` that raise it, made from good parameters.
UNSAVED = {
    r"PolicyFileError: .*got NaN in \['params/params/head/log_std'\]": lambda params: {"params": with_nan(params)},
    r"TypeError: params\['params'\]\['key'\]: .* got PRNG keys. Store jax.random.key_data": lambda params: {
        "params": {"params": {**params["params"], "key": jax.random.key(0)}}
    },
    r"ValueError: .*\['dense_0'\]\['kernel'\]: expected \(3, 8\), got \(3, 9\)": lambda params: {
        "params": make(networks.MLP((9,)))[1]
    },
    r"ValueError: .*: expected arrays in nested dicts, got list\. A policy file holds nested dicts .* or an nnx\.S": (
        lambda params: dict(zip(("policy", "params"), make(Listed()), strict=True))
    ),
    r"ValueError: params/body/layers: expected names without '/' as keys, got 0\. A policy file holds nested dicts": (
        lambda params: dict(zip(("policy", "params"), make(networks.from_nnx(Sequence)), strict=True))
    ),
    r"ValueError: metadata: expected names other than 'versions'": lambda params: {
        "metadata": {"versions": {"robot": "2"}}
    },
    **{of_statistics(n): lambda params, n=n: {"normalizer": normalize.init(n)} for n in [(), (2,), (1, 3)]},
    **{
        error: lambda params, statistics=statistics: {
            **dict(zip(("policy", "params"), of_parts(), strict=True)),
            "normalizer": statistics,
        }
        for error, statistics in {
            r"TypeError: normalizer: expected statistics nested like the Dict space .* got Statistics\.": (
                normalize.init((3,))
            ),
            r"ValueError: normalizer: expected the parts \['place', 'speed'\], as the space has, got \['place'\]\.": (
                normalize.init({"place": (1,)})
            ),
            r"ValueError: normalizer/speed: expected a count of shape \(\) and mean and m2 of shape \(2,\), got": (
                normalize.init({"place": None, "speed": (3,)})
            ),
            r"TypeError: normalizer/speed: expected Statistics, got dict\.": {"place": None, "speed": {}},
        }.items()
    },
    **{
        rf"ValueError: normalizer: expected {name} {right}, got {wrong}\. Make them with normalize\.init": (
            lambda params, name=name, part=part: {"normalizer": STATISTICS._replace(**{name: part})}
        )
        for name, (part, right, wrong) in WRONG.items()
    },
}


@pytest.mark.parametrize("error", UNSAVED)
def test_what_no_file_should_hold_is_not_saved(path, error):
    policy, params = make(networks.MLP((8,)))
    with pytest.raises((TypeError, ValueError)) as caught:
        gaussjax.save(path, **{"policy": policy, "params": params, **UNSAVED[error](params)})
    assert re.match(error, f"{caught.typename}: {caught.value}")
    assert list(path.parent.iterdir()) == []


def refusal(path, **options):
    with pytest.raises(gaussjax.PolicyFileError) as caught:
        gaussjax.load(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


def changed(path, change=lambda tensors: None, **description):
    """Changes arrays and any part of the description of a file, the versions included, with a correct digest."""
    tensors, old = container.read(path)
    tensors = {name: array.copy() for name, array in tensors.items()}
    change(tensors)
    payload = safetensors.numpy.save(tensors, {"gaussjax": json.dumps({**old, **description}), "sha256": "0" * 64})
    path.write_bytes(payload.replace(b"0" * 64, hashlib.sha256(payload).hexdigest().encode(), 1))


def test_version_architecture_extra_leaf_and_type_are_listed_at_once(own):
    def change(tensors):
        tensors["params/params/extra"] = np.zeros(7, np.float32)
        del tensors["params/params/last/bias"]
        tensors["params/params/first/bias"] = tensors["params/params/first/bias"].astype(np.int32)

    changed(own, change, format=9)
    text = refusal(own, network=Own(width=5, dtype="bfloat16"))
    for part in (
        f"expected format 1, got 9: it was written by gaussjax {gaussjax.__version__}",
        "params/params/extra is unknown (got (7,))",
        "params/params/last/bias is missing (expected (2,))",
        "params/params/first/bias: expected (5,), got (4,)",
        "params/params/first/bias: expected bfloat16, got int32",
        "params/params/first/kernel: expected (3, 5), got (3, 4)",
        "params/params/first/kernel: expected bfloat16, got float32",
        "params/params/last/kernel: expected (5, 2), got (4, 2)",
    ):
        assert part in text


def test_own_network_is_asked_for_by_name(own):
    assert re.search(r"'Own' is not one of gaussjax's own networks.*network=", refusal(own))


def test_nan_in_a_file_is_refused(own):
    changed(own, lambda tensors: tensors["params/params/last/bias"].fill(np.nan))
    assert "got NaN in ['params/params/last/bias']" in refusal(own, network=Own())


@pytest.mark.parametrize(
    ("part", "value"),
    [(part, value) for part in ("policy", "metadata", "versions") for value in ([1], 5, "x", None)]
    + [("cast", value) for value in ({}, 5, "x", None)],
)
def test_parts_of_another_type_are_named_by_every_reader(own, part, value):
    changed(own, **{part: value})
    kind = "list" if part == "cast" else "dict"
    expected = f"{part}: expected a {kind} in the description, got {type(value).__name__}"
    assert expected in refusal(own, network=Own())
    with pytest.raises(gaussjax.PolicyFileError, match=rf"{own.name}: {expected}"):
        files.summary(own)


@pytest.mark.parametrize("shape", [(), (2,), (1, 3)])
def test_statistics_of_other_observations_are_refused(own, shape):
    statistics = {"count": (), "mean": shape, "m2": shape}
    arrays = {f"normalizer/{name}": np.ones(part, np.float32) for name, part in statistics.items()}
    changed(own, lambda tensors: tensors.update(arrays))
    assert f"mean and m2 of shape (3,), got (), {shape} and {shape}" in refusal(own, network=Own())


@pytest.mark.parametrize("name", WRONG)
def test_statistics_that_no_update_makes_are_not_read(path, name):
    gaussjax.save(path, *make(networks.MLP((8,))), normalizer=STATISTICS)
    part, right, wrong = WRONG[name]
    changed(path, lambda tensors: tensors.update({f"normalizer/{name}": np.asarray(part)}))
    assert re.search(f"normalizer: expected {name} {right}, got {wrong}", refusal(path))
    changed(path, lambda tensors: tensors.pop(f"normalizer/{name}"))
    assert "normalizer: expected the entries ('count', 'mean', 'm2', 'clip', " in refusal(path)


@pytest.mark.parametrize(("field", "shape"), [("count", (2,)), ("m2", (2, 3))])
def test_statistics_whose_rest_exceeds_them_are_not_read(path, field, shape):
    gaussjax.save(path, *make(networks.MLP((8,))), normalizer=STATISTICS)
    changed(path, lambda tensors: tensors.update({f"normalizer/{field}_rest": np.full(shape, -100.0, np.float32)}))
    assert f"normalizer: expected {field} with its rest to be at least 0, got -1" in refusal(path)


def test_statistics_of_a_dict_space_are_not_read(path):
    gaussjax.save(path, *of_parts())
    arrays = {f"normalizer/{name}": np.asarray(part) for name, part in STATISTICS._asdict().items()}
    changed(path, lambda tensors: tensors.update(arrays))
    assert "normalizer: expected only parts of the observation space, got ['normalizer/" in refusal(path)


def test_statistics_are_nested_like_the_observation_space(path):
    box, space = gaussjax.spaces.Box(shape=(2,)), gaussjax.spaces
    pixels = space.Box(0, 255, (2, 2, 3), "uint8")
    nested = space.Dict((("a/b%", box), ("mode", space.Discrete(2)), ("more", space.Tuple((pixels, box)))))
    policy = gaussjax.gaussian(networks.MLP((8,)), nested, SPACE)
    statistics = normalize.init({"a/b%": (2,), "mode": None, "more": (None, (2,))})
    seen = np.random.default_rng(0).normal(5.0, 2.0, (9, 2)).astype(np.float32)
    observations = {"a/b%": seen, "mode": np.zeros(9, np.int32), "more": (np.zeros((9, 2, 2, 3), np.uint8), -seen)}
    statistics, params = normalize.update(statistics, observations), policies.random_params(policy)
    gaussjax.save(path, policy, params, normalizer=statistics)
    loaded = gaussjax.load(path)
    assert_equal(loaded.normalizer, statistics)
    expected = policy.act(params, None, normalize.apply(statistics, observations), deterministic=True).actions
    np.testing.assert_allclose(loaded.act(observations).actions, expected, atol=1e-6)
    twin = gaussjax.torch.load(path)
    np.testing.assert_allclose(twin.act(observations).actions, expected, atol=1e-5)
    gaussjax.torch.save(path, twin.policy, twin.params, normalizer=twin.normalizer)
    assert_equal(gaussjax.load(path).normalizer, statistics)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_three_numbers_of_an_earlier_version_are_statistics(path, dtype):
    gaussjax.save(path, *make(networks.MLP((8,))))
    three = {"count": 2**24 + 2, "mean": np.array([1, 2, 3]), "m2": np.full(3, 2**26)}
    arrays = {f"normalizer/{name}": np.asarray(number, dtype) for name, number in three.items()}
    changed(path, lambda tensors: tensors.update(arrays))
    policy, params, statistics, _ = gaussjax.load(path)
    assert_equal(statistics, normalize.Statistics(**three))
    assert statistics.clip == 10.0
    gaussjax.save(path, policy, params, normalizer=statistics)
    assert_equal(gaussjax.load(path).normalizer, statistics)


def test_unknown_option_of_a_newer_version_is_named(own):
    policy = container.read(own)[1]["policy"]
    changed(own, policy={**policy, "options": {**policy["options"], "temperature": 1.0}})
    assert "got 'temperature'" in refusal(own, network=Own())


def test_arrays_of_another_program_are_refused(path):
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    assert "got a header without its description" in refusal(path)


@pytest.mark.parametrize("library", [gaussjax, gaussjax.torch], ids=["jax", "torch"])
def test_open_files_hold_what_a_path_holds(path, library):
    policy = gaussjax.gaussian(networks.MLP((8,)), 3, SPACE)
    params = policies.random_params(policy)
    gaussjax.save(path, policy, params)
    file = io.BytesIO()
    gaussjax.save(file, policy, params)
    file.seek(0)
    loaded = library.load(file)
    assert loaded.policy.spec == policy.spec
    with path.open("rb") as opened:
        for other in (library.load(opened), library.load(path)):
            assert_equal(other.params, loaded.params)
    with pytest.raises(TypeError, match="opened for bytes"):
        gaussjax.load(io.StringIO(""))


LOOP: dict = {}
LOOP["a"] = LOOP


def test_metadata_of_numpy_become_plain_numbers(path):
    metadata = {"x": np.float32(0.5), "n": np.int64(3), "list": np.arange(2), "in": {"flag": np.bool_(True)}, "t": (1,)}
    policy = gaussjax.gaussian(networks.MLP((8,)), 3, SPACE)
    gaussjax.save(path, policy, policies.random_params(policy), metadata=metadata)
    found = gaussjax.load(path).metadata
    del found["versions"]
    assert found == {"x": 0.5, "n": 3, "list": [0, 1], "in": {"flag": True}, "t": [1]}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"score": float("nan")}, r"metadata\['score'\]: expected a finite number, got nan"),
        ({"a": [np.float32(np.inf)]}, r"metadata\['a'\]\[0\]: expected a finite number, got inf"),
        (LOOP, r"metadata: expected at most 10,000,000 entries that are nested at most 300 deep, got more\. Save less"),
        ({"a": ["[" * 10**7]}, r"policy.safetensors: the description: expected JSON that takes at most .* bytes"),
        ({"a": {1: 2}}, r"metadata\['a'\]: expected text as keys, got \[1\]"),
        ({"a": {1, 2}}, r"metadata\['a'\]: expected text, numbers, lists or dicts, got set"),
        ("ours", "metadata: expected a dict with text as keys, got str"),
    ],
    ids=str,
)
def test_metadata_that_json_cannot_hold_is_named(path, metadata, says):
    policy = gaussjax.gaussian(networks.MLP((8,)), 3, SPACE)
    with pytest.raises((TypeError, ValueError), match=says):
        gaussjax.save(path, policy, policies.random_params(policy), metadata=metadata)
    assert not path.exists()


def test_what_is_no_path_and_a_folder_are_refused(path):
    policy = gaussjax.gaussian(networks.MLP((8,)), 3, SPACE)
    params = policies.random_params(policy)
    for call in (gaussjax.load, gaussjax.torch.load, lambda place: gaussjax.save(place, policy, params)):
        for place in (None, 3, policy):
            with pytest.raises(TypeError, match=r"^path: expected a path or a binary file, got "):
                call(place)
    for load in (gaussjax.load, gaussjax.torch.load):
        with pytest.raises(
            IsADirectoryError, match=r"expected a policy file, got a folder\. Name the policy\.safetensors"
        ):
            load(path.parent)


def test_tensors_of_torch_are_no_parameters_of_a_jax_policy(path):
    policy = gaussjax.gaussian(networks.MLP((8,)), 3, SPACE)
    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), policies.random_params(policy))
    with pytest.raises(
        TypeError, match=r"^params\['params'\].*, got Tensor\. .* jax\.tree\.map\(np\.asarray, params\)"
    ):
        gaussjax.save(path, policy, params)
