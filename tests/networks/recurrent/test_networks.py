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
from gaussjax.networks.recurrent import cells
from gaussjax.networks.recurrent.cells import Weights, linear_recurrence, unroll
from gaussjax.networks.recurrent.fast_backward import fast_unroll
from gaussjax.networks.recurrent.layers import RecurrentLayers
from gaussjax.torch import to_torch
from tests import policies

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
# A cell of torch steps and unrolls by the same code as the others.
FEW = ("lstm", "mingru-2")
ROWS = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in NETWORKS]
BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))


@functools.cache
def make(name, **changes):
    """A policy of the table with random parameters, its biases included."""
    policy = gaussjax.gaussian(NETWORKS[name].clone(**changes), FEATURES, BOX)
    return policy, policies.random_params(policy)


def data(policy, seed=0, frequency=0.2, steps=STEPS, batch=(BATCH,)):
    generator = np.random.default_rng(seed)
    observations = generator.normal(size=(steps, *batch, FEATURES)).astype(np.float32)
    carry = jax.tree.map(
        lambda a: generator.uniform(-1, 1, size=a.shape).astype(np.float32), policy.initial_carry(batch)
    )
    return observations, carry, generator.random((steps, *batch)) < frequency


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


def after_three_steps(way, *arguments):
    means, last = way(*arguments)
    return means[3:], last


@functools.partial(jax.jit, static_argnums=(0, 1))
def differentiated(function, policy, params, observations, carry, resets):
    """The means and the last carry; and gradients by the parameters, the observations and the starting carry."""

    def loss(params, observations, carry):
        means, last = function(policy, params, observations, carry, resets)
        total = jnp.mean(jnp.sin(3 * means)) + sum(jnp.mean(jnp.cos(leaf)) for leaf in jax.tree.leaves(last))
        return total, (means, last)

    gradients, found = jax.grad(loss, (0, 1, 2), has_aux=True)(params, observations, carry)
    return found, gradients


def assert_close(got, expected, tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, expected)


@pytest.mark.parametrize("frequency", [0.2, 1.0])
@pytest.mark.parametrize("name", ROWS)
def test_stepping_and_unrolling_give_the_same_numbers(name, frequency):
    policy, params = make(name)
    inputs = data(policy, frequency=frequency)
    found, expected = (differentiated(function, policy, params, *inputs) for function in (unrolled, stepped))
    assert_close(found, expected, 1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("steps", "batch"),
    [
        pytest.param(37, (), marks=pytest.mark.slow),
        (32, (5,)),
        (1, (2, 3)),
        # Wide enough for shorter blocks.
        (11, (4000,)),
    ],
)
def test_the_collected_gradients_are_those_of_automatic_differentiation(steps, batch):
    cell, hidden = cells.CELLS["lstm"], 6
    generator = np.random.default_rng(0)

    def normal(*shape):
        return generator.normal(size=shape)

    width = cell.gates * hidden
    weights = Weights(normal(FEATURES, width), normal(hidden, width), normal(width), normal(width))
    state = jax.tree.map(lambda a: normal(*a.shape), RecurrentLayers("lstm", hidden).initial_carry(batch)[0])
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
    if steps != 32:
        return
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
    together = jax.vmap(functools.partial(differentiated, unrolled, policy))(population, *both)
    for i in range(2):
        alone = differentiated(unrolled, policy, jax.tree.map(lambda a, i=i: a[i], population), *inputs[i])
        assert_close(jax.tree.map(lambda a, i=i: np.asarray(a)[i], together), alone, 1e-6)


@pytest.mark.parametrize("x64", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "cell", ["rnn", *(pytest.param(cell, marks=pytest.mark.slow) for cell in ("gru", "lstm", "mingru"))]
)
def test_forward_and_reverse_mode_agree_to_the_second_order(cell, x64):
    with jax.enable_x64(x64):
        layers = RecurrentLayers(cell, 4)
        generator = np.random.default_rng(0)
        x = generator.normal(size=(5, 3, 2)).astype(np.float64 if x64 else np.float32)
        resets, carry = generator.random((5, 3)) < 0.3, layers.initial_carry((3,))
        shapes = jax.eval_shape(layers.init, jax.random.key(0), x, carry)
        params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(x.dtype) / 2, shapes)
        carry, directions = jax.tree.map(lambda a: a.astype(x.dtype), carry), jax.tree.map(np.cos, params)

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
    policy, params = make("lstm")
    fast, _ = make("lstm", fast_backward=True)
    inputs = data(policy)
    found, expected = (differentiated(unrolled, each, params, *inputs) for each in (fast, policy))
    assert_close(found, expected, 1e-6)

    def forward_mode(policy):
        return jax.jvp(lambda x: unrolled(policy, params, x, *inputs[1:])[0], inputs[:1], inputs[:1])

    assert jax.eval_shape(functools.partial(forward_mode, policy))[1].shape == found[0][0].shape
    with pytest.raises(TypeError, match="forward-mode"):
        forward_mode(fast)


