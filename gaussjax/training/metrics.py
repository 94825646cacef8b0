"""Metrics of a step of a training, about its episodes and its actions."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import like_actions
from gaussjax.policy import Policy
from gaussjax.rollout.compiled import EpisodeSums

# Number of episodes that the metric `recent_return` averages at least, once there are as many.
RECENT = 100
# Means that are 0 only if nothing was averaged, each with all means over the same episodes or gradient steps.
_MEANS = {
    "episode_length": ("episode_return", "episode_length", "recent_return"),
    "evaluation_length": ("evaluation_return", "evaluation_length"),
    "temperature": (
        *("critic_loss", "actor_loss", "value", "entropy"),
        *("temperature", "std", "log_std_clipped", "saturation"),
    ),
}


def episode_metrics(ended: EpisodeSums, recent: EpisodeSums) -> tuple[EpisodeSums, dict[str, Any]]:
    """Adds the episodes of a step to the recent ones, and computes the metrics of episodes.

    Args:
        ended: Sums over the episodes that ended in this step.
        recent: Sums for each of the latest steps in which any ended, the newest first, `(RECENT,)`.

    Returns:
        The new recent sums, and a dict: `episodes`, the number of `ended`; `episode_return` and `episode_length`, means
        over the latest step in which any ended; `recent_return`, the mean over the latest steps that have RECENT
        episodes together; and their number `recent_episodes`. Means over no episode are 0.

    Example:
        >>> none, two = EpisodeSums(0.0, 0.0, 0.0), EpisodeSums(2.0, -6.0, 400.0)
        >>> recent, _ = episode_metrics(two, EpisodeSums(*np.zeros((3, RECENT))))
        >>> metrics = episode_metrics(none, recent)[1]
        >>> [float(metrics[name]) for name in ("episodes", "episode_return", "recent_return", "recent_episodes")]
        [0.0, -3.0, -3.0, 2.0]
    """
    xp: Any = jnp if isinstance(recent.count, jax.Array) else np
    pairs = zip(ended, recent, strict=True)
    added = [xp.concatenate([xp.reshape(new, (1,)), old[:-1]]) for new, old in pairs]
    recent = EpisodeSums(*(xp.where(ended.count > 0, new, old) for new, old in zip(added, recent, strict=True)))
    enough = xp.cumsum(recent.count) - recent.count >= RECENT
    returns, counts = (xp.sum(xp.where(enough, 0.0, sums)) for sums in (recent.returns, recent.count))
    # No NaN for a mean over nothing: jax_debug_nans would raise.
    count = xp.maximum(recent.count[0], 1.0)
    return recent, {
        "episodes": ended.count,
        "episode_return": recent.returns[0] / count,
        "episode_length": recent.lengths[0] / count,
        "recent_return": returns / xp.maximum(counts, 1.0),
        "recent_episodes": counts,
    }


def saturation(policy: Policy, actions: Float[Array, "*batch act"]) -> Float[Array, ""]:
    """Fraction of action components at a bound of the Box, before or after the clip to the Box; from 0 to 1.

    Actions of a squashed policy never reach a bound, so components closer to it than 1% of half the Box's width
    count as well (`policy.kind.saturation_margin`). No component counts at an infinite bound.
    """
    low, high = spaces.bounds(policy.spec.action_space)
    margin = policy.kind.saturation_margin * np.nan_to_num(0.5 * high - 0.5 * low, posinf=0.0)
    low, high = like_actions(low + margin, high - margin, actions)
    return jnp.mean((actions <= low) | (actions >= high), dtype=jnp.float32)


def log_std_clipped(policy: Policy, log_std: Float[Array, "*batch act"]) -> Float[Array, ""]:
    """Fraction of clipped log standard deviations at `min_log_std` or `max_log_std`, where their gradient is 0."""
    options = dict(policy.spec.options)
    if not options.get("clip_log_std"):
        return jnp.zeros(())
    clipped = (log_std <= options["min_log_std"]) | (log_std >= options["max_log_std"])
    return jnp.mean(clipped, dtype=jnp.float32)


def host_metrics(
    steps: int, taken: int, start: float, ended: EpisodeSums, recent: EpisodeSums
) -> tuple[EpisodeSums, dict[str, Any]]:
    """The results of `episode_metrics` as numbers, with the counter and the speed of a step on the host."""
    recent, metrics = episode_metrics(ended, recent)
    speed = {"step": steps, "steps_per_second": taken / (time.perf_counter() - start)}
    return recent, {**speed, **{name: float(value) for name, value in metrics.items()}}


def without_empty_means(row: Mapping[str, float]) -> dict[str, float]:
    """Metrics for a file or a screen, with NaN in place of each mean over nothing.

    Example:
        >>> without_empty_means({"episodes": 0.0, "episode_return": 0.0, "episode_length": 0.0})
        {'episodes': 0.0, 'episode_return': nan, 'episode_length': nan}
    """
    empty = {name for witness, names in _MEANS.items() if row.get(witness) == 0.0 for name in names}
    return {name: math.nan if name in empty else value for name, value in row.items()}
