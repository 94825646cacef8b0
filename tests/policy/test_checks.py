"""What users do wrong, and the error that each gets: the same words bare, under jit and under vmap."""

import re
from typing import Any, NamedTuple

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax import from_spec, normalize, spaces
from gaussjax.networks import GRU, MLP
from gaussjax.policy import Kind
from gaussjax.spaces import Box
from tests import policies

BOX = Box(-1.0, 1.0, (2,))


WITH_PARTS, WITH_GRU, WITH_LSTM = "gaussian-nested-spaces", "gaussian-gru", "gaussian-lstm"


class Fault(NamedTuple):
    """Arguments put in place of good ones."""

    arguments: dict[str, Any]
    function: str = "act"
    policy: str = "gaussian"
    under_vmap: bool = True


def given(function="act", policy="gaussian", under_vmap=True, **arguments):
    return Fault(arguments, function, policy, under_vmap)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def scored(**actions):
    return Fault(actions, "evaluate")


def nested(**parts):
    """Observations of which some parts are others."""
    return Fault({"observations": {**NESTED, **parts}}, policy=WITH_PARTS)


def gru(carry=zeros(4, 6), **arguments):  # noqa: B008
    return Fault({"carry": (carry,), **arguments}, policy=WITH_GRU)


def flags(*shape):
    return zeros(*shape, dtype=bool)


def changed_params(change):
    """Parameters of the "gaussian" row after `change`, which may return others or edit what it gets."""
    params = jax.tree.map(np.asarray, policies.make("gaussian")[1])
    return change(params["params"]) or params


def without_log_std(tree):
    del tree["head"]["log_std"]


def with_extra(tree):
    tree["head"]["gain"] = zeros(2)


def as_integers(tree):
    return {"params": jax.tree.map(lambda leaf: leaf.astype(np.int32), tree)}


def with_wide_kernel(tree):
    tree["layers"]["dense_0"]["kernel"] = zeros(5, 8)


# No array of JAX holds such arguments, or the program depends on them.
ALONE = {"under_vmap": False}
FLAT, TAKEN, UNCLIPPED = {"observations": zeros(4, 3)}, {"taken_actions": zeros(4, 2)}, "gaussian-unclipped-density"
LSTM_CARRY = policies.make(WITH_LSTM)[0].initial_carry((4,))
NESTED = policies.observations(policies.make(WITH_PARTS)[0], (4,))
CAMERA = {"observations": {"camera": NESTED["camera"]}}

