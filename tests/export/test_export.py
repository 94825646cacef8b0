"""Exported programs act as the policy for any batch size; NumPy programs in a process without gaussjax too."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import export, normalize
from gaussjax.export import numpy_act
from gaussjax.export.numpy import build
from gaussjax.export.program import make_program
from tests import policies

# One row for each kind of operation. The slow tests run the whole table.
FEW = ("gaussian-actor-critic", "gaussian-lstm", "squashed", "gaussian-cnn", "gaussian-nested-spaces")
ROWS = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in policies.TABLE]
# scatter, with which the triangle of correlations is filled, is not among the operations.
NOT_IN_NUMPY = {("multivariate", False)}


@pytest.fixture(params=[True, False], ids=["deterministic", "stochastic"])
def deterministic(request):
    return request.param


@pytest.mark.parametrize("name", ROWS)
def test_numpy_program_acts_as_the_policy(name, deterministic, tmp_path):
    policy, params = policies.make(name)
    path = tmp_path / "policy.npz"
    if (name, deterministic) in NOT_IN_NUMPY:
        with pytest.raises(NotImplementedError, match=r"expected operations that NumPy has, got scatter.*as stablehlo"):
            export.numpy(path, policy, params, deterministic=deterministic)
        assert not path.exists()
        return
    program = export.numpy(path, policy, params, deterministic=deterministic)
    act = numpy_act.load(path)
    for batch in (1, 7):
        arrays = {n: np.ones(shape.shape, shape.dtype) for n, shape in program.shapes(batch).items()}
        expected = program.function(jax.tree.map(jnp.asarray, arrays))
        for output, value in act(**arrays).items():
            np.testing.assert_allclose(value, expected[output], rtol=1e-4, atol=1e-5)


# JAX writes StableHLO, so fewer rows cover our part.
FEWER = ("gaussian-lstm", "squashed", "gaussian-nested-spaces")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEWER else pytest.mark.slow) for name in policies.TABLE]
)
def test_stablehlo_acts_as_the_policy(name, deterministic, tmp_path):
    pytest.importorskip("flatbuffers")
    policy, params = policies.make(name)
    path = tmp_path / "policy.stablehlo"
    export.stablehlo(path, policy, params, deterministic=deterministic)
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    program = make_program(policy, params, None, None if deterministic else "key")
    for batch in (1, 5):
        arrays = {n: np.ones(shape.shape, shape.dtype) for n, shape in program.shapes(batch).items()}
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
            exported.call(arrays),
            jax.jit(program.function)(arrays),
        )


def test_stochastic_stablehlo_draws_the_numbers_of_act(tmp_path):
    pytest.importorskip("flatbuffers")
    policy, params = policies.make("gaussian")
    export.stablehlo(tmp_path / "x", policy, params, deterministic=False)
    exported = jax.export.deserialize(bytearray((tmp_path / "x").read_bytes()))
    key, observations = jax.random.key(3), np.ones((9, 3), np.float32)
    got = exported.call({"key": jax.random.key_data(key), "observations": observations})["actions"]
    np.testing.assert_allclose(got, policy.act(params, key, observations).actions, atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_onnx_acts_as_the_policy(name, deterministic, tmp_path):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    policy, params = policies.make(name)
    path = tmp_path / "policy.onnx"
    program = export.onnx(path, policy, params, deterministic=deterministic)
    session = onnxruntime.InferenceSession(str(path))
    for batch in (1, 7):
        arrays = {n: np.ones(shape.shape, shape.dtype) for n, shape in program.shapes(batch).items()}
        expected = program.function(jax.tree.map(jnp.asarray, arrays))
        for output, value in zip(program.outputs, session.run(list(program.outputs), arrays), strict=True):
            np.testing.assert_allclose(value, expected[output], rtol=1e-4, atol=1e-5)


def test_robot_needs_numpy_alone_and_sees_normalised_observations(tmp_path):
    policy, params = policies.make("gaussian")
    statistics = normalize.update(normalize.init((3,)), jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 9.0]]))
    export.numpy(tmp_path / "policy.npz", policy, params, normalizer=statistics)
    observation = np.array([1.5, 2.0, 4.0], np.float32)
    program = (
        "import sys, numpy_act; act = numpy_act.load('policy.npz'); "
        f"print(act(observations={observation.tolist()})['actions'].tolist()); "
        "print([name for name in ('jax', 'torch', 'gaussjax', 'flax') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, env={"PATH": ""}
    ).stdout.splitlines()
    seen = normalize.apply(statistics, observation)
    expected = policy.act(params, None, seen, deterministic=True).actions
    np.testing.assert_allclose(np.array(printed[0].strip("[]").split(","), float), expected, rtol=1e-5)
    assert printed[1] == "[]"


def test_recurrent_program_carries_its_memory(tmp_path):
    policy, params = policies.make("gaussian-lstm")
    export.numpy(tmp_path / "policy.npz", policy, params)
    act = numpy_act.load(tmp_path / "policy.npz")
    assert [name for name, _, _ in act.inputs] == ["carry_0", "carry_1", "carry_2", "carry_3", "observations", "resets"]
    rng = np.random.default_rng(0)
    carry, memory = policy.initial_carry((2,)), {f"carry_{i}": np.zeros((2, 6)) for i in range(4)}
    for step in range(6):
        observations, resets = rng.normal(size=(2, 3)).astype(np.float32), np.array([step == 3, False])
        expected = policy.act(params, None, observations, carry=carry, resets=resets, deterministic=True)
        carry = expected.outputs["carry"]
        got = act(observations=observations, resets=resets, **memory)
        memory = {f"carry_{i}": got[f"next_carry_{i}"] for i in range(4)}
        np.testing.assert_allclose(got["actions"], expected.actions, rtol=1e-5, atol=1e-6)


def test_program_that_differs_is_not_written(tmp_path, monkeypatch):
    policy, params = policies.make("gaussian")
    operations = {**numpy_act.OPERATIONS, "tanh": np.sin}
    monkeypatch.setattr(numpy_act, "OPERATIONS", operations)
    with pytest.raises(ValueError, match=r"expected the actions of policy.act, got a difference of .*Nothing was"):
        export.numpy(tmp_path / "policy.npz", policy, params)
    assert list(tmp_path.iterdir()) == []


def test_unknown_inputs_are_refused(tmp_path):
    policy, params = policies.make("gaussian")
    export.numpy(tmp_path / "x.npz", policy, params)
    act = numpy_act.load(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"inputs: expected \['observations'\], got \['obs'\]"):
        act(obs=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"observations: expected \(batch, 3\), got \(2, 4\)"):
        act(observations=np.zeros((2, 4)))


def test_numbers_that_are_no_integers_are_refused_where_integers_are_seen(tmp_path):
    network = gaussjax.networks.MLP((8,))
    policy = gaussjax.gaussian(network, gaussjax.spaces.Discrete(4), gaussjax.spaces.Box(shape=(2,)))
    export.numpy(tmp_path / "x.npz", policy, policy.init(jax.random.key(0)))
    act = numpy_act.load(tmp_path / "x.npz")
    assert act(observations=np.array([2, 3]))["actions"].shape == (2, 2)
    with pytest.raises(TypeError, match=r"^observations: expected integers, got float64\. Use array\.astype"):
        act(observations=np.array([2.9, 3.0]))


def test_operation_without_a_counterpart_is_named():
    (batch,) = jax.export.symbolic_shape("b")
    shapes = {"x": jax.ShapeDtypeStruct((batch, 3), np.float32)}
    with pytest.raises(NotImplementedError, match=r"expected operations that NumPy has, got sort of float32\. Export"):
        build(lambda arrays: {"y": jnp.sort(arrays["x"])}, shapes, batch)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x @ x.T @ x,
        lambda x: jnp.einsum("bi,bi->b", x, x),
        lambda x: jax.nn.softmax(x),
        lambda x: jnp.where(x > 0, jnp.exp(-x), x**3) + jnp.arange(3.0)[None],
        lambda x: jnp.concatenate([x[:, :1], x.reshape(-1, 3)[:, 1:]], -1),
        lambda x: jax.nn.gelu(x, approximate=False),
        lambda x: jnp.stack(jnp.split(x, 3, -1), -1).transpose(2, 0, 1),
        lambda x: jnp.clip(x, -0.5, 0.5) / jnp.sqrt(1 + jnp.square(x)),
        lambda x: jax.nn.standardize(x),
    ],
    ids=["matmul", "batched dot", "softmax", "where", "concatenate", "gelu", "split", "clip", "standardize"],
)
def test_each_operation_has_the_same_meaning_in_numpy(function):
    import io

    (batch,) = jax.export.symbolic_shape("b")
    shapes = {"x": jax.ShapeDtypeStruct((batch, 3), np.float32)}
    payload = build(lambda arrays: {"y": function(arrays["x"])}, shapes, batch)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(numpy_act.load(io.BytesIO(payload))(x=x)["y"], function(x), rtol=1e-5, atol=1e-6)


def test_exported_files_replace_each_other_whole(tmp_path):
    policy, params = policies.make("gaussian")
    for _ in range(2):
        export.numpy(tmp_path / "policy.npz", policy, params)
    assert {file.name for file in tmp_path.iterdir()} == {"policy.npz", "numpy_act.py"}
    assert gaussjax.load  # The program is no policy file.
    with pytest.raises(gaussjax.PolicyFileError):
        gaussjax.load(tmp_path / "policy.npz")


def test_parts_of_the_observation_are_named_as_in_the_space(tmp_path):
    """Inputs go by name, since JAX sorts the names of a dict."""
    space = gaussjax.spaces.Dict(
        (("position", gaussjax.spaces.Box(shape=(2,))), ("goal", gaussjax.spaces.Box(shape=(2,))))
    )
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), space, gaussjax.spaces.Box(shape=(2,)))
    params, path = policy.init(jax.random.key(0)), tmp_path / "policy.npz"
    export.numpy(path, policy, params)
    position, goal = np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32)
    found = numpy_act.load(path)(observations_position=position, observations_goal=goal)["actions"]
    expected = policy.act(params, None, {"position": position, "goal": goal}, deterministic=True).actions
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_parts_that_would_have_one_name_are_refused(tmp_path):
    box = gaussjax.spaces.Box(shape=(1,))
    space = gaussjax.spaces.Dict((("a", gaussjax.spaces.Dict((("b", box),))), ("a_b", box)))
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), space, box)
    with pytest.raises(ValueError, match=r"parts of the observation with different names, got \['a_b', 'a_b'\]"):
        export.numpy(tmp_path / "policy.npz", policy, policy.init(jax.random.key(0)))


def test_a_program_needs_no_observations_of_the_critic(tmp_path):
    space = gaussjax.spaces.Dict((("state", gaussjax.spaces.Box(shape=(3,))), ("all", gaussjax.spaces.Box(shape=(5,)))))
    network = gaussjax.networks.ActorCritic(
        gaussjax.networks.GRU(hidden_size=4, sizes=()),
        critic=gaussjax.networks.GRU(hidden_size=4, sizes=()),
        actor_keys=("state",),
    )
    policy = gaussjax.gaussian(network, space, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
    program = gaussjax.export.numpy(tmp_path / "policy.npz", policy, policy.init(jax.random.key(0)))
    assert set(program.inputs) == {"observations", "carry_0", "resets"}
    assert program.outputs == ("actions", "next_carry_0")
