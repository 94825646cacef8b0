"""Training samples of cloning: rows, or sequences of rows for a recurrent policy, read from episodes in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
        space: Space of the observations.
        burn_in: Rows before a sequence.
        length: Rows of a sequence, or None for a policy without memory.
    """

    episodes: Episodes
    starts: np.ndarray
    space: Any
    burn_in: int
    length: int | None

    def read(self, first: np.ndarray, weights: np.ndarray) -> Samples:
        """Samples that begin in the rows `first`, in increasing order; `weights` has one number for each row."""
        rows = first if self.length is None else first[:, None] + np.arange(-self.burn_in, self.length)
        # Before the first row and after the last one its copies stand, with no weight.
        inside = np.clip(rows, 0, len(weights) - 1)
        observations, actions = self._rows(inside.reshape(-1))
        kept = np.where(rows == inside, weights[inside], np.float32(0))
        observations, actions = jax.tree.map(
            lambda leaf: leaf.reshape(*rows.shape, *leaf.shape[1:]), (observations, actions)
        )
        resets: Any = ()
        if self.length is not None:
            kept, resets = kept[:, self.burn_in :], self.starts[inside]
        return Samples(observations, actions, *jax.tree.map(jnp.asarray, (kept, resets)))

    def _rows(self, rows: np.ndarray) -> tuple[Any, Array]:
        """Observations and actions of rows in nearly increasing order, which are read by slices."""
        ends = np.flatnonzero(np.abs(np.diff(rows)) > _GAP + self.burn_in) + 1
        blocks = []
        for part in np.split(rows, ends):
            low = int(part.min())
            found = data.rows(self.episodes, slice(low, int(part.max()) + 1))
            taken = jax.tree.map(lambda leaf: leaf[part - low], (found.observations, found.actions))  # noqa: B023
            blocks.append(taken)
        whole = blocks[0] if len(blocks) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *blocks)
        observations, _ = spaces.cast(self.space, whole[0])
        return observations, jnp.asarray(whole[1].reshape(len(rows), -1), jnp.float32)


class Chunks:
    """Samples in chunks, which are read when they are asked for.

    Args:
        source: Episodes and the form of the samples.
        weights: Weight of each row, `(T,)`; rows with weight 0 are in no sample, or have no loss in a sequence.
        size: Bytes of a chunk.
        multiple: Number of samples of which a chunk is a multiple; samples without weight fill the rest up.
    """

    def __init__(self, source: Source, weights: np.ndarray, size: int, multiple: int = 1):
        self.source, self.weights, self.multiple = source, weights, multiple
        first = np.arange(len(weights), dtype=np.int64)
        if source.length is None:
            self.first = first[weights > 0]
        else:
            self.first = first[:: source.length][np.logical_or.reduceat(weights > 0, first[:: source.length])]
        example = data.rows(source.episodes, slice(0, 1))
        observation, _ = spaces.cast(source.space, example.observations)
        numbers = [*jax.tree.leaves(observation), np.float32(example.actions)]
        rows = 1 if source.length is None else source.length + source.burn_in
        sample = rows * sum(leaf.nbytes for leaf in numbers)
        count = len(self.first)
        parts = min(max(1, math.ceil(count * sample / size)), max(1, count // multiple))
        self.edges = np.linspace(0, count, parts + 1).astype(int)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, index: int) -> Samples:
        first = self.first[self.edges[index] : self.edges[index + 1]]
        samples = self.source.read(first, self.weights)
        missing = -len(first) % self.multiple
        if not missing:
            return samples

        def filled(leaf: Array) -> Array:
            return jnp.concatenate([leaf, jnp.zeros((missing, *leaf.shape[1:]), leaf.dtype)])

        return jax.tree.map(filled, samples)


def split(dataset: Episodes, weights: Any, share: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First rows of episodes, weights of the training rows and weights of the validation rows, each `(T,)`.

    A row has weight 0 in the set that it is not in. Weights have a mean of 1 over the training rows that have any.

    Raises:
        ValueError: Validation episodes are asked for and cannot be had, or no training row has a weight.
    """
    count = len(dataset.actions)
    starts = np.zeros(count, bool) if dataset.starts is None else np.array(dataset.starts[:], bool)
    starts[0] = True
    begins = np.flatnonzero(starts)
    found = _weights(dataset, weights, begins)
    known = dataset.starts is not None
    number = len(begins)
    if share is None:
        share = _DEFAULT_SHARE if known and number >= _ENOUGH_EPISODES else 0.0
    held_out = np.zeros(number, bool)
    if share:
        if not known or number < 2:
            raise ValueError(
                f"validation_share: expected a dataset of 2 or more episodes to hold some out, got "
                f"{'1' if known else 'rows without `starts`'}. Mark the first row of each episode in `starts`, or set "
                f"validation_share=0."
            )
        # The same episodes for every seed, so that trainings can be compared.
        order = np.asarray(permutation(jax.random.key(0), number))
        held_out[order[: min(max(1, round(share * number)), number - 1)]] = True
    validation = np.repeat(held_out, np.diff([*begins, count]))
    parts = np.where(validation, np.float32(0), found), np.where(validation, found, np.float32(0))
    for part, rows in zip(parts, (~validation, validation), strict=True):
        if rows.any() and not part.any():
            which = "training" if part is parts[0] else "validation"
            raise ValueError(
                f"weights: expected a number above 0 for some {which} row, got 0 for all. Correct the weights."
            )
    scale = np.mean(parts[0][parts[0] > 0], dtype=np.float64)
    return starts, *(np.asarray(part / scale, np.float32) for part in parts)


def _weights(dataset: Episodes, function: Callable[[Episodes], Any] | None, begins: np.ndarray) -> np.ndarray:
    """Weight of each row, from the dataset or from a function of each episode."""
    count = len(dataset.actions)
    if function is None:
        return np.ones(count, np.float32) if dataset.weights is None else np.array(dataset.weights[:], np.float32)
    if dataset.weights is not None or dataset.starts is None:
        got = "weights in the dataset too" if dataset.weights is not None else "rows without `starts`"
        raise ValueError(f"weights: expected a function of the episodes of a dataset, got {got}. Leave one out.")
    found = np.empty(count, np.float32)
    for episode, (begin, end) in enumerate(zip(begins, [*begins[1:], count], strict=True)):
        values = np.asarray(function(data.rows(dataset, slice(int(begin), int(end)))), np.float32)
        if values.shape != (end - begin,) or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                f"weights: expected {end - begin} finite numbers of 0 or more for episode {episode}, got shape "
                f"{values.shape}{'' if values.shape != (end - begin,) else f' from {values.min()} to {values.max()}'}. "
                f"Return one weight for each row."
            )
        found[begin:end] = values
    return found


def statistics(source: Source, weights: np.ndarray, size: int) -> normalize.Normalizer:
    """Statistics of the observations in all rows with a weight; each row counts once, whatever its weight."""
    rows = Chunks(source._replace(length=None, burn_in=0), weights, size)
    found: Any = None
    for samples in _each(rows):
        if found is None:
            found = first_statistics(jax.tree.map(lambda leaf: leaf[0], samples.observations))
        found = normalize.update(found, samples.observations)
    return found


def _each(chunks: Chunks) -> Iterator[Samples]:
    return (chunks[index] for index in range(len(chunks)))


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
