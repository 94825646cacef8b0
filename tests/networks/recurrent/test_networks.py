import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax import networks
from gaussjax.networks import GRU, LSTM, RNN, MinGRU
from gaussjax.networks.recurrent.cells import CELLS as CELLS_BY_NAME
from gaussjax.networks.recurrent.cells import Weights, linear_recurrence, unroll
from gaussjax.networks.recurrent.cells import parallel as linear_parallel
from gaussjax.networks.recurrent.cells import sequential as linear_sequential
from gaussjax.networks.recurrent.fast_backward import fast_unroll
from gaussjax.networks.recurrent.layers import RecurrentLayers
from gaussjax.torch import to_torch

STEPS, BATCH, FEATURES = 23, 5, 3
NETWORKS = {
    "rnn": RNN(hidden_size=7, sizes=(6,)),
    "rnn-relu": RNN(hidden_size=7, sizes=(6,), nonlinearity="relu"),
    "gru": GRU(hidden_size=7, sizes=(6,)),
    "lstm": LSTM(hidden_size=7, sizes=(6,)),
    "lstm-2": LSTM(hidden_size=7, num_layers=2, sizes=(6,), std="state"),
    "gru-2": GRU(hidden_size=7, num_layers=2, sizes=()),
    "mingru-2": MinGRU(hidden_size=7, num_layers=2, sizes=(6,)),
}
CELLS = [name for name in NETWORKS if not name.startswith("mingru")]


@functools.cache
def make(name, **changes):
    """A policy of the table with random parameters, its biases included."""
    policy = gaussjax.gaussian(NETWORKS[name].clone(**changes), FEATURES, gaussjax.spaces.Box(shape=(2,)))
    params = policy.init(jax.random.key(0))
    generator = np.random.default_rng(1)
    return policy, jax.tree.map(
        lambda a: np.asarray(a) + 0.1 * generator.normal(size=a.shape).astype(np.float32), params
    )


def data(policy, seed=0, frequency=0.2, steps=STEPS, batch=(BATCH,)):
    generator = np.random.default_rng(seed)
    observations = generator.normal(size=(steps, *batch, FEATURES)).astype(np.float32)
    carry = jax.tree.map(
        lambda a: generator.uniform(-1, 1, size=a.shape).astype(np.float32), policy.initial_carry(batch)
    )
    return observations, carry, generator.random((steps, *batch)) < frequency


@functools.partial(jax.jit, static_argnums=0)
def stepped(policy, params, observations, carry, resets):
    """One step at a time, the new carry handed on."""

    def step(carry, inputs):
        distribution, outputs = policy.apply(params, inputs[0], carry=carry, resets=inputs[1])
        return outputs["carry"], distribution.mean()

    carry, means = jax.lax.scan(step, carry, (observations, resets))
    return means, carry


def unrolled(policy, params, observations, carry, resets):
    distribution, outputs = policy.apply(params, observations, carry=carry, resets=resets)
    return distribution.mean(), outputs["carry"]


def gradients(function, policy, params, observations, carry, resets):
    """With respect to the parameters, the observations and the starting carry."""
    return _gradients(function, policy, params, observations, carry, resets)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradients(function, policy, params, observations, carry, resets):
    def loss(params, observations, carry):
        means, last = function(policy, params, observations, carry, resets)
        return jnp.mean(jnp.sin(3 * means)) + sum(jnp.mean(jnp.cos(leaf)) for leaf in jax.tree.leaves(last))

    return jax.grad(loss, (0, 1, 2))(params, observations, carry)


def assert_close(got, expected, tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, expected)


