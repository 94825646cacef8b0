"""What users do wrong, and the error that each gets: the same words bare, under jit and under vmap."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import normalize, spaces
from gaussjax.networks import CNN, MLP
from gaussjax.spaces import Box
from tests import policies

BOX = Box(-1.0, 1.0, (2,))


class Fault(NamedTuple):
    """Arguments put in place of good ones, and what must be said of them."""

    arguments: dict[str, Any]
    error: type[Exception]
    says: str
    function: str = "act"
    policy: str = "gaussian"
    under_vmap: bool = True


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def changed_params(change):
    """Parameters of the "gaussian" row after `change`, which may return others or edit what it gets."""
    params = jax.tree.map(np.asarray, policies.make("gaussian")[1])
    return change(params["params"]) or params


def without_log_std(tree):
    del tree["head"]["log_std"]


def with_extra(tree):
    tree["head"]["gain"] = zeros(2)


def with_wide_kernel(tree):
    tree["layers"]["dense_0"]["kernel"] = zeros(5, 8)


LSTM_CARRY = policies.make("gaussian-lstm")[0].initial_carry((4,))
NESTED = policies.observations(policies.make("gaussian-nested-spaces")[0], (4,))

FAULTS: dict[str, Fault] = {
    # Observations
    "width": Fault({"observations": zeros(4, 5)}, ValueError, "observations: expected (..., 3), got (4, 5)."),
    "width of one": Fault({"observations": zeros(4, 1)}, ValueError, "observations: expected (..., 3), got (4, 1)."),
    "scalar": Fault({"observations": zeros()}, ValueError, "observations: expected (..., 3), got ()."),
    "complex": Fault(
        {"observations": zeros(4, 3, dtype=np.complex64)}, TypeError, "expected real numbers, got complex64"
    ),
    "text": Fault(
        {"observations": np.array([["a", "b", "c"]])},
        TypeError,
        "observations: expected real numbers, got <U1. Convert them first",
        under_vmap=False,
    ),
    "objects": Fault(
        {"observations": np.array([[None, 1.0, 2.0]], object)},
        TypeError,
        "observations: expected real numbers, got object. Convert them first",
        under_vmap=False,
    ),
    "missing key": Fault(
        {"observations": {"camera": NESTED["camera"], "gear": NESTED["gear"]}},
        ValueError,
        "observations: expected a dict with the keys ['camera', 'gear', 'rest'], got the keys ['camera', 'gear'].",
        policy="gaussian-nested-spaces",
    ),
    "array for a dict": Fault(
        {"observations": zeros(4, 3)},
        ValueError,
        "observations: expected a dict with the keys ['camera', 'gear', 'rest'], got an array of shape (4, 3).",
        policy="gaussian-nested-spaces",
    ),
    "short tuple": Fault(
        {"observations": {**NESTED, "rest": NESTED["rest"][:1]}},
        ValueError,
        "observations['rest']: expected a tuple of 2 arrays, got 1 in a tuple.",
        policy="gaussian-nested-spaces",
    ),
    "inner width": Fault(
        {"observations": {**NESTED, "rest": (zeros(4, 7), NESTED["rest"][1])}},
        ValueError,
        "observations['rest'][0]: expected (..., 3), got (4, 7).",
        policy="gaussian-nested-spaces",
    ),
    "fractions for a Discrete": Fault(
        {"observations": {**NESTED, "gear": zeros(4)}},
        TypeError,
        "observations['gear']: expected integers for Discrete(n=3, start=1), got float32.",
        policy="gaussian-nested-spaces",
    ),
    "unlike leading dimensions": Fault(
        {"observations": {**NESTED, "gear": zeros(3, dtype=np.int32)}},
        ValueError,
        "observations: expected the same leading dimensions in every part, got {'camera': (4,), 'gear': (3,)",
        policy="gaussian-nested-spaces",
    ),
    # Actions and noise
    "one action for the batch": Fault(
        {"taken_actions": zeros(2)}, ValueError, "taken_actions: expected shape (4, 2), got (2,). Nothing is broadcast"
    ),
    "one column": Fault(
        {"taken_actions": zeros(4, 1)}, ValueError, "taken_actions: expected shape (4, 2), got (4, 1)."
    ),
    "one more axis": Fault(
        {"taken_actions": zeros(1, 4, 2)},
        ValueError,
        "taken_actions: expected shape (4, 2), got (1, 4, 2).",
        function="evaluate",
    ),
    "more columns": Fault(
        {"taken_actions": zeros(4, 3)},
        ValueError,
        "taken_actions: expected shape (4, 2), got (4, 3).",
        function="evaluate",
    ),
    "complex actions": Fault(
        {"taken_actions": zeros(4, 2, dtype=np.complex64)},
        TypeError,
        "taken_actions: expected real numbers, got complex64.",
        function="evaluate",
    ),
    "noise of a row": Fault({"noise": zeros(2)}, ValueError, "noise: expected shape (4, 2), got (2,)."),
    # Keys
    "int key": Fault(
        {"key": np.int32(0)}, TypeError, "key: expected one PRNG key, got an array of type int32 and shape ()."
    ),
    "no key": Fault({"key": None}, TypeError, "key: expected one PRNG key, got None. Make one with jax.random.key(0)"),
    "int32 key": Fault({"key": zeros(2, dtype=np.int32)}, TypeError, "got an array of type int32 and shape (2,)."),
    "float key": Fault({"key": zeros(2)}, TypeError, "got an array of type float32 and shape (2,)."),
    "batched keys": Fault(
        {"key": jax.random.split(jax.random.key(0), 3)},
        TypeError,
        "key: expected one PRNG key, got 3 keys in an array of shape (3,). Make one with jax.random.key(0); "
        "for several keys use jax.vmap",
    ),
    "batched legacy keys": Fault(
        {"key": jax.random.split(jax.random.PRNGKey(0), 3)}, TypeError, "got an array of type uint32 and shape (3, 2)."
    ),
    # Memory
    "carry without memory": Fault(
        {"carry": zeros(4, 8)},
        ValueError,
        "carry: expected None, got arrays of shapes [(4, 8)]: this network is not recurrent.",
    ),
    "carry of integers": Fault(
        {"carry": jax.tree.map(lambda leaf: zeros(*leaf.shape, dtype=np.int32), LSTM_CARRY)},
        TypeError,
        "carry: expected floating numbers, got int32. Start with carry=policy.initial_carry((4,)) for one step",
        policy="gaussian-lstm",
    ),
    "resets without memory": Fault(
        {"resets": zeros(4, dtype=bool)},
        ValueError,
        "resets: expected None, got arrays of shapes [(4,)]: this network is not recurrent.",
    ),
    # Parameters
    "missing leaf": Fault(
        {"params": changed_params(without_log_std)},
        ValueError,
        "params: the leaves are not those of this policy: ['params']['head']['log_std'] is missing (expected (2,)).",
    ),
    "extra leaf": Fault(
        {"params": changed_params(with_extra)},
        ValueError,
        "params: the leaves are not those of this policy: ['params']['head']['gain'] is unknown (got (2,)).",
    ),
    "leaf of another shape": Fault(
        {"params": changed_params(with_wide_kernel)},
        ValueError,
        "['params']['layers']['dense_0']['kernel']: expected (3, 8), got (5, 8).",
    ),
    "without the collection": Fault(
        {"params": changed_params(lambda tree: tree)}, ValueError, "['head']['log_std'] is unknown (got (2,))"
    ),
    "no params": Fault({"params": None}, ValueError, "['params']['head']['log_std'] is missing (expected (2,))"),
}


@pytest.fixture(params=FAULTS)
def fault(request):
    return FAULTS[request.param]


def call(fault, arguments):
    policy, params = policies.make(fault.policy)
    observations = policies.observations(policy, (4,))
    good = {"params": params, "observations": observations}
    if fault.function == "act":
        good["key"] = jax.random.key(0)
    return getattr(policy, fault.function)(**{**good, **arguments})


def twice(leaf):
    """Two of the leaf; by NumPy, for JAX would compile each shape anew."""
    return np.stack([leaf, leaf]) if isinstance(leaf, np.ndarray) else jnp.stack([leaf, leaf])


def text_of(fault, function):
    with pytest.raises(fault.error, match=re.escape(fault.says)) as caught:
        function()
    assert type(caught.value) is fault.error
    return str(caught.value)


def test_the_error_names_expectation_fact_and_repair(fault):
    text = text_of(fault, lambda: call(fault, fault.arguments))
    assert re.search(r"expected .*(got|is missing|is unknown)|is (missing|unknown)", text)
    assert len(text.split(". ")) >= 2, "an error ends with a repair"


def test_the_error_under_jit_has_the_same_words(fault):
    bare = text_of(fault, lambda: call(fault, fault.arguments))
    if fault.under_vmap:
        assert text_of(fault, lambda: jax.jit(lambda arguments: call(fault, arguments))(fault.arguments)) == bare
    # A constant of the caller's program instead of an argument.
    assert text_of(fault, jax.jit(lambda: call(fault, fault.arguments))) == bare


def test_the_error_under_vmap_has_the_same_words(fault):
    if not fault.under_vmap:
        pytest.skip("no array of JAX holds these")
    bare = text_of(fault, lambda: call(fault, fault.arguments))
    stacked = jax.tree.map(twice, fault.arguments)
    mapped = jax.vmap(lambda arguments, _: call(fault, arguments))
    assert text_of(fault, lambda: mapped(stacked, np.arange(2))) == bare


@pytest.mark.parametrize("key", [0, 1.5, np.int64(3), None, jnp.zeros((3, 2), jnp.uint32)], ids=str)
def test_init_refuses_what_is_no_key(key):
    with pytest.raises(TypeError, match=r"^key: expected one PRNG key, got .* Make one with jax.random.key\(0\)"):
        gaussjax.gaussian(MLP((8,)), 3, BOX).init(key)


# What is cast instead


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.bool_, np.float16, np.float64])
def test_other_real_numbers_are_cast_to_float32(dtype):
    policy, params = policies.make("gaussian")
    observations = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    got = policy.act(params, jax.random.key(0), observations)
    expected = policy.act(params, jax.random.key(0), observations.astype(np.float32))
    assert got.log_prob.dtype == got.actions.dtype == np.float32
    np.testing.assert_allclose(got.actions, expected.actions, rtol=2e-3 if dtype is np.float16 else 1e-6)


def test_lists_of_numbers_are_observations_too():
    policy, params = policies.make("gaussian")
    rows = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    got = policy.act(params, jax.random.key(0), rows)
    expected = policy.act(params, jax.random.key(0), np.array(rows, np.float32))
    np.testing.assert_array_equal(got.actions, expected.actions)


# Host rows: spaces and options

HOST_FAULTS = {
    "discrete actions": (
        lambda: gaussjax.gaussian(MLP(), 3, gymnasium.spaces.Discrete(4)),
        TypeError,
        "action_space: expected a Box, got Discrete(4). A Gaussian policy acts on real vectors",
    ),
    "dict actions": (
        lambda: gaussjax.gaussian(MLP(), 3, gymnasium.spaces.Dict({"a": gymnasium.spaces.Box(-1, 1, (2,))})),
        TypeError,
        "action_space: expected a Box, got Dict(",
    ),
    "actions of no axis": (
        lambda: gaussjax.gaussian(MLP(), 3, Box(shape=())),
        ValueError,
        "action_space: expected a Box with at least one dimension, got Box(low=-inf, high=inf, shape=()",
    ),
    "actions of size 0": (
        lambda: gaussjax.gaussian(MLP(), 3, Box(shape=(0,))),
        ValueError,
        "action_space: expected a Box with at least one dimension, got Box(low=-inf, high=inf, shape=(0,)",
    ),
    "low above high": (
        lambda: gaussjax.gaussian(MLP(), 3, Box((-1.0, 3.0), (1.0, 2.0), (2,))),
        ValueError,
        "space: expected low <= high, got low [3.] and high [2.] in the dimensions [1] of Box(low=(-1.0, 3.0), ",
    ),
    "NaN bound": (
        lambda: gaussjax.gaussian(MLP(), Box(np.nan, 1.0, (2,)), BOX),
        ValueError,
        "space: expected low <= high, got low [nan]",
    ),
    "text observations": (
        lambda: gaussjax.gaussian(MLP(), gymnasium.spaces.Text(5), BOX),
        TypeError,
        "space: expected a Box, Discrete, MultiDiscrete, Dict or Tuple, an int or a shape, got Text(",
    ),
    "log_std bounds crossed": (
        lambda: gaussjax.gaussian(MLP(), 3, BOX, min_log_std=1.0, max_log_std=-1.0),
        ValueError,
        "min_log_std: expected a value <= max_log_std, got min_log_std=1.0 and max_log_std=-1.0.",
    ),
    "log_std bound NaN": (
        lambda: gaussjax.gaussian(MLP(), 3, BOX, min_log_std=float("nan")),
        ValueError,
        "min_log_std: expected a value <= max_log_std, got min_log_std=nan",
    ),
    "log_std bounds without the clip": (
        lambda: gaussjax.gaussian(MLP(), 3, BOX, clip_log_std=False, max_log_std=1.0),
        ValueError,
        "clip_log_std: min_log_std=-20.0 and max_log_std=1.0 apply only where log_std is clipped",
    ),
    "reduction": (
        lambda: gaussjax.gaussian(MLP(), 3, BOX, reduction="max"),
        ValueError,
        "reduction: expected 'sum', 'mean', 'prod' or 'none', got 'max'.",
    ),
    "clipped_log_prob": (
        lambda: gaussjax.gaussian(MLP(), 3, BOX, clip_actions=True, clipped_log_prob="censor"),
        ValueError,
        "expected one of ['censored', 'density', 'unclipped'], got 'censor'. Did you mean 'censored'?",
    ),
    "clipped_log_prob without the clip": (
        lambda: gaussjax.gaussian(MLP(), 3, BOX, clipped_log_prob="censored"),
        ValueError,
        "clipped_log_prob: 'censored' applies to clipped actions only, got clip_actions=False.",
    ),
    "activation": (
        lambda: gaussjax.gaussian(MLP(activation="rellu"), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "got 'rellu'. Did you mean 'relu'?",
    ),
    "activation that is a number": (
        lambda: gaussjax.gaussian(MLP((8,), activation=3), 3, BOX).init(jax.random.key(0)),
        TypeError,
        "activation: expected a name from gaussjax.networks.ACTIVATIONS",
    ),
    "one activation for two layers": (
        lambda: gaussjax.gaussian(MLP((8, 8), activation=("relu",)), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "ACTIVATIONS, or one for each of the 2 sizes, got ('relu',).",
    ),
    "sizes that are a number": (
        lambda: gaussjax.gaussian(MLP(8), 3, BOX).init(jax.random.key(0)),
        TypeError,
        "sizes: expected a tuple of widths, got 8. One layer of 64 units is sizes=(64,).",
    ),
    "widths that are fractions": (
        lambda: gaussjax.gaussian(MLP((8.0,)), 3, BOX).init(jax.random.key(0)),
        TypeError,
        "sizes: expected a tuple of widths, got (8.0,).",
    ),
    "channels that are a number": (
        lambda: gaussjax.gaussian(CNN(channels=8), Box(shape=(6, 6, 3)), BOX).init(jax.random.key(0)),
        ValueError,
        "channels, kernels and strides: expected one entry each a convolution, got 8, (8, 4, 3) and (4, 2, 1).",
    ),
    "output activation": (
        lambda: gaussjax.gaussian(MLP(output_activation="than"), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "activation: expected one of ['celu', 'elu', 'gelu', 'identity',",
    ),
    "std": (
        lambda: gaussjax.gaussian(MLP(std="param"), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "std: expected one of ['fixed', 'parameter', 'state'], got 'param'.",
    ),
    "initializer": (
        lambda: gaussjax.gaussian(MLP(initializer="ortho"), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "initializer: expected one of ['he_normal', 'lecun_normal', 'orthogonal', 'xavier_uniform'], got 'ortho'.",
    ),
    "norm": (
        lambda: gaussjax.gaussian(MLP(norm="batch"), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "norm: expected one of ['identity', 'layer'], got 'batch'.",
    ),
    "log_std out of its bounds": (
        lambda: gaussjax.gaussian(MLP(initial_log_std=3.0, log_std_bounds=(-5.0, 2.0)), 3, BOX).init(jax.random.key(0)),
        ValueError,
        "initial_log_std: expected a value between the log_std_bounds (-5.0, 2.0), got 3.0.",
    ),
    "network without its size": (
        lambda: MLP().init(jax.random.key(0), jnp.zeros((1, 3))),
        ValueError,
        "num_actions: expected a number, got None.",
    ),
    "spec without a kind": (
        lambda: gaussjax.from_spec({"network": {"type": "MLP"}}),
        ValueError,
        "spec: expected what policy.spec.to_dict() gives, but ['action_space', 'kind', 'observation_space', 'options']",
    ),
    "spec of another kind": (
        lambda: gaussjax.from_spec({**policies.make("gaussian")[0].spec.to_dict(), "kind": "gausian"}),
        ValueError,
        "got 'gausian'. Did you mean 'gaussian'?",
    ),
    "spec with an unknown option": (
        lambda: gaussjax.from_spec({**policies.make("gaussian")[0].spec.to_dict(), "options": {"clip_action": True}}),
        ValueError,
        "got 'clip_action'. Did you mean 'clip_actions'?",
    ),
    "spec of a network of the user's": (
        lambda: gaussjax.from_spec(policies.make("gaussian-own-module")[0].spec.to_dict()),
        ValueError,
        "network: 'OwnModule' is not one of gaussjax's own networks. Build it in your code and pass it as network=.",
    ),
    "statistics of another width": (
        lambda: normalize.update(normalize.init((3,)), jnp.zeros((3, 2))),
        ValueError,
        "batch: expected (..., 3), got (3, 2).",
    ),
    "normalising another width": (
        lambda: normalize.apply(normalize.init((1,)), jnp.zeros((5, 2))),
        ValueError,
        "x: expected (..., 1), got (5, 2).",
    ),
    "space of another type": (
        lambda: spaces.from_dict({"type": "Sphere"}),
        ValueError,
        "space: expected the type Box, Discrete, MultiDiscrete, Dict or Tuple, got 'Sphere'.",
    ),
}


@pytest.mark.parametrize(("make", "error", "says"), HOST_FAULTS.values(), ids=HOST_FAULTS)
def test_a_factory_refuses_at_once(make, error, says):
    with pytest.raises(error, match=re.escape(says)) as caught:
        make()
    assert type(caught.value) is error


class Returning:
    """A network that returns what it was told to."""

    def __init__(self, *returned):
        self.returned = returned

    def init(self, key, observations):
        return {}

    def apply(self, params, observations):
        return self.returned if len(self.returned) != 1 else self.returned[0]


@pytest.mark.parametrize(
    ("returned", "error", "says"),
    [
        (
            (zeros(4, 2),),
            TypeError,
            "network: expected (mean, log_std, dict of outputs), got ndarray. Return all three.",
        ),
        ((zeros(4, 2), zeros(2)), TypeError, "network: expected (mean, log_std, dict of outputs), got tuple."),
        ((zeros(4, 3), zeros(3), {}), ValueError, "network: expected a mean of shape (4, 2), got (4, 3)."),
        ((zeros(2), zeros(2), {}), ValueError, "network: expected a mean of shape (4, 2), got (2,)."),
        (
            (zeros(4, 2), zeros(4, 1), {}),
            ValueError,
            "network: expected a log_std of shape (4, 2) or (2,), got (4, 1).",
        ),
        (
            (zeros(4, 2), zeros(2), {"log_std": 1.0}),
            ValueError,
            "network: the outputs ['log_std'] are the policy's own. Give them another name.",
        ),
    ],
    ids=["mean alone", "no outputs", "width", "no batch", "log_std", "taken name"],
)
def test_a_network_that_returns_something_else_is_named(returned, error, says):
    policy = gaussjax.gaussian(Returning(*returned), 3, BOX)
    with pytest.raises(error, match=re.escape(says)):
        policy.act({}, jax.random.key(0), zeros(4, 3))