def test_the_field_autodiff_of_earlier_files_is_dropped():
    described = {"type": "LSTM", "hidden_size": 4, "autodiff": True, "output_activation": "tanh"}
    assert networks.from_spec(described) == LSTM(4, output_activation="tanh")
    with pytest.raises(ValueError, match=r"field of MLP: .* got 'autodiff'"):
        networks.from_spec({"type": "MLP", "autodiff": False})


def linear(features, tensors, name):
    return torch.nn.functional.linear(features, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("lstm", "mingru-2")])
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
            np.testing.assert_allclose(np.asarray(leaf) * kept, state[i].detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lstm", "mingru-2"])
def test_parameters_and_carries_are_float32_also_with_x64(name):
    policy = gaussjax.gaussian(NETWORKS[name], FEATURES, BOX)
    tree = jax.eval_shape(policy.init, jax.random.key(0)), policy.initial_carry((3,))
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cell", [LSTM, *(pytest.param(cell, marks=pytest.mark.slow) for cell in (GRU, MinGRU))])
def test_memory_steps_spread_what_the_units_remember(cell):
    """After `memory_steps` steps without input the slowest unit keeps about 1/e, the fastest next to nothing."""
    policy = gaussjax.gaussian(cell(hidden_size=64, sizes=(), memory_steps=50), 1, BOX)

    @jax.jit
    def remembered(key, carry):
        params = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * 0 if "kernel" in jax.tree_util.keystr(path) else leaf, policy.init(key)
        )
        return policy.apply(params, jnp.zeros((50, 1, 1)), carry=carry)[1]["carry"]

    carry = remembered(jax.random.key(0), jax.tree.map(np.ones_like, policy.initial_carry((1,))))
    kept = np.asarray(jax.tree.leaves(carry)[-1])
    assert 0.3 < kept.max() < 0.4
    assert kept.min() < 1e-3


def test_a_reset_forgets_all_that_was_before():
    policy, params = make("mingru-2")
    observations, carry, resets = data(policy, frequency=0.0)
    resets[9] = True
    other = observations + (np.arange(STEPS) < 9)[:, None, None].astype(np.float32)
    means, changed = (unrolled(policy, params, seen, carry, resets)[0] for seen in (observations, other))
    np.testing.assert_array_equal(changed[9:], means[9:])
    assert np.all(np.abs(changed[:9] - means[:9]).max(-1) > 0)


def test_sequences_may_be_empty_or_of_one_step_and_batches_of_any_rank():
    policy, params = make("lstm")

    @jax.jit
    def parts(observations, carry, resets):
        return [unrolled(policy, params, observations[:n], carry, resets[:n]) for n in (4, 1, 0)]

    for batch in ((), (0,), (2, 3)):
        inputs = data(policy, steps=4, batch=batch)
        (means, _), (one, _), (none, last) = parts(*inputs)
        assert means.shape == (4, *batch, 2)
        np.testing.assert_allclose(one, means[:1], atol=1e-6)
        assert none.shape == (0, *batch, 2)
        assert_close(last, inputs[1], 0)
    observations, carry, resets = inputs
    with jax.disable_jit():
        assert unrolled(policy, params, observations[:0], carry, resets[:0])[0].shape == (0, *batch, 2)


@pytest.mark.parametrize("name", FEW)
def test_finite_steps_have_no_nan_outside_of_jit(name):
    policy, params = make(name)
    inputs = data(policy, steps=2)
    expected = unrolled(policy, params, *inputs)[0]
    with jax.debug_nans(True), jax.disable_jit():
        np.testing.assert_allclose(unrolled(policy, params, *inputs)[0], expected, atol=1e-5)


def test_bfloat16_products_keep_states_and_densities_in_float32():
    policy, params = make("lstm")
    rough, fine = (
        differentiated(unrolled, each, params, *data(policy)) for each in (make("lstm", dtype="bfloat16")[0], policy)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(rough)} == {np.dtype(np.float32)}
    assert_close(rough, fine, 0.03)