@pytest.mark.parametrize("frequency", [0.2, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_stepping_and_unrolling_give_the_same_numbers(name, frequency):
    policy, params = make(name)
    inputs = data(policy, frequency=frequency)
    assert_close(unrolled(policy, params, *inputs), stepped(policy, params, *inputs), 1e-6)


@pytest.mark.parametrize("name", ["rnn-relu", "gru", "lstm-2", "mingru-2"])
def test_stepping_and_unrolling_give_the_same_gradients(name):
    policy, params = make(name)
    inputs = data(policy)
    assert_close(gradients(unrolled, policy, params, *inputs), gradients(stepped, policy, params, *inputs), 1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "steps", "batch"),
    [
        pytest.param("lstm", 37, (), marks=pytest.mark.slow),
        ("lstm", 32, (5,)),
        ("lstm", 1, (2, 3)),
        # Wide enough for shorter blocks.
        ("lstm", 11, (4000,)),
    ],
)
def test_the_collected_gradients_are_those_of_automatic_differentiation(name, steps, batch):
    cell, hidden = CELLS_BY_NAME[name], 6
    generator = np.random.default_rng(0)

    def normal(*shape):
        return generator.normal(size=shape)

    width = cell.gates * hidden
    weights = Weights(normal(FEATURES, width), normal(hidden, width), normal(width), normal(width))
    state = jax.tree.map(lambda a: normal(*a.shape), RecurrentLayers(name, hidden).initial_carry(batch)[0])
    x, resets = normal(steps, *batch, FEATURES), generator.random((steps, *batch)) < 0.2

    def loss(way):
        def of(weights, state, x):
            outputs, last = way(weights, state, x)
            return jnp.sum(jnp.sin(3 * outputs)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(last))

        return of

    ways = (
        lambda weights, state, x: fast_unroll(cell, x.dtype, weights, state, x, resets),
        lambda weights, state, x: unroll(cell, x.dtype, weights, state, x, resets),
    )
    got, expected = (jax.jit(jax.grad(loss(way), (0, 1, 2)))(weights, state, x) for way in ways)
    assert_close(got, expected, 1e-10)
    together = jax.jit(jax.vmap(jax.grad(loss(ways[0]), (0, 1, 2)), (0, None, None)))(
        jax.tree.map(lambda w: np.stack([w, w / 2]), weights), state, x
    )
    assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[0], together), expected, 1e-10)


@pytest.mark.parametrize("name", [pytest.param("gru", marks=pytest.mark.slow), "lstm", "mingru-2"])
def test_gradients_survive_vmap_over_parameters_and_over_data(name):
    policy, params = make(name)
    inputs = [data(policy, seed) for seed in range(2)]
    both = jax.tree.map(lambda a, b: np.stack([a, b]), *inputs)
    population = jax.tree.map(lambda a: np.stack([a, 0.5 * a]), params)
    together = jax.vmap(functools.partial(gradients, unrolled, policy))(population, *both)
    for i in range(2):
        alone = gradients(unrolled, policy, jax.tree.map(lambda a, i=i: a[i], population), *inputs[i])
        assert_close(jax.tree.map(lambda a, i=i: np.asarray(a)[i], together), alone, 1e-6)


@pytest.mark.parametrize("x64", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "mingru"])
def test_forward_and_reverse_mode_agree_to_the_second_order(cell, x64):
    with jax.enable_x64(x64):
        layers = RecurrentLayers(cell, 4)
        generator = np.random.default_rng(0)
        x = generator.normal(size=(5, 3, 2)).astype(np.float64 if x64 else np.float32)
        resets, carry = generator.random((5, 3)) < 0.3, layers.initial_carry((3,))
        params = layers.init(jax.random.key(0), x, carry)
        params, carry = jax.tree.map(lambda a: a.astype(x.dtype), (params, carry))
        directions = jax.tree.map(jnp.cos, params)

        def loss(params):
            outputs, last = layers.apply(params, x, carry, resets)
            return jnp.mean(jnp.sin(3 * outputs)) + sum(jnp.mean(jnp.cos(leaf)) for leaf in jax.tree.leaves(last))

        def forward(params):
            return jax.jvp(loss, (params,), (directions,))[1]

        def reverse(params):
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(loss)(params), directions)))

        @jax.jit
        def everything(params):
            over = jax.jvp(jax.grad(loss), (params,), (directions,))[1]
            return forward(params), reverse(params), over, jax.grad(forward)(params), jax.grad(reverse)(params)

        first, same, forward_over_reverse, *others = everything(params)
        tolerance = 1e-10 if x64 else 1e-4
        np.testing.assert_allclose(first, same, rtol=tolerance)
        for other in others:
            assert_close(forward_over_reverse, other, tolerance)


def test_a_fast_backward_has_the_gradients_of_the_scan_and_no_forward_mode():
    policy, params = make("lstm-2")
    fast, _ = make("lstm-2", fast_backward=True)
    inputs = data(policy)
    assert_close(gradients(unrolled, fast, params, *inputs), gradients(unrolled, policy, params, *inputs), 1e-6)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: unrolled(fast, params, x, *inputs[1:])[0], inputs[:1], inputs[:1])


