"""Noise of exploration: standard normal at each step, new at resets, and as correlated as its source says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax import exploration
from gaussjax.torch import policy as torch_policy
from gaussjax.torch import random

ROWS = 2**17


def policy(num_actions=1):
    return gaussjax.gaussian(gaussjax.networks.MLP((4,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (num_actions,)))


SOURCES = {
    "white": exploration.white,
    "held": functools.partial(exploration.held, num_steps=3),
    "brown": functools.partial(exploration.colored, beta=2.0),
    "pink": exploration.colored,
    "nearly white": functools.partial(exploration.colored, beta=0.2),
}
VARIANTS = ("brown", "nearly white")
each_source = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in VARIANTS else ()) for name in SOURCES]
)


@functools.cache
def noise_of(source, count, resets, num_actions=1, seed=0):
    """Noise of `count` rows for each step; `resets` has a flag for each of them."""
    made = source(policy(num_actions))

    @jax.jit
    def run(key):
        first, *others = jax.random.split(key, 1 + len(resets))
        flags = jnp.asarray(resets)[:, None] & jnp.ones((1, count), bool)
        return jax.lax.scan(
            lambda state, at: made.step(state, *at), made.init(first, (count,)), (jnp.stack(others), flags)
        )

    return np.asarray(run(jax.random.key(seed))[1])


@pytest.mark.without("jax_debug_key_reuse")
@each_source
def test_noise_of_every_step_is_standard_normal_before_and_after_a_reset(name):
    noise = noise_of(SOURCES[name], ROWS, (True, False, False, False, True, False))[..., 0]
    # Five standard deviations of an estimate from so many rows; they are below 1% of the variance.
    error = 5.0 / np.sqrt(ROWS)
    assert error * np.sqrt(2.0) < 0.02
    np.testing.assert_allclose(noise.mean(axis=1), 0.0, atol=error)
    np.testing.assert_allclose(noise.var(axis=1), 1.0, atol=error * np.sqrt(2.0))
    np.testing.assert_allclose((noise**4).mean(axis=1), 3.0, atol=error * np.sqrt(96.0))


@pytest.mark.without("jax_debug_key_reuse")
@each_source
def test_noise_after_a_reset_is_independent_of_the_noise_before(name):
    noise = noise_of(SOURCES[name], ROWS, (True, False, False, False, True, False))[..., 0]
    correlation = np.corrcoef(noise)
    np.testing.assert_allclose(correlation[:4, 4:], 0.0, atol=5.0 / np.sqrt(ROWS))
    lasts = {"white": 0.0, "held": 1.0, "brown": 0.99, "pink": 0.5, "nearly white": 0.01}[name]
    assert correlation[0, 1] >= lasts - 5.0 / np.sqrt(ROWS)


# Without compilation 8192 steps take minutes.
@pytest.mark.without("jax_debug_key_reuse", "jax_disable_jit")
@pytest.mark.parametrize(
    "beta", [pytest.param(0.25, marks=pytest.mark.slow), 1.0, pytest.param(2.0, marks=pytest.mark.slow)]
)
def test_the_spectrum_of_coloured_noise_falls_with_its_exponent_over_three_decades(beta):
    steps, rows = 2**13, 8
    noise = noise_of(functools.partial(exploration.colored, beta=beta), rows, (False,) * steps, 4)
    noise = noise.reshape(steps, -1)
    frequencies, edges = np.fft.rfftfreq(steps), np.geomspace(5e-4, 0.5, 31)
    # Brown noise leaks from below the lowest frequency, so a window is needed.
    power = (np.abs(np.fft.rfft(noise * np.hanning(steps)[:, None], axis=0)) ** 2).mean(axis=1)
    bins = np.digitize(frequencies, edges)
    points = [(np.log(frequencies[bins == i]).mean(), np.log(power[bins == i].mean())) for i in range(1, 31)]
    assert abs(np.polyfit(*zip(*points, strict=True), 1)[0] + beta) < 0.1


@pytest.mark.parametrize(("beta", "more"), [(0.25, 1.1), (1.0, 1.15), (2.0, 2.4)])
def test_the_spectrum_leaves_the_power_law_for_the_shortest_periods_only(beta, more):
    decays, factors = exploration._processes(beta)
    periods = np.geomspace(2.0, 2048.0, 500)[:, None]
    # The spectrum of each process is that of a geometric series of its decay.
    gains = np.abs(np.sqrt(1.0 - decays**2) / (1.0 - decays * np.exp(-2j * np.pi / periods))) ** 2
    relative = gains @ factors**2 / periods[:, 0] ** beta
    relative /= np.exp(np.mean(np.log(relative)))
    assert np.abs(np.log(relative[periods[:, 0] >= 4.0])).max() < np.log(1.2)
    assert relative.max() < more


def test_shares_of_the_processes_add_to_a_variance_of_one_for_every_exponent():
    for beta in (0.05, 1.0, 2.0):
        _, factors = exploration._processes(beta)
        assert abs(np.sum(np.float32(factors) ** 2) - 1.0) < 1e-5


@pytest.mark.without("jax_debug_key_reuse")
def test_held_noise_changes_after_its_steps_and_at_resets_only():
    resets = (True, False, False, False, False, True, False, False, False, True, True, False)
    noise = noise_of(SOURCES["held"], 4, resets, 2)
    changed = (noise[1:] != noise[:-1]).all(axis=(1, 2))
    kept = (noise[1:] == noise[:-1]).all(axis=(1, 2))
    expected = [False, False, True, False, True, False, False, True, True, True, False]
    assert changed.tolist() == expected
    assert kept.tolist() == [not flag for flag in expected]


@each_source
def test_rows_are_reset_one_by_one(name):
    made = SOURCES[name](policy(2))
    state = made.init(jax.random.key(0), (3,))
    flags = jnp.array([False, True, False])
    step = made.step(state, jax.random.key(1), flags)[1]
    for resets in (jnp.zeros(3, bool), jnp.ones(3, bool)):
        whole = made.step(state, jax.random.key(1), resets)[1]
        np.testing.assert_array_equal(step[flags == resets], whole[flags == resets])


@pytest.mark.without("jax_debug_key_reuse")
@each_source
def test_noise_has_the_same_bits_for_every_batch_and_inside_vmap(name):
    made = SOURCES[name](policy(3))

    def rolled(count, rows=None):
        state, found = made.init(jax.random.key(0), (count,)), []
        for t in range(5):
            inputs = state, jax.random.key(t + 1), jnp.arange(count) == t
            state, noise = made.step(*inputs) if rows is None else made.step_rows(*inputs, jnp.asarray(rows))
            found.append(np.asarray(noise))
        return np.stack(found)

    many = rolled(64)
    for count in (1, 3, 17):
        np.testing.assert_array_equal(rolled(count), many[:, :count])
    own = rolled(8, range(8))
    np.testing.assert_array_equal(rolled(3, range(3)), own[:, :3])
    other = jax.vmap(lambda key: made.step(made.init(key, (4,)), key, jnp.ones(4, bool))[1])
    keys = jax.random.split(jax.random.key(9), 3)
    for key, noise in zip(keys, other(keys), strict=True):
        np.testing.assert_array_equal(made.step(made.init(key, (4,)), key, jnp.ones(4, bool))[1], noise)


@each_source
def test_torch_draws_the_same_noise(name):
    ours, twin = SOURCES[name](policy(2)), SOURCES[name](torch_policy.from_spec(policy(2).spec))

    def rolled(made, key, array, count):
        state, found = made.init(key(0), (count,)), []
        for t in range(8):
            state, noise = made.step(state, key(t + 1), array([t == 5, *[False] * (count - 1)]))
            found.append(np.asarray(noise))
        return np.stack(found)

    in_torch = rolled(twin, random.key, torch.tensor, 5)
    assert in_torch.dtype == np.float32
    # Normal numbers of the two differ by a few units in the last place.
    np.testing.assert_allclose(in_torch, rolled(ours, jax.random.key, jnp.array, 5), rtol=0, atol=3e-6)
    np.testing.assert_array_equal(rolled(twin, random.key, torch.tensor, 2), in_torch[:, :2])
    # Flags of Gymnasium are arrays of NumPy.
    np.testing.assert_array_equal(rolled(twin, random.key, np.array, 5), in_torch)


@pytest.mark.without("jax_debug_key_reuse")
def test_white_noise_is_that_of_act():
    made, key = exploration.white(policy(2)), jax.random.key(3)
    state, noise = made.step(made.init(key, (5,)), key, jnp.zeros(5, bool))
    np.testing.assert_array_equal(noise, policy(2).noise(key, (5,)))
    assert state == ()
    assert not made.lasts


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: exploration.white("gaussian"), "policy: expected a gaussjax.Policy, got str. Make one"),
        (lambda: exploration.held(policy(), 0), "num_steps: expected at least 1, got 0."),
        (lambda: exploration.held(policy(), 2.0), "num_steps: expected an integer, got 2.0."),
        (lambda: exploration.held(policy(), 2**31), "num_steps: expected less than 2**31, got 2147483648."),
        (lambda: exploration.colored(policy(), 0.0), "beta: expected a number above 0 and at most 2, got 0.0."),
        (lambda: exploration.colored(policy(), 2.5), "beta: expected a number above 0 and at most 2, got 2.5."),
        (lambda: exploration.colored(policy(), "1"), "beta: expected a number, got '1'."),
        (lambda: exploration.colored(policy(), jnp.array(3.0)), "beta: expected a number above 0 and at most 2, got 3"),
        pytest.param(
            lambda: jax.jit(lambda beta: exploration.colored(policy(), beta))(1.0),
            "beta: expected a constant, got a tra",
            marks=pytest.mark.without("jax_disable_jit"),
        ),
        (
            lambda: exploration.white(policy()).init(jax.random.key(0), 4),
            "batch_shape: expected a tuple of sizes, got 4",
        ),
        (
            lambda: exploration.held(policy(), 2).init(jax.random.key(0), 4),
            "batch_shape: expected a tuple of sizes, go",
        ),
        (
            lambda: exploration.colored(policy()).init((4,), jax.random.key(0)),
            "expected a tuple of sizes, got an array",
        ),
        (
            lambda: exploration.white(policy()).step((), jax.random.key(0), jnp.zeros(3)),
            "resets: expected bool, got float32. They are True",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, says):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert says in str(caught.value)


@pytest.mark.parametrize("source", [SOURCES["held"], SOURCES["pink"]])
def test_resets_of_another_shape_than_the_state_are_refused(source):
    made = source(policy())
    state = made.init(jax.random.key(0), (4,))
    for step in (made.step, jax.jit(made.step)):
        with pytest.raises(
            ValueError, match=r"^resets: expected shape \(4,\), one for each row of the state, got \(3,\)"
        ):
            step(state, jax.random.key(0), jnp.zeros(3, bool))


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize(
    ("source", "state", "says"),
    [
        ("held", lambda held: held.noise, "TypeError: state: expected a gaussjax.exploration.Held, got an array."),
        ("held", lambda held: None, "TypeError: state: expected a gaussjax.exploration.Held, got NoneType."),
        ("held", lambda held: (held, held.noise), "TypeError: state: expected a gaussjax.exploration.Held, got tuple."),
        (
            "held",
            lambda held: held._replace(noise=held.noise[..., :1]),
            "noise: expected floating numbers of shape (4, 2), got {}float32 of shape (4, 1).",
        ),
        ("pink", lambda held: held, "ValueError: state: expected floating numbers of shape (..., 13, 2), got Held."),
        ("pink", lambda held: (), "ValueError: state: expected floating numbers of shape (..., 13, 2), got tuple."),
        ("pink", lambda held: held.noise, "(..., 13, 2), got {}float32 of shape (4, 2). Make it with init(key, r"),
        (
            "pink",
            lambda held: held.age,
            " of shape (4,). Make it with init(key, resets.shape) of this source, and pass it",
        ),
    ],
)
def test_states_of_another_source_are_refused(source, state, says, library):
    in_torch = library == "torch"
    ours, key, resets = policy(2), jax.random.key(0), np.zeros(4, bool)
    if in_torch:
        ours, key, resets = torch_policy.from_spec(ours.spec), random.key(0), torch.zeros(4, dtype=torch.bool)
    made, held = SOURCES[source](ours), SOURCES["held"](ours).init(key, (4,))
    for step in (made.step,) if in_torch else (made.step, jax.jit(made.step)):
        with pytest.raises((TypeError, ValueError)) as caught:
            step(state(held), key, resets)
        assert says.format("torch." if in_torch else "") in f"{caught.typename}: {caught.value}"


def test_a_held_matrix_is_no_state_for_noise_of_each_action():
    plain = policy(2)
    smooth = gaussjax.gaussian(gaussjax.networks.MLP((4,), std="gsde"), 3, plain.spec.action_space)
    state = exploration.held(smooth, 2).init(jax.random.key(0), (4,))
    with pytest.raises(
        ValueError, match=r"^state\.noise: expected .* of shape \(4, 2\), got float32 of shape \(4, 4, 2\)"
    ):
        exploration.held(plain, 2).step(state, jax.random.key(1), np.zeros(4, bool))
