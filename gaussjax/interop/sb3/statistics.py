"""The observation statistics of Stable-Baselines3's VecNormalize, read without unpickling an object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize, spaces
from gaussjax.core import untrusted
from gaussjax.core.text import quoted
from gaussjax.interop import converted, pickles

_REPAIR = "Pass a file that VecNormalize.save wrote, or statistics of gaussjax.normalize."


def read(statistics: Any, space: spaces.Space) -> normalize.Normalizer:
    """Returns statistics nested like the space, of a file of VecNormalize or of an argument; None for None."""
    if not isinstance(statistics, (str, os.PathLike)):
        normalize.check(statistics, "statistics")
        return statistics
    path = Path(statistics)
    with converted.opened(path, "VecNormalize", _REPAIR) as (file, size):
        found = pickles.unpickle(file.read(), None)
        state = found.state if isinstance(found, pickles.Record) else None
        needed = ("norm_obs", "obs_rms", "epsilon", "clip_obs")
        if not isinstance(state, dict) or not set(needed) <= set(state):
            raise ValueError(f"no object with the attributes {', '.join(needed)}")
        if not state["norm_obs"]:
            return None
        moments = state["obs_rms"]
        options = float(pickles.array(state["epsilon"])), float(pickles.array(state["clip_obs"]))
        untrusted.refuse_large(moments, converted.MOST_ENTRIES, untrusted.budget(size))
        if isinstance(space, spaces.Dict):
            keys = state.get("norm_obs_keys") or list(pickles.expect(moments, dict))
            parts = {name: _part(moments[name], *options) if name in keys else None for name, _ in space.items}
        else:
            parts = _part(moments, *options)
    _check(path, parts, space, "observations")
    return parts


def _part(record: Any, epsilon: float, clip: float) -> normalize.Statistics:
    state = pickles.expect(pickles.expect(record, pickles.Record).state, dict)
    mean, variance, count = (np.asarray(pickles.array(state[name]), np.float64) for name in ("mean", "var", "count"))
    # `normalize.apply` adds 1e-8 to the variance, as VecNormalize does by default.
    variance = variance + (epsilon - 1e-8)
    if not ((variance >= 0) & np.isfinite(variance) & np.isfinite(mean)).all():
        raise ValueError(f"variances and an epsilon of {epsilon} whose sum is below 1e-8")
    count = max(float(count.reshape(())), 1.0)
    return jax.tree.map(jnp.asarray, normalize.Statistics(np.float64(count), mean, variance * count, clip))


def _check(path: Path, parts: Any, space: spaces.Space, name: str) -> None:
    if parts is None:
        return
    if isinstance(space, spaces.Dict):
        for key, inner in space.items:
            _check(path, parts[key], inner, key)
    elif not isinstance(space, spaces.Box) or parts.mean.shape != space.shape:
        raise ValueError(
            f"statistics: expected those of {quoted(space)} for {name}, got the shape {parts.mean.shape} in {path}. "
            f"Pass the VecNormalize of the same training."
        )
