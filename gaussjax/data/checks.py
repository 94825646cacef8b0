"""Checks of recorded rows against spaces; a bad row is named by its file, its episode and its step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from gaussjax import spaces
from gaussjax.core.text import FileError, quoted
from gaussjax.data.episodes import Episodes, Rows, chunks, is_on_disk
from gaussjax.policy.strict import Limits, action_limits, element_limits
from gaussjax.spaces.arrays import storage
from gaussjax.spaces.rounding import warn_of_lost_changes

_CORRECT = "Correct the values, or leave the episode out."
# Rows that show whether float32 loses the changes of a leaf.
_FIRST = 4096
_WEIGHTS = Limits(np.array(0.0), np.array(np.inf), "weights of 0 or more", "Correct the weights.")


class Form(NamedTuple):
    """Form in which a leaf is stored, and the values that its rows may have.

    Attributes:
        name: File and name of the leaf, for errors.
        shape: Shape of one row.
        dtype: Dtype in which rows are stored.
        limits: Bounds of the entries, or None.
        starts: First rows of episodes, for errors, or None.
        warns: Whether to warn if float32 loses changes of the leaf.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    limits: Limits | None
    starts: Any
    warns: bool = False

    def converted(self, leaf: Any) -> Any:
        """The leaf in this form: in memory and checked, or on disk with a check of each slice that is read."""
        if math.prod(leaf.shape[1:]) != math.prod(self.shape):
            raise FileError(
                f"{self.name}: expected rows of shape {self.shape}, got {tuple(leaf.shape[1:])}. Each step has one row."
            )
        if self.warns and self.dtype == np.float32 and leaf.dtype.itemsize == 8:
            warn_of_lost_changes(np.asarray(leaf[:_FIRST]).reshape(-1, *self.shape), self.name, stacklevel=3)
        checked = Rows((len(leaf), *self.shape), self.dtype, lambda start, stop: self._block(leaf, start, stop))
        if is_on_disk(leaf):
            return checked
        if leaf.dtype != self.dtype:
            return in_memory(checked)
        for part in chunks(checked):
            checked[part]
        return leaf.reshape(checked.shape)

    def _block(self, leaf: Any, start: int, stop: int) -> np.ndarray:
        raw = np.asarray(leaf[start:stop]).reshape(stop - start, *self.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # Numbers beyond float32 become infinite.
            block = raw.astype(self.dtype, copy=False)
        bad, expected, repair = np.zeros(raw.shape, bool), "finite numbers in float32", _CORRECT
        if self.dtype == bool:
            bad, expected = (raw != 0) & (raw != 1), "True or False"
        elif self.dtype == np.float32:
            bad = ~np.isfinite(block)
        if self.limits is not None and not bad.any():
            # Integers are compared before the cast, which could wrap them.
            values = block if self.dtype == np.float32 else raw
            bad = (values < self.limits.low) | (values > self.limits.high)
            expected, repair = self.limits.expected, self.limits.repair
        if self.dtype.kind in "iu" and not bad.any():
            bad, expected, repair = block != raw, f"{self.dtype} numbers", "Round the values to this dtype."
        if bad.any():
            broken = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
            first = int(broken[0])
            raise FileError(
                f"{self.name}: expected {expected}, got {raw[first][bad[first]][0]} in "
                f"{place(self.starts, start + first)} ({len(broken):,} of {len(bad):,} rows). {repair}"
            )
        return block


def place(starts: Any, row: int) -> str:
    """Name of a row: its episode and its step, both counted from 0; or its number, where episodes are unknown."""
    if starts is None:
        return f"row {row}"
    episode, step = -1, row
    for part in chunks(starts):
        begun = np.flatnonzero(starts[part][: max(0, row + 1 - part.start)])
        if len(begun):
            episode, step = episode + len(begun), row - part.start - int(begun[-1])
        if part.stop > row:
            break
    return f"episode {max(episode, 0)}, step {step}"


def in_memory(leaf: Any) -> np.ndarray:
    """Reads all rows, in slices, so that a conversion needs no second copy."""
    whole = np.empty(leaf.shape, leaf.dtype)
    for part in chunks(leaf):
        whole[part] = leaf[part]
    return whole


def check(episodes: Episodes, observation_space: Any, action_space: Any, where: str = "dataset") -> None:
    """Raises ValueError for rows that do not fit the spaces; leaves on disk are read in slices.

    Args:
        episodes: Episodes in memory or on disk.
        observation_space: Space of one observation, in any form that `gaussjax.spaces.as_space` converts; or None.
        action_space: Box of the actions, or None.
        where: Name of the source, with which errors begin.

    Raises:
        ValueError: The lengths differ; a leaf has another structure, shape or dtype than its space; or a row is NaN,
            infinite, no element of a discrete space or outside the Box of the actions. The error names the episode and
            the step.
        TypeError: The action space is not a Box.

    Example:
        >>> check(Episodes(np.zeros((2, 3)), np.array([[0.0], [7.0]])), 3, spaces.Box(-1.0, 1.0, (1,)))
        Traceback (most recent call last):
        gaussjax.core.text.FileError: dataset: actions: expected actions within the Box from [-1.0] to [1.0], got ...
    """
    # As if they were on disk, leaves in memory are converted slice by slice.
    sliced = jax.tree.map(_sliced, arrays_of(episodes, where))
    for leaf in jax.tree.leaves(checked(sliced, observation_space, action_space, where)):
        for part in chunks(leaf):
            leaf[part]


def _sliced(leaf: Any) -> Rows:
    return Rows(leaf.shape, leaf.dtype, lambda start, stop: leaf[start:stop])


def checked(episodes: Episodes, observation_space: Any, action_space: Any, where: str) -> Episodes:
    """Episodes in the dtypes of the spaces: leaves in memory are checked, and leaves on disk when they are read."""
    arrays = arrays_of(episodes, where)
    count = len(arrays.actions)
    for name, tree in arrays._asdict().items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if len(leaf) != count or not count:
                raise FileError(
                    f"{_leaf_name(where, name, path)}: expected one row for each action, got {len(leaf):,} rows and "
                    f"{count:,} actions. Leave out what has no counterpart."
                )
    form = Form(f"{where}: starts", (), np.dtype(bool), None, None)
    starts = None if arrays.starts is None else form.converted(arrays.starts)
    if starts is not None and not starts[:1][0]:
        raise FileError(f"{where}: starts: expected True in the first row, got False. Begin with a whole episode.")
    found = {"starts": starts}
    for name in ("terminated", "truncated", "rewards", "weights"):
        tree = getattr(arrays, name)
        dtype = np.dtype(bool if name in ("terminated", "truncated") else np.float32)
        form = Form(f"{where}: {name}", (), dtype, _WEIGHTS if name == "weights" else None, starts)
        found[name] = None if tree is None else form.converted(tree)
    space_of = {
        "observations": None if observation_space is None else spaces.as_space(observation_space),
        "actions": None if action_space is None else spaces.action_box(action_space),
    }
    for name, space in space_of.items():
        forms = _forms(getattr(arrays, name), name, space, starts, where)
        found[name] = jax.tree.map(Form.converted, forms, getattr(arrays, name), is_leaf=_is_form)
    return Episodes(**found)


def arrays_of(episodes: Episodes, where: str) -> Episodes:
    """Episodes whose leaves are arrays, with a list of rows as one array."""
    return Episodes(*(
        None if value is None else arrays(value, f"{where}: {field}", nested=field == "observations")
        for field, value in episodes._asdict().items()
    ))  # fmt: skip


def arrays(value: Any, name: str, nested: bool) -> Any:
    """A pytree of arrays over time; a list of dicts, one for each step, becomes a dict of arrays.

    Raises:
        FileError: A leaf is no array of real numbers, or there are several where only `nested` fields have them.
    """
    if isinstance(value, (Mapping, tuple)) and not nested:
        raise FileError(f"{name}: expected one array, got several. Only observations have parts.")
    if isinstance(value, list) and value and all(isinstance(step, Mapping) for step in value):
        for i, step in enumerate(value):
            if set(step) != set(value[0]):
                keys = [quoted(sorted(map(str, each))) for each in (value[0], step)]
                raise FileError(
                    f"{name}: expected the keys {keys[0]} as in step 0, got {keys[1]} in step {i}. Give all steps the "
                    f"same keys."
                )
        value = {part: [step[part] for step in value] for part in value[0]}
    if isinstance(value, Mapping):
        if value and set(value) == {f"_index_{i}" for i in range(len(value))}:
            value = tuple(value[f"_index_{i}"] for i in range(len(value)))
        else:
            return {str(part): arrays(values, f"{name}[{part!r}]", nested) for part, values in value.items()}
    if isinstance(value, tuple):
        return tuple(arrays(values, f"{name}[{i}]", nested) for i, values in enumerate(value))
    return _array(value, name)


def _array(value: Any, name: str) -> Any:
    """Converts a value to an array of real numbers with a row for each step; arrays on disk stay there."""
    try:
        found = value if is_on_disk(value) else np.asarray(value)
    except ValueError as error:
        raise FileError(f"{name}: expected rows of equal length, got others. Pad or split them first.") from error
    except (TypeError, RuntimeError) as error:  # Such as a tensor of PyTorch that requires gradients.
        raise FileError(f"{name}: expected an array that NumPy can convert, got another: {error}") from error
    masked = any(isinstance(each, np.ma.MaskedArray) for each in (value if isinstance(value, list) else [value]))
    real = found.dtype.kind in "fiub" or found.dtype.name == "bfloat16"
    if masked or not real or not found.shape:
        kind = "a masked array" if masked else f"{found.dtype} of shape {tuple(found.shape)}"
        raise FileError(f"{name}: expected an array of real numbers with a row for each step, got {kind}.")
    return found


def _forms(tree: Any, name: str, space: Any, starts: Any, where: str) -> Any:
    """Forms of observations or actions, nested like the space; raises FileError for other structures and dtypes."""
    observed = "observations" in name
    if space is None:

        def unfitted(path: Any, leaf: Any) -> Form:
            # Without a space, floating numbers and actions become float32, and other observations stay as they are.
            keeps = leaf.dtype.kind in "iub" and name == "observations"
            dtype = leaf.dtype.newbyteorder("=") if keeps else np.dtype(np.float32)
            shape = tuple(leaf.shape[1:]) or (() if name == "observations" else (1,))
            return Form(_leaf_name(where, name, path), shape, dtype, None, starts, observed)

        return jax.tree_util.tree_map_with_path(unfitted, tree)
    first = jax.tree.map(lambda leaf: np.asarray(leaf[:1]).astype(leaf.dtype.newbyteorder("=")), tree)
    kept = storage(space)
    if jax.tree.structure(first) == jax.tree.structure(kept):
        # A column of a discrete part has one number in each row, and a flat image as many as the image.
        first = jax.tree.map(
            lambda leaf, one: leaf.reshape(1, *one.shape) if leaf.size == math.prod(one.shape) else leaf, first, kept
        )
    try:
        # The errors contain code with the name, so that the source is added to them afterwards.
        cast, _ = spaces.cast(space, first, name)
    except (TypeError, ValueError) as error:
        raise FileError(f"{where}: {error}") from error
    limits = {path: limit._replace(repair=_CORRECT) for path, _, limit in element_limits(space, cast, "")}

    def fitted(path: Any, stored: Any, leaf: Any) -> Form:
        limit, dtype = limits.get(jax.tree_util.keystr(path)), np.dtype(stored.dtype)
        if name == "actions" and isinstance(space, spaces.Box):
            limit = action_limits(space, np.zeros((), np.float32))
            low, high = (side.reshape(stored.shape) for side in (limit.low, limit.high))
            limit = limit._replace(low=low, high=high, repair="Clip them to the Box.")
        elif dtype == np.uint8:
            limit = Limits(np.array(0), np.array(255), "integers from 0 to 255", _CORRECT)
            if leaf.dtype.kind not in "iub":
                raise FileError(
                    f"{_leaf_name(where, name, path)}: expected integers from 0 to 255, got {leaf.dtype}. Convert them "
                    f"with .astype(np.uint8)."
                )
        return Form(_leaf_name(where, name, path), stored.shape, dtype, limit, starts, observed)

    return jax.tree_util.tree_map_with_path(fitted, kept, tree)


def _leaf_name(where: str, name: str, path: Any) -> str:
    return f"{where}: {name}{jax.tree_util.keystr(path)}"


def _is_form(node: Any) -> bool:
    return isinstance(node, Form)