# The class of an error and a part of its text: the call that raises it.
FAULTS = {
    "ValueError: observations: expected (..., 3), got (4, 5).": given(observations=zeros(4, 5)),
    "ValueError: observations: expected (..., 3), got (4, 1).": given(observations=zeros(4, 1)),
    "ValueError: observations: expected (..., 3), got ().": given(observations=zeros()),
    "TypeError: expected real numbers, got complex64": given(observations=zeros(4, 3, dtype=np.complex64)),
    "TypeError: dtype='float32'), got the keys ['seen']. Pass the": given(observations={"seen": zeros(4, 3)}),
    "TypeError: expected floating numbers, got int32. Convert it to": given(params=changed_params(as_integers)),
    "TypeError: observations: expected real numbers, got <U1.": given(observations=np.array([[*"abc"]]), **ALONE),
    "TypeError: expected real numbers, got object. Convert": given(observations=np.full((1, 3), None), **ALONE),
    "ValueError: the keys ['camera', 'gear', 'rest'], got the keys ['camera']": Fault(CAMERA, policy=WITH_PARTS),
    "ValueError: expected a dict with the keys ['camera', 'gear', 'rest'], got an array of": given(
        policy=WITH_PARTS, **FLAT
    ),
    "ValueError: observations['rest']: expected a tuple of 2 arrays, got 1 in a": nested(rest=NESTED["rest"][:1]),
    "ValueError: observations['rest'][0]: expected (..., 3), got": nested(rest=(zeros(4, 7), NESTED["rest"][1])),
    "TypeError: observations['gear']: expected integers for Discrete(n=3, start=1), got": nested(gear=zeros(4)),
    "ValueError: in every part, got {'camera': (4,), 'gear': (3,)": nested(gear=np.zeros(3, np.int32)),
    "ValueError: taken_actions: expected shape (4, 2), got (2,). Nothing is": given(taken_actions=zeros(2)),
    "ValueError: taken_actions: expected shape (4, 2), got (4, 1).": given(taken_actions=zeros(4, 1)),
    "ValueError: taken_actions: expected shape (4, 2), got (1, 4, 2).": scored(taken_actions=zeros(1, 4, 2)),
    "ValueError: taken_actions: expected shape (4, 2), got (4, 3).": scored(taken_actions=zeros(4, 3)),
    "TypeError: taken_actions: expected real numbers, got complex64.": scored(taken_actions=zeros(4, 2, dtype="c8")),
    "ValueError: raw_actions: expected shape (4, 2), got (2,).": scored(raw_actions=zeros(2)),
    "TypeError: expected exactly one of raw_actions and taken_actions, got none": scored(),
    "TypeError: raw_actions and taken_actions, got both": scored(taken_actions=zeros(4, 2), raw_actions=zeros(4, 2)),
    "ValueError: taken_actions: expected None with clipped_log_prob='unclipped'": Fault(TAKEN, "evaluate", UNCLIPPED),
    "ValueError: expected None with clipped_log_prob='unclipped', which": Fault(TAKEN, "act", UNCLIPPED),
    "ValueError: noise: expected shape (4, 2), got (2,).": given(noise=zeros(2)),
    "ValueError: noise: expected one array, got tuple with 2 parts of several kinds or shapes. Pass one of its": given(
        noise=(zeros(4), zeros(4, 2)), key=None, **ALONE
    ),
    "ValueError: parts: env.reset() and env.step() return the observations first.": given(
        observations=(zeros(4, 3), {}), **ALONE
    ),
    "TypeError: observations: expected an array, got None. Pass": given(observations=None, **ALONE),
    "TypeError: got key<fry>. Only init, act and noise take a key": Fault(
        {"observations": jax.random.key(0), **TAKEN}, "evaluate"
    ),
    "TypeError: deterministic: expected True or False, got 'no'.": given(deterministic="no", **ALONE),
    "TypeError: deterministic: expected True or False, got None.": given(deterministic=None, **ALONE),
    "ValueError: expected None for a deterministic action": given(noise=zeros(4, 2), deterministic=True, **ALONE),
    "TypeError: key: expected one PRNG key, got an array of type": given(key=np.int32(3), deterministic=True, **ALONE),
    "TypeError: key: expected one PRNG key, got an array": given(key=np.int32(3), noise=zeros(4, 2)),
    "TypeError: key: expected one PRNG key, got an array of type int32 and shape ().": given(key=np.int32(0)),
    "TypeError: key: expected one PRNG key, got None. Make one with jax.random.key(0)": given(key=None),
    "TypeError: got an array of type int32 and shape (2,).": given(key=zeros(2, dtype=np.int32)),
    "TypeError: got an array of type float32 and shape (2,).": given(key=zeros(2)),
    "TypeError: jax.random.key(0); for several keys use jax.vmap": given(key=jax.random.split(jax.random.key(0), 3)),
    "TypeError: got an array of type uint32 and shape (3, 2).": given(key=jax.random.split(jax.random.PRNGKey(0), 3)),
    "ValueError: carry: expected None, got arrays of shapes [(4, 8)]: this network is not": given(carry=zeros(4, 8)),
    "TypeError: floating numbers, got int32. Start with carry=policy.initial_carry((4,)) for one step": given(
        carry=jax.tree.map(lambda leaf: zeros(*leaf.shape, dtype=np.int32), LSTM_CARRY), policy=WITH_LSTM
    ),
    "ValueError: resets: expected None, got arrays of shapes [(4,)]: this network is": given(resets=flags(4)),
    "ValueError: of this policy, got others: ['params']['head']['log_std'] is missing": given(
        params=changed_params(without_log_std)
    ),
    "ValueError: of this policy, got others: ['params']['head']['gain'] is unknown": given(
        params=changed_params(with_extra)
    ),
    "ValueError: ['dense_0']['kernel']: expected (3, 8), got (5, 8).": given(params=changed_params(with_wide_kernel)),
    "ValueError: ['head']['log_std'] is unknown (got (2,))": given(params=changed_params(lambda tree: tree)),
    "ValueError: ['params']['head']['log_std'] is missing (expected (2,))": given(params=None),
    "ValueError: got None. Start with carry=policy.initial_carry((4,)) for one step, or": given(policy=WITH_GRU),
    "ValueError: carry: expected the leaves of this policy, got others: [0]: expected (4, 6), got (5, 6)": gru(
        zeros(5, 6)
    ),
    "ValueError: [0]: expected (4, 6), got (4, 7)": gru(zeros(4, 7)),
    "ValueError: is unknown (got (4, 6))": given(carry=LSTM_CARRY, policy=WITH_GRU),
    "ValueError: is missing (expected (4, 6))": given(carry=LSTM_CARRY[:1], policy=WITH_LSTM),
    "ValueError: [0] is missing (expected (4, 6))": given(carry=zeros(4, 6), policy=WITH_GRU),
    "TypeError: resets: expected bool, got float32.": gru(resets=zeros(4)),
    "ValueError: resets: expected shape (4,), one for each observation, got (1,).": gru(resets=flags(1)),
    "ValueError: resets: expected shape (4,), one for each observation, got (4, 1).": gru(resets=flags(4, 1)),
    "ValueError: shape (5, 4), one for each observation, got (4,)": gru(resets=flags(4), observations=zeros(5, 4, 3)),
}


