"""Accuracy of gaussjax beside distrax, torch, jax.scipy and TFP, against 200-bit references.

The grids, references and functions are those of the tests in `tests/numerics`. A peer that cannot be imported is
listed as "not measured".
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from tests.numerics.measure import UNIT, Error, compare, evaluate_jax, evaluate_torch
from tests.numerics.rows import ROWS, Row

DESCRIPTION = "Accuracy of densities, entropies and divergences in units of roundoff."
PEERS = ("distrax", "torch", "jax.scipy", "TFP")
PAGE = Path(__file__).parent / "results" / "numerics.md"


def run(options: argparse.Namespace | None = None) -> dict[str, Any]:
    """Errors of every row, dtype and library as plain data; with all libraries the page is written too."""
    chosen = getattr(options, "peers", None)
    names = PEERS if chosen is None else tuple(name for name in PEERS if name in chosen.split(","))
    functions = {name: _functions(name) for name in names}
    rows = []
    for row in ROWS:
        for dtype in row.dtypes:
            entry: dict[str, Any] = {"row": row.name, "dtype": dtype, "bars": row.bars(dtype)}
            entry["gaussjax"] = _measure(row, dtype, row.ours, torch=False)
            for name, table in functions.items():
                function = None if table is None else table.get(_key(row))
                missing = "not measured" if table is None else "has none"
                entry[name] = missing if function is None else _measure(row, dtype, function, name == "torch")
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
        "# Accuracy",
        "",
        f"Greatest error over a grid, in units of roundoff (float32 2⁻²⁴, float64 2⁻⁵³; for bfloat16 inputs those of "
        f"float32): of the value, then of its gradients. References: 200 bits, on the exact inputs. "
        f"jax {results['jax']}, {results['platform']}.",
        "",
        "Log-densities are measured against `z²/2 + |log_std| + 0.92`, entropies of squashed Gaussians against 1 nat "
        'at least, all else against the true result. "n bad" counts results that are not finite, on a grid where every '
        "true result is; the error is that of the others.",
        "",
        "| what | type | bar | " + " | ".join(names) + " |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for entry in results["rows"]:
        bars = " / ".join(_number(bar) for bar in entry["bars"][:2])
        cells = [_cell(entry[name]) for name in names]
        lines.append("| " + " | ".join([entry["row"], entry["dtype"], bars, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _measure(row: Row, dtype: str, function: Callable[..., Any], torch: bool) -> Any:
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        inputs = row.rounded(dtype)
        try:
            by = row.gradients_by(dtype)
            results = evaluate_torch(function, inputs, by) if torch else evaluate_jax(function, inputs, by, True)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            return f"raises {type(error).__name__}"
    unit, truths = UNIT["float32" if dtype == "bfloat16" else dtype], row.truths(dtype)[: len(results)]
    errors = [compare(got, truth, unit) for got, truth in zip(results, truths, strict=True)]
    return [error._asdict() for error in errors]


def _cell(measured: Any) -> str:
    if isinstance(measured, str):
        return measured
    errors = [Error(**error) for error in measured]
    parts = [_number(error.units) + (f" ({error.bad} bad)" if error.bad else "") for error in errors]
    return " / ".join(parts)


def _number(units: float | None) -> str:
    if units is None:
        return "–"
    if units != units:
        return "none finite"
    return f"{units:.1f}" if units < 1e4 else f"{units:.0e}"


def _key(row: Row) -> str:
    # The name of the function without the grid.
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
        "entropy": lambda s: d.Normal(torch.zeros_like(s), s.exp(), validate_args=False).entropy(),
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
        "entropy": lambda s: d.Normal(jnp.zeros_like(s), jnp.exp(s)).entropy(),
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
        "entropy": lambda s: distrax.Normal(jnp.zeros_like(s), jnp.exp(s)).entropy(),
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
