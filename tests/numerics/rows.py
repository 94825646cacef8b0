"""The rows of the accuracy table: a grid, the truth on it, our function and the bar it must hold."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.distributions import DiagGaussian, MultivariateGaussian, TanhGaussian
from gaussjax.distributions.special import log_normal_cdf, tanh_log_det
from tests.numerics import reference
from tests.numerics.measure import UNIT, Truth, exact

Inputs = tuple[np.ndarray, ...]
ALL = ("bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What is computed, and where.
        inputs: The grid in float64; it is rounded to the tested type.
        truth: Exact inputs to the true value and each gradient, with their scales.
        ours: The function under test.
        by: The arguments by which gradients are taken.
        bar: Greatest error allowed, in units of roundoff times the scale; None for none.
        gradient_bar: Likewise for gradients.
        dtypes: In which types.
    """

    name: str
    inputs: Callable[[], Inputs]
    truth: Callable[..., list[Truth]]
    ours: Callable[..., jax.Array]
    by: tuple[int, ...]
    bar: float | None
    gradient_bar: float | None
    dtypes: tuple[str, ...] = ("float32", "float64")

    def gradients_by(self, dtype: str) -> tuple[int, ...]:
        """The arguments to derive by: none in bfloat16, for a gradient has its argument's type."""
        return () if dtype == "bfloat16" else self.by

    def bars(self, dtype: str) -> list[float | None]:
        """Of the value and of each gradient. From bfloat16 inputs 1e-6 of the scale is asked."""
        if dtype == "bfloat16":
            return [_absolute(1e-6)]
        return [self.bar, *[self.gradient_bar] * len(self.by)]

    def rounded(self, dtype: str) -> Inputs:
        """The grid in that type."""
        return _rounded(self, dtype)

    def truths(self, dtype: str) -> list[Truth]:
        """The truth on the rounded grid; computed once."""
        return _truths(self, dtype)


@functools.cache
def _rounded(row: Row, dtype: str) -> Inputs:
    return tuple(x.astype(jnp.dtype(dtype)) for x in row.inputs())


@functools.cache
def _truths(row: Row, dtype: str) -> list[Truth]:
    return row.truth(*map(exact, row.rounded(dtype)))


def _one(x: np.ndarray) -> jax.Array:
    # A trailing axis for the action.
    return jnp.expand_dims(x, -1)


