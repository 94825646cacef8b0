"""The head of the mean and the log_std: its kinds, its smooth bound, its types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.networks import GaussianHead

FEATURES = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def made(features=FEATURES, **options):
    head = GaussianHead(num_actions=2, **options)
    params = head.init(jax.random.key(0), features)
    return head, params


@pytest.mark.parametrize(
    ("std", "leaves"), [("parameter", {"log_std", "mean"}), ("fixed", {"mean"}), ("state", {"log_std", "mean"})]
)
def test_each_kind_of_std_has_its_parameters(std, leaves):
    head, params = made(std=std, initial_log_std=-0.5)
    assert params["params"].keys() == leaves
    mean, log_std, _ = head.apply(params, FEATURES)
    assert mean.shape == (5, 2)
    assert log_std.shape == ((5, 2) if std == "state" else (2,))
    np.testing.assert_allclose(log_std, np.full(log_std.shape, -0.5), rtol=1e-6)


def test_a_fixed_std_has_no_gradient_and_the_others_do():
    for std, learns in (("parameter", True), ("state", True), ("fixed", False)):
        head, params = made(std=std)
        gradient = jax.grad(lambda params, head=head: jnp.sum(head.apply(params, FEATURES)[1]))(params)
        assert any(np.any(leaf != 0.0) for leaf in jax.tree.leaves(gradient)) == learns


def test_the_smooth_bound_is_never_crossed_and_never_flat():
    # low + ½(high - low)(1 + tanh x), whose slope at x is ½(high - low)(1 - tanh² x).
    head, params = made(log_std_bounds=(-5.0, 2.0))
    for x in (-4.0, -1.0, 0.0, 2.0, 4.0):
        params["params"]["log_std"] = jnp.full(2, x)
        log_std = head.apply(params, FEATURES)[1]
        np.testing.assert_allclose(log_std, np.full(2, -5.0 + 3.5 * (1.0 + np.tanh(x))), rtol=1e-5)
        assert np.all((log_std > -5.0) & (log_std < 2.0))
        gradient = jax.grad(lambda params: jnp.sum(head.apply(params, FEATURES)[1]))(params)["params"]["log_std"]
        np.testing.assert_allclose(gradient, np.full(2, 3.5 * (1.0 - np.tanh(x) ** 2)), rtol=2e-3)


def test_the_output_activation_bends_the_mean_alone():
    plain, params = made()
    bent, _ = made(output_activation="tanh")
    mean, log_std, _ = plain.apply(params, FEATURES)
    np.testing.assert_allclose(bent.apply(params, FEATURES)[0], np.tanh(mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(bent.apply(params, FEATURES)[1], log_std)


def test_features_in_bfloat16_leave_the_head_in_float32():
    head, params = made(jnp.asarray(FEATURES, jnp.bfloat16), std="state")
    mean, log_std, _ = head.apply(params, jnp.asarray(FEATURES, jnp.bfloat16))
    assert mean.dtype == log_std.dtype == jnp.float32


def test_the_scale_shrinks_the_first_mean():
    _, wide = made()
    _, narrow = made(scale=0.01)
    kernels = (params["params"]["mean"]["kernel"] for params in (wide, narrow))
    np.testing.assert_allclose(*(k * f for k, f in zip(kernels, (0.01, 1.0), strict=True)), rtol=1e-5)
