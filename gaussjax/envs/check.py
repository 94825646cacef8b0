"""Validation of the reset and step functions of a JAX environment, which happens only while they are traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.core.text import listed
from gaussjax.core.trees import differences
from gaussjax.envs.environment import Environment, Step


def reset(environment: Environment, key: Key[Array, ""]) -> tuple[Any, Array]:
    """Resets the environment and checks that the observation is one element of the observation space."""
    result = environment.reset(key)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(f"reset: expected (state, observation), got {_kind(result)}. Return both.")
    state, observation = result
    _check_element(environment.observation_space, observation, "reset.observation")
    return state, observation


def step(environment: Environment, state: Any, observation: Array, action: Array) -> Step:
    """Steps the environment with a flat action and checks the shapes and dtypes that a compiled loop needs."""
    stepped = environment.step(state, action.reshape(spaces.action_box(environment.action_space).shape))
    if not isinstance(stepped, Step):
        raise TypeError(
            f"step: expected a gaussjax.envs.Step, got {_kind(stepped)}. Return envs.Step(state, observation, reward, "
            f"terminated, truncated)."
        )
    for field in ("reward", "terminated", "truncated"):
        value = getattr(stepped, field)
        if jnp.shape(value) != ():
            raise ValueError(
                f"step.{field}: expected shape (), got {jnp.shape(value)}. The environment must be a single one, since "
                f"the training loop vmaps it; use .reshape(())."
            )
        if field != "reward" and jnp.result_type(value) != jnp.bool_:
            raise TypeError(f"step.{field}: expected bool, got {jnp.result_type(value)}. Use .astype(bool).")
    _check_element(environment.observation_space, stepped.observation, "step.observation")
    _check_alike(stepped.observation, observation, "step.observation")
    _check_alike(stepped.state, state, "step.state")
    return stepped


def _check_element(space: Any, observation: Any, name: str) -> None:
    """Raises an error unless the observation is one element of the space."""
    batch_shape = spaces.cast(spaces.as_space(space), observation, name)[1]
    if batch_shape:
        raise ValueError(
            f"{name}: expected one element of the observation_space, got a batch of shape {batch_shape}. The "
            f"environment must be a single one, since it is vmapped; use .reshape, or correct the space."
        )


def _check_alike(value: Any, before: Any, name: str) -> None:
    """Raises an error unless `value` and `before` have the same structure, shapes and dtypes."""
    # eval_shape is used because it gives a shape and a dtype to Python numbers as well.
    got, expected = jax.eval_shape(lambda *trees: trees, value, before)
    faults = differences(_leaves(got, name), _leaves(expected, name))
    if not faults and jax.tree.structure(got) != jax.tree.structure(expected):
        faults = [f"{name}: expected {jax.tree.structure(expected)}, got {jax.tree.structure(got)}"]
    if faults:
        raise ValueError(
            f"{listed(faults, '; ')}. A compiled loop carries the result of reset: step must keep its structure, "
            f"shapes and dtypes. Use .reshape and .astype."
        )


def _leaves(tree: Any, name: str) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{name}{jax.tree_util.keystr(path)}": f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
