"""Exported programs act as the policy for any batch size; NumPy programs in a process without gaussjax too."""

import functools
import io
import itertools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import gaussjax
from gaussjax import export, networks, normalize
from gaussjax.export import numpy_act
from gaussjax.export.numpy import build
from gaussjax.export.program import make_program
from gaussjax.spaces import Box
from tests import policies

# Truncated actions with gSDE behind images and memory, beside the rows of the table of policies.
EXPLORING = {
    "truncated-gsde-cnn": (
        networks.CNN((4,), (3,), (2,), sizes=(8,), activation="tanh", std="gsde"),
        Box(shape=(6, 6, 2)),
    ),
    "truncated-gsde-lstm": (networks.LSTM(hidden_size=6, num_layers=2, sizes=(8,), std="gsde"), 3),
}


@functools.cache
def made(name):
    space = policies.TABLE["truncated"].action_space
    policy = gaussjax.truncated_gaussian(*EXPLORING[name], space) if name in EXPLORING else policies.build(name)
    return policy, policies.random_params(policy)


def in_numpy(path, program):
    act = numpy_act.load(path)
    return lambda arrays: act(**arrays)


def in_stablehlo(path, program):
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    return exported.call


def in_onnx(path, program):
    import onnxruntime

    session, names = onnxruntime.InferenceSession(str(path)), list(program.outputs)
    return lambda arrays: dict(zip(names, session.run(names, arrays), strict=True))


# The function that loads a program, the allowed error, and the packages that the format needs.
FORMATS = {
    "numpy": (in_numpy, {"rtol": 1e-4, "atol": 1e-5}, ()),
    "stablehlo": (in_stablehlo, {"rtol": 1e-6, "atol": 1e-6}, ("flatbuffers",)),
    "onnx": (in_onnx, {"rtol": 1e-4, "atol": 1e-5}, ("jax2onnx", "onnxruntime")),
}
# One row for each kind of operation and of input; the slow tests run the whole table in each format. The LSTM in
# NumPy is tested below. JAX writes StableHLO, so fewer rows cover our part.
FEW = [(format_, *row) for format_ in ("numpy", "onnx") for row in (("squashed", False), ("gaussian-cnn", True))]
FEW += [("numpy", name, name != "multivariate") for name in ("gaussian-nested-spaces", "multivariate")]
FEW += [("stablehlo", "gaussian-rnn", True), ("numpy", "truncated", False)]
ROWS = list(itertools.product(FORMATS, [*policies.TABLE, *EXPLORING], [True, False]))


@pytest.mark.parametrize(
    ("format_", "name", "deterministic"),
    [pytest.param(*row, marks=() if row in FEW else pytest.mark.slow) for row in ROWS],
)
def test_exported_program_acts_as_the_policy(format_, name, deterministic, tmp_path):
    load, allowed, packages = FORMATS[format_]
    for package in packages:
        pytest.importorskip(package)
    (policy, params), path = made(name), tmp_path / "policy"
    program = getattr(export, format_)(path, policy, params, deterministic=deterministic)
    act = load(path, program)
    # The writer has compiled policy.act for these numbers of rows.
    for batch in (1, 3):
        arrays = {n: np.ones(shape.shape, shape.dtype) for n, shape in program.shapes(batch).items()}
        expected, found = program.function(jax.tree.map(jnp.asarray, arrays)), act(arrays)
        for output in program.outputs:
            np.testing.assert_allclose(found[output], expected[output], **allowed)


def test_stochastic_stablehlo_draws_the_numbers_of_act(tmp_path):
    pytest.importorskip("flatbuffers")
    policy, params = made("gaussian-plain-network")
    program = export.stablehlo(tmp_path / "x", policy, params, deterministic=False)
    key, observations = jax.random.key(3), np.ones((3, 3), np.float32)
    got = in_stablehlo(tmp_path / "x", program)({"key": jax.random.key_data(key), "observations": observations})
    np.testing.assert_allclose(got["actions"], policy.act(params, key, observations).actions, atol=1e-6)


