"""Adam that is told which gradients to leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Bool


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformationExtraArgs:
    """Optax's transformation of that name, whose `update` takes `usable` too: a bool, whether there is a step at all.

    Where it is false, the updates are zero and the state stays as it was, whatever the gradients hold. To choose after
    the update instead, as `optax.apply_if_finite` does, takes as many passes over the parameters again: here what is
    chosen is what the direction is computed from, so nothing else reads the old moments, and XLA overwrites them.

    Args:
        b1: Decay of the mean of the gradients.
        b2: Decay of the mean of their squares.
        eps: Added to the root of the latter.

    Returns:
        The transformation; its state is Optax's `ScaleByAdamState`.

    Example:
        >>> optimizer = scale_by_adam()
        >>> state = optimizer.init(jnp.zeros(2))
        >>> updates, state = optimizer.update(jnp.array([1.0, jnp.nan]), state, usable=jnp.asarray(False))
        >>> updates.tolist(), state.mu.tolist(), int(state.count)
        ([0.0, 0.0], [0.0, 0.0], 0)
        >>> updates, state = optimizer.update(jnp.array([0.5, -2.0]), state, usable=jnp.asarray(True))
        >>> updates.round(3).tolist(), int(state.count)
        ([1.0, -1.0], 1)

    Source:
        Kingma and Ba 2015, Adam (arXiv:1412.6980).
    """

    def update(
        updates: Any, state: Any, params: Any = None, *, usable: Bool[Array, ""] | bool = True, **others: Any
    ) -> tuple[Any, Any]:
        del params, others

        def chosen(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda new, old: jnp.where(usable, new, old), new, old)

        mu = chosen(optax.tree.update_moment(updates, state.mu, b1, 1), state.mu)
        nu = chosen(optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2), state.nu)
        count = chosen(optax.safe_increment(state.count), state.count)
        directions = jax.tree.map(
            lambda mean, square: jnp.where(usable, mean / (jnp.sqrt(square) + eps), 0.0),
            optax.tree.bias_correction(mu, b1, count),
            optax.tree.bias_correction(nu, b2, count),
        )
        return directions, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam(b1, b2, eps).init, update)