def test_the_field_autodiff_of_earlier_files_is_dropped():
    described = {"type": "LSTM", "hidden_size": 4, "autodiff": True, "output_activation": "tanh"}
    assert networks.from_spec(described) == LSTM(4, output_activation="tanh")
    with pytest.raises(ValueError, match=r"field of MLP: .* got 'autodiff'"):
        networks.from_spec({"type": "MLP", "autodiff": False})


def linear(features, tensors, name):
    return torch.nn.functional.linear(features, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_that_of_torch_split_at_the_ends_of_episodes(name):
    """The oracle cuts the sequence behind each step that ended an episode, and zeroes those states by hand."""
    policy, params = make(name)
    observations, carry, ends = data(policy, frequency=0.1)
    kind = type(NETWORKS[name]).__name__
    options = {"nonlinearity": "relu"} if name == "rnn-relu" else {}
    tensors = to_torch(policy.spec, params)
    network = NETWORKS[name]
    module = getattr(torch.nn, kind)(observations.shape[-1], network.hidden_size, network.num_layers, **options)
    module.load_state_dict({n.removeprefix("memory."): t for n, t in tensors.items() if n.startswith("memory.")})
    states = tuple(torch.tensor(np.stack(leaves)) for leaves in zip(*map(jax.tree.leaves, carry), strict=True))
    outputs = []
    for t, end in enumerate(ends):
        x = torch.tensor(np.asarray(observations[t : t + 1]))
        y, new = module(x, states if kind == "LSTM" else states[0])
        states = new if kind == "LSTM" else (new,)
        states = tuple(state * torch.tensor(~np.asarray(end)).reshape(1, -1, 1) for state in states)
        outputs.append(y)
    features = torch.cat(outputs)
    for i in range(len(NETWORKS[name].sizes)):
        features = torch.relu(linear(features, tensors, f"layers.dense_{i}"))
    mean = torch.tanh(linear(features, tensors, "head.mean")).detach().numpy()

    resets = networks.episode_starts(ends, np.zeros_like(ends))
    got, last = unrolled(policy, params, observations, carry, resets)
    np.testing.assert_allclose(got, mean, rtol=1e-6, atol=1e-6)
    kept = ~ends[-1][:, None]
    for i, layer in enumerate(last):
        for leaf, state in zip(jax.tree.leaves(layer), states, strict=True):
            np.testing.assert_allclose(leaf * kept, state[i].detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lstm", "mingru-2"])
def test_parameters_and_carries_are_float32_also_with_x64(name):
    policy = gaussjax.gaussian(NETWORKS[name], FEATURES, gaussjax.spaces.Box(shape=(2,)))
    tree = policy.init(jax.random.key(0)), policy.initial_carry((3,))
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cell", [GRU, LSTM, MinGRU])
def test_memory_steps_spread_what_the_units_remember(cell):
    """After `memory_steps` steps without input the slowest unit keeps about 1/e, the fastest next to nothing."""
    policy = gaussjax.gaussian(cell(hidden_size=64, sizes=(), memory_steps=50), 1, gaussjax.spaces.Box(shape=(1,)))
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 0 if "kernel" in jax.tree_util.keystr(path) else leaf, policy.init(jax.random.key(0))
    )
    carry = jax.tree.map(jnp.ones_like, policy.initial_carry((1,)))
    _, outputs = policy.apply(params, jnp.zeros((50, 1, 1)), carry=carry)
    kept = np.asarray(jax.tree.leaves(outputs["carry"])[-1])
    assert 0.3 < kept.max() < 0.4
    assert kept.min() < 1e-3
    with pytest.raises(ValueError, match="memory_steps: expected None, or at least 2 for a cell with gates"):
        gaussjax.gaussian(RNN(memory_steps=9), 1, gaussjax.spaces.Box(shape=(1,))) if cell is GRU else cell(
            memory_steps=1
        ).initial_carry()


def test_a_reset_forgets_all_that_was_before():
    policy, params = make("lstm-2")
    observations, carry, resets = data(policy, frequency=0.0)
    resets[9] = True
    means, _ = unrolled(policy, params, observations, carry, resets)
    fresh, _ = unrolled(policy, params, observations[9:], policy.initial_carry((BATCH,)), resets[9:] & False)
    np.testing.assert_allclose(means[9:], fresh, atol=1e-6)
    other = observations.copy()
    other[:9] += 1.0
    changed, _ = unrolled(policy, params, other, carry, resets)
    np.testing.assert_array_equal(changed[9:], means[9:])
    assert np.all(np.abs(changed[:9] - means[:9]).max(-1) > 0)


def test_sequences_may_be_empty_or_of_one_step_and_batches_of_any_rank():
    policy, params = make("lstm")
    for batch in ((), (0,), (2, 3)):
        observations, carry, resets = data(policy, steps=4, batch=batch)
        means, _ = unrolled(policy, params, observations, carry, resets)
        assert means.shape == (4, *batch, 2)
        one, _ = unrolled(policy, params, observations[:1], carry, resets[:1])
        np.testing.assert_allclose(one, means[:1], atol=1e-6)
        none, last = unrolled(policy, params, observations[:0], carry, resets[:0])
        assert none.shape == (0, *batch, 2)
        assert_close(last, carry, 0)


def test_bfloat16_products_keep_states_and_densities_in_float32():
    policy, params = make("lstm", dtype="bfloat16")
    exact, _ = make("lstm")
    inputs = data(policy)
    means, carry = unrolled(policy, params, *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves((means, carry))} == {np.dtype(np.float32)}
    np.testing.assert_allclose(means, unrolled(exact, params, *inputs)[0], atol=0.03)
    rough, fine = (gradients(unrolled, p, params, *inputs) for p in (policy, exact))
    assert {leaf.dtype for leaf in jax.tree.leaves(rough)} == {np.dtype(np.float32)}
    assert_close(rough, fine, 0.03)


@pytest.mark.usefixtures("x64")
def test_the_linear_recurrence_is_the_loop_and_differentiates_as_one():
    generator = np.random.default_rng(0)
    decay, inputs, initial = (generator.uniform(-1, 1, shape) for shape in ((11, 3), (11, 3), (3,)))
    decay[4] = 0.0

    def loop(decay, inputs, initial):
        states = []
        for a, b in zip(decay, inputs, strict=True):
            initial = a * initial + b
            states.append(initial)
        return jnp.stack(states)

    np.testing.assert_allclose(linear_recurrence(decay, inputs, initial), loop(decay, inputs, initial), atol=1e-14)
    got, expected = (
        jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1, 2))(decay, inputs, initial)
        for f in (linear_recurrence, loop)
    )
    assert_close(got, expected, 1e-13)


