"""Searches for the worst point of every bar, with the same function in float64 as the oracle.

`python -m tests.numerics.search` tries 2·10⁷ random points a row, keeps the worst ones in `worst.json`, which
`make test` tries again, and writes the table `benchmarks/results/search.md`. `tests/numerics/test_bars.py` compares
the oracle itself with 200 bits.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.distributions import CensoredGaussian, DiagGaussian, MultivariateGaussian, TanhGaussian
from gaussjax.distributions.special import log_normal_cdf, tanh, tanh_log_det

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "benchmarks" / "results" / "search.md"
CHUNK, UNIT = 500_000, 2.0**-24
ABSOLUTE = 1.0 / UNIT
Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Search:
    """One row of the table.

    Attributes:
        sample: `(generator, number) -> inputs` in float64, which are rounded to float32.
        function: The function under test, from arrays `(n, …)` to an array `(n,)`.
        scales: `(values and gradients in float64, inputs) -> scales`, by which the errors are divided.
        bars: Largest errors of the value and of each gradient, in units of roundoff of float32 times the scale.
        by: Arguments of the gradients.
    """

    sample: Callable[[np.random.Generator, int], Arrays]
    function: Callable[..., jax.Array]
    scales: Callable[[list[np.ndarray], Arrays], list[np.ndarray]]
    bars: tuple[float, ...]
    by: tuple[int, ...] = ()


class Worst(NamedTuple):
    """The largest error of a value or gradient, in units of roundoff times the scale, and where it was found."""

    units: float
    point: list[list[float]]


def _mixed(generator: np.random.Generator, low: float, high: float, count: int, seams: tuple[float, ...]) -> np.ndarray:
    """Uniform numbers, every fourth one a seam or its neighbour in float32."""
    x = generator.uniform(low, high, count)
    places = generator.choice(np.float32(seams), count)
    near = np.nextafter(places, np.float32(generator.choice([-np.inf, np.inf], count)), dtype=np.float32)
    chosen = generator.integers(0, 8, count)
    return np.where(chosen == 0, places, np.where(chosen == 1, near, x))


def _normal(generator: np.random.Generator, count: int) -> Arrays:
    log_std = _mixed(generator, -20, 2, count, (0.0, -20.0, 2.0, -0.35667494))
    z = np.where(generator.integers(0, 2, count) == 0, generator.uniform(-50, 50, count), generator.normal(size=count))
    mean = np.where((generator.integers(0, 2, count) == 0) | (log_std < -3), 0.0, generator.normal(size=count))
    return mean, log_std, mean + np.exp(log_std) * z


def _normal_scales(exact: list[np.ndarray], inputs: Arrays) -> list[np.ndarray]:
    mean, log_std, actions = inputs
    z = (actions - mean) * np.exp(-log_std)
    by_mean = np.abs(exact[1])
    return [z * z / 2 + np.abs(log_std) + 0.92, np.where(by_mean == 0, 1.0, by_mean), z * z + 1]


def _one(x: jax.Array) -> jax.Array:
    return jnp.expand_dims(x, -1)


def _relative(exact: list[np.ndarray], _: Arrays) -> list[np.ndarray]:
    return [np.where(np.abs(x) < 1e-37, 1.0, np.abs(x)) for x in exact]


def _at_least_one(exact: list[np.ndarray], _: Arrays) -> list[np.ndarray]:
    return [np.maximum(np.abs(exact[0]), 1.0), *(np.ones_like(x) for x in exact[1:])]


def _pair(near: bool) -> Callable[[np.random.Generator, int], Arrays]:
    def sample(generator: np.random.Generator, count: int) -> Arrays:
        mean, log_std = generator.normal(size=count), _mixed(generator, -20, 2, count, (0.0, 2.0))
        if not near:
            return mean, log_std, generator.normal(size=count), generator.uniform(-20, 2, count)
        apart = 10.0 ** generator.uniform(-6, -1, (2, count)) * generator.choice([-1, 1], (2, count))
        mean = np.where(log_std < -3, 0.0, mean)
        return mean, log_std, mean + np.exp(log_std) * apart[0], log_std + apart[1]

    return sample


def _divergence(mean: jax.Array, log_std: jax.Array, other: jax.Array, other_log_std: jax.Array) -> jax.Array:
    return DiagGaussian(_one(mean), _one(log_std)).kl_divergence(DiagGaussian(_one(other), _one(other_log_std)))


def _spread(lowest: float, highest: float) -> Callable[[np.random.Generator, int], Arrays]:
    def sample(generator: np.random.Generator, count: int) -> Arrays:
        return _mixed(generator, -3, 3, count, (0.0, -1.0, 1.0)), np.log(
            _mixed(generator, lowest, highest, count, (0.7, 0.5, 1.0))
        )

    return sample


def _squashed_entropy(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    return TanhGaussian(_one(mean), _one(log_std), -1.0, 1.0).entropy()


def _censored(generator: np.random.Generator, count: int) -> Arrays:
    return _mixed(generator, -4, 4, count, (-1.0, 1.0, 0.0)), _mixed(generator, -6, 3, count, (0.0, -0.35667494))


def _correlated(generator: np.random.Generator, count: int) -> Arrays:
    count = count // 4
    pairs = 0.5 * generator.normal(size=(count, 6))
    factor = np.zeros((count, 4, 4))
    factor[:, *np.tril_indices(4, -1)] = pairs
    noise = generator.normal(size=(count, 4)) * 10.0 ** generator.uniform(-1, 1.3, (count, 1))
    log_std = np.full((count, 4), -20.0)
    return log_std, pairs, np.exp(log_std) * (noise + np.einsum("nij,nj->ni", factor, noise))


def _correlated_scales(_: list[np.ndarray], inputs: Arrays) -> list[np.ndarray]:
    log_std, pairs, actions = inputs
    noise = actions * np.exp(-log_std)
    places = list(zip(*np.tril_indices(4, -1), strict=True))
    for k, (i, j) in enumerate(places):
        noise[:, i] = noise[:, i] - pairs[:, k] * noise[:, j]
    return [np.sum(noise * noise / 2 + np.abs(log_std) + 0.92, -1)]


_BOX = (-1.0, 1.0)
ROWS = {
    "normal log_prob": Search(
        _normal,
        lambda mean, log_std, actions: DiagGaussian(_one(mean), _one(log_std)).log_prob(_one(actions)),
        _normal_scales,
        (6, 8, 8),
        (0, 1),
    ),
    "normal log-cdf": Search(
        lambda g, n: (_mixed(g, -60, 12, n, (0.0, -1.0, 1.0, 0.5)) * g.choice([1.0, 0.1, 0.02], n),),
        log_normal_cdf,
        _relative,
        (6, 8),
        (0,),
    ),
    "tanh log-det": Search(
        lambda g, n: (_mixed(g, -30, 30, n, (0.0, -1.0, 1.0, 0.5)) * g.choice([1.0, 0.1, 1e-4], n),),
        tanh_log_det,
        _relative,
        (10, 8),
        (0,),
    ),
    "derivative of tanh": Search(
        lambda g, n: (_mixed(g, -30, 30, n, (0.0, -1.0, 1.0, 0.5)) * g.choice([1.0, 0.1, 1e-4], n),),
        lambda u: jax.vmap(jax.grad(tanh))(u),
        _relative,
        (8,),
    ),
    "KL, nearly equal": Search(_pair(near=True), _divergence, _relative, (10, 10, 10), (0, 1)),
    "KL, far apart": Search(_pair(near=False), _divergence, _relative, (20, 20, 20), (0, 1)),
    "squashed entropy, std <= 1": Search(
        _spread(0.01, 1.0), _squashed_entropy, _at_least_one, (1e-6 * ABSOLUTE,) * 3, (0, 1)
    ),
    "squashed entropy, std <= 3": Search(
        _spread(1.0, 3.0), _squashed_entropy, _at_least_one, (1e-3 * ABSOLUTE,) * 3, (0, 1)
    ),
    "censored entropy": Search(
        _censored,
        lambda mean, log_std: CensoredGaussian(_one(mean), _one(log_std), *_BOX).entropy(),
        _at_least_one,
        (1e-5 * ABSOLUTE,),
    ),
    "full covariance, log_std = -20": Search(
        _correlated,
        lambda log_std, pairs, actions: MultivariateGaussian(actions * 0, log_std, pairs).log_prob(actions),
        _correlated_scales,
        (4,),
    ),
}


def worst(row: Search, chunks: Iterator[Arrays]) -> list[Worst]:
    """The largest errors of the value and of each gradient over chunks of inputs."""
    found: list[Worst] = []
    for chunk in chunks:
        inputs = tuple(np.float32(x) for x in chunk)
        got = [np.asarray(x, np.float64) for x in _run(row)(*inputs)]
        with jax.enable_x64(True):
            wide = tuple(np.float64(x) for x in inputs)
            exact = [np.asarray(x) for x in _run(row)(*wide)]
        errors = [
            np.abs(one - true) / scale / UNIT
            for one, true, scale in zip(got, exact, row.scales(exact, wide), strict=True)
        ]
        # A result that is not finite counts as an infinite error.
        errors = [np.where(np.isfinite(error), error, np.inf) for error in errors]
        here = [Worst(float(e.max()), [np.ravel(x[e.argmax()]).tolist() for x in wide]) for e in errors]
        found = [max(pair, key=lambda one: one.units) for pair in zip(found, here, strict=True)] if found else here
    return found


@functools.cache
def _run(row: Search) -> Callable[..., list[jax.Array]]:
    def run(*inputs: jax.Array) -> list[jax.Array]:
        gradients = jax.grad(lambda *x: jnp.sum(row.function(*x)), row.by)(*inputs) if row.by else ()
        return [row.function(*inputs), *gradients]

    return jax.jit(run)


def random_chunks(row: Search, count: int, seed: int) -> Iterator[Arrays]:
    """Inputs of a row in chunks."""
    generator = np.random.default_rng(seed)
    for _ in range(-(-count // CHUNK)):
        yield row.sample(generator, min(count, CHUNK))


def kept() -> dict[str, Arrays]:
    """The worst points of earlier searches, as inputs of each row."""
    found = json.loads((HERE / "worst.json").read_text())
    arguments = {name: zip(*points, strict=True) for name, points in found.items()}
    return {
        name: tuple(np.float64(x)[:, 0] if len(x[0]) == 1 else np.float64(x) for x in columns)
        for name, columns in arguments.items()
    }


def main() -> None:
    """Searches every row and writes the table and the worst points."""
    count = int(float(sys.argv[1])) if len(sys.argv) > 1 else 20_000_000
    lines = ["| row | bar | largest error found | at |", "|---|---|---|---|"]
    points = {}
    for name, row in ROWS.items():
        found = worst(row, random_chunks(row, count, seed=1))
        points[name] = [one.point for one in found]
        parts = ["value", *(f"gradient by argument {i}" for i in row.by)]
        for part, bar, one in zip(parts, row.bars, found, strict=True):
            at = ", ".join(f"{x:.8g}" for argument in one.point for x in argument)
            lines.append(f"| {name}: {part} | {bar:.3g} | {one.units:.3g} | {at} |")
        print(name, [round(one.units, 2) for one in found], flush=True)
    title = (
        f"# Search\n\nLargest errors in float32 among {count:,} random points a row, seams included, in units of "
        f"roundoff (2⁻²⁴) times the scale of the row. The oracle is float64. jax {jax.__version__}, "
        f"{jax.default_backend()}.\n\n"
    )
    PAGE.write_text(title + "\n".join(lines) + "\n")
    (HERE / "worst.json").write_text(json.dumps(points, indent=1) + "\n")


if __name__ == "__main__":
    main()
