"""The head of the mean and the log_std: its kinds, its smooth bound, its types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import gaussjax
import gaussjax.torch
from gaussjax.networks import MLP, GaussianHead, gsde
from gaussjax.networks.heads import gsde_noise

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


def _scattered(rng, *shape):
    return rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-30, 30, shape)


# Features and logarithms of deviations; squares of all but the first over- or underflow in float32.
SIZES = {
    "ordinary": lambda rng: (rng.normal(size=(5000, 32)), rng.normal(size=(32, 3)) - 1.0),
    "huge": lambda rng: (1e30 * rng.normal(size=(1000, 32)), rng.uniform(20, 40, (32, 3))),
    "tiny": lambda rng: (1e-24 * rng.normal(size=(1000, 32)), rng.uniform(-20, -10, (32, 3))),
    "opposite": lambda rng: (rng.normal(size=(1000, 2)), np.array([[-60.0, 40.0], [40.0, -60.0]])),
    "alone": lambda rng: (np.eye(2), np.array([[-60.0, 40.0], [40.0, -60.0]])),
    "scattered": lambda rng: (_scattered(rng, 5000, 4), rng.uniform(-60, 40, (4, 3))),
}


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("size", SIZES)
def test_the_deviation_of_gsde_is_the_norm_of_the_scaled_features(size, library):
    features, log_std = (x.astype(np.float32) for x in SIZES[size](np.random.default_rng(0)))
    array = jnp.asarray if library == "jax" else torch.as_tensor
    found, weights = (np.asarray(x, np.float64) for x in gsde(array(features), array(log_std)))
    scaled = np.abs(features[..., None].astype(np.float64)) * np.exp(log_std.astype(np.float64))
    largest, chosen = scaled.max(-2), np.expand_dims(scaled.argmax(-2), -2)
    expected = np.log(largest) + 0.5 * np.log(np.square(scaled / largest[..., None, :]).sum(-2))
    # The sum rounds the logarithm of a feature, which may be far larger than the result.
    rounded = np.abs(np.log(np.abs(np.take_along_axis(features[..., None] + 0.0 * log_std, chosen, -2)))).squeeze(-2)
    density = np.abs(expected) + 0.92 + (rounded if size == "scattered" else 0.0)
    assert np.max(np.abs(found - expected) / density) < 6 * 2.0**-24
    unit = np.sign(features)[..., None] * scaled * np.exp(-expected)[..., None, :]
    np.testing.assert_allclose(weights, unit, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(np.square(weights).sum(-2), np.ones_like(found), rtol=1e-4)


def test_matrices_of_standard_normals_give_standard_normal_noise():
    rng, count, width = np.random.default_rng(0), 1_000_000, 6
    _, weights = gsde(rng.normal(size=(1, width)).astype(np.float32), rng.normal(size=(width, 1)))
    matrices = rng.normal(size=(count, width, 1)).astype(np.float32)
    noise = np.asarray((weights * matrices).sum(-2), np.float64)
    assert abs(noise.mean()) < 4 / count**0.5
    assert abs(np.square(noise).mean() - 1.0) < 4 * (2 / count) ** 0.5
    assert abs((noise**4).mean() - 3.0) < 4 * (96 / count) ** 0.5


@pytest.mark.parametrize("features", [0, 1, 2, 3, 7, 32, 45])
def test_the_noise_of_matrices_is_the_sum_over_the_features(features):
    rng = np.random.default_rng(0)
    weights, matrices = rng.normal(size=(2, 3, 4, features, 2)).astype(np.float32)
    expected = (weights.astype(np.float64) * matrices).sum(-2)
    np.testing.assert_allclose(gsde_noise(torch.tensor(weights), torch.tensor(matrices)), expected, atol=1e-5)
    np.testing.assert_allclose(gsde_noise(jnp.asarray(weights), jnp.asarray(matrices)), expected, atol=1e-5)
    check_grads(gsde_noise, (jnp.asarray(weights), jnp.asarray(matrices)), order=2, rtol=2e-2)


def test_the_gradient_of_the_noise_of_matrices_is_one_broadcast():
    # An array of zeros for each half would take as long as what the additions save.
    gradient = jax.make_jaxpr(jax.grad(lambda x: gsde_noise(x, x).sum()))(jnp.ones((3, 8, 2)))
    assert "pad" not in str(gradient)


@pytest.mark.parametrize("floor", [0.0, 1e-3])
def test_zero_features_have_the_smallest_deviation_and_no_gradient(floor):
    log_std = jnp.array([[0.5, -0.5], [1.0, 2.0]])

    def total(features, log_std):
        return sum(jnp.sum(part) for part in gsde(features, log_std, learn_features=True, std_floor=floor))

    zeros = jnp.zeros((3, 2))
    found, weights = gsde(zeros, log_std, std_floor=floor)
    np.testing.assert_allclose(found, np.full((3, 2), np.log(floor) if floor else -87.0), atol=0.5)
    assert np.all(np.isfinite(weights))
    for derivative in (jax.grad(total, (0, 1)), jax.hessian(total, (0, 1)), jax.jacfwd(total, (0, 1))):
        for leaf in jax.tree.leaves(derivative(zeros, log_std)):
            assert np.all(np.isfinite(leaf))
    np.testing.assert_array_equal(jax.grad(total)(zeros, log_std), zeros)
    leaves = [torch.zeros(3, 2, requires_grad=True), torch.tensor(np.asarray(log_std), requires_grad=True)]
    sum(part.sum() for part in gsde(*leaves, learn_features=True, std_floor=floor)).backward()
    np.testing.assert_array_equal(leaves[0].grad, zeros)
    np.testing.assert_allclose(leaves[1].grad, jax.grad(total, 1)(zeros, log_std), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learns", [False, True])
def test_the_gradient_of_gsde_reaches_the_features_only_where_it_may(learns):
    policy = gaussjax.gaussian(MLP((4,), "tanh", std="gsde", learn_features=learns), 3, gaussjax.spaces.Box(shape=(2,)))
    params, observations = policy.init(jax.random.key(0)), FEATURES[:, :3]

    def score(params):
        return policy.evaluate(params, observations, np.zeros((5, 2), np.float32)).entropy.sum()

    gradient = jax.grad(score)(params)["params"]
    assert np.any(gradient["layers"]["dense_0"]["kernel"]) == learns
    # d log s / d log σ is the share of a feature in the variance, so the shares of an action sum to 1 in each row.
    np.testing.assert_allclose(gradient["head"]["log_std"].sum(0), np.full(2, 5.0), rtol=1e-5)
    leaves = {name: leaf.requires_grad_() for name, leaf in gaussjax.torch.to_torch(policy.spec, params).items()}
    twin = gaussjax.torch.from_spec(policy.spec)
    twin.evaluate(leaves, torch.as_tensor(observations), torch.zeros(5, 2)).entropy.sum().backward()
    np.testing.assert_allclose(leaves["head.log_std"].grad, gradient["head"]["log_std"], rtol=1e-5, atol=1e-6)
    kernel = leaves["layers.dense_0.weight"].grad
    assert (kernel is not None and bool(kernel.any())) == learns


def test_expln_is_smooth_and_never_zero():
    x = np.float32([-60.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 100.0, 1e30])
    wide = np.float64(x)
    values = np.where(wide > 0, np.log(1.0 + np.log1p(np.abs(wide))), wide)
    slopes = np.where(wide > 0, 1.0 / ((1.0 + np.abs(wide)) * (1.0 + np.log1p(np.abs(wide)))), 1.0)
    head = GaussianHead(num_actions=2, std_activation="expln")
    np.testing.assert_allclose(head.activated(x, {}), values, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda x: head.activated(x, {})))(x), slopes, rtol=1e-6)
    tensor = torch.tensor(x, requires_grad=True)
    found = head.activated(tensor, {})
    found.sum().backward()
    np.testing.assert_allclose(found.detach(), values, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(tensor.grad, slopes, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"full_std": False}, "full_std, learn_features, std_floor: expected True, False and 0 with std='parameter'"),
        ({"std": "state", "learn_features": True}, "They apply to std='gsde'"),
        ({"std": "gsde", "std_floor": -1.0}, "std_floor: expected a number from 0 to"),
        ({"std": "gsde", "full_std": 1}, "full_std: expected True or False"),
        ({"std": "gdse"}, "Did you mean 'gsde'"),
    ],
)
def test_options_of_gsde_without_effect_are_refused(options, message):
    for lead in (gaussjax, gaussjax.torch):
        with pytest.raises((TypeError, ValueError), match=message):
            lead.gaussian(MLP((4,), **options), 3, gaussjax.spaces.Box(shape=(2,)))


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize(
    ("shapes", "options", "says"),
    [
        (
            ((5, 8), (2,)),
            {},
            "ValueError: log_std: expected a number for each feature and action, for features of shape",
        ),
        (((5, 8), (7, 2)), {}, "(5, 8), got shape (7, 2). Make it of shape (features, act)."),
        (((5, 8), (5, 8, 2)), {}, "(5, 8), got shape (5, 8, 2). Make it of shape (features, act)."),
        (((5, 8), (8, 2)), {"std_floor": -1.0}, "ValueError: std_floor: expected a number from 0 to"),
        (((5, 8), (8, 2)), {"std_floor": "1"}, "TypeError: std_floor: expected a number, got '1'."),
        (((5, 8), (8, 2)), {"learn_features": "no"}, "TypeError: learn_features: expected True or False, got 'no'."),
    ],
)
def test_arguments_of_gsde_that_do_not_fit_are_named(shapes, options, says, library):
    arrays = [torch.zeros(shape) if library == "torch" else jnp.zeros(shape) for shape in shapes]
    with pytest.raises((TypeError, ValueError)) as caught:
        gsde(*arrays, **options)
    assert says in f"{caught.typename}: {caught.value}"