def test_a_matrix_of_gsde_that_is_kept_moves_the_actions_as_in_act(tmp_path):
    policy, params = made("squashed-gsde")
    program = export.numpy(tmp_path / "policy.npz", policy, params, deterministic=False)
    assert program.inputs["noise"][0] == policy.noise_shape == (8, 2)
    noise, carry = policies.noise(policy, (3,)), policy.initial_carry((3,))
    act = numpy_act.load(tmp_path / "policy.npz")
    memory = {"carry_0": np.zeros((3, 6)), "resets": np.zeros(3, bool)}
    for seed in range(2):
        observations = policies.observations(policy, (3,), seed)
        acted = policy.act(params, None, observations, noise=noise, carry=carry, resets=memory["resets"])
        carry, got = acted.outputs["carry"], act(observations=observations, noise=noise, **memory)
        memory["carry_0"] = got["next_carry_0"]
        np.testing.assert_allclose(got["actions"], acted.actions, rtol=1e-4, atol=1e-5)


def test_robot_needs_numpy_alone_and_sees_normalised_observations(tmp_path):
    policy, params = made("gaussian")
    statistics = normalize.Statistics(*map(np.float64, (2.0, [2.0, 2.0, 6.0 + 1e-8], [2.0, 0.0, 18.0])), clip=0.4)
    export.numpy(tmp_path / "policy.npz", policy, params, normalizer=statistics)
    observations = np.array([[1.5, 2.0, 4.0]], np.float32)
    program = (
        "import sys, numpy_act; act = numpy_act.load('policy.npz'); "
        f"print(act(observations={observations.tolist()})['actions'][0].tolist()); "
        "print([name for name in ('jax', 'torch', 'gaussjax', 'flax') if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, env={"PATH": ""}
    ).stdout.splitlines()
    seen = normalize.apply(statistics, observations)
    np.testing.assert_allclose(seen, [[-0.4, 0.0, -0.4]], rtol=1e-6)
    expected = policy.act(params, None, seen, deterministic=True).actions[0]
    np.testing.assert_allclose(np.array(printed[0].strip("[]").split(","), float), expected, rtol=1e-5)
    assert printed[1] == "[]"


def test_recurrent_program_carries_its_memory(tmp_path):
    policy, params = made("gaussian-lstm")
    export.numpy(tmp_path / "policy.npz", policy, params)
    act = numpy_act.load(tmp_path / "policy.npz")
    assert [name for name, _, _ in act.inputs] == ["carry_0", "carry_1", "carry_2", "carry_3", "observations", "resets"]
    rng = np.random.default_rng(0)
    carry, memory = policy.initial_carry((3,)), {f"carry_{i}": np.zeros((3, 6)) for i in range(4)}
    for step in range(6):
        observations, resets = rng.normal(size=(3, 3)).astype(np.float32), np.array([step == 3, False, False])
        expected = policy.act(params, None, observations, carry=carry, resets=resets, deterministic=True)
        carry = expected.outputs["carry"]
        got = act(observations=observations, resets=resets, **memory)
        memory = {f"carry_{i}": got[f"next_carry_{i}"] for i in range(4)}
        np.testing.assert_allclose(got["actions"], expected.actions, rtol=1e-5, atol=1e-6)


def test_program_that_differs_is_not_written(tmp_path, monkeypatch):
    policy, params = made("gaussian")
    operations = {**numpy_act.OPERATIONS, "tanh": np.sin}
    monkeypatch.setattr(numpy_act, "OPERATIONS", operations)
    with pytest.raises(ValueError, match=r"expected the actions of policy.act, got a difference of .*Nothing was"):
        export.numpy(tmp_path / "policy.npz", policy, params)
    assert list(tmp_path.iterdir()) == []


def built(function, dtype):
    """The program of a function of the input `x`, of shape (batch, 3), loaded in NumPy."""
    (batch,) = jax.export.symbolic_shape("b")
    shapes = {"x": jax.ShapeDtypeStruct((batch, 3), dtype)}
    return numpy_act.load(io.BytesIO(build(lambda arrays: function(arrays["x"]), shapes, batch)))


