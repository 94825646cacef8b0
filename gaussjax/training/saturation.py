"""How often actions lie at a bound of their Box, where a policy that only bangs against it ends up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from gaussjax import spaces

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from gaussjax.policy import Spec

# tanh never reaches its bounds, so within this part of the half width counts: |tanh(u)| >= 0.99, |u| >= 2.65.
NEAR = 0.01


def saturation(spec: Spec, actions: Float[Array, "*batch act"]) -> Float[Array, ""]:
    """Fraction of action components at a bound, from 0 to 1.

    Of a clipped Gaussian those whose sample lay outside the Box or on its edge; of a squashed one
    those within 1% of half the width of a bound. An open bound is reached by infinity only.

    Args:
        spec: Of the policy.
        actions: As the environment got them, or before the clip: the fraction is the same.

    Returns:
        A float32 scalar.

    Example:
        >>> import gaussjax
        >>> box = gaussjax.spaces.Box(-2.0, 2.0, (1,))
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, box, clip_actions=True)
        >>> float(saturation(policy.spec, jnp.array([[1.99], [2.0], [-3.0], [0.0]])))
        0.5
    """
    low, high = (np.asarray(bound, np.float32) for bound in spaces.bounds(spec.action_space))
    if spec.kind == "squashed_gaussian":
        margin = NEAR * 0.5 * (high - low)
        low, high = low + margin, high - margin
    low, high = (jnp.broadcast_to(jnp.asarray(bound, actions.dtype), actions.shape) for bound in (low, high))
    return jnp.mean((actions <= low) | (actions >= high), dtype=jnp.float32)
