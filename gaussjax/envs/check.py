"""What the two functions of a JAX environment return, looked at while they are traced.

Shapes, types and structure alone: nothing is computed, and a compiled program holds nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gaussjax import envs, spaces
from gaussjax.core.trees import differences

if TYPE_CHECKING:
    from jaxtyping import Array


def reset(environment: envs.Environment, key: Array) -> tuple[Any, Array]:
    """`environment.reset(key)`: a state and an observation of the space.

    Raises:
        TypeError: It is no pair, or the observation's type is not that of the space.
        ValueError: The observation's shape is not that of the space.
    """
    begun = environment.reset(key)
    if not isinstance(begun, (tuple, list)) or len(begun) != 2:
        raise TypeError(f"reset: expected (state, observation), got {_kind(begun)}. Return both.")
    state, observation = begun
    _element(environment.observation_space, observation, "reset.observation")
    return state, observation


def step(environment: envs.Environment, state: Any, observation: Array, action: Array) -> envs.Step:
    """`environment.step(state, action)`: a `Step` that can follow that state and observation.

    The action comes flat, and is handed on in the shape of the action space.

    Raises:
        TypeError: It is no `Step`, or an end is not told as a bool.
        ValueError: A field has another shape, or state and observation are unlike those before.
    """
    # Policies act in one row of numbers; an environment is given what its space says.
    stepped = environment.step(state, action.reshape(spaces.action_box(environment.action_space).shape))
    if not isinstance(stepped, envs.Step):
        raise TypeError(
            f"step: expected a gaussjax.envs.Step, got {_kind(stepped)}. Return envs.Step(state, observation, reward, "
            f"terminated, truncated)."
        )
    for field in ("reward", "terminated", "truncated"):
        value = getattr(stepped, field)
        if jnp.shape(value) != ():
            raise ValueError(
                f"step.{field}: expected shape (), got {jnp.shape(value)}. It is of one environment, which is vmapped; "
                f"use .reshape(())."
            )
        if field != "reward" and jnp.result_type(value) != jnp.bool_:
            raise TypeError(f"step.{field}: expected bool, got {jnp.result_type(value)}. Use .astype(bool).")
    _element(environment.observation_space, stepped.observation, "step.observation")
    _alike(stepped.observation, observation, "step.observation")
    _alike(stepped.state, state, "step.state")
    return stepped


def _element(space: Any, observation: Any, name: str) -> None:
    """Refuses what is not one element of the observation space."""
    batch_shape = spaces.cast(spaces.as_space(space), observation, name)[1]
    if batch_shape:
        raise ValueError(
            f"{name}: expected one element of the observation_space, got a batch of shape {batch_shape}. An "
            f"environment is one and is vmapped; use .reshape, or correct the space."
        )


def _alike(value: Any, before: Any, name: str) -> None:
    """Refuses a pytree that a loop, which began with another, cannot carry."""
    came, wanted = jax.eval_shape(lambda *trees: trees, value, before)  # Numbers of Python are arrays too.
    faults = differences(_leaves(came, name), _leaves(wanted, name))
    if not faults and jax.tree.structure(came) != jax.tree.structure(wanted):
        faults = [f"{name}: expected {jax.tree.structure(wanted)}, got {jax.tree.structure(came)}"]
    if faults:
        raise ValueError(
            f"{'; '.join(faults)}. A compiled loop carries on what reset gave: keep its structure, shapes and types, "
            f"with .reshape and .astype."
        )


def _leaves(tree: Any, name: str) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{name}{jax.tree_util.keystr(path)}": f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
