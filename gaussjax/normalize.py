"""Normalisation of observations by their running mean and variance."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gaussjax.core.arrays import as_array, exact_sum, is_other, xp
from gaussjax.core.compiled import check_number, checked, refuse_huge, refuse_traced
from gaussjax.core.text import quoted

MAKE_STATISTICS = "Make them with normalize.init, or with gaussjax.interop.skrl.statistics from a checkpoint of skrl."
# A number is the unevaluated sum of this many float32: 72 bits, of which one sample in 10**12 changes the last 32.
_WORDS = 3
# Finite observations beyond this count as this. Their squared differences are then finite in float32.
_LARGEST = 2.0**62


class _Fields(NamedTuple):
    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    m2: Float[Array, "*shape"]
    clip: Float[Array, ""]
    count_rest: Float[Array, "2"]
    mean_rest: Float[Array, "2 ..."]
    m2_rest: Float[Array, "2 ..."]


class Statistics(_Fields):
    """Running statistics of observations: count, mean and squared deviations.

    `Statistics(count, mean, m2)` splits numbers of any floating dtype into float32 and rests. A number is the sum of
    its field and of the two entries of its rest, so that sums keep 72 bits without float64.

    Attributes:
        count: Number of observations, a float32 scalar.
        mean: Mean, with the shape of one observation.
        m2: Sum of squared deviations from the mean, with the shape of one observation.
        clip: Bound on the absolute value of normalised observations, in standard deviations.
        count_rest: Part of the count that `count` rounds away, as two float32.
        mean_rest: Part of the mean that `mean` rounds away, `(2, *shape)`.
        m2_rest: Part of the sum that `m2` rounds away, `(2, *shape)`.

    Example:
        >>> Statistics(2**24 + 1, 0.0, 2.0**24).count_rest
        array([1., 0.], dtype=float32)
    """

    __slots__ = ()

    def __new__(cls, count: Any, mean: Any, m2: Any, clip: Any = 10.0, *rests: Any) -> Statistics:
        if not rests:
            split = [_words(part, _WORDS) for part in (count, mean, m2)]
            count, mean, m2 = (words[0] for words in split)
            # NumPy arrays stay NumPy arrays, so that torch reads a file without a device of JAX.
            host = all(isinstance(words[0], (np.ndarray, np.generic)) for words in split)
            rests = tuple(np.stack(words[1:]) if host else xp.stack(words[1:]) for words in split)
            clip = np.float32(clip) if host else xp.constant(clip, mean)
        return super().__new__(cls, count, mean, m2, clip, *rests)


Normalizer = Any
"""`Statistics`, or None for observations that stay as they are, or a dict or tuple of both for nested observations."""


def init(shape: Any, clip: float = 10.0) -> Normalizer:
    """Statistics before the first observation, with which `apply` only clips its input.

    Args:
        shape: Shape of one observation. For nested observations a dict or a tuple of shapes, and None for a part that
            is not normalised, such as pixels.
        clip: Bound on the absolute value of normalised observations, in standard deviations.

    Returns:
        Statistics whose count, mean and squared deviations are zero, nested like `shape`.

    Raises:
        ValueError: `clip` is not above 0.
        TypeError: `shape` is neither a shape nor a dict or tuple of shapes.

    Example:
        >>> init((3,)).mean
        Array([0., 0., 0.], dtype=float32)
    """
    refuse_traced((shape, clip), "shape, clip")
    check_number(clip, "clip", "above 0", lambda number: number > 0.0)
    if shape is None:
        return None
    if isinstance(shape, Mapping):
        return {name: init(part, clip) for name, part in shape.items()}
    if isinstance(shape, (tuple, list)) and not all(isinstance(size, (int, np.integer)) for size in shape):
        return tuple(init(part, clip) for part in shape)
    if not isinstance(shape, (tuple, list)) or any(isinstance(size, bool) or size < 0 for size in shape):
        raise TypeError(f"shape: expected one such as (3,), or a dict or tuple of shapes, got {quoted(shape)}.")
    refuse_huge(np.atleast_1d(shape).tolist(), "shape")
    # Zeros of NumPy, because each shape of jnp.zeros would be compiled before a training starts.
    count, moment, *rests = (np.zeros(size, np.float32) for size in ((), shape, (2,), (2, *shape), (2, *shape)))
    return jax.tree.map(jnp.asarray, Statistics(count, moment, moment, np.float32(clip), *rests))


def update(state: Normalizer, batch: Any) -> Normalizer:
    """Updates statistics with a batch of observations.

    NaN and infinities make the statistics NaN for good. A finite observation beyond ±2**62 counts as ±2**62. A batch
    that would raise `m2` beyond float32 is left out: 10**12 observations may have standard deviations up to 10**13.

    Args:
        state: Statistics of the observations so far, which may be nested.
        batch: Observations with any leading axes, `(…, *shape)`, nested like the statistics. Integers keep 48
            bits. A NumPy array of float64 also keeps 48 bits, but not as an argument of `jax.jit`.

    Returns:
        Statistics of all observations. The count is exact up to 2**48.

    Raises:
        ValueError: The last axes do not have the shape of one observation, or the nesting differs.
        TypeError: `batch` is a dict for statistics of one array, or not an array of real numbers.

    Example:
        >>> state = update(init((1,)), jnp.array([[1.0], [3.0]]))
        >>> state.count, state.mean, state.m2
        (Array(2., dtype=float32), Array([2.], dtype=float32), Array([2.], dtype=float32))

    Source:
        Chan, Golub and LeVeque 1979, updating formulae for a pairwise algorithm.
    """
    if not isinstance(state, Statistics):
        return _each(lambda part, batch, _: update(part, batch), state, batch, "batch", None)
    x = _numbers(state, batch, "batch")
    x = xp.unsharded(x).reshape(math.prod(x.shape[: x.ndim - state.mean.ndim]), *state.mean.shape)
    if x.shape[0] == 0:
        return state
    library: Any = np if isinstance(x, np.ndarray) else jnp
    x = library.where(library.isinf(x), x, library.clip(x, -_LARGEST, _LARGEST)) if xp.is_floating(x) else x
    high, *low = _words(x, 1 if xp.is_floating(x) and x.dtype != np.float64 else 2)
    return _merge(state, high, low)


def variance(state: Statistics) -> Float[Array, "*shape"]:
    """Variance of the observations; 1 before the first update.

    Args:
        state: Statistics of the observations so far.

    Returns:
        Variance in squared units of the observation, with the shape of one observation.

    Example:
        >>> variance(update(init((1,)), jnp.array([[1.0], [3.0]])))
        Array([1.], dtype=float32)
    """
    return xp.where(state.count > 0, state.m2 / xp.maximum(state.count, 1.0), 1.0)


def apply(state: Normalizer, x: Any, clip: float | None = None, epsilon: float = 1e-8, name: str = "x") -> Any:
    """Normalises observations to mean zero and variance one.

    Args:
        state: Statistics of earlier observations, which may be nested; no gradient flows into them.
        x: Observations with any leading axes, `(…, *shape)`, nested like the statistics. Integers keep 48 bits.
            A NumPy array of float64 also keeps 48 bits, but not as an argument of `jax.jit`.
        clip: Bound on the absolute value of the result, in standard deviations, or None for `state.clip`.
        epsilon: Added to the variance, so that a constant dimension gives zero.
        name: Name of the argument `x` in errors.

    Returns:
        `(x - mean) / sqrt(variance + epsilon)`, clipped, float32 at the least. Parts without statistics are unchanged.

    Raises:
        ValueError: The last axes do not have the shape of one observation, the nesting differs, `clip` is not above 0,
            or `epsilon` is negative.
        TypeError: `state` is no statistics, or `x` is a dict for statistics of one array or not an array of real
            numbers.

    Example:
        >>> apply(update(init((1,)), jnp.array([[1.0], [3.0]])), jnp.array([4.0]))
        Array([2.], dtype=float32)
    """
    if clip is not None:
        check_number(clip, "clip", "above 0", lambda number: number > 0.0)
    check_number(epsilon, "epsilon", "of 0 or more", lambda number: 0.0 <= number < math.inf)
    if not isinstance(state, Statistics):
        return _each(lambda part, x, where: apply(part, x, clip, epsilon, where), state, x, name, x)
    numbers = _numbers(state, x, name)
    state = Statistics(*(xp.stop_gradient(part) for part in state))
    # Beyond float32 a word is infinite and the next one NaN; float32's largest number leads to the clip too.
    host, most = isinstance(numbers, np.ndarray), np.finfo(np.float32).max
    numbers = np.clip(numbers, -most, most) if host else numbers
    words = [numbers] if xp.is_floating(numbers) and not host else _words(numbers, 2)
    high, *low = (xp.at_least_float32(state.mean, word)[1] for word in words)
    # Far from zero the mean needs more digits than float32 has. The second rest is below the roundoff of the result.
    limit = state.clip if clip is None else xp.constant(clip, high)
    parts = state.mean, state.mean_rest[0], xp.rsqrt(variance(state) + epsilon), limit
    parts = (high, *(xp.astype(part, high.dtype) for part in parts))
    _, mean, rest, scale, limit = xp.broadcast_together(parts, [high.shape] * 5)
    return xp.clip((sum(low, high - mean) - rest) * scale, -limit, limit)


def is_finite(state: Normalizer) -> Bool[Array, ""]:
    """True unless NaN or an infinity has entered the statistics, which then never recover.

    Args:
        state: Statistics, which may be nested.

    Returns:
        A boolean scalar.

    Example:
        >>> bool(is_finite(update(init((1,)), jnp.array([jnp.nan]))))
        False
    """
    parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, Statistics))
    return functools.reduce(operator.and_, (jnp.all(jnp.isfinite(part.m2)) for part in parts), jnp.ones((), bool))


def check(state: Any, name: str) -> None:
    """Checks that a value is statistics, None, or a dict or tuple of them.

    Args:
        state: The value.
        name: Name of the argument in errors.

    Raises:
        TypeError: It is something else.

    Example:
        >>> check({"joints": init((3,)), "camera": None}, "normalizer")
    """
    if state is None or isinstance(state, Statistics):
        return
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, tuple) else [state]
    if not all(isinstance(part, (Statistics, Mapping, tuple, type(None))) for part in parts):
        raise TypeError(f"{name}: expected Statistics, got {type(state).__name__}. {MAKE_STATISTICS}")
    for part in parts:
        check(part, name)


def _each(function: Callable[[Any, Any, str], Any], state: Normalizer, x: Any, name: str, unchanged: Any) -> Any:
    """Calls the function for each part of nested statistics; returns `unchanged` where there are none."""
    if state is None:
        return unchanged
    check(state, "state")
    if (expected := _nesting(state)) != (got := _nesting(x)):
        raise ValueError(f"{name}: expected {expected}, as the statistics have, got {got}.")
    if isinstance(state, Mapping):
        return {key: function(part, x[key], f"{name}[{key!r}]") for key, part in state.items()}
    return tuple(function(part, x[i], f"{name}[{i}]") for i, part in enumerate(state))


def _nesting(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with the keys {quoted(sorted(map(str, value)))}"
    return f"a tuple of {len(value)} parts" if isinstance(value, (tuple, list)) else "one array"


@jax.jit
def _merge(state: Statistics, high: Array, low: list[Array]) -> Statistics:
    """Updates statistics with the observations `high + low`, `(N, *shape)`."""
    # Sums differences from the first observation, because sums of observations far from zero lose digits.
    anchor = high[0]
    difference = sum(low, high - jnp.expand_dims(anchor, 0))
    mean = jnp.mean(difference, axis=0)
    within = jnp.sum(jnp.square(difference - jnp.expand_dims(mean, 0)), axis=0)
    coarse, fine = exact_sum(anchor, -state.mean)
    fine = fine + (mean - state.mean_rest[0] - state.mean_rest[1])
    share = len(high) / (state.count + len(high))
    between = jnp.square(coarse + fine) * (state.count * share)
    # The maximum is NaN, not inf, if a part is NaN.
    full = jnp.isinf(jnp.max(state.m2 + within + between, initial=0.0))

    def grown(word: Array, rests: Array, *terms: Any) -> tuple[Array, Array]:
        return _total(word, rests[0], rests[1], *(jnp.where(full, 0.0, term) for term in terms))

    count, count_rest = grown(state.count, state.count_rest, *_words(len(high), 2))
    mean, mean_rest = grown(state.mean, state.mean_rest, coarse * share, fine * share)
    m2, m2_rest = grown(state.m2, state.m2_rest, within, between)
    return Statistics(count, mean, m2, state.clip, count_rest, mean_rest, m2_rest)


def _words(value: Any, count: int) -> list[Any]:
    """Splits numbers into float32 arrays; each holds what the sum of the earlier ones rounds away."""
    if not (is_other(value) or isinstance(value, jax.Array)):
        value = np.asarray(value, np.float64)
    elif not xp.is_floating(value) and value.dtype.itemsize == 4 and not is_other(value):
        fine = value & 0xFF  # float32 holds these eight bits, and the other 24.
        return [word.astype(jnp.float32) for word in (value - fine, fine, 0 * fine)][:count]
    value, words = value if xp.is_floating(value) else value.double(), []  # type: ignore[attr-defined]
    # Infinity minus infinity is NaN, which is ignored because the first word shows the infinity.
    with np.errstate(invalid="ignore", over="ignore"):
        for _ in range(count):
            # XLA may leave out a conversion to float32 and back, but not reduce_precision.
            word = jax.lax.reduce_precision(value, 8, 23) if isinstance(value, jax.Array) else xp.to_float32(value)
            words.append(xp.to_float32(word))
            value = value - word
    return words


def _total(*terms: Array) -> tuple[Array, Array]:
    """Sum of float32 terms as the nearest float32 and its rest."""

    def add(a: Any, b: Any) -> Any:
        (first, second, third), (x, y, z) = a, b
        first, error = exact_sum(first, x)
        second, small = exact_sum(second, y)
        second, smaller = exact_sum(second, error)
        third = third + z + (small + smaller)
        first, second = exact_sum(first, second)
        return first, *exact_sum(second, third)

    column = jnp.stack(terms)
    zeros, zero = jnp.zeros_like(column), np.float32(0)
    # XLA: outside of a reduction each reused value becomes a kernel of its own, and the first update of PPO takes 1.2
    # times as long (jax 0.10.2, CPU). test_a_reduction_needs_fewer_kernels fails once a plain loop is as good.
    words = jax.lax.reduce((column, zeros, zeros), (zero,) * 3, add, (0,))
    return words[0], jnp.stack(words[1:])


def _numbers(state: Statistics, x: Any, name: str) -> Any:
    """Validates observations; returns floats, in NumPy if JAX would narrow them, or long integers of JAX or torch."""
    if isinstance(x, Mapping):
        raise TypeError(
            f"{name}: expected one array, got {_nesting(x)}. Make statistics with normalize.init({{key: shape, ...}})."
        )
    tensors = is_other(state.mean)
    x = as_array(np.asarray(x) if is_other(x) and not tensors else x, name)
    if host := isinstance(x, (np.ndarray, np.generic)):
        checked(x, name, name)
    elif not (xp.is_real(x) or str(x.dtype).removeprefix("torch.") == "bool"):
        raise TypeError(f"{name}: expected real numbers, got {x.dtype}. Convert them first, with np.asarray.")
    wide = jax.config.read("jax_enable_x64") and not tensors
    long = x.dtype.itemsize >= 8 if xp.is_floating(x) else xp.is_real(x) and x.dtype.itemsize >= 4
    if long and (host or wide):
        x = (jnp if wide else np).asarray(x, np.float64)
    elif not long or xp.is_floating(x):
        x = xp.at_least_float32(state.mean, x)[1] if tensors else xp.at_least_float32(x)[0]
    shape = tuple(state.mean.shape)
    if x.ndim < len(shape) or tuple(x.shape[x.ndim - len(shape) :]) != shape:
        raise ValueError(
            f"{name}: expected ({', '.join(['...', *map(str, shape)])}), got {tuple(x.shape)}. The last axes are one "
            f"observation of these statistics, made by normalize.init({shape})."
        )
    return x
