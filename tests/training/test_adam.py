"""Adam with gradients left out: the same as Optax's, which never sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaussjax.training.adam import scale_by_adam

STEPS = 40


@pytest.fixture(scope="module")
def gradients():
    """Of every size, the zero and the subnormal among them."""
    exponents = np.linspace(-44.0, 15.0, 60)
    random = np.random.default_rng(0)
    rows = random.standard_normal((STEPS, len(exponents))) * 10.0**exponents
    rows[:, 0] = 0.0
    return {"a": jnp.asarray(rows, jnp.float32), "b": jnp.asarray(rows[:, 30], jnp.float32)}


def at(gradients, step):
    return jax.tree.map(lambda leaf: leaf[step], gradients)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_usable_steps_are_those_of_optax(gradients):
    ours, theirs = scale_by_adam(0.8, 0.99, 1e-5), optax.scale_by_adam(0.8, 0.99, 1e-5)
    mine, wanted = ours.init(at(gradients, 0)), theirs.init(at(gradients, 0))
    step, reference = jax.jit(ours.update), jax.jit(theirs.update)
    for now in range(STEPS):
        updates, mine = step(at(gradients, now), mine, usable=jnp.asarray(True))
        expected, wanted = reference(at(gradients, now), wanted)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)
    assert jax.tree.structure(mine) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), mine, wanted)
    assert int(mine.count) == STEPS


@pytest.mark.parametrize("left_out", [0, 1, 17])
@pytest.mark.parametrize("worth", [np.nan, np.inf, 1.0], ids=["nan", "inf", "finite"])
def test_what_is_left_out_leaves_no_trace(gradients, left_out, worth):
    """State and parameters bit for bit, whatever was in the gradient, at the first step and later."""
    optimizer = optax.chain(scale_by_adam(), optax.scale_by_learning_rate(1e-2))
    step = jax.jit(optimizer.update)
    # A step of zero keeps a zero's sign too; XLA's sums have no subnormal numbers.
    params = jax.tree.map(lambda leaf: jnp.where(jnp.abs(leaf) < 1e-30, -0.0, leaf), at(gradients, 3))
    state = optimizer.init(params)
    for now in range(left_out):
        updates, state = step(at(gradients, now), state, usable=jnp.asarray(True))
        params = optax.apply_updates(params, updates)
    worthless = jax.tree.map(lambda leaf: jnp.full_like(leaf, worth), params)
    updates, following = step(worthless, state, usable=jnp.asarray(False))
    assert bits(following) == bits(state)
    assert bits(optax.apply_updates(params, updates)) == bits(params)


def test_each_of_a_population_has_its_own(gradients):
    optimizer = scale_by_adam()
    several = jax.tree.map(lambda leaf: leaf[:4], gradients)
    usable = jnp.array([True, False, True, False])
    states = jax.vmap(optimizer.init)(several)
    updates, states = jax.vmap(lambda g, s, u: optimizer.update(g, s, usable=u))(several, states, usable)
    assert states.count.tolist() == [1, 0, 1, 0]
    assert [bool(row.any()) for row in np.asarray(updates["a"])] == usable.tolist()
