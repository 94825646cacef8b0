"""The policies in torch by themselves: transforms, errors, files."""

import inspect
import pickle

import jax
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax import networks
from gaussjax.distributions import DiagGaussian, reduce, register
from gaussjax.policy import Kind, build
from gaussjax.torch import random
from tests import policies
from tests.parity.twins import NAMES, carries, pair
from tests.policy.test_policy import LAPLACE
from tests.test_package import run

FACTORIES = ("gaussian", "squashed_gaussian", "multivariate_gaussian", "truncated_gaussian")
BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))


class Own(torch.nn.Module):
    """A module as users write it."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(3, 2)
        self.log_std = torch.nn.Parameter(torch.full((2,), -0.5))

    def forward(self, observations):
        return self.body(observations), self.log_std, {"features": observations}


@pytest.fixture(scope="module")
def made():
    policy = gaussjax.torch.gaussian(networks.MLP((8, 8)), 3, BOX)
    return policy, policy.init(random.key(0))


@pytest.mark.parametrize("factory", FACTORIES)
def test_signatures_are_those_of_jax(factory):
    ours, theirs = getattr(gaussjax, factory), getattr(gaussjax.torch, factory)
    assert inspect.signature(ours) == inspect.signature(theirs)
    network = networks.MLP((4,))
    one, other = ours(network, 3, BOX), theirs(network, 3, BOX)
    assert one.spec == other.spec
    for name in ("init", "apply", "act", "evaluate", "entropy", "log_std", "initial_carry"):
        assert inspect.signature(getattr(one, name)) == inspect.signature(getattr(other, name))


# The normal numbers of all kinds are those of the first.
@pytest.mark.parametrize(
    "factory", [*FACTORIES[:2], *(pytest.param(factory, marks=pytest.mark.slow) for factory in FACTORIES[2:])]
)
def test_one_key_gives_the_same_million_actions(factory):
    policy = getattr(gaussjax.torch, factory)(networks.MLP((8, 8)), 3, BOX)
    params = policy.init(random.key(0))
    ours = gaussjax.from_spec(policy.spec)
    observations = np.random.default_rng(0).normal(size=(500_000, 3)).astype(np.float32)
    expected = jax.jit(ours.act)(gaussjax.torch.to_flax(policy.spec, params), jax.random.key(4), observations)
    found = policy.act(params, random.key(4), observations)
    # The normal numbers of the two libraries agree to 4 units in the last place.
    last_place = float(np.finfo(np.float32).eps)
    found = found.actions.detach().numpy()
    np.testing.assert_allclose(found, expected.actions, rtol=4 * last_place, atol=4 * last_place)


def test_modules_of_the_user_are_policies_that_no_file_describes(tmp_path):
    module = Own()
    policy = gaussjax.torch.squashed_gaussian(module, 3, BOX)
    params = policy.init(random.key(0))
    actions, _, outputs = policy.act(params, random.key(1), torch.zeros(5, 3))
    assert actions.shape == (5, 2)
    assert set(outputs) == {"mean_actions", "log_std", "raw_actions", "features"}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    policy.act(leaves, random.key(1), torch.zeros(5, 3)).log_prob.sum().backward()
    assert leaves["log_std"].grad is not None
    assert module.log_std.grad is None
    assert policy.spec.to_dict()["network"] == {"type": "custom", "name": "Own"}
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module or one of gaussjax.networks"):
        gaussjax.torch.gaussian(policies.OwnModule(), 3, BOX)
    with pytest.raises(TypeError, match=r"got Own\. A policy file cannot describe a module of your own"):
        gaussjax.torch.save(tmp_path / "a.safetensors", policy, params)


@pytest.mark.without("jax_enable_x64")
def test_float64_of_numpy_and_of_lists_leads_to_the_actions_of_jax(made):
    policy, params = made
    ours, theirs = gaussjax.from_spec(policy.spec), gaussjax.torch.to_flax(policy.spec, params)
    observations = np.random.default_rng(0).normal(size=(4, 3))
    seen = [np.float32(2.0), np.ones(3, np.float32), np.float32([8.0, 2.0, 18.0])]
    statistics = gaussjax.normalize.Statistics(*map(torch.tensor, seen))
    expected_scaled = gaussjax.normalize.apply(gaussjax.normalize.Statistics(*seen), observations)
    for given in (observations, observations.tolist(), torch.from_numpy(observations.astype(np.float32))):
        scaled = gaussjax.normalize.apply(statistics, given)
        assert scaled.dtype == torch.float32
        torch.testing.assert_close(scaled, torch.from_numpy(np.array(expected_scaled)))
    for given, jax_given in ((observations, observations), (scaled, expected_scaled), (observations.tolist(),) * 2):
        jax_given = np.asarray(jax_given)
        expected = ours.act(theirs, jax.random.key(1), jax_given, taken_actions=0.1 * jax_given[:, :2])
        found = policy.act(params, random.key(1), given, taken_actions=0.1 * np.asarray(given)[:, :2])
        assert found.actions.dtype == found.log_prob.dtype == torch.float32
        np.testing.assert_allclose(found.actions.detach(), expected.actions, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.log_prob.detach(), expected.log_prob, rtol=1e-5)


def test_float64_stays_where_the_parameters_or_a_tensor_have_it(made):
    policy, params = made
    doubled = {name: tensor.double() for name, tensor in params.items()}
    observations = np.random.default_rng(0).normal(size=(4, 3))
    expected = policy.act(doubled, random.key(1), torch.from_numpy(observations)).actions
    for given in (observations, observations.tolist()):
        assert torch.equal(policy.act(doubled, random.key(1), given).actions, expected)
    assert policy.act(params, random.key(1), torch.from_numpy(observations)).actions.dtype == torch.float64


def test_parameters_are_drawn_on_the_device_of_the_key():
    for network in (networks.MLP((8,), std="state"), networks.LSTM(4, memory_steps=9)):
        drawn = gaussjax.torch.multivariate_gaussian(network, 3, BOX).init(random.key(0).to("meta"))
        assert {tensor.device.type for tensor in drawn.values()} == {"meta"}


def test_modules_of_the_user_get_float64_of_numpy_narrowed_and_refuse_that_of_torch():
    policy = gaussjax.torch.gaussian(Own(), 3, BOX)
    params = policy.init(random.key(0))
    given = np.random.default_rng(0).normal(size=3)
    narrow = torch.from_numpy(given.astype(np.float32))
    found = policy.act(params, random.key(1), given).actions
    assert torch.equal(found, policy.act(params, random.key(1), narrow).actions)
    with pytest.raises(TypeError, match=r"observations: expected torch.float32, .* got torch.float64\. Convert"):
        policy.act(params, random.key(1), torch.from_numpy(given))
    doubled = {name: value.double() for name, value in params.items()}
    assert policy.act(doubled, random.key(1), given).actions.dtype == torch.float64


@pytest.mark.parametrize("factory", FACTORIES)
def test_members_of_a_population_are_mapped_over_and_their_gradients_are_those_of_autograd(factory):
    policy = getattr(gaussjax.torch, factory)(networks.MLP((8,)), 3, BOX)
    members, observations = [policy.init(key) for key in random.split(random.key(0), 3)], torch.ones(4, 3)
    stacked = {name: torch.stack([member[name] for member in members]) for name in members[0]}
    keys = random.split(random.key(1), 3)

    def loss(params, key):
        acted = policy.act(params, key, observations)
        return acted.log_prob.mean(), acted.actions

    gradients, actions = torch.func.vmap(torch.func.grad(loss, has_aux=True))(stacked, keys)
    for i, (member, key) in enumerate(zip(members, keys, strict=True)):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in member.items()}
        value, expected = loss(leaves, key)
        value.backward()
        torch.testing.assert_close(actions[i], expected)
        for name, gradient in gradients.items():
            found = leaves[name].grad
            torch.testing.assert_close(torch.zeros_like(gradient[i]) if found is None else found, gradient[i])


COMPILED = [
    "gaussian-gsde",
    "gaussian-clipped",
    "gaussian-unclipped-density",
    "gaussian-censored",
    "squashed",
    "truncated",
    "multivariate",
]
COMPILED = [(name, function) for name in COMPILED for function in ("act", "evaluate")]


# torch.compile itself instantiates an autograd function, which torch has deprecated.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("name", "function"), COMPILED)
def test_a_policy_and_its_gradient_compile_into_one_graph(name, function):
    _, policy, _, params = pair(name)
    noise, key, x = random.normal(random.key(1), (5, 2)), random.key(2), torch.ones(5, 3)
    scoring = {"raw_actions" if "unclipped" in name else "taken_actions": 0.1 * noise}

    def results(params):
        if function == "evaluate":
            return policy.evaluate(params, x, **scoring)[:2]
        return *policy.act(params, key, x)[:2], *policy.act(params, None, x, noise=noise)[:2]

    def differentiated(function):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        found = function(leaves)
        sum(part.sum() for part in found).backward()
        return found, {name: leaf.grad for name, leaf in leaves.items()}

    # Without a reset the functions of all policies count as versions of one, of which torch keeps eight.
    torch.compiler.reset()
    # This backend traces the program and its gradient, and needs no C compiler.
    compiled = torch.compile(results, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(differentiated(compiled), differentiated(results))


@pytest.mark.parametrize(
    "name",
    [
        "gaussian-cnn",
        "gaussian-lstm",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in NAMES
            if name not in ("gaussian-cnn", "gaussian-lstm")
        ),
    ],
)
def test_gradients_have_the_layout_of_the_parameters(name):
    policy, twin, _, params = pair(name)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    for batch_shape in ((), (5,), (4, 5)):
        noise = policies.noise(policy, batch_shape)
        carry = carries(policy, batch_shape[-1:])[1]
        acted = twin.act(leaves, None, policies.observations(policy, batch_shape), noise=noise, **carry)
        loss = acted.actions.sum() + acted.log_prob.sum() + acted.outputs.get("value", torch.zeros(())).sum()
        for tensor in torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True, allow_unused=True):
            assert tensor.is_contiguous()


def test_bfloat16_trunks_give_float32_densities():
    policy = gaussjax.torch.gaussian(networks.MLP((8,), dtype="bfloat16"), 3, BOX)
    twin = gaussjax.from_spec(policy.spec)
    params = policy.init(random.key(0))
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    found = policy.evaluate(params, torch.from_numpy(observations), torch.zeros(5, 2))
    assert found.log_prob.dtype == torch.float32
    expected = twin.evaluate(gaussjax.torch.to_flax(policy.spec, params), observations, np.zeros((5, 2), np.float32))
    np.testing.assert_allclose(found.log_prob.detach().numpy(), expected.log_prob, rtol=2e-2)


@pytest.mark.parametrize(
    "call",
    [
        lambda p, w, x, key: p.apply(w, x[:, :2]),
        lambda p, w, x, key: p.evaluate(w, x, x[:1, :2]),
        lambda p, w, x, key: p.act(w, key, x, noise=x),
        lambda p, w, x, key: p.apply(w, x, resets=x[:, 0] > 0),
        lambda p, w, x, key: p.apply(w, np.array([["a", "b", "c"]])),
        lambda p, w, x, key: p.apply(w, "abc"),
        lambda p, w, x, key: p.apply(w, {"seen": x}),
        lambda p, w, x, key: p.apply(w, np.ma.array(x)),
        lambda p, w, x, key: p.apply(w, x.astype(">f4")),
    ],
)
def test_errors_read_the_same(made, call):
    policy, params = made
    ours, theirs = gaussjax.from_spec(policy.spec), gaussjax.torch.to_flax(policy.spec, params)
    x = np.zeros((4, 3), np.float32)
    with pytest.raises((ValueError, TypeError)) as expected:
        call(ours, theirs, x, jax.random.key(0))
    with pytest.raises(expected.type) as found:
        call(policy, params, x, random.key(0))
    assert str(found.value) == str(expected.value)


IMAGES = gaussjax.spaces.Box(0, 255, (6, 6, 2), "uint8")
SMALL = {"channels": (4,), "kernels": (3,), "strides": (2,), "sizes": (4,), "activation": "tanh"}
LARGE_KERNEL = [{"name": "a", "layers": [{"conv": {"features": 3, "kernel": 9}}]}]


@pytest.mark.parametrize(
    ("network", "space", "says"),
    [
        (networks.MLP((4,), std="x"), 3, r"^std: expected one of \['fixed', 'gsde', 'parameter', 'state'\], got 'x'"),
        (networks.MLP((4,), dtype="int32"), 3, r"^dtype: expected one of .*'float32', 'float64'\], got 'int32'"),
        (networks.ActorCritic(networks.GRU(4, dtype="flot32")), 3, r"^dtype: .* got 'flot32'\. Did you mean 'float32'"),
        (networks.CNN(**SMALL, padding="same"), IMAGES, r"^padding: expected one of \['SAME', 'VALID'\], got 'same'"),
        (networks.CNN(**SMALL, convolution_activation="rleu"), IMAGES, "^activation: expected one of .* got 'rleu'"),
        (networks.CNN(**{**SMALL, "strides": ()}), IMAGES, "^channels, kernels and strides: expected one entry for"),
        (networks.CNN(**SMALL), 3, r"^observation_space: expected a Box of shape \(height, width, channels\)"),
        (networks.Graph(nodes=LARGE_KERNEL), IMAGES, "expected images of at least its kernel, 9, got 6 × 6"),
    ],
)
def test_networks_are_refused_with_the_words_of_jax(network, space, says):
    errors = []
    for library, key in ((gaussjax, jax.random.key(0)), (gaussjax.torch, random.key(0))):
        with pytest.raises(ValueError, match=says) as raised:
            library.gaussian(network, space, BOX).init(key)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "observations",
    [
        [[1.0, 2.0], [0.5, -1.0], 2],
        [np.ones((5, 2), np.float32), [[0.0, 1.0]] * 5, np.array([0, 1, 2, 0, 0])],
        (torch.ones(5, 2), [torch.zeros(2)] * 5, torch.tensor([0, 1, 2, 0, 0], dtype=torch.uint8)),
    ],
    ids=["numbers", "arrays", "tensors"],
)
def test_lists_are_taken_for_a_tuple_space_and_for_arrays(observations):
    space = gaussjax.spaces.Tuple((gaussjax.spaces.Box(shape=(2,)),) * 2 + (gaussjax.spaces.Discrete(3),))
    policy = gaussjax.gaussian(networks.MLP((4,)), space, BOX)
    params = policies.random_params(policy)
    found = gaussjax.torch.from_spec(policy.spec).act(
        gaussjax.torch.to_torch(policy.spec, params), None, observations, deterministic=True
    )
    plain = jax.tree.map(np.asarray, observations)
    expected = policy.act(params, None, plain, deterministic=True)
    np.testing.assert_allclose(found.actions.numpy(), expected.actions, atol=1e-6)


@pytest.mark.parametrize("key", [0, None, torch.zeros(2), torch.zeros(3, 2, dtype=torch.uint32)])
def test_what_is_no_key_is_refused(made, key):
    policy, params = made
    with pytest.raises(TypeError, match=r"key: expected one PRNG key, got .*gaussjax.torch.random.key\(0\)"):
        policy.act(params, key, torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (Own(), r"params: expected a dict of tensors, got Own\."),
        ([torch.zeros(2)], r"params: expected a dict of tensors, got list\."),
        ({"head.log_std": np.zeros(2)}, r"params: expected a dict of tensors, got ndarray for 'head.log_std'\."),
        ({}, r"\['head.log_std'\] is missing \(expected \(2,\)\)"),
    ],
)
def test_wrong_parameters_are_refused_by_name(made, params, error):
    policy, good = made
    given = params or {name: tensor for name, tensor in good.items() if name != "head.log_std"}
    with pytest.raises(TypeError if params else ValueError, match=error):
        policy.apply(given, torch.zeros(4, 3))


_ACT = """
import sys
import torch
import gaussjax.torch
from jax._src import xla_bridge
loaded = gaussjax.torch.load(sys.argv[1])
observations = gaussjax.normalize.apply(loaded.normalizer, torch.full((2, 3), 0.5))
carry = loaded.policy.initial_carry((2,))
acted = loaded.policy.act(loaded.params, gaussjax.torch.key(1), observations, carry=carry)
loaded.policy.evaluate(loaded.params, observations, acted.actions, carry=carry)
assert not xla_bridge._backends, "a JAX device was initialised"
print(acted.actions.tolist())
"""


def test_a_file_of_jax_acts_in_torch_with_no_device_of_jax(repository, tmp_path):
    network = networks.ActorCritic(networks.LSTM(8, sizes=(8,)))
    policy = gaussjax.squashed_gaussian(network, 3, BOX)
    params = policies.random_params(policy)
    statistics = gaussjax.normalize.Statistics(*map(np.float32, (2.0, [1.0, 0.0, -1.0], [8.0, 2.0, 18.0])))
    gaussjax.save(tmp_path / "policy", policy, params, normalizer=statistics)
    finished = run(repository, "-c", _ACT, str(tmp_path / "policy"))
    assert finished.returncode == 0, finished.stderr
    observations = gaussjax.normalize.apply(statistics, np.full((2, 3), 0.5, np.float32))
    expected = policy.act(params, jax.random.key(1), observations, carry=policy.initial_carry((2,))).actions
    found = np.array([[float(x) for x in row.split(",")] for row in finished.stdout.strip("[]\n").split("], [")])
    np.testing.assert_allclose(found, expected, atol=2e-6)
    loaded = gaussjax.torch.load(tmp_path / "policy")
    gaussjax.torch.save(tmp_path / "again", loaded.policy, loaded.params, normalizer=loaded.normalizer)
    again = gaussjax.load(tmp_path / "again")
    assert again.policy.spec == policy.spec
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.normalizer), (params, statistics))


def torch_laplace(mean, log_std, outputs):
    return TorchLaplace(mean, log_std)


@register
class TorchLaplace(DiagGaussian):
    """Independent double exponentials with the noise of a normal distribution's tails."""

    def log_prob(self, actions, reduction="sum"):
        terms = -torch.abs(actions - self.loc) * torch.exp(-self.log_std) - self.log_std - np.log(2.0)
        return reduce(terms, reduction)