@pytest.mark.usefixtures("x64")
def test_the_linear_recurrence_is_the_loop_and_differentiates_as_one():
    generator = np.random.default_rng(0)
    decay, inputs, initial = (generator.uniform(-1, 1, shape) for shape in ((11, 3), (11, 3), (3,)))
    resets = generator.random((11, 1)) < 0.3

    def loop(decay, inputs, initial, resets):
        states = []
        for a, b, reset in zip(decay, inputs, resets, strict=True):
            initial = (0.0 if reset else a * initial) + b
            states.append(initial)
        return jnp.stack(states)

    def both(way):
        return jax.jit(lambda *a: (way(*a), jax.grad(lambda *a: jnp.sum(jnp.sin(way(*a))), (0, 1, 2))(*a)))(
            decay, inputs, initial
        )

    linear, loop = (functools.partial(way, resets=resets[:, 0]) for way in (linear_recurrence, loop))

    (found, gradients), (expected, others) = both(linear), both(loop)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert_close(gradients, others, 1e-13)


@pytest.mark.parametrize("way", [cells.recurrence_by_a_scan, cells.recurrence_by_a_loop])
def test_both_ways_of_the_linear_recurrence_forget_any_state_at_a_reset(way):
    generator = np.random.default_rng(0)
    decay, inputs = generator.uniform(0, 1, (2, 57, 3, 2)).astype(np.float32)
    resets = generator.random((57, 3)) < 0.1
    resets[20] = True
    expected, state = [], np.zeros((3, 2))
    for a, b, reset in zip(decay, inputs, resets, strict=True):
        state = a * np.where(reset[:, None], 0.0, state) + b
        expected.append(state)
    np.testing.assert_allclose(jax.jit(way)(decay, inputs, resets), np.stack(expected), rtol=1e-5, atol=1e-6)
    decay[7], inputs[11:13] = np.nan, np.inf
    np.testing.assert_allclose(jax.jit(way)(decay, inputs, resets)[20:], np.stack(expected)[20:], rtol=1e-5, atol=1e-6)


CELLS = ["mingru-2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rnn", "gru", "lstm", "lstm-2"))]


@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CELLS)
def test_a_reset_forgets_a_carry_and_an_observation_that_are_not_finite(name, fast, value):
    policy, params = make(name, fast_backward=fast)
    observations, carry, resets = data(policy, frequency=0.0, steps=6)
    resets[0] = resets[3] = True
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, value), carry)
    for way in (unrolled, stepped):
        later = functools.partial(after_three_steps, way)
        found, gradients = differentiated(way, policy, params, observations, broken, resets)
        expected, others = differentiated(way, policy, params, observations, carry, resets)
        assert_close(found, expected, 0)
        assert_close(gradients, others, 1e-6)
        expected, others = differentiated(later, policy, params, observations, carry, resets)
        seen = observations.copy()
        seen[1] = value
        found, gradients = differentiated(later, policy, params, seen, carry, resets)
        assert_close(found, expected, 0)
        assert_close(gradients, others, 1e-6)
        assert np.isnan(way(policy, params, seen, carry, resets)[0][1:3]).all()


@pytest.mark.parametrize("name", CELLS)
def test_a_reset_forgets_a_carry_and_an_observation_that_are_not_finite_in_torch(name):
    policy, params = make(name)
    observations, carry, resets = data(policy, frequency=0.0, steps=6)
    resets[0] = resets[3] = True
    twin, results = gaussjax.torch.from_spec(policy.spec), []
    for value in (0.0, np.nan, np.inf):
        states = jax.tree.map(lambda leaf, value=value: torch.full(leaf.shape, value), carry)
        leaves = {key: tensor.requires_grad_() for key, tensor in to_torch(policy.spec, params).items()}
        outputs = twin.apply(leaves, observations, carry=states, resets=resets)[1]
        seen = observations.copy()
        seen[1] = value
        later = twin.apply(leaves, seen, carry=states, resets=resets)[1]
        assert later["mean_actions"][1:3].isfinite().all() == (value == 0.0)
        results.append([])
        for found, means in ((outputs, outputs["mean_actions"]), (later, later["mean_actions"][3:])):
            (means.sin().sum() + sum(leaf.sum() for leaf in jax.tree.leaves(found["carry"]))).backward()
            gradients = [leaf.grad.clone() for leaf in leaves.values() if leaf.grad is not None]
            results[-1] += [means, *gradients]
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=0, atol=0)


def test_the_specification_is_layers_by_environments_by_width():
    assert LSTM(num_layers=2).specification(3) == {"rnn": {"sequence_length": 10, "sizes": [(2, 3, 64), (2, 3, 64)]}}
    assert GRU(hidden_size=8, sequence_length=4).specification() == {
        "rnn": {"sequence_length": 4, "sizes": [(1, 1, 8)]}
    }