def _normal_grid(low: float, high: float, count: int = 1000) -> Inputs:
    rng = np.random.default_rng(0)
    log_std = rng.uniform(low, high, count)
    z = np.concatenate([rng.uniform(-50, 50, count // 2), rng.normal(size=count - count // 2)])
    # A mean of 0 for every other point keeps the digits of a narrow one.
    mean = np.where(np.arange(count) % 2, rng.normal(size=count), 0.0)
    # The mean has to stay within reach: at the coarsest type tested a step of it is 2⁻⁸.
    mean = np.where(log_std < -3, 0.0, mean) if low < -3 else mean
    return mean, log_std, mean + np.exp(log_std) * z


def _shifted_grid() -> Inputs:
    # Means of order one at every scale: actions round to few values, but are scored exactly.
    rng = np.random.default_rng(1)
    log_std, mean = rng.uniform(-20, 2, 1000), rng.normal(size=1000)
    action = mean + np.exp(log_std) * rng.uniform(-50, 50, 1000)
    return mean, log_std, action


def _density_scale(mean: np.ndarray, log_std: np.ndarray, actions: np.ndarray) -> np.ndarray:
    z = (actions - mean) * reference.exp(-log_std)
    return z * z / 2 + abs(log_std) + reference.HALF_LOG_2PI


def _normal_truth(mean: np.ndarray, log_std: np.ndarray, actions: np.ndarray) -> list[Truth]:
    value, by_mean, by_log_std = reference.normal(mean, log_std, actions)
    steepest = _positive(abs(by_mean))
    return [
        Truth(value, _density_scale(mean, log_std, actions)),
        Truth(by_mean, steepest),
        Truth(by_log_std, by_log_std + 2),
        Truth(-by_mean, steepest),
    ]


def _positive(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, reference.context.mpf(1), x)


def _normal(mean: jax.Array, log_std: jax.Array, actions: jax.Array) -> jax.Array:
    return DiagGaussian(_one(mean), _one(log_std)).log_prob(_one(actions))


def _wide_grid() -> Inputs:
    log_std = np.linspace(-60, 40, 101)[:, None]
    z = np.concatenate([np.linspace(-50, 50, 41), [1e-3, -1e-3, 1.0, -1.0]])[None, :]
    action = (np.exp(log_std) * z).ravel()
    return np.zeros_like(action), np.broadcast_to(log_std, (101, 45)).ravel(), action


def _log_det_grid() -> Inputs:
    small = 10.0 ** np.linspace(-8, 0, 200)
    return (np.concatenate([np.linspace(-30, 30, 601), np.linspace(-1.5, 1.5, 400), small, -small]),)


def _log_det_truth(u: np.ndarray) -> list[Truth]:
    value, slope = reference.tanh_log_det(u)
    return [Truth(value, _positive(abs(value))), Truth(slope, _positive(abs(slope)))]


def _cdf_truth(x: np.ndarray) -> list[Truth]:
    value, slope = reference.log_normal_cdf(x)
    return [Truth(value, abs(value)), Truth(slope, slope)]


def _near_grid() -> Inputs:
    rng = np.random.default_rng(2)
    log_std, mean = rng.uniform(-20, 2, 1000), rng.normal(size=1000) * (np.arange(1000) % 2)
    apart = 10.0 ** rng.uniform(-6, -1, (2, 1000)) * rng.choice([-1, 1], (2, 1000))
    return mean, log_std, mean + np.exp(log_std) * apart[0], log_std + apart[1]


def _far_grid() -> Inputs:
    rng = np.random.default_rng(3)
    log_std, other = rng.uniform(-20, 2, (2, 1000))
    return rng.normal(size=1000), log_std, rng.normal(size=1000), other


def _divergence_truth(*inputs: np.ndarray) -> list[Truth]:
    value, by_mean, by_log_std = reference.divergence(*inputs)
    return [Truth(x, _positive(abs(x))) for x in (value, by_mean, by_log_std)]


def _divergence(mean: jax.Array, log_std: jax.Array, other_mean: jax.Array, other_log_std: jax.Array) -> jax.Array:
    other = DiagGaussian(_one(other_mean), _one(other_log_std))
    return DiagGaussian(_one(mean), _one(log_std)).kl_divergence(other)


def _entropy_truth(log_std: np.ndarray) -> list[Truth]:
    constant = reference.HALF_LOG_2PI + 0.5
    return [Truth(log_std + constant, abs(log_std) + constant), Truth(log_std * 0 + 1, log_std * 0 + 1)]


def _entropy(log_std: jax.Array) -> jax.Array:
    return DiagGaussian(jnp.zeros_like(_one(log_std)), _one(log_std)).entropy()


def _squashed_entropy_grid(low: float, high: float) -> Inputs:
    mean, std = np.meshgrid(np.linspace(-3, 3, 7), np.linspace(low, high, 7))
    return mean.ravel(), np.log(std.ravel())


def _squashed_entropy_truth(mean: np.ndarray, log_std: np.ndarray) -> list[Truth]:
    volume, middle, slope = reference.squashed_expectations(mean, log_std)
    value = log_std + reference.HALF_LOG_2PI + 0.5 + volume
    by_mean, by_log_std = -2 * middle, 1 - 2 * reference.exp(2 * log_std) * slope
    one = log_std * 0 + 1
    return [Truth(value, np.maximum(abs(value), one)), Truth(by_mean, one), Truth(by_log_std, one)]


def _squashed_entropy(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    return TanhGaussian(_one(mean), _one(log_std), -1.0, 1.0).entropy()


def _squashed_grid() -> Inputs:
    # Actions of the Box [-2, 2] well within it, from which the raw ones can be told.
    rng = np.random.default_rng(4)
    return rng.normal(size=1000), rng.uniform(-2, 2, 1000), rng.uniform(-1.99, 1.99, 1000)


def _squashed_truth(mean: np.ndarray, log_std: np.ndarray, actions: np.ndarray) -> list[Truth]:
    raw = (reference.log1p(actions / 2) - reference.log1p(-actions / 2)) / 2
    value, by_mean, by_log_std = reference.squashed(mean, log_std, raw, 2.0)
    z, slope = abs(raw - mean) * reference.exp(-log_std), reference.exp(-log_std)
    # raw is computed, not given: its own roundoff, |raw| u, moves z by |raw| / std.
    moved = abs(raw) * slope
    volume = abs(reference.tanh_log_det(raw)[0]) + reference.context.log(2)
    scale = _density_scale(mean, log_std, raw) + volume + z * moved + 2 * abs(raw)
    return [Truth(value, scale), Truth(by_mean, (z + moved) * slope), Truth(by_log_std, z * z + 1 + 2 * z * moved)]


def _squashed(mean: jax.Array, log_std: jax.Array, actions: jax.Array) -> jax.Array:
    return TanhGaussian(_one(mean), _one(log_std), -2.0, 2.0).log_prob(_one(actions))


def _correlated_grid(log_std: float | None, act: int = 4, strength: float = 0.5) -> Inputs:
    rng = np.random.default_rng(5)
    count = 200
    scale = np.full((count, act), log_std) if log_std is not None else rng.uniform(-10, 1, (count, act))
    off_diagonal = strength * rng.normal(size=(count, act * (act - 1) // 2))
    rows, columns = np.tril_indices(act, -1)
    factor = np.zeros((count, act, act))
    factor[:, rows, columns] = off_diagonal
    noise = rng.normal(size=(count, act)) * 10.0 ** rng.uniform(-1, 1.3, (count, 1))
    actions = np.exp(scale) * (noise + np.einsum("nij,nj->ni", factor, noise))
    return np.zeros((count, act)), scale, off_diagonal, actions


def _correlated_truth(*inputs: np.ndarray) -> list[Truth]:
    value, (by_mean, by_log_std), noise = reference.correlated(*inputs)
    log_std = inputs[1]
    scale = (noise * noise / 2 + abs(log_std) + reference.HALF_LOG_2PI).sum(-1)
    size = reference.sqrt((noise * noise).sum(-1))[:, None]
    return [Truth(value, scale), Truth(by_mean, size * reference.exp(-log_std)), Truth(by_log_std, size * size + 1)]


def _correlated(mean: jax.Array, log_std: jax.Array, off_diagonal: jax.Array, actions: jax.Array) -> jax.Array:
    return MultivariateGaussian(mean, log_std, off_diagonal).log_prob(actions)


def _absolute(bar: float) -> float:
    return bar / UNIT["float32"]


def _both(bar: float) -> tuple[float, float]:
    return _absolute(bar), _absolute(bar)


F32 = ("float32",)
_ENTROPY = (_squashed_entropy_truth, _squashed_entropy, (0, 1))
_CORRELATED = (_correlated_truth, _correlated, (0, 1))
ROWS = (
    Row("normal log_prob", lambda: _normal_grid(-20, 2), _normal_truth, _normal, (0, 1), 6, 8, ALL),
    Row("normal log_prob, means of order one", _shifted_grid, _normal_truth, _normal, (0, 1), 6, 8),
    Row("normal log_prob, log_std in [-60, 40]", _wide_grid, _normal_truth, _normal, (0, 1, 2), 6, 8),
    Row("normal log-cdf, x in [-60, 12]", lambda: (np.linspace(-60, 12, 500),), _cdf_truth, log_normal_cdf, (0,), 6, 8),
    Row("tanh log-det, u in [-30, 30]", _log_det_grid, _log_det_truth, tanh_log_det, (0,), 10, 8),
    Row("squashed log_prob of stored actions", _squashed_grid, _squashed_truth, _squashed, (0, 1), 10, 10, ALL),
    Row("KL, nearly equal", _near_grid, _divergence_truth, _divergence, (0, 1), 10, 10),
    Row("KL, far apart", _far_grid, _divergence_truth, _divergence, (0, 1), 20, 20),
    Row("entropy", lambda: (np.linspace(-60, 40, 997),), _entropy_truth, _entropy, (0,), 2, 2, ALL),
    Row(
        "squashed entropy, std <= 1", lambda: _squashed_entropy_grid(0.01, 1.0), *_ENTROPY, *[_absolute(1e-6)] * 2, F32
    ),
    Row("squashed entropy, std <= 3", lambda: _squashed_entropy_grid(1.0, 3.0), *_ENTROPY, *_both(1e-3), F32),
    Row("full covariance, log_std = -20", lambda: _correlated_grid(-20.0), *_CORRELATED, 4, 8),
    Row("full covariance, log_std in [-10, 1]", lambda: _correlated_grid(None), *_CORRELATED, 6, 8),
    # Strong correlations amplify the roundoff of the inputs themselves: only failures are counted.
    Row("eight dimensions, nearly singular", lambda: _correlated_grid(None, 8, 1.5), *_CORRELATED, None, None, F32),
)