def test_unknown_and_unfit_inputs_are_refused():
    act = built(lambda x: {"y": 2 * x}, np.int32)
    assert act(x=np.array([[2, 3, 4]]))["y"].tolist() == [[4, 6, 8]]
    with pytest.raises(ValueError, match=r"inputs: expected \['x'\], got \['obs'\]"):
        act(obs=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"x: expected \(batch, 3\), got \(2, 4\)"):
        act(x=np.zeros((2, 4), int))
    with pytest.raises(TypeError, match=r"^x: expected integers, got float64\. Use array\.astype"):
        act(x=np.array([[2.9, 3.0, 4.0]]))
    with pytest.raises(ValueError, match=r"^x: expected numbers of int32, got 2 to 4294967297\. Clip them"):
        act(x=np.array([[2, 3, 2**32 + 1]]))
    for wrong in (np.array([["2", "3", "4"]]), np.ones((1, 3), complex), np.ma.ones((1, 3)), [[None] * 3]):
        with pytest.raises(TypeError, match=r"^x: expected real numbers, got "):
            act(x=wrong)


def test_operation_without_a_counterpart_is_named():
    with pytest.raises(NotImplementedError, match=r"expected operations that NumPy has, got sort of float32\. Export"):
        built(lambda x: {"y": jnp.sort(x)}, np.float32)
    with pytest.raises(NotImplementedError, match=r"got reduce_and of int32\. Export"):
        built(lambda x: {"y": lax.reduce_and(x, axes=(1,))}, np.int32)


OPERATIONS = {
    "matmul": lambda x: x @ x.T @ x,
    "batched dot": lambda x: jnp.einsum("bi,bi->b", x, x),
    "softmax": jax.nn.softmax,
    "where": lambda x: jnp.where(x > 0, jnp.exp(-x), x**3) + jnp.arange(3.0)[None],
    "concatenate": lambda x: jnp.concatenate([x[:, :1], x.reshape(-1, 3)[:, 1:]], -1),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "set": lambda x: jnp.zeros((*x.shape[:1], 2, 4)).at[:, jnp.array([1, 0, 1]), jnp.array([0, 3, 2])].set(x),
    "set rows": lambda x: jnp.zeros((5, *x.shape)).at[jnp.array([3, 1])].set(jnp.stack([x, -x])),
    "split": lambda x: jnp.stack(jnp.split(x, 3, -1), -1).transpose(2, 0, 1),
    "clip": lambda x: jnp.clip(x, -0.5, 0.5) / jnp.sqrt(1 + jnp.square(x)),
    "standardize": jax.nn.standardize,
    "masks": lambda x: jnp.stack([way(x > 0, axes=(1,)) for way in (lax.reduce_and, lax.reduce_or, lax.reduce_xor)]),
    "exclusive": lambda x: (x > 0) ^ (x > x.min(-1, keepdims=True)),
}


def test_each_operation_has_the_same_meaning_in_numpy():
    def everything(x):
        return {name: operation(x) for name, operation in OPERATIONS.items()}

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found, expected = built(everything, np.float32)(x=x), jax.jit(everything)(x)
    for name in OPERATIONS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_exported_files_replace_each_other_whole(tmp_path):
    policy, params = made("gaussian")
    for _ in range(2):
        export.numpy(tmp_path / "policy.npz", policy, params)
    assert {file.name for file in tmp_path.iterdir()} == {"policy.npz", "numpy_act.py"}
    with pytest.raises(gaussjax.PolicyFileError):
        gaussjax.load(tmp_path / "policy.npz")


def test_a_file_of_the_user_is_neither_replaced_nor_written_through(tmp_path):
    policy, params = made("gaussian")
    reader, target = tmp_path / "numpy_act.py", tmp_path / "target"
    for content in (b"import numpy", b""):
        reader.write_bytes(content)
        with pytest.raises(ValueError, match=r"got a file of yours named .*numpy_act.py\. Choose another name"):
            export.numpy(tmp_path / "policy.npz", policy, params)
        assert reader.read_bytes() == content
    reader.unlink()
    with pytest.raises(ValueError, match="Choose another name"):
        export.numpy(reader, policy, params)
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(Path(numpy_act.__file__).read_bytes() + b"# mine")
    for path in (tmp_path / "policy.npz", reader):
        path.symlink_to(target)
    export.numpy(tmp_path / "policy.npz", policy, params)
    assert target.read_bytes().endswith(b"# mine")
    assert not reader.is_symlink()
    assert not (tmp_path / "policy.npz").is_symlink()