def test_the_default_sizes_are_64_then_64_and_32():
    policy = gaussjax.gaussian(GRU(), 3, BOX)
    params = jax.eval_shape(policy.init, jax.random.key(0))["params"]
    assert params["memory"]["layer_0"]["kernel_hidden"].shape == (64, 3 * 64)
    assert [params["layers"][f"dense_{i}"]["bias"].size for i in range(2)] == [64, 32]
    assert policy.initial_carry((4,))[0].shape == (4, 64)


def test_a_carry_that_cannot_hold_a_state_is_refused_in_torch_too():
    policy, params = make("gru")
    observations, carry, _ = data(policy)
    wrong = jax.tree.map(lambda leaf: leaf.astype(np.bool_), carry)
    with pytest.raises(TypeError, match=r"carry: expected floating numbers, got bool\. .*initial_carry\(\(5,\)\)"):
        gaussjax.torch.from_spec(policy.spec).apply(to_torch(policy.spec, params), observations[0], carry=wrong)


class Own(nn.Module):
    """A recurrent network of the user's, which knows arrays alone."""

    num_actions: int | None = None

    @nn.nowrap
    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, 4))

    @nn.compact
    def __call__(self, observations, carry, resets=None):
        if resets is not None:
            carry = jnp.where(resets[..., None], 0.0, carry)
        carry, features = nn.GRUCell(4)(carry, observations)
        return nn.Dense(self.num_actions)(features), jnp.zeros(self.num_actions), {"carry": carry}


def test_a_network_of_ones_own_is_given_resets_as_an_array():
    policy = gaussjax.gaussian(Own(), 3, BOX)
    params, carry = policies.random_params(policy), np.ones((2, 4), np.float32)
    observations = np.ones((2, 3), np.float32)
    listed = policy.apply(params, observations, carry=carry, resets=[True, False])[1]
    array = policy.apply(params, observations, carry=carry, resets=np.array([True, False]))[1]
    kept = policy.apply(params, observations, carry=carry)[1]
    assert_close(listed, array, 0)
    assert np.any(listed["carry"][0] != kept["carry"][0])
    assert_close(listed["carry"][1], kept["carry"][1], 0)


@pytest.mark.without("jax_enable_x64")
def test_resets_may_be_lists():
    policy, params = make("gru")
    observations, carry, resets = data(policy, steps=3)
    resets[1] = [True, False, True, False, True]
    expected = unrolled(policy, params, observations, carry, resets)
    assert_close(unrolled(policy, params, observations, carry, resets.tolist()), expected, 0)
    inside = jax.eval_shape(functools.partial(unrolled, policy), params, observations, carry, resets.tolist())
    assert inside[0].shape == expected[0].shape
    one_step = [unrolled(policy, params, observations[1], carry, each) for each in (resets[1].tolist(), resets[1])]
    assert_close(*one_step, 0)
    with pytest.raises(TypeError, match=r"resets: expected bool, got int32"):
        policy.apply(params, observations[1], carry=carry, resets=[1, 0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"resets: expected shape \(5,\), .* got \(2,\)"):
        policy.apply(params, observations[1], carry=carry, resets=[True, False])


@pytest.mark.parametrize(
    "network",
    [
        LSTM(8, sizes=(), fast_backward=True),
        MinGRU(hidden_size=8, sizes=()),
        *(
            pytest.param(network, marks=pytest.mark.slow)
            for network in (GRU(hidden_size=8, sizes=()), RNN(hidden_size=128, sizes=()))
        ),
    ],
)
def test_gradients_within_a_shard_map_are_those_without(network):
    """With shard_map's default check of the axes over which arrays vary."""
    policy = gaussjax.gaussian(network, 3, BOX, keepdims=False)
    params, carry = policies.random_params(policy), policy.initial_carry((4,))
    seen, taken = data(policy, steps=5, batch=(4,))[0], np.zeros((5, 4, 2), np.float32)
    auto = (jax.sharding.AxisType.Auto,)
    mesh, P = jax.make_mesh((1,), ("envs",), axis_types=auto), jax.sharding.PartitionSpec

    def loss(params, seen, taken, carry):
        return jnp.sum(policy.evaluate(params, seen, taken, carry=carry).log_prob)

    def spread(params, *rest):
        return jax.grad(lambda params: jax.lax.psum(loss(params, *rest), "envs"))(params)

    specs = P(), P(None, "envs"), P(None, "envs"), P("envs")
    found = jax.jit(jax.shard_map(spread, mesh=mesh, in_specs=specs, out_specs=P()))(params, seen, taken, carry)
    expected = jax.jit(jax.grad(loss))(params, seen, taken, carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
