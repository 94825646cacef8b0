import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.training import losses


@pytest.mark.parametrize("difference", [-100.0, -20.0, 0.0, 20.0, 100.0])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_surrogate_and_its_gradient_are_finite_at_extreme_ratios(difference, advantage):
    def loss(log_prob):
        log_ratios = losses.log_ratio(log_prob, jnp.zeros(1))
        return losses.clipped_surrogate(log_ratios, jnp.full(1, advantage), 0.2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.full(1, difference))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 1.0, -1.2),  # gains stop at 1 + clip
        (0.5, 1.0, -0.5),  # losses do not
        (1.5, -1.0, 1.5),
        (0.5, -1.0, 0.8),  # min(-0.5, -0.8) = -0.8, negated
    ],
)
def test_surrogate_is_the_pessimistic_of_both(ratio, advantage, expected):
    value = losses.clipped_surrogate(jnp.log(jnp.array([ratio])), jnp.array([advantage]), 0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_surrogate_gradient_stops_beyond_the_clip():
    gradient = jax.grad(losses.clipped_surrogate)(jnp.log(jnp.array([1.5, 1.1])), jnp.array([1.0, 1.0]), 0.2)
    np.testing.assert_allclose(gradient, [0.0, -1.1 / 2], rtol=1e-6)


def test_value_loss_without_and_with_its_clip():
    values, targets, old = jnp.array([2.0]), jnp.array([3.0]), jnp.array([1.0])
    # (2-3)² / 2 = 0.5. Clipped: the value may move from 1 to 1.25 only, (1.25-3)² / 2 = 1.53125.
    np.testing.assert_allclose(losses.value_loss(values, targets, old, None), 0.5)
    np.testing.assert_allclose(losses.value_loss(values, targets, old, 0.25), 1.53125)