def test_a_file_of_a_kind_of_ones_own_is_read_with_its_kind(tmp_path):
    policy = build(LAPLACE, networks.MLP((8,)), 3, BOX)
    params, kind = policies.random_params(policy), Kind("laplace", torch_laplace)
    gaussjax.save(tmp_path / "policy", policy, params)
    loaded = gaussjax.torch.load(tmp_path / "policy", kind=kind)
    x, taken = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    found = loaded.policy.act(loaded.params, None, x, taken_actions=taken, deterministic=True)
    mean, log_std = (policy.apply(params, x)[1][name] for name in ("mean_actions", "log_std"))
    expected = np.sum(-np.abs(mean) * np.exp(-log_std) - log_std - np.log(2.0), -1, keepdims=True)
    np.testing.assert_allclose(found.log_prob.detach(), expected, rtol=1e-5)
    again = pickle.loads(pickle.dumps(loaded.policy))
    assert again == loaded.policy == gaussjax.torch.from_spec(policy.spec, kind=kind)
    gaussjax.torch.save(tmp_path / "again", again, loaded.params)
    jax.tree.map(np.testing.assert_array_equal, gaussjax.load(tmp_path / "again", kind=LAPLACE).params, params)
    with pytest.raises(gaussjax.PolicyFileError, match="policy kind: expected one of"):
        gaussjax.torch.load(tmp_path / "policy")


