"""The saturation metric: the fraction of action components at a bound of the Box."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import like_actions
from gaussjax.policy import Policy


def saturation(policy: Policy, actions: Float[Array, "*batch act"]) -> Float[Array, ""]:
    """Fraction of action components at a bound of the Box, from 0 to 1.

    Actions of a squashed policy never reach a bound, so components closer to it than 1% of half the Box's width
    count as well (`policy.kind.saturation_margin`). No component counts at an infinite bound.

    Args:
        policy: The policy.
        actions: Actions of the policy, before or after the clip to the Box.

    Returns:
        A float32 scalar.

    Example:
        >>> import gaussjax
        >>> box = gaussjax.spaces.Box(-2.0, 2.0, (1,))
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, box, clip_actions=True)
        >>> float(saturation(policy, jnp.array([[1.99], [2.0], [-3.0], [0.0]])))
        0.5
    """
    low, high = (np.asarray(bound, np.float32) for bound in spaces.bounds(policy.spec.action_space))
    if policy.kind.saturation_margin:
        margin = policy.kind.saturation_margin * 0.5 * (high - low)
        low, high = low + margin, high - margin
    low, high = like_actions(low, high, actions)
    return jnp.mean((actions <= low) | (actions >= high), dtype=jnp.float32)
