"""Random points for each function of the table of bars, with its seams among them."""

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np

Inputs = tuple[np.ndarray, ...]
BOX = (-0.5, 1.25)
"""A Box whose bounds are numbers of every dtype."""
TYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype("float32"), "float64": np.dtype("float64")}


class Draw:
    """Random numbers in float64, of which some are numbers of a dtype at or beside a seam."""

    def __init__(self, generator: np.random.Generator, count: int, dtype: str):
        self.generator, self.count, self.dtype = generator, count, TYPES[dtype]

    def uniform(self, low: float, high: float, *seams: float) -> np.ndarray:
        """Uniform numbers; with seams an eighth of them is a seam, and an eighth a neighbour of one."""
        x = self.generator.uniform(low, high, self.count)
        if not seams:
            return x
        places = self.generator.choice(np.array(seams).astype(self.dtype), self.count)
        ends = self.generator.choice(np.array([-np.inf, np.inf]).astype(self.dtype), self.count)
        chosen = self.generator.integers(0, 8, self.count)
        near = np.nextafter(places, ends)
        # XLA treats subnormal numbers as zero. Differences and products of these neighbours of 0 are normal numbers.
        near = np.where(places == 0, np.sign(ends) * 2.0**-60, near)
        return np.where(chosen == 0, np.float64(places), np.where(chosen == 1, np.float64(near), x))

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal numbers `(count, *shape)`."""
        return self.generator.normal(size=(self.count, *shape))

    def choice(self, *values: float) -> np.ndarray:
        """One of the values for each point."""
        return self.generator.choice(np.array(values), self.count)

    def apart(self, *shape: int) -> np.ndarray:
        """Small differences of either sign, of every order from 1e-6 to 0.1."""
        sizes = 10.0 ** self.generator.uniform(-6, -1, (self.count, *shape))
        return sizes * self.generator.choice([-1.0, 1.0], (self.count, *shape))


def normal(draw: Draw) -> Inputs:
    log_std = draw.uniform(-20, 2, 0.0, -20.0, 2.0, math.log(0.7), math.log(0.5))
    # A mean of 0 keeps the digits of a narrow one.
    mean = np.where((draw.choice(0, 1) == 0) | (log_std < -3), 0.0, draw.normal())
    return mean, log_std, mean + np.exp(log_std) * _noise(draw)


def _noise(draw: Draw) -> np.ndarray:
    return np.where(draw.choice(0, 1) == 0, draw.uniform(-50, 50, 0.0, 1.0, -1.0), draw.normal())


def shifted(draw: Draw) -> Inputs:
    # Means of order one at every scale: actions round to few values, but are scored exactly.
    mean, log_std = draw.normal(), draw.uniform(-20, 2, 0.0)
    return mean, log_std, mean + np.exp(log_std) * draw.uniform(-50, 50)


def wide(draw: Draw) -> Inputs:
    log_std = draw.uniform(-60, 40, 0.0, -60.0, 40.0)
    return 0.0 * log_std, log_std, np.exp(log_std) * _noise(draw)


def cdf(draw: Draw) -> Inputs:
    return (draw.uniform(-60, 12, 0.0, -1.0, 1.0, 0.5, -0.5, 0.7, -0.7) * draw.choice(1, 1, 0.1, 0.02),)


def tanh(draw: Draw) -> Inputs:
    return (draw.uniform(-30, 30, 0.0, -1.0, 1.0, 0.5, -0.5, 0.7, -0.7) * draw.choice(1, 1, 0.1, 1e-4),)


def near(draw: Draw) -> Inputs:
    log_std = draw.uniform(-20, 2, 0.0, 2.0, math.log(0.7))
    mean = np.where(log_std < -3, 0.0, draw.normal())
    return mean, log_std, mean + np.exp(log_std) * draw.apart(), log_std + draw.apart()


def far(draw: Draw) -> Inputs:
    return draw.normal(), draw.uniform(-20, 2, 0.0), draw.normal(), draw.uniform(-20, 2, 0.0)


def entropy(draw: Draw) -> Inputs:
    return (draw.uniform(-60, 40, 0.0, -1.4189385, 1.0, -1.0),)


def raw(draw: Draw) -> Inputs:
    mean, log_std = draw.uniform(-10, 10, 0.0, 1.0), draw.uniform(-5, 2, 0.0, math.log(0.7))
    raw = np.where(
        draw.choice(0, 1, 2) == 0, draw.uniform(-30, 30, 0.0, 1.0, -1.0), mean + np.exp(log_std) * _noise(draw)
    )
    return mean, log_std, raw


def taken(draw: Draw) -> Inputs:
    # Actions of the Box [-2, 2] well within it, from which the raw ones can be computed.
    return draw.normal(), draw.uniform(-2, 2, 0.0), draw.uniform(-1.99, 1.99, 0.0, 1.0, -1.0, 0.5, 1.4)


def spread(lowest: float, highest: float) -> Callable[[Draw], Inputs]:
    # The rule for wide normals begins at a standard deviation of 1.1.
    seams = [x for x in (0.5, 0.7, 1.0, 1.1) if lowest <= x <= highest]
    return lambda draw: (
        draw.uniform(-3, 3, 0.0, -1.0, 1.0, 0.5),
        draw.uniform(math.log(lowest), math.log(highest), *map(math.log, seams)),
    )


def clipped(draw: Draw) -> Inputs:
    mean, log_std = draw.uniform(-4, 4, *BOX, 0.0, 1.0), draw.uniform(-6, 3, 0.0, math.log(0.7))
    inside = draw.uniform(*BOX, *BOX, 0.0, 1.0)
    return (
        mean,
        log_std,
        np.where(draw.choice(0, 1) == 0, inside, np.clip(mean + np.exp(log_std) * draw.normal(), *BOX)),
    )


def clipped_fields(draw: Draw) -> Inputs:
    return clipped(draw)[:2]


def clipped_pairs(draw: Draw) -> Inputs:
    mean, log_std, _ = clipped(draw)
    log_std, equal = np.maximum(log_std, -2.0), draw.choice(0, 1, 1, 1) == 0
    apart = np.where(equal, 0.0, draw.normal()), np.where(equal, 0.0, 0.5 * draw.normal())
    return mean, log_std, mean + np.exp(log_std) * apart[0], log_std + apart[1]


def truncated(draw: Draw) -> Inputs:
    # Means up to ten widths outside of the Box, or near a bound.
    width, log_std = BOX[1] - BOX[0], draw.uniform(-20, 2, 0.0, -20.0, 2.0)
    far = BOX[0] + width * draw.uniform(-10, 11)
    beside = draw.choice(*BOX) + np.exp(log_std) * draw.uniform(-30, 30, 0.0, 1.0, -1.0, 8.0, -8.0)
    return np.where(draw.choice(0, 1) == 0, far, beside), log_std


def truncated_actions(draw: Draw) -> Inputs:
    mean, log_std = truncated(draw)
    mode = np.clip(mean, *BOX)
    steepness = np.exp(log_std) + np.abs(mean - mode)
    beside = np.clip(mode + np.exp(2.0 * log_std) / steepness * draw.uniform(-10, 10, 0.0), *BOX)
    inside = np.clip(draw.uniform(*BOX, *BOX, 0.0, 1.0), *BOX)
    return mean, log_std, np.where(draw.choice(0, 1) == 0, inside, beside)


def truncated_noise(draw: Draw) -> Inputs:
    return *truncated(draw), np.where(draw.choice(0, 1) == 0, draw.normal(), draw.uniform(-5, 5, 0.0))


def truncated_pairs(draw: Draw) -> Inputs:
    mean, log_std = truncated(draw)
    log_std, equal = np.maximum(log_std, -4.0), draw.choice(0, 1, 1, 1) == 0
    apart = np.where(equal, 0.0, draw.normal()), np.where(equal, 0.0, 0.5 * draw.normal())
    return mean, log_std, mean + np.exp(log_std) * apart[0], log_std + apart[1]


def correlated(log_std: float | None, act: int = 4, strength: float = 0.5) -> Callable[[Draw], Inputs]:
    def sample(draw: Draw) -> Inputs:
        count = draw.count
        scale = np.full((count, act), log_std) if log_std else draw.generator.uniform(-10, 1, (count, act))
        pairs = strength * draw.normal(act * (act - 1) // 2)
        factor = np.zeros((count, act, act))
        factor[:, *np.tril_indices(act, -1)] = pairs
        noise = draw.normal(act) * 10.0 ** draw.uniform(-1, 1.3)[:, None]
        actions = np.exp(scale) * (noise + np.einsum("nij,nj->ni", factor, noise))
        return np.zeros((count, act)), scale, pairs, actions

    return sample


def correlated_pairs(draw: Draw) -> Inputs:
    log_std, pairs = draw.generator.uniform(-10, 1, (draw.count, 3)), 0.5 * draw.normal(3)
    near = (draw.choice(0, 1) == 0)[:, None]

    def apart() -> np.ndarray:
        return np.where(near, draw.apart(3), 0.5 * draw.normal(3))

    return np.exp(log_std) * apart(), log_std, pairs, 0.0 * log_std, log_std + apart(), pairs + apart()


def features(draw: Draw) -> Inputs:
    # Features of one layer, some of them zero, and features of every size, whose squares are lost to underflow.
    count, width = draw.count, 6
    alike = 10.0 ** draw.uniform(-3, 3)[:, None] * draw.normal(width) * draw.generator.choice([0, 1, 1], (count, width))
    apart = draw.generator.choice([-1, 1], (count, width)) * 10.0 ** draw.generator.uniform(-12, 12, (count, width))
    rows = np.where((draw.choice(0, 1) == 0)[:, None], alike, apart)
    rows[:, 0] = np.where(np.any(rows, axis=1), rows[:, 0], 1.0)
    return rows, np.stack([draw.uniform(-20, 2, 0.0, -20.0, 2.0) for _ in range(width)], -1)
