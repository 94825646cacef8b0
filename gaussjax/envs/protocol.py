"""Validation of the reset and step functions of a JAX environment, which happens only while they are traced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.core.text import listed
from gaussjax.core.trees import differences
from gaussjax.envs.environment import Environment, Step


def checked_reset(environment: Environment, key: Key[Array, ""]) -> tuple[Any, Array]:
    """Resets the environment and checks that the observation is one element of the observation space."""
    result = environment.reset(key)
    for fault in reset_faults(environment, result):
        raise fault
    return result[0], result[1]


def checked_step(environment: Environment, state: Any, observation: Array, action: Array) -> Step:
    """Steps the environment with a flat action and checks the shapes and dtypes that a compiled loop needs."""
    stepped = environment.step(state, action.reshape(spaces.action_box(environment.action_space).shape))
    for fault in step_faults(environment, stepped, state, observation):
        raise fault
    return stepped


def reset_faults(environment: Environment, result: Any) -> Iterator[Exception]:
    """Yields an error for each part of the result of reset that breaks the protocol."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        yield TypeError(f"reset: expected (state, observation), got {described(result)}. Return both.")
        return
    yield from leaf_faults(result[0], "reset.state")
    yield from _element_faults(environment.observation_space, result[1], "reset.observation")


def step_faults(environment: Environment, stepped: Any, state: Any, observation: Any) -> Iterator[Exception]:
    """Yields an error for each part of the result of step that breaks the protocol."""
    if not isinstance(stepped, Step):
        yield TypeError(
            f"step: expected a gaussjax.envs.Step, got {described(stepped)}. Return envs.Step(state, observation, "
            f"reward, terminated, truncated)."
        )
        return
    for field in ("reward", "terminated", "truncated"):
        value = getattr(stepped, field)
        if jnp.shape(value) != ():
            yield ValueError(
                f"step.{field}: expected shape (), got {jnp.shape(value)}. The environment must be a single one, since "
                f"the training loop vmaps it; use .reshape(())."
            )
        if field != "reward" and jnp.result_type(value) != jnp.bool_:
            yield TypeError(f"step.{field}: expected bool, got {jnp.result_type(value)}. Use .astype(bool).")
    yield from _element_faults(environment.observation_space, stepped.observation, "step.observation")
    for value, before, name in ((stepped.observation, observation, "observation"), (stepped.state, state, "state")):
        wrong = list(leaf_faults(value, f"step.{name}"))
        yield from wrong or _change_faults(value, before, f"step.{name}")


def _element_faults(space: Any, observation: Any, name: str) -> Iterator[Exception]:
    """Yields an error unless the observation is one element of the space."""
    try:
        batch_shape = spaces.cast(spaces.as_space(space), observation, name)[1]
    except (TypeError, ValueError) as error:
        yield error
        return
    if batch_shape:
        yield ValueError(
            f"{name}: expected one element of the observation_space, got a batch of shape {batch_shape}. The "
            f"environment must be a single one, since it is vmapped; use .reshape, or correct the space."
        )


def leaf_faults(tree: Any, name: str) -> Iterator[Exception]:
    """Yields an error for each leaf that is no array, which neither vmap nor a compiled loop can carry."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
            yield TypeError(
                f"{name}{jax.tree_util.keystr(path)}: expected an array or a number, got {described(leaf)}. A compiled "
                f"loop carries arrays only; keep other values outside the state."
            )


def _change_faults(value: Any, before: Any, name: str) -> Iterator[Exception]:
    """Yields an error unless `value` and `before` have the same structure, shapes and dtypes."""
    # eval_shape is used because it gives a shape and a dtype to Python numbers as well.
    got, expected = jax.eval_shape(lambda *trees: trees, value, before)
    faults = differences(_leaves(got, name), _leaves(expected, name))
    if not faults and jax.tree.structure(got) != jax.tree.structure(expected):
        faults = [f"{name}: expected {jax.tree.structure(expected)}, got {jax.tree.structure(got)}"]
    if faults:
        yield ValueError(
            f"{listed(faults, '; ')}. A compiled loop carries the result of reset: step must keep its structure, "
            f"shapes and dtypes. Use .reshape and .astype."
        )


def _leaves(tree: Any, name: str) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{name}{jax.tree_util.keystr(path)}": f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def described(value: Any) -> str:
    """The kind of a value, with its length if it is a tuple or a list."""
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