@pytest.fixture(params=FAULTS)
def error(request):
    return request.param


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


def assert_raises(error, function):
    """The text of an error of exactly the class that `error` names, which holds the words behind it."""
    with pytest.raises((TypeError, ValueError)) as caught:
        function()
    name, _, says = error.partition(": ")
    assert type(caught.value).__name__ == name
    assert says in str(caught.value)
    return str(caught.value)


def test_the_error_names_expectation_fact_and_repair_bare_and_compiled_and_mapped(error):
    fault = FAULTS[error]
    bare = assert_raises(error, lambda: call(fault, fault.arguments))
    assert re.search(r"expected .*(got|is missing|is unknown)|is (missing|unknown)", bare)
    assert len(bare.split(". ")) >= 2, "an error ends with a repair"
    # Constants of the caller's program in place of its arguments.
    assert assert_raises(error, jax.jit(lambda: call(fault, fault.arguments))) == bare
    if fault.under_vmap:
        assert assert_raises(error, lambda: jax.jit(lambda arguments: call(fault, arguments))(fault.arguments)) == bare
        mapped = jax.vmap(lambda arguments, _: call(fault, arguments))
        assert assert_raises(error, lambda: mapped(jax.tree.map(twice, fault.arguments), np.arange(2))) == bare


@pytest.mark.parametrize("key", [0, 1.5, np.int64(3), None, jnp.zeros((3, 2), jnp.uint32)], ids=str)
def test_init_refuses_what_is_no_key(key):
    with pytest.raises(TypeError, match=r"^key: expected one PRNG key, got .* Make one with jax.random.key\(0\)"):
        gaussjax.gaussian(MLP((8,)), 3, BOX).init(key)


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.bool_, np.float16, np.float64, list])
def test_other_real_numbers_and_lists_of_them_are_cast_to_float32(dtype):
    policy, params = policies.make("gaussian")
    rows = [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
    got = policy.apply(params, rows if dtype is list else np.array(rows).astype(dtype))[1]["mean_actions"]
    assert got.dtype == np.float32
    expected = policy.apply(params, np.array(rows, np.float32))[1]["mean_actions"]
    np.testing.assert_allclose(got, expected, rtol=2e-3 if dtype is np.float16 else 1e-6)


# Host rows: spaces and options

DEFAULT = MLP()


def make(network=DEFAULT, space=3, actions=BOX, **options):
    return gaussjax.gaussian(network, space, actions, **options)


def start(network, space=3):
    return make(network, space).init(jax.random.key(0))


def build(kind=None, **options):
    return gaussjax.policy.build(kind or make().kind, DEFAULT, 3, BOX, **options)


def started(network):
    return make(network).apply(start(network), zeros(4, 3))


class Normalised(policies.OwnModule):
    @nn.compact
    def __call__(self, observations):
        normal = nn.BatchNorm(use_running_average=False)(observations)
        self.variable("batch_stats", "count", lambda: jnp.zeros(())).value += 1.0
        return normal[..., :2], jnp.zeros(2), {}


class Dropped(policies.OwnModule):
    @nn.compact
    def __call__(self, observations):
        return nn.Dropout(0.5, deterministic=False)(observations)[..., :2], jnp.zeros(2), {}


class Inside(policies.OwnModule):
    @nn.compact
    def __call__(self, observations):
        return MLP((4,))(observations)


DESCRIBED, OWN = policies.make("gaussian")[0].spec.to_dict(), {"type": "custom", "name": "OwnModule"}
HOST_FAULTS = {
    "TypeError: a Box, got Discrete(4). A Gaussian policy acts on": lambda: make(actions=gymnasium.spaces.Discrete(4)),
    "TypeError: action_space: expected a Box, got Dict(": lambda: make(actions=spaces.Dict((("a", BOX),))),
    "ValueError: one dimension, got Box(low=-inf, high=inf, shape=()": lambda: make(actions=Box(shape=())),
    "ValueError: one dimension, got Box(low=-inf, high=inf, shape=(0,)": lambda: make(actions=Box(shape=(0,))),
    "ValueError: low [3.] and high [2.] in the dimensions [1]": lambda: make(actions=Box((-1, 3), (1, 2), (2,))),
    "ValueError: space: expected low <= high, got low [nan]": lambda: make(space=Box(np.nan, 1.0, (2,))),
    "TypeError: Dict or Tuple, an int or a shape, got Text(": lambda: make(space=gymnasium.spaces.Text(5)),
    "ValueError: max_log_std=1.0 apply only where log_std is": lambda: make(clip_log_std=False, max_log_std=1.0),
    "ValueError: got 'censor'. Did you mean 'censored'?": lambda: make(clip_actions=True, clipped_log_prob="censor"),
    "ValueError: 'censored' applies to clipped actions only, got": lambda: make(clipped_log_prob="censored"),
    "ValueError: got 'rellu'. Did you mean 'relu'?": lambda: start(MLP(activation="rellu")),
    "TypeError: activation: expected a name from gaussjax.networks.ACTIVATIONS": lambda: start(MLP((8,), activation=3)),
    "ValueError: one for each of the 2 sizes, got ('relu',). One for all is activation='tanh'.": lambda: start(
        MLP((8, 8), activation=("relu",))
    ),
    "ValueError: expected one of ['celu', 'elu', 'gelu', 'gelu_exact',": lambda: start(MLP(output_activation="than")),
    "ValueError: 'lecun_normal', 'orthogonal', 'xavier_uniform'], got": lambda: start(MLP(initializer="ortho")),
    "ValueError: in log_std_bounds, -5.0 to -1.0, got 0.0.": lambda: start(MLP(log_std_bounds=(-5.0, -1.0))),
    "TypeError: network: expected a module, got the class MLP. Make an instance: MLP(…).": lambda: make(MLP),
    "TypeError: network: expected a flax.linen module, got str.": lambda: make("mlp"),
    "TypeError: network: expected a flax.linen module, got function.": lambda: make(lambda observations: observations),
    "ValueError: num_actions: expected a number, got None.": lambda: MLP(()).init(jax.random.key(0), zeros(1, 3)),
    "ValueError: got None. Start with initial_carry(": lambda: GRU(num_actions=2).init(jax.random.key(0), zeros(1, 3)),
    "ValueError: or at least 2 for a cell with gates": lambda: GRU(memory_steps=1).initial_carry(),
    "ValueError: got one without ['action_space', 'kind', 'obs": lambda: from_spec({"network": {"type": "MLP"}}),
    "ValueError: option of gaussian: expected one of ['action_space', 'clip_actions',": lambda: build(
        clip_actoins=True
    ),
    "ValueError: option of mine: expected one of ['clip_log_std'": lambda: build(Kind("mine", None), clip_actoins=True),
    "ValueError: ['clip_log_std', 'max_log_std', 'min_log_std'], got 'clip_a": lambda: build(
        Kind("mine", None), clip_actions=True
    ),
    "TypeError: clip_log_std: expected True or False, got 1.": lambda: build(Kind("mine", None), clip_log_std=1),
    "ValueError: outputs: expected a dict with mean_actions and log_std, got [].": lambda: make().distribution({}),
    "TypeError: policy: expected a policy such as gaussjax.gaussian makes, got dict. The": lambda: gaussjax.serve(
        {}, make()
    ),
    "TypeError: as gaussjax.gaussian makes, got dict. The policy comes": lambda: gaussjax.strict({}),
    "TypeError: batch_shape: expected a tuple of sizes, got 4.": lambda: make().initial_carry(4),
    "TypeError: expected a tuple of sizes, got 4. For one": lambda: make().noise(jax.random.key(0), 4),
    "ValueError: batch_shape: expected sizes of 0 or more, got (-4,).": lambda: make().noise(jax.random.key(0), (-4,)),
    "TypeError: expected a tuple of sizes, got (None,).": lambda: make().initial_carry((None,)),
    "TypeError: reduction: expected a constant of Python such as True, text or a tuple, got list": lambda: (
        make().entropy(policies.make("gaussian")[1], zeros(4, 3), reduction=["sum"])
    ),
    "TypeError: network: expected a module that changes no variables, got one that does": lambda: started(Normalised()),
    "TypeError: network: expected a module that draws no numbers, as nn.Dropout": lambda: started(Dropped()),
    "ValueError: inside a module of your own pass num_actions=.": lambda: start(Inside()),
    "ValueError: got 'gausian'. Did you mean 'gaussian'?": lambda: from_spec({**DESCRIBED, "kind": "gausian"}),
    "ValueError: got 'clip_action'. Did you mean": lambda: from_spec({**DESCRIBED, "options": {"clip_action": True}}),
    "ValueError: own networks. Build it in your code and pass it as": lambda: from_spec({**DESCRIBED, "network": OWN}),
    "ValueError: batch: expected (..., 3), got (3, 2).": lambda: normalize.update(normalize.init((3,)), zeros(3, 2)),
    "ValueError: x: expected (..., 1), got (5, 2).": lambda: normalize.apply(normalize.init((1,)), jnp.zeros((5, 2))),
    "TypeError: x: expected one array, got a dict with the keys ['a', 'b'].": (
        lambda: normalize.apply(normalize.init((3,)), {"b": zeros(1), "a": zeros(2)})
    ),
    "TypeError: batch: expected one array, got a dict": lambda: normalize.update(normalize.init((3,)), {"a": zeros(3)}),
    "TypeError: state: expected Statistics, got tuple.": lambda: normalize.update((0.0, zeros(3), zeros(3)), zeros(3)),
    "TypeError: batch: expected an array without a mask": (
        lambda: normalize.update(normalize.init((3,)), np.ma.masked_less(np.zeros(3), 1.0))
    ),
    "TypeError: x: expected real numbers, got complex64.": (
        lambda: normalize.apply(normalize.init((3,)), np.zeros(3, np.complex64))
    ),
    "ValueError: MultiDiscrete, Dict or Tuple, got 'Sphere'.": lambda: spaces.from_dict({"type": "Sphere"}),
}


@pytest.mark.parametrize(("error", "call"), HOST_FAULTS.items(), ids=HOST_FAULTS)
def test_a_factory_refuses_at_once(error, call):
    assert_raises(error, call)


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
        ((zeros(4, 2),), TypeError, "expected (mean, log_std, dict of outputs), got ndarray. Return all three."),
        ((zeros(4, 2), zeros(2)), TypeError, "expected (mean, log_std, dict of outputs), got tuple."),
        ((zeros(4, 3), zeros(3), {}), ValueError, "expected a mean of shape (4, 2), got (4, 3)."),
        ((zeros(2), zeros(2), {}), ValueError, "expected a mean of shape (4, 2), got (2,)."),
        ((zeros(4, 2), zeros(4, 1), {}), ValueError, "expected a log_std of shape (4, 2) or (2,), got (4, 1)."),
        ((zeros(4, 2), zeros(2), {"log_std": 1.0}), ValueError, "the outputs ['log_std'] are the policy's own. Give"),
    ],
    ids=["mean alone", "no outputs", "width", "no batch", "log_std", "taken name"],
)
def test_a_network_that_returns_something_else_is_named(returned, error, says):
    policy = gaussjax.gaussian(Returning(*returned), 3, BOX)
    with pytest.raises(error, match=re.escape(f"network: {says}")):
        policy.act({}, jax.random.key(0), zeros(4, 3))


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_the_key_after_the_observations_is_refused_with_the_order(library):
    module, key = (gaussjax, jax.random.key(0)) if library == "jax" else (gaussjax.torch, gaussjax.torch.key(0))
    policy = module.gaussian(MLP((4,)), 3, BOX)
    params = policy.init(key)
    for options in ({}, {"deterministic": True}):
        with pytest.raises(TypeError, match=r"^key: .* The key comes second in act\(params, key, observations\)"):
            policy.act(params, zeros(4, 3), key, **options)