def test_both_ways_of_the_linear_recurrence_agree():
    generator = np.random.default_rng(0)
    decay, inputs = generator.uniform(0, 1, (2, 57, 3)).astype(np.float32)
    ways = [way(decay, inputs) for way in (linear_parallel, linear_sequential)]
    np.testing.assert_allclose(*ways, rtol=1e-5, atol=1e-6)


def test_the_specification_is_layers_by_environments_by_width():
    assert LSTM(num_layers=2).specification(3) == {"rnn": {"sequence_length": 10, "sizes": [(2, 3, 64), (2, 3, 64)]}}
    assert GRU(hidden_size=8, sequence_length=4).specification() == {
        "rnn": {"sequence_length": 4, "sizes": [(1, 1, 8)]}
    }


def test_the_default_sizes_are_64_then_64_and_32():
    policy = gaussjax.gaussian(GRU(), 3, gaussjax.spaces.Box(shape=(2,)))
    params = policy.init(jax.random.key(0))["params"]
    assert params["memory"]["layer_0"]["kernel_hidden"].shape == (64, 3 * 64)
    assert [params["layers"][f"dense_{i}"]["bias"].size for i in range(2)] == [64, 32]
    assert policy.initial_carry((4,))[0].shape == (4, 64)


def test_a_missing_carry_is_refused_with_the_call_that_makes_one():
    policy, params = make("lstm")
    with pytest.raises(ValueError, match=r"carry: expected the state .* got None. .*policy.initial_carry\(\(5,\)\)"):
        policy.act(params, jax.random.key(0), np.zeros((5, FEATURES), np.float32))
    with pytest.raises(ValueError, match=r"initial_carry\(\(5,\)\) for a sequence"):
        policy.evaluate(params, np.zeros((9, 5, FEATURES), np.float32), np.zeros((9, 5, 2), np.float32))


def test_resets_are_bool_and_of_the_shape_of_the_batch():
    policy, params = make("gru")
    observations, carry, resets = data(policy)
    for dtype in (np.int8, np.float32):
        with pytest.raises(TypeError, match=rf"resets: expected bool, got {np.dtype(dtype)}.*episode_starts"):
            policy.apply(params, observations, carry=carry, resets=resets.astype(dtype))
    with pytest.raises(ValueError, match=r"resets: expected shape \(23, 5\), .* got \(5,\)"):
        policy.apply(params, observations, carry=carry, resets=resets[0])