def test_stablehlo_names_no_files(tmp_path, repository):
    pytest.importorskip("flatbuffers")
    policy, params = made("gaussian-lstm")
    export.stablehlo(tmp_path / "x", policy, params, deterministic=False)
    payload = (tmp_path / "x").read_bytes()
    for text in (b".py", str(repository).encode(), sys.prefix.encode(), b"test_stablehlo"):
        assert text not in payload


def test_an_only_input_needs_no_name():
    act = built(lambda x: {"y": 2 * x}, np.float32)
    assert act(np.ones((1, 3)))["y"].tolist() == [[2, 2, 2]]
    with pytest.raises(TypeError, match=r"expected the arrays \['x'\] by name, got 2 without a name"):
        act(np.ones((1, 3)), np.ones((1, 3)))


def test_a_program_has_the_observations_and_the_statistics_of_the_actor_alone():
    space = gaussjax.spaces.Dict((("state", Box(shape=(2,))), ("privileged_state", Box(shape=(3,)))))
    network = networks.ActorCritic(networks.MLP((4,)), actor_keys=("state",), critic_keys=("privileged_state",))
    policy = gaussjax.gaussian(network, space, Box(shape=(2,)))
    statistics = normalize.init({"state": (2,), "privileged_state": (3,)})
    observations = {"state": np.ones((5, 2), np.float32), "privileged_state": np.ones((5, 3), np.float32)}
    observations["state"][0] = 9.0
    statistics, params = normalize.update(statistics, observations), policies.random_params(policy)
    program = make_program(policy, params, statistics, None)
    assert list(program.inputs) == ["observations"]
    found = program.function({"observations": observations["state"]})["actions"]
    normalized = normalize.apply(statistics, observations)
    expected = policy.act(params, None, normalized, deterministic=True).actions
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_parts_of_the_observation_are_named_as_in_the_space():
    """Inputs go by name, since JAX sorts the names of a dict."""
    space = gaussjax.spaces.Dict((("position", Box(shape=(2,))), ("goal", Box(shape=(2,)))))
    policy = gaussjax.gaussian(networks.MLP((4,)), space, Box(shape=(2,)))
    params, (batch,) = policies.random_params(policy), jax.export.symbolic_shape("b")
    program = make_program(policy, params, None, None)
    act = numpy_act.load(io.BytesIO(build(program.function, program.shapes(batch), batch)))
    position, goal = np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32)
    found = act(observations_position=position, observations_goal=goal)["actions"]
    expected = policy.act(params, None, {"position": position, "goal": goal}, deterministic=True).actions
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_parts_that_would_have_one_name_are_refused(tmp_path):
    box = Box(shape=(1,))
    space = gaussjax.spaces.Dict((("a", gaussjax.spaces.Dict((("b", box),))), ("a_b", box)))
    policy = gaussjax.gaussian(networks.MLP((4,)), space, box)
    with pytest.raises(ValueError, match=r"parts of the observation with different names, got \['a_b', 'a_b'\]"):
        export.numpy(tmp_path / "policy.npz", policy, policies.random_params(policy))


def test_a_program_needs_no_observations_of_the_critic():
    space = gaussjax.spaces.Dict((("state", Box(shape=(3,))), ("all", Box(shape=(5,)))))
    gru = networks.GRU(hidden_size=4, sizes=())
    policy = gaussjax.gaussian(networks.ActorCritic(gru, critic=gru, actor_keys=("state",)), space, policies.UNIT)
    program = make_program(policy, policies.random_params(policy), None, None)
    assert set(program.inputs) == {"observations", "carry_0", "resets"}
    assert jax.eval_shape(program.function, program.shapes(7)).keys() == {"actions", "next_carry_0"}