@pytest.mark.parametrize("flag", [jnp.array(True), np.array(True)], ids=["jax", "numpy"])
def test_a_flag_in_an_array_is_refused_bare_and_traced(flag):
    policy, params = policies.make("gaussian")

    def act(flag):
        return policy.act(params, None, zeros(4, 3), deterministic=flag).actions

    for call in (act, jax.jit(act)):
        with pytest.raises(TypeError, match="deterministic: expected a constant of Python such as True"):
            call(flag)


TRACED = {
    "min_log_std": lambda x: gaussjax.gaussian(MLP((4,)), 3, BOX, min_log_std=-x),
    "clip_actions": lambda x: gaussjax.gaussian(MLP((4,)), 3, BOX, clip_actions=x > 0),
    "sizes": lambda x: gaussjax.multivariate_gaussian(MLP((x,)), 3, BOX),
    "memory_steps": lambda x: gaussjax.squashed_gaussian(GRU(memory_steps=x), 3, BOX),
    "clip": lambda x: gaussjax.normalize.init((3,), clip=x),
}


@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize("name", TRACED)
def test_a_traced_option_is_refused_with_the_repair(name):
    repair = r"got a traced array. Make it outside of jit, or under jax.ensure_compile_time_eval\(\)\."
    with pytest.raises(TypeError, match=rf"{name}: expected a constant, {repair}"):
        jax.jit(lambda x: TRACED[name](x) and x)(2)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian])
def test_a_policy_made_inside_jit_is_the_one_made_outside(factory):
    def train(key):
        with jax.ensure_compile_time_eval():
            box = gaussjax.spaces.Box(-jnp.ones(2), jnp.ones(2), (2,))
        policy = factory(MLP((4,)), 3, box)
        return policy.act(policy.init(key), key, zeros(4, 3))[:2]

    key = jax.random.key(0)
    for inside, outside in zip(jax.jit(train)(key), train(key), strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-6)


def test_a_batch_norm_with_fixed_statistics_works():
    class Fixed(policies.OwnModule):
        @nn.compact
        def __call__(self, observations):
            return nn.BatchNorm(use_running_average=True)(observations)[..., :2], jnp.zeros(2), {}

    policy = gaussjax.gaussian(Fixed(), 3, BOX)
    params = policy.init(jax.random.key(0))
    np.testing.assert_allclose(policy.apply(params, zeros(4, 3))[1]["mean_actions"], zeros(4, 2))