def test_a_carry_that_cannot_hold_a_state_is_refused_in_both_libraries():
    policy, params = make("gru")
    observations, carry, _ = data(policy)
    twin = gaussjax.torch.from_spec(policy.spec)
    for dtype in (np.int32, np.bool_):
        wrong = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), carry)
        for each, given in ((policy, params), (twin, to_torch(policy.spec, params))):
            says = rf"carry: expected floating numbers, got {np.dtype(dtype)}\. .*initial_carry\(\(5,\)\)"
            with pytest.raises(TypeError, match=says):
                each.apply(given, observations[0], carry=wrong)


class Own(nn.Module):
    """A recurrent network of the user's, which knows arrays alone."""

    num_actions: int | None = None

    @nn.nowrap
    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, 4))

    @nn.compact
    def __call__(self, observations, carry, resets=None):
        if resets is not None:
            carry = carry * ~resets[..., None]
        carry, features = nn.GRUCell(4)(carry, observations)
        return nn.Dense(self.num_actions)(features), jnp.zeros(self.num_actions), {"carry": carry}


def test_a_network_of_ones_own_is_given_resets_as_an_array():
    policy = gaussjax.gaussian(Own(), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
    params, carry = policy.init(jax.random.key(0)), np.ones((2, 4), np.float32)
    observations = np.ones((2, 3), np.float32)
    listed = policy.apply(params, observations, carry=carry, resets=[True, False])[1]
    array = policy.apply(params, observations, carry=carry, resets=np.array([True, False]))[1]
    kept = policy.apply(params, observations, carry=carry)[1]
    assert_close(listed, array, 0)
    assert np.any(listed["carry"][0] != kept["carry"][0])
    assert_close(listed["carry"][1], kept["carry"][1], 0)


@pytest.mark.parametrize("name", ["lstm", "mingru-2"])
def test_resets_may_be_lists(name):
    policy, params = make(name)
    observations, carry, resets = data(policy, steps=3)
    resets[1] = [True, False, True, False, True]
    expected = unrolled(policy, params, observations, carry, resets)
    assert_close(unrolled(policy, params, observations, carry, resets.tolist()), expected, 0)
    inside = jax.jit(functools.partial(unrolled, policy))(params, observations, carry, resets.tolist())
    assert_close(inside, expected, 1e-6)
    assert_close(
        unrolled(policy, params, observations[1], carry, resets[1].tolist()),
        unrolled(policy, params, observations[1], carry, resets[1]),
        0,
    )
    with pytest.raises(TypeError, match=r"resets: expected bool, got int32"):
        policy.apply(params, observations[1], carry=carry, resets=[1, 0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"resets: expected shape \(5,\), .* got \(2,\)"):
        policy.apply(params, observations[1], carry=carry, resets=[True, False])


def test_a_network_by_itself_needs_a_carry_too():
    network = LSTM(num_actions=2)
    with pytest.raises(ValueError, match="carry: expected the state of this recurrent network, got None"):
        network.init(jax.random.key(0), jnp.zeros((1, 3)))


@pytest.mark.parametrize("network", [LSTM(8, fast_backward=True), GRU(hidden_size=8), RNN(hidden_size=128), MinGRU()])
def test_gradients_within_a_shard_map_are_those_without(network):
    """With shard_map's default check of the axes over which arrays vary."""
    policy = gaussjax.gaussian(network, 3, gaussjax.spaces.Box(shape=(2,)), keepdims=False)
    params, carry = policy.init(jax.random.key(0)), policy.initial_carry((4,))
    seen, taken = jax.random.normal(jax.random.key(1), (5, 4, 3)), jnp.zeros((5, 4, 2))
    auto = (jax.sharding.AxisType.Auto,)
    mesh, P = jax.make_mesh((1,), ("envs",), axis_types=auto), jax.sharding.PartitionSpec

    def loss(params, seen, taken, carry):
        return jnp.sum(policy.evaluate(params, seen, taken, carry=carry).log_prob)

    def spread(params, *rest):
        return jax.grad(lambda params: jax.lax.psum(loss(params, *rest), "envs"))(params)

    specs = P(), P(None, "envs"), P(None, "envs"), P("envs")
    found = jax.jit(jax.shard_map(spread, mesh=mesh, in_specs=specs, out_specs=P()))(params, seen, taken, carry)
    expected = jax.grad(loss)(params, seen, taken, carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
