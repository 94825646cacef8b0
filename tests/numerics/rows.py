"""The rows of the table of bars: points, our function, the truth, and the bars that it must hold."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
import torch

import gaussjax.torch  # noqa: F401 - the functions take tensors too
from gaussjax.core.arrays import is_other, xp
from gaussjax.distributions import (
    CensoredGaussian,
    DiagGaussian,
    MultivariateGaussian,
    TanhGaussian,
    TruncatedGaussian,
    special,
)
from gaussjax.networks import gsde
from tests.numerics import points, reference, scales
from tests.numerics.points import BOX, TYPES, Draw, Inputs

UNIT = {"bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
"""Unit roundoff of each type: half the distance from 1 to the next number."""
WIDE = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class Row:
    """One function.

    Attributes:
        name: The function, and where it is evaluated.
        sample: Random points in float64, which are rounded to the tested type.
        function: The function under test, from arrays `(…)` or `(…, act)` of JAX or torch to an array `(…)`.
        truth: The same from arrays of mpmath numbers.
        scales: `(value and gradients, inputs) -> scales`, all in float64, by which their errors are divided.
        bars: Largest errors of the value and of the gradients, in units of roundoff times the scale.
        by: The arguments of the gradients.
        units: `(inputs) -> natural unit of each argument in by`. A second derivative is multiplied by two units.
        floor: Second derivatives below this share of the gradient's scale, in natural units, are measured against it.
        wide: The bars in float64, if they are others.
        points: Number of points in float32 under `jit`; other modes and bfloat16 get a twentieth of it.
        exact: Number of points in float64, which are compared with the truth.
        order: Highest derivative that is tested.
        dtypes: Types of the points; the formulas of `special` are used in float32 and float64 only.
    """

    name: str
    sample: Callable[[Draw], Inputs]
    function: Callable[..., Any]
    truth: Callable[..., reference.Exact]
    scales: scales.Scales
    bars: tuple[float, float]
    by: tuple[int, ...] = (0,)
    units: Callable[..., list[np.ndarray]] = lambda *inputs: [np.ones_like(inputs[0])]
    floor: float = 1e-30
    wide: tuple[float, float] | None = None
    points: int = 20_000_000
    exact: int = 10_000
    order: int = 2
    dtypes: tuple[str, ...] = tuple(UNIT)

    def inputs(self, count: int, dtype: str, seed: int) -> Inputs:
        """Points in that type."""
        drawn = self.sample(Draw(np.random.default_rng(seed), count, dtype))
        # XLA treats subnormal numbers as zero.
        least = np.float64(ml_dtypes.finfo(TYPES[dtype]).smallest_normal)
        return tuple(np.where(np.abs(x) < least, 0.0, x).astype(TYPES[dtype]) for x in drawn)

    def count(self, dtype: str, mode: str) -> int:
        """Number of points of a search."""
        if dtype == "float64":
            return self.exact
        if (dtype, mode) == ("float32", "JAX jit"):
            return self.points
        return self.points // (200 if mode == "torch compile" else 20)

    def bar(self, order: int, dtype: str) -> float:
        """Largest error: of values and gradients in units of roundoff, of second derivatives relative.

        From bfloat16 inputs 1e-6 of the scale is asked of a value; a derivative has its argument's type and is rounded.
        """
        if dtype == "bfloat16":
            return (max(absolute(1e-6), self.bars[0]), 1.01, 1.01 * UNIT[dtype])[order]
        bars = self.wide if dtype == "float64" and self.wide else self.bars
        return (*bars, 1e-4)[order]


def absolute(bar: float, dtype: str = "float32") -> float:
    """The bar in units of roundoff."""
    return bar / UNIT[dtype]


def _one(x: Any) -> Any:
    # A trailing axis for the action.
    return xp.expand_dims(x, -1)


def _diagonal(mean: Any, log_std: Any) -> DiagGaussian:
    return DiagGaussian(_one(mean), _one(log_std))


def _squashed(mean: Any, log_std: Any, half: float) -> TanhGaussian:
    return TanhGaussian(_one(mean), _one(log_std), -half, half)


def _censored(mean: Any, log_std: Any) -> CensoredGaussian:
    return CensoredGaussian(_one(mean), _one(log_std), *BOX)


def _truncated(mean: Any, log_std: Any) -> TruncatedGaussian:
    return TruncatedGaussian(_one(mean), _one(log_std), *BOX)


def _pair(make: Callable[..., Any]) -> Callable[..., Any]:
    def divergence(*fields: Any) -> Any:
        half = len(fields) // 2
        return make(*fields[:half]).kl_divergence(make(*fields[half:]))

    return divergence


def _correlated(mean: Any, log_std: Any, pairs: Any, actions: Any) -> Any:
    return MultivariateGaussian(mean, log_std, pairs).log_prob(actions)


def _explored(features: Any, log_std: Any) -> Any:
    # All rows of a batch share the deviations of the features, so `vmap` gives each point deviations of its own.
    if features.ndim > 1:
        return (torch.func.vmap if is_other(features) else jax.vmap)(_explored)(features, log_std)
    return gsde(features, _one(log_std), learn_features=True)[0][0]


_NORMAL = {
    "function": lambda mean, log_std, actions: _diagonal(mean, log_std).log_prob(_one(actions)),
    "truth": reference.normal,
    "scales": scales.normal,
    "bars": (6, 8),
    "by": (0, 1),
    "units": scales.std,
}
_KL = {
    "function": _pair(_diagonal),
    "truth": reference.divergence,
    "scales": scales.relative,
    "by": (0, 1),
    "units": scales.other_std,
    "floor": 1e-20,
}
_CORRELATED = {
    "function": _correlated,
    "truth": reference.correlated,
    "scales": scales.correlated,
    "by": (0, 1),
    "units": scales.std,
    "floor": 1.0,
    "points": 5_000_000,
    "exact": 500,
}


def _squashed_entropy(lowest: float, highest: float, bar: float, exact: int) -> Row:
    return Row(
        f"squashed entropy, std in [{lowest:g}, {highest:g}]",
        points.spread(lowest, highest),
        lambda mean, log_std: _squashed(mean, log_std, 1.0).entropy(),
        functools.partial(reference.squashed_entropy, widest=1.001 * highest),
        scales.by_unit(scales.ones),
        (absolute(bar), absolute(bar)),
        (0, 1),
        scales.ones,
        1.0,
        wide=(absolute(1e-11, "float64"), absolute(1e-10, "float64")),
        exact=exact,
    )


ROWS = {
    row.name: row
    for row in (
        Row("normal log_prob", points.normal, **_NORMAL),
        Row("normal log_prob, means of order one", points.shifted, **_NORMAL),
        Row(
            "normal log_prob, log_std in [-60, 40]",
            points.wide,
            **{**_NORMAL, "by": (0, 1, 2), "units": lambda m, s, a: [*scales.std(m, s), np.exp(s)]},
        ),
        Row(
            "normal entropy",
            points.entropy,
            lambda log_std: _diagonal(0.0 * log_std, log_std).entropy(),
            reference.entropy,
            lambda results, inputs: [np.abs(inputs[0]) + 1.42, np.ones_like(results[1])],
            (2, 2),
        ),
        Row("KL, nearly equal", points.near, bars=(10, 10), **_KL),
        Row("KL, far apart", points.far, bars=(20, 20), **_KL),
        Row(
            "normal log-cdf, x in [-60, 12]",
            points.cdf,
            special.log_normal_cdf,
            reference.log_normal_cdf,
            scales.relative,
            (6, 8),
            dtypes=WIDE,
        ),
        Row("tanh, u in [-30, 30]", points.tanh, special.tanh, reference.tanh, scales.relative, (8, 8), dtypes=WIDE),
        Row(
            "tanh log-det, u in [-30, 30]",
            points.tanh,
            special.tanh_log_det,
            reference.tanh_log_det,
            scales.relative,
            (10, 8),
            dtypes=WIDE,
        ),
        Row(
            "squashed log_prob of raw actions",
            points.raw,
            lambda mean, log_std, raw: _squashed(mean, log_std, 2.0).log_prob(_one(raw), raw_actions=_one(raw)),
            functools.partial(reference.squashed, half=2.0),
            scales.raw,
            (6, 8),
            (0, 1),
            scales.std,
        ),
        Row(
            "squashed log_prob of stored actions",
            points.taken,
            lambda mean, log_std, actions: _squashed(mean, log_std, 2.0).log_prob(_one(actions)),
            lambda mean, log_std, actions: reference.squashed(mean, log_std, reference.unsquash(actions, 2.0), 2.0),
            scales.taken,
            (10, 10),
            (0, 1),
            scales.std,
            1.0,
        ),
        _squashed_entropy(0.01, 1.0, 1e-6, 300),
        _squashed_entropy(1.0, 3.0, 1e-3, 100),
        Row(
            "censored log_prob",
            points.clipped,
            lambda mean, log_std, actions: _censored(mean, log_std).log_prob(_one(actions)),
            functools.partial(reference.censored, low=BOX[0], high=BOX[1]),
            scales.clipped,
            (6, 8),
            (0, 1),
            scales.std,
            0.01,
        ),
        Row(
            "censored entropy",
            points.clipped_fields,
            lambda mean, log_std: _censored(mean, log_std).entropy(),
            functools.partial(reference.censored_entropy, low=BOX[0], high=BOX[1]),
            scales.by_unit(scales.std),
            (absolute(1e-5), absolute(1e-5)),
            (0, 1),
            scales.std,
            1.0,
            exact=3000,
        ),
        Row(
            "censored KL",
            points.clipped_pairs,
            _pair(_censored),
            functools.partial(reference.censored_divergence, low=BOX[0], high=BOX[1]),
            scales.by_unit(scales.other_std),
            (absolute(1e-5), absolute(1e-5)),
            (0, 1),
            scales.other_std,
            1.0,
            exact=1500,
        ),
        Row(
            "truncated log_prob",
            points.truncated_actions,
            lambda mean, log_std, actions: _truncated(mean, log_std).log_prob(_one(actions)),
            functools.partial(reference.truncated, low=BOX[0], high=BOX[1]),
            scales.truncated,
            (10, 16),
            (0, 1),
            scales.std,
            1.0,
            points=5_000_000,
            exact=2000,
            dtypes=WIDE,
        ),
        Row(
            "truncated entropy",
            points.truncated,
            lambda mean, log_std: _truncated(mean, log_std).entropy(),
            functools.partial(reference.truncated_entropy, low=BOX[0], high=BOX[1]),
            scales.by_unit(scales.std),
            (absolute(2e-6), absolute(2e-6)),
            (0, 1),
            scales.std,
            1.0,
            wide=(16, 32),
            points=2_000_000,
            exact=1000,
            dtypes=WIDE,
        ),
        Row(
            "truncated KL",
            points.truncated_pairs,
            _pair(_truncated),
            functools.partial(reference.truncated_divergence, low=BOX[0], high=BOX[1]),
            scales.by_unit(scales.other_std),
            (absolute(1e-5), absolute(1e-5)),
            (0, 1),
            scales.other_std,
            1.0,
            points=2_000_000,
            exact=1000,
            dtypes=WIDE,
        ),
        Row(
            "truncated actions of noise",
            points.truncated_noise,
            lambda mean, log_std, noise: _truncated(mean, log_std).from_noise(_one(noise))[..., 0],
            functools.partial(reference.truncated_quantile, low=BOX[0], high=BOX[1]),
            scales.truncated_actions,
            (16, absolute(1e-5)),
            (0, 1, 2),
            scales.ones,
            points=2_000_000,
            exact=500,
            order=1,
            dtypes=WIDE,
        ),
        Row("full covariance, log_std = -20", points.correlated(-20.0), bars=(4, 8), **_CORRELATED),
        Row("full covariance, log_std in [-10, 1]", points.correlated(None), bars=(6, 8), **_CORRELATED),
        # Strong correlations amplify the roundoff of the inputs themselves, so only results that are not finite count.
        Row(
            "full covariance, eight dimensions, nearly singular",
            points.correlated(None, 8, 1.5),
            bars=(math.inf, math.inf),
            **{**_CORRELATED, "order": 1, "points": 500_000},
        ),
        Row(
            "KL of full covariances",
            points.correlated_pairs,
            _pair(MultivariateGaussian),
            reference.correlated_divergence,
            scales.by_unit(scales.other_std),
            (20, 20),
            (0, 1),
            scales.other_std,
            1.0,
            points=5_000_000,
            exact=300,
        ),
        Row(
            "log_std of gSDE",
            points.features,
            _explored,
            reference.explored,
            scales.explored,
            (6, 8),
            (0, 1),
            scales.ones,
            points=5_000_000,
            exact=1000,
            order=1,
            dtypes=WIDE,
        ),
    )
}
