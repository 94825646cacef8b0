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


@pytest.mark.parametrize("std", ["parameter", "state", "fixed"])
@pytest.mark.parametrize("bounds", [None, (-3.0, 1.0)])
def test_every_head_starts_at_its_log_std_and_stays_within_smooth_bounds(std, bounds):
    head, params = made(std=std, initial_log_std=-0.7, log_std_bounds=bounds, off_diagonal=True)
    assert params["params"].keys() == {"mean", "off_diagonal"} | (set() if std == "fixed" else {"log_std"})
    mean, log_std, outputs = head.apply(params, FEATURES)
    assert mean.shape == (5, 2)
    assert log_std.shape == ((5, 2) if std == "state" else (2,))
    np.testing.assert_allclose(log_std, np.full(log_std.shape, -0.7), rtol=1e-5)
    np.testing.assert_array_equal(outputs["off_diagonal"], np.zeros((5, 1) if std == "state" else 1))

    moved = np.asarray(head.apply(jax.tree.map(lambda x: np.asarray(x) + 0.5, params), np.abs(FEATURES))[1])
    if std == "fixed":
        np.testing.assert_allclose(moved, -0.7, rtol=1e-5)
    else:
        assert np.all((moved > -0.7) & (moved <= (1.0 if bounds else np.inf)))
    assert (np.ptp(np.atleast_2d(moved), axis=0) > 0).all() == (std == "state")


def test_the_smooth_bound_is_never_crossed_and_never_flat():
    # low + ½(high - low)(1 + tanh x), whose slope at x is ½(high - low)(1 - tanh² x).
    head, params = made(log_std_bounds=(-5.0, 2.0))

    @jax.jit
    def bounded(x):
        changed = {"params": {**params["params"], "log_std": x}}
        return head.apply(changed, FEATURES)[1]

    slope = jax.jit(jax.grad(lambda x: jnp.sum(bounded(x))))
    for x in np.float32([-4.0, -1.0, 0.0, 2.0, 4.0]):
        log_std = bounded(np.full(2, x))
        np.testing.assert_allclose(log_std, np.full(2, -5.0 + 3.5 * (1.0 + np.tanh(x))), rtol=1e-5)
        assert np.all((log_std > -5.0) & (log_std < 2.0))
        np.testing.assert_allclose(slope(np.full(2, x)), np.full(2, 3.5 * (1.0 - np.tanh(x) ** 2)), rtol=2e-3)


def test_the_output_activation_bends_the_mean_alone():
    plain, params = made()
    bent, _ = made(output_activation="tanh")
    mean, log_std, _ = plain.apply(params, FEATURES)
    np.testing.assert_allclose(bent.apply(params, FEATURES)[0], np.tanh(mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(bent.apply(params, FEATURES)[1], log_std)


def test_features_in_bfloat16_leave_the_head_in_float32():
    head, params = made(std="state")
    mean, log_std, _ = jax.eval_shape(head.apply, params, FEATURES.astype(jnp.bfloat16))
    assert mean.dtype == log_std.dtype == jnp.float32


def test_the_scale_shrinks_the_first_mean():
    _, wide = made()
    _, narrow = made(scale=0.01)
    kernels = (params["params"]["mean"]["kernel"] for params in (wide, narrow))
    np.testing.assert_allclose(*(k * f for k, f in zip(kernels, (0.01, 1.0), strict=True)), rtol=1e-5)


STD_ACTIVATIONS = {
    "softplus(std) + 0.001": lambda x: np.log1p(np.exp(x)) + 0.001,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "sqrt": np.sqrt,
    "std": lambda x: x,
}


@pytest.mark.parametrize(("text", "function"), STD_ACTIVATIONS.items(), ids=STD_ACTIVATIONS)
def test_a_std_activation_gives_the_standard_deviation(text, function):
    head, params = made(std="state", std_activation=text, initial_log_std=0.75)
    np.testing.assert_allclose(head.apply(params, FEATURES)[1], np.full((5, 2), np.log(function(0.75))), rtol=1e-5)
    kernel = np.random.default_rng(1).uniform(0.1, 1.0, size=(4, 2)).astype(np.float32)
    changed = {"params": {**params["params"], "log_std": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}}
    log_std = head.apply(changed, np.abs(FEATURES))[1]
    np.testing.assert_allclose(np.exp(log_std), function(np.abs(FEATURES) @ kernel), rtol=1e-5)


def test_a_standard_deviation_of_zero_or_less_is_the_smallest_one():
    head, params = made(std_activation="std", initial_log_std=-1.0)
    np.testing.assert_allclose(head.apply(params, FEATURES)[1], np.full(2, -87.0), rtol=1e-6)
    with pytest.raises(ValueError, match="std_activation: expected None with log_std_bounds"):
        made(std_activation="std", log_std_bounds=(-1.0, 1.0))
    with pytest.raises(ValueError, match=r"std_activation: .*Did you mean 'softplus'"):
        made(std_activation="softpuls(std)")
