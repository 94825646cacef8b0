"""Accuracy of gaussjax beside distrax, torch, jax.scipy and TFP, against references of 330 bits.

The points, references and functions are those of the tests in `tests/numerics`. A peer that cannot be imported is
listed as "not measured".
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.numerics.measure import errors, truths
from tests.numerics.points import Inputs
from tests.numerics.rows import ROWS, WIDE, Row

DESCRIPTION = "Accuracy of densities, entropies and divergences in units of roundoff."
PEERS = ("distrax", "torch", "jax.scipy", "TFP")
POINTS = 1000
PAGE = Path(__file__).parent / "results" / "numerics.md"


def run(options: argparse.Namespace | None = None) -> dict[str, Any]:
    """Errors of every row, dtype and library as plain data; with all libraries the page is written too."""
    chosen = getattr(options, "peers", None)
    names = PEERS if chosen is None else tuple(name for name in PEERS if name in chosen.split(","))
    functions = {name: _functions(name) or {} for name in names}
    compared = [row for row in ROWS.values() if any(_key(row) in table for table in functions.values())]
    rows = []
    for row, dtype in itertools.product(compared, WIDE):
        inputs = row.inputs(POINTS, dtype, seed=0)
        truth = truths(row, inputs, 1, by_formula=False)
        entry: dict[str, Any] = {"row": row.name, "dtype": dtype, "gaussjax": _measure(row, inputs, truth, "JAX jit")}
        for name, table in functions.items():
            missing = "has none" if table else "not measured"
            theirs, mode = table.get(_key(row)), "torch eager" if name == "torch" else "JAX jit"
            one = row if theirs is None else dataclasses.replace(row, function=theirs)
            entry[name] = missing if theirs is None else _measure(one, inputs, truth, mode)
        rows.append(entry)
    results = {"jax": jax.__version__, "platform": jax.default_backend(), "rows": rows}
    if names == PEERS:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(markdown(results))
    return results


def markdown(results: dict[str, Any]) -> str:
    """The Markdown page with the table."""
    names = [name for name in ("gaussjax", *PEERS) if all(name in entry for entry in results["rows"])]
    lines = [
        "# Accuracy beside other libraries",
        "",
        f"Largest error among {POINTS:,} random points, seams included, in units of roundoff (float32 2⁻²⁴, float64 "
        f"2⁻⁵³): of the value, then of its gradients. References: 330 bits, on the exact inputs. "
        f"jax {results['jax']}, {results['platform']}.",
        "",
        "Log-densities are measured against `z²/2 + |log_std| + 0.92`, all else against the true result. "
        '"n bad" counts results that are not finite, although every true result is; the error is that of the others.',
        "",
        "| function | type | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for entry in results["rows"]:
        lines.append("| " + " | ".join([entry["row"], entry["dtype"], *(_cell(entry[name]) for name in names)]) + " |")
    return "\n".join(lines) + "\n"


def _measure(row: Row, inputs: Inputs, truth: list[Any], mode: str) -> Any:
    try:
        found = errors(row, inputs, mode, truth, 1)
    except (NotImplementedError, ValueError, RuntimeError) as error:
        return f"raises {type(error).__name__}"
    # The largest finite error, and the number of results that are not finite.
    return [[float(error[np.isfinite(error)].max(initial=0.0)), int(np.isinf(error).sum())] for error in found]


def _cell(measured: Any) -> str:
    if isinstance(measured, str):
        return measured
    return " / ".join(_number(units) + (f" ({bad} bad)" if bad else "") for units, bad in measured)


def _number(units: float) -> str:
    return f"{units:.1f}" if units < 1e4 else f"{units:.0e}"


def _key(row: Row) -> str:
    # The name of the function without the points.
    return row.name.split(",")[0]


def _functions(name: str) -> dict[str, Callable[..., Any]] | None:
    if name == "jax.scipy":
        return _scipy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name == "torch":
                return _torch(importlib.import_module("torch"))
            tfp = importlib.import_module("tensorflow_probability.substrates.jax")
            return _tfp(tfp) if name == "TFP" else _distrax(importlib.import_module("distrax"))
        except ImportError:
            return None


def _scipy() -> dict[str, Callable[..., Any]]:
    from jax.scipy import special, stats

    return {
        "normal log_prob": lambda m, s, a: stats.norm.logpdf(a, m, jnp.exp(s)),
        "normal log-cdf": special.log_ndtr,
        "full covariance": lambda m, s, n, a: stats.multivariate_normal.logpdf(a, m, _covariance(jnp, s, n)),
    }


def _torch(torch: ModuleType) -> dict[str, Callable[..., Any]]:
    d = torch.distributions

    def squashed(mean: Any, log_std: Any, actions: Any) -> Any:
        transforms = [d.TanhTransform(), d.AffineTransform(0.0, 2.0)]
        base = d.Normal(mean, log_std.exp(), validate_args=False)
        return d.TransformedDistribution(base, transforms, validate_args=False).log_prob(actions)

    def correlated(mean: Any, log_std: Any, off_diagonal: Any, actions: Any) -> Any:
        matrix = _covariance(torch, log_std, off_diagonal)
        return d.MultivariateNormal(mean, matrix, validate_args=False).log_prob(actions)

    return {
        "normal log_prob": lambda m, s, a: d.Normal(m, s.exp(), validate_args=False).log_prob(a),
        "normal log-cdf": torch.special.log_ndtr,
        "tanh log-det": lambda u: d.TanhTransform().log_abs_det_jacobian(u, torch.tanh(u)),
        "squashed log_prob of stored actions": squashed,
        "KL": lambda m, s, m2, s2: d.kl_divergence(
            d.Normal(m, s.exp(), validate_args=False), d.Normal(m2, s2.exp(), validate_args=False)
        ),
        "normal entropy": lambda s: d.Normal(torch.zeros_like(s), s.exp(), validate_args=False).entropy(),
        "full covariance": correlated,
    }


def _tfp(tfp: ModuleType) -> dict[str, Callable[..., Any]]:
    d, b = tfp.distributions, tfp.bijectors

    def squashed(mean: Any, log_std: Any, actions: Any) -> Any:
        bijector = b.Chain([b.Scale(jnp.asarray(2.0, mean.dtype)), b.Tanh()])
        return d.TransformedDistribution(d.Normal(mean, jnp.exp(log_std)), bijector).log_prob(actions)

    return {
        "normal log_prob": lambda m, s, a: d.Normal(m, jnp.exp(s)).log_prob(a),
        "normal log-cdf": lambda x: d.Normal(jnp.zeros_like(x), jnp.ones_like(x)).log_cdf(x),
        "tanh log-det": lambda u: b.Tanh().forward_log_det_jacobian(u, 0),
        "squashed log_prob of stored actions": squashed,
        "KL": lambda m, s, m2, s2: d.Normal(m, jnp.exp(s)).kl_divergence(d.Normal(m2, jnp.exp(s2))),
        "normal entropy": lambda s: d.Normal(jnp.zeros_like(s), jnp.exp(s)).entropy(),
        "full covariance": lambda m, s, n, a: d.MultivariateNormalFullCovariance(m, _covariance(jnp, s, n)).log_prob(a),
    }


def _distrax(distrax: ModuleType) -> dict[str, Callable[..., Any]]:
    def squashed(mean: Any, log_std: Any, actions: Any) -> Any:
        bijector = distrax.Chain([distrax.ScalarAffine(0.0, 2.0), distrax.Tanh()])
        return distrax.Transformed(distrax.Normal(mean, jnp.exp(log_std)), bijector).log_prob(actions)

    return {
        "normal log_prob": lambda m, s, a: distrax.Normal(m, jnp.exp(s)).log_prob(a),
        "normal log-cdf": lambda x: distrax.Normal(jnp.zeros_like(x), jnp.ones_like(x)).log_cdf(x),
        "tanh log-det": distrax.Tanh().forward_log_det_jacobian,
        "squashed log_prob of stored actions": squashed,
        "KL": lambda m, s, m2, s2: distrax.Normal(m, jnp.exp(s)).kl_divergence(distrax.Normal(m2, jnp.exp(s2))),
        "normal entropy": lambda s: distrax.Normal(jnp.zeros_like(s), jnp.exp(s)).entropy(),
        "full covariance": lambda m, s, n, a: distrax.MultivariateNormalFullCovariance(
            m, _covariance(jnp, s, n)
        ).log_prob(a),
    }


def _covariance(library: Any, log_std: Any, off_diagonal: Any) -> Any:
    # Users of these libraries write the covariance, and the libraries factorise it again.
    count = log_std.shape[-1]
    rows = []
    for i in range(count):
        start = i * (i - 1) // 2
        padding = library.zeros_like(log_std[..., i + 1 :])
        rows.append(
            library.concatenate(
                [off_diagonal[..., start : start + i], library.ones_like(log_std[..., :1]), padding], -1
            )
        )
    factor = library.exp(log_std)[..., None] * library.stack(rows, -2)
    return library.matmul(factor, library.swapaxes(factor, -1, -2))
