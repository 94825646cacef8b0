"""Training samples of cloning: rows, or sequences of rows for a recurrent policy, read from episodes in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaussjax import data, normalize, spaces
from gaussjax.data import Episodes
from gaussjax.random.permutation import permutation
from gaussjax.training.algorithm import first_statistics

# Validation episodes are held out by default if there are at least this many episodes.
_ENOUGH_EPISODES, _DEFAULT_SHARE = 10, 0.1
# Rows that are read and left out where the next row of a chunk is not further away.
_GAP = 64
_STATISTICS_SIZE, _BLOCK = 2**24, 2**20


class Samples(NamedTuple):
    """Samples with a leading axis `(samples, …)`, or `(samples, steps, …)` for a recurrent policy.

    Attributes:
        observations: Observations in the dtypes of the space.
        actions: Actions as vectors, `(…, act)`.
        weights: Weight of each row in the loss; 0 leaves the row out. A sequence has none for its burn-in.
        resets: True in the first row of an episode; `()` for a policy without memory.
    """

    observations: Any
    actions: Float[Array, "*samples act"]
    weights: Float[Array, "*samples"]
    resets: Any


class Source(NamedTuple):
    """Episodes and the form in which samples are taken from them.

    Attributes:
        episodes: The rows, in memory or on disk.
        starts: True in the first row of each episode, `(T,)`, in memory.
        scale: Mean of the weights of the training rows, by which weights are divided.
        space: Space of the observations.
        burn_in: Rows before a sequence.
        length: Rows of a sequence, or None for a policy without memory.
    """

    episodes: Episodes
    starts: np.ndarray
    scale: float
    space: Any
    burn_in: int
    length: int | None

    def read(self, first: np.ndarray, counted: np.ndarray) -> Samples:
        """Samples that begin in the rows `first`, in increasing order; other rows than `counted` have weight 0."""
        rows = first if self.length is None else first[:, None] + np.arange(-self.burn_in, self.length)
        # Before the first row and after the last one its copies stand, with no weight.
        inside = np.clip(rows, 0, len(counted) - 1)
        observations, actions, weights = self._rows(inside.reshape(-1))
        observations, actions = jax.tree.map(
            lambda leaf: leaf.reshape(*rows.shape, *leaf.shape[1:]), (observations, actions)
        )
        kept = np.where(counted[inside] & (rows == inside), weights.reshape(rows.shape), np.float32(0))
        resets: Any = ()
        if self.length is not None:
            kept, resets = kept[:, self.burn_in :], self.starts[inside]
        return Samples(observations, actions, *jax.tree.map(jnp.asarray, (kept, resets)))

    def _rows(self, rows: np.ndarray) -> tuple[Any, Array, np.ndarray]:
        """Observations, actions and weights of rows in nearly increasing order, which are read by slices."""
        blocks = []
        for part in np.split(rows, np.flatnonzero(np.abs(np.diff(rows)) > _GAP + self.burn_in) + 1):
            low, high = int(part.min()), int(part.max()) + 1
            found = data.rows(self.episodes, slice(low, high))
            weights = np.ones(high - low, np.float32) if found.weights is None else found.weights
            index = slice(None) if self.length is None and len(part) == high - low else part - low
            block = found.observations, found.actions, weights
            blocks.append(jax.tree.map(lambda leaf: leaf[index], block))  # noqa: B023
        whole = blocks[0] if len(blocks) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *blocks)
        observations, _ = spaces.cast(self.space, whole[0])
        actions = jnp.asarray(whole[1].reshape(len(rows), -1), jnp.float32)
        return observations, actions, np.asarray(whole[2] / self.scale, np.float32)


class Chunks:
    """Samples in chunks, which are read when they are asked for.

    Args:
        source: Episodes and the form of the samples.
        counted: Flags of the rows of this set, `(T,)`; other rows are in no sample, or have no weight in a sequence.
        size: Bytes of a chunk.
        batch: Number of samples that a chunk has at least, if there are so many.
        filled: Whether samples without weight fill each chunk up to a multiple of `batch`.
    """

    def __init__(self, source: Source, counted: np.ndarray, size: int, batch: int, filled: bool = False):
        self.source, self.counted, self.multiple = source, counted, batch if filled else 1
        self.stride, self.used = source.length or 1, counted
        if self.stride > 1:
            self.used = np.logical_or.reduceat(counted, np.arange(0, len(counted), self.stride))
        example = data.rows(source.episodes, slice(0, 1))
        observation, _ = spaces.cast(source.space, example.observations)
        numbers = [*jax.tree.leaves(observation), np.float32(example.actions)]
        rows = 1 if source.length is None else source.length + source.burn_in
        sample = rows * sum(leaf.nbytes for leaf in numbers)
        self.count = int(np.sum(self.used))
        parts = max(1, min(math.ceil(self.count * sample / size), self.count // batch))
        self.edges = _places(self.used, np.linspace(0, self.count, parts + 1).astype(int).tolist())

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, index: int) -> Samples:
        begin, end = self.edges[index : index + 2]
        first = self.stride * (begin + np.flatnonzero(self.used[begin:end]))
        samples = self.source.read(first, self.counted)
        missing = -len(first) % self.multiple
        if not missing:
            return samples

        def filled(leaf: Array) -> Array:
            return jnp.concatenate([leaf, jnp.zeros((missing, *leaf.shape[1:]), leaf.dtype)])

        return jax.tree.map(filled, samples)


def _places(flags: np.ndarray, numbers: list[int]) -> list[int]:
    """Index of the flag that is True for the n-th time, for each n of `numbers`; the length for a last n."""
    # In blocks, because the indices of all flags take eight times their memory.
    counts = [int(np.count_nonzero(flags[i : i + _BLOCK])) for i in range(0, len(flags), _BLOCK)]
    before = np.cumsum(np.array([0, *counts]))
    found = []
    for number in numbers:
        block = int(np.searchsorted(before, number, "right")) - 1
        inside = np.flatnonzero(flags[block * _BLOCK : (block + 1) * _BLOCK])
        last = block == len(before) - 1
        found.append(len(flags) if last else block * _BLOCK + int(inside[number - before[block]]))
    return found


class Split(NamedTuple):
    """Training rows and validation rows of a dataset.

    Attributes:
        episodes: The dataset, with the weights that a function returned.
        starts: True in the first row of each episode, `(T,)`.
        training: Flags of the rows to train on, `(T,)`: those of the training episodes with a weight above 0.
        validation: The same for the episodes that are held out.
        scale: Mean of the weights of the training rows.
    """

    episodes: Episodes
    starts: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    scale: float


def split(dataset: Episodes, function: Callable[[Episodes], Any] | None, share: float | None) -> Split:
    """Splits a dataset by episodes, and calls the function of weights for each of them.

    Raises:
        ValueError: Validation episodes are asked for and cannot be had, or no row has a weight.
    """
    count, known = len(dataset.actions), dataset.starts is not None
    starts = np.arange(count) == 0 if dataset.starts is None else np.asarray(dataset.starts[:], bool)
    begins = np.flatnonzero(starts)
    if function is not None:
        dataset = dataset._replace(weights=_weights(dataset, function, begins))
    weighted = np.ones(count, bool)
    if dataset.weights is not None:
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            weighted[block] = np.asarray(dataset.weights[block]) > 0
    # An episode without any weight is no episode to train on or to hold out.
    useful = np.flatnonzero(np.logical_or.reduceat(weighted, begins))
    number = len(useful)
    if share is None:
        share = _DEFAULT_SHARE if known and number >= _ENOUGH_EPISODES else 0.0
    if not number:
        raise ValueError("weights: expected a number above 0 for some row, got 0 for all. Correct the weights.")
    held_out = np.zeros(len(begins), bool)
    if share:
        if not known or number < 2:
            raise ValueError(
                f"validation_share: expected a dataset of 2 or more episodes to hold some out, got "
                f"{number if known else 'rows without `starts`'}. Mark the first row of each episode in `starts`, or "
                f"set validation_share=0."
            )
        # The same episodes for every seed, so that trainings can be compared.
        order = np.asarray(permutation(jax.random.key(0, impl="threefry2x32"), number))
        held_out[useful[order[: min(max(1, round(share * number)), number - 1)]]] = True
    # An array of zeros takes no memory before it is written.
    validation = np.repeat(held_out, np.diff(np.append(begins, count))) if share else np.zeros(count, bool)
    training, validation, scale = weighted & ~validation, weighted & validation, 1.0
    if dataset.weights is not None:
        total = 0.0
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            total += float(np.sum(np.asarray(dataset.weights[block])[training[block]], dtype=np.float64))
        scale = total / np.count_nonzero(training)
    return Split(dataset, starts, training, validation, scale)


def _weights(dataset: Episodes, function: Callable[[Episodes], Any], begins: np.ndarray) -> np.ndarray:
    """Weight of each row, from a function of each episode."""
    if dataset.weights is not None or dataset.starts is None:
        got = "weights in the dataset too" if dataset.weights is not None else "rows without `starts`"
        raise ValueError(f"weights: expected a function of the episodes of a dataset, got {got}. Leave one out.")
    count = len(dataset.actions)
    found = np.empty(count, np.float32)
    for episode, (begin, end) in enumerate(zip(begins, np.append(begins[1:], count), strict=True)):
        with np.errstate(over="ignore"):  # Numbers beyond float32 become infinite and are refused.
            values = np.asarray(function(data.rows(dataset, slice(int(begin), int(end)))), np.float32)
        if values.shape != (end - begin,) or not np.isfinite(values).all() or (values < 0).any():
            got = f"from {values.min()} to {values.max()}" if values.shape == (end - begin,) else values.shape
            raise ValueError(
                f"weights: expected {end - begin} finite numbers of 0 or more for episode {episode}, got {got}. Return "
                f"one weight for each row."
            )
        found[begin:end] = values
    return found


def statistics(source: Source, counted: np.ndarray, normalizes: bool) -> normalize.Normalizer:
    """Statistics of the observations in the rows `counted`; each row counts once, whatever its weight."""
    found = first_statistics(spaces.zeros(source.space))
    # Small chunks, because sums over images take several times their size.
    rows = Chunks(source._replace(length=None, burn_in=0), counted, _STATISTICS_SIZE, 1)
    for index in range(len(rows) if normalizes else 0):
        found = normalize.update(found, rows[index].observations)
    return found


def has_images(space: Any) -> bool:
    """True if a part of the observations is an image of dtype uint8, which `shifted` shifts."""
    return any(jax.tree.leaves(jax.tree.map(_is_image, spaces.zeros(space, (), np.full))))


def shifted(space: Any, observations: Any, key: Array, most: int) -> Any:
    """Shifts each image of `(samples, …)` by up to `most` pixels in both directions; the edges are repeated.

    All images of a sample, and of all steps of a sequence, have the same shift.

    Source:
        Yarats, Kostrikov and Fergus 2021, image augmentation is all you need (arXiv:2004.13649).
    """
    example = spaces.zeros(space, (), np.full)
    count = len(jax.tree.leaves(observations)[0])
    shifts = jax.random.randint(key, (count, 2), -most, most + 1)

    def shift(shape: Any, leaf: Array) -> Array:
        if not _is_image(shape):
            return leaf
        # Axes of an image are height and width, and then channels if there are three.
        axes = (-2, -1) if shape.ndim == 2 else (-3, -2)

        def one(image: Array, offsets: Array) -> Array:
            for axis, offset in zip(axes, offsets, strict=True):
                length = image.shape[axis]
                image = jnp.take(image, jnp.clip(jnp.arange(length) + offset, 0, length - 1), axis)
            return image

        return jax.vmap(one)(leaf, shifts)

    return jax.tree.map(shift, example, observations)


def _is_image(leaf: Any) -> bool:
    return leaf.dtype == np.uint8 and leaf.ndim > 1