def test_the_buffers_of_a_module_stay_as_they_are():
    class Normed(Own):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)

        def forward(self, observations):
            return super().forward(self.norm(observations))

    module = Normed()
    policy = gaussjax.torch.gaussian(module, 3, BOX)
    params = policy.init(random.key(0))
    before = [buffer.clone() for buffer in module.buffers()]
    policy.act(params, random.key(1), torch.ones(5, 3) * torch.arange(5.0)[:, None])
    assert all(torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))


@pytest.mark.parametrize("name", ["MLP", "LSTM", "MinGRU"])
def test_parameters_are_float32_whatever_torchs_default(name):
    torch.set_default_dtype(torch.float64)
    try:
        policy = gaussjax.torch.gaussian(getattr(gaussjax.networks, name)(), 3, BOX)
        params = policy.init(random.key(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {leaf.dtype for leaf in params.values()} == {torch.float32}


def test_float64_parameters_and_statistics_with_a_gradient_come_back_from_a_file(made, tmp_path):
    policy, params = made
    wide = {name: leaf.double() / 3 for name, leaf in params.items()}
    statistics = gaussjax.normalize.Statistics(*(torch.ones(shape, requires_grad=True) for shape in ((), (3,), (3,))))
    gaussjax.torch.save(tmp_path / "policy.safetensors", policy, wide, normalizer=statistics)
    loaded = gaussjax.torch.load(tmp_path / "policy.safetensors")
    assert {leaf.dtype for leaf in loaded.params.values()} == {torch.float64}
    assert all(torch.equal(loaded.params[name], leaf) for name, leaf in wide.items())
    assert all(map(torch.equal, loaded.normalizer, statistics))


def test_integer_actions_are_scored_as_in_jax(made):
    box = gaussjax.spaces.Box(-0.5, 0.5, (2,))
    network = networks.MLP((8, 8))
    policy = gaussjax.torch.gaussian(network, 3, box, clip_actions=True, clipped_log_prob="censored")
    params, taken = policy.init(random.key(0)), np.array([[0, 1], [0, -3]])
    jax_policy = gaussjax.from_spec(policy.spec)
    expected = jax_policy.evaluate(gaussjax.torch.to_flax(policy.spec, params), np.ones((2, 3), np.float32), taken)
    found = policy.evaluate(params, torch.ones(2, 3), taken)
    np.testing.assert_allclose(found.log_prob.detach(), expected.log_prob, rtol=1e-6)


def test_a_strict_policy_refuses_values_that_are_not_finite(made):
    policy, params = made
    strict, key, observations = gaussjax.torch.strict(policy), random.key(1), torch.ones(4, 3)
    assert torch.equal(strict.act(params, key, observations).actions, policy.act(params, key, observations).actions)
    observations[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"observations: expected finite numbers, got nan at \[2, 1\]"):
        strict.act(params, key, observations)
