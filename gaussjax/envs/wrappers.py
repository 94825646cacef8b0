"""Noise, delay and stacked frames around a JAX environment. What they need is part of the state, and resets with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.core.arrays import like_actions
from gaussjax.core.compiled import check_number, count
from gaussjax.envs.environment import Environment, Step
from gaussjax.random import keys


def observation_noise(environment: Environment, scale: float | Mapping[str, float]) -> Environment:
    """Environment with normal noise on its observations, which are clipped to their space again.

    Args:
        environment: An environment.
        scale: Standard deviation, in units of the observation. For a Dict it may be a dict with numbers for some of the
            names; the others have no noise. Discrete parts and integers have none.

    Returns:
        The environment with noise; its state also holds a key.

    Raises:
        ValueError: A standard deviation is negative, or a name is not in the space.

    Example:
        >>> from gaussjax import envs
        >>> exact = envs.make_functional("Pendulum-v1")
        >>> state, observation = observation_noise(exact, 0.1).reset(jax.random.key(0))
        >>> bool((observation == exact.reset(jax.random.key(0))[1]).any())
        False
    """
    space = spaces.as_space(environment.observation_space)
    known = {name for name, _ in space.items} if isinstance(space, spaces.Dict) else set()
    scales: dict[Any, Any] = dict(scale) if isinstance(scale, Mapping) else dict.fromkeys(known or [None], scale)
    for name, one in scales.items():
        check_number(one, "scale", "at least 0", lambda number: number >= 0)
        if name not in (known or [None]):
            raise ValueError(f"scale: expected a number for a part of {space}, got one for {name!r}. Leave it out.")

    def noisy(observation: Any, key: Key[Array, ""]) -> Any:
        drawn: list[int] = []

        def add(part: Any, array: Array, name: str | None) -> Array:
            size = scales.get(name, 0.0)
            array = jnp.asarray(array)
            if not size or not isinstance(part, spaces.Box) or not jnp.issubdtype(array.dtype, jnp.floating):
                return array
            drawn.append(0)
            noise = jax.random.normal(keys.fold_in(key, len(drawn)), array.shape, array.dtype)
            return _clipped(part, array + size * noise)

        return _each(add, space, observation)

    def reset(key: Key[Array, ""]) -> tuple[Any, Any]:
        inner_key, noise_key, key = keys.split(key, 3)
        state, observation = environment.reset(inner_key)
        return (state, key), noisy(observation, noise_key)

    def step(state: Any, action: Array) -> Step:
        noise_key, key = keys.split(state[1])
        stepped = environment.step(state[0], action)
        return stepped._replace(state=(stepped.state, key), observation=noisy(stepped.observation, noise_key))

    return environment._replace(reset=reset, step=step)


def action_noise(environment: Environment, scale: float) -> Environment:
    """Environment that adds normal noise to each action and clips the sum to the Box.

    Args:
        environment: An environment.
        scale: Standard deviation, in units of the action.

    Returns:
        The environment with noise; its state also holds a key.

    Raises:
        ValueError: The standard deviation is negative.

    Example:
        >>> from gaussjax import envs
        >>> pendulum = action_noise(envs.make_functional("Pendulum-v1"), 0.5)
        >>> state, _ = pendulum.reset(jax.random.key(0))
        >>> bool(pendulum.step(state, jnp.zeros(1)).observation[2] == 0.0)
        False
    """
    check_number(scale, "scale", "at least 0", lambda number: number >= 0)
    box = spaces.action_box(environment.action_space)

    def reset(key: Key[Array, ""]) -> tuple[Any, Any]:
        inner_key, key = keys.split(key)
        state, observation = environment.reset(inner_key)
        return (state, key), observation

    def step(state: Any, action: Array) -> Step:
        noise_key, key = keys.split(state[1])
        noise = jax.random.normal(noise_key, action.shape, action.dtype)
        stepped = environment.step(state[0], _clipped(box, action + scale * noise))
        return stepped._replace(state=(stepped.state, key))

    return environment._replace(reset=reset, step=step)


def observation_delay(environment: Environment, steps: int) -> Environment:
    """Environment whose observations are several steps old; an episode begins with copies of its first one.

    Args:
        environment: An environment.
        steps: Age of an observation in environment steps, at least 1.

    Returns:
        The environment with late observations; its state also holds those of the last steps.

    Raises:
        ValueError: `steps` is below 1.

    Example:
        >>> from gaussjax import envs
        >>> pendulum = observation_delay(envs.make_functional("Pendulum-v1"), 1)
        >>> state, observation = pendulum.reset(jax.random.key(0))
        >>> bool((pendulum.step(state, jnp.ones(1)).observation == observation).all())
        True
    """
    count(steps, "steps")

    def reset(key: Key[Array, ""]) -> tuple[Any, Any]:
        state, observation = environment.reset(key)
        return (state, _copies(observation, steps)), observation

    def step(state: Any, action: Array) -> Step:
        stepped = environment.step(state[0], action)
        observation, kept = _shifted(state[1], stepped.observation)
        return stepped._replace(state=(stepped.state, kept), observation=observation)

    return environment._replace(reset=reset, step=step)


def action_delay(environment: Environment, steps: int) -> Environment:
    """Environment in which each action is applied several steps later; an episode begins with zeros.

    Args:
        environment: An environment.
        steps: Number of environment steps until an action is applied, at least 1.

    Returns:
        The environment with late actions; its state also holds the waiting ones.

    Raises:
        ValueError: `steps` is below 1.

    Example:
        >>> from gaussjax import envs
        >>> pendulum = action_delay(envs.make_functional("Pendulum-v1"), 2)
        >>> state, _ = pendulum.reset(jax.random.key(0))
        >>> bool((pendulum.step(state, jnp.ones(1)).state[1] == jnp.array([[0.0], [1.0]])).all())
        True
    """
    count(steps, "steps")
    box = spaces.action_box(environment.action_space)

    def reset(key: Key[Array, ""]) -> tuple[Any, Any]:
        state, observation = environment.reset(key)
        # A Box may exclude zero.
        none = _clipped(box, jnp.zeros(box.shape))
        return (state, _copies(none, steps)), observation

    def step(state: Any, action: Array) -> Step:
        late, kept = _shifted(state[1], action)
        stepped = environment.step(state[0], late)
        return stepped._replace(state=(stepped.state, kept))

    return environment._replace(reset=reset, step=step)


def frame_stack(environment: Environment, num_frames: int) -> Environment:
    """Environment whose observations are the last ones side by side, the newest at the end of the last axis.

    An episode begins with copies of its first observation. Images `(height, width, channels)` have `num_frames` times
    the channels.

    Args:
        environment: An environment.
        num_frames: Number of observations, at least 1.

    Returns:
        The environment with stacked observations, and with their space; its state also holds the frames.

    Raises:
        ValueError: `num_frames` is below 1, or a Discrete part does not start at 0.

    Example:
        >>> from gaussjax import envs
        >>> pendulum = frame_stack(envs.make_functional("Pendulum-v1"), 4)
        >>> pendulum.reset(jax.random.key(0))[1].shape, pendulum.observation_space.shape
        ((12,), (12,))
    """
    count(num_frames, "num_frames")
    space = spaces.as_space(environment.observation_space)

    def side_by_side(frames: Any) -> Any:
        def joined(frames: Array) -> Array:
            return jnp.moveaxis(frames, 0, -2).reshape(*frames.shape[1:-1], -1) if frames.ndim > 1 else frames

        return jax.tree.map(joined, frames)

    def reset(key: Key[Array, ""]) -> tuple[Any, Any]:
        state, observation = environment.reset(key)
        frames = _copies(observation, num_frames)
        return (state, frames), side_by_side(frames)

    def step(state: Any, action: Array) -> Step:
        stepped = environment.step(state[0], action)
        _, frames = _shifted(state[1], stepped.observation)
        return stepped._replace(state=(stepped.state, frames), observation=side_by_side(frames))

    return environment._replace(reset=reset, step=step, observation_space=_stacked_space(space, num_frames))


def _stacked_space(space: Any, num_frames: int) -> Any:
    match space:
        case spaces.Dict():
            return spaces.Dict(tuple((name, _stacked_space(inner, num_frames)) for name, inner in space.items))
        case spaces.Tuple():
            return spaces.Tuple(tuple(_stacked_space(inner, num_frames) for inner in space.items))
        case spaces.MultiDiscrete(nvec):
            return spaces.MultiDiscrete(tuple(nvec) * num_frames)
        case spaces.Discrete(n, start):
            if start:
                raise ValueError(f"frame_stack: expected a Discrete space that starts at 0, got {space}. Subtract it.")
            return spaces.MultiDiscrete((n,) * num_frames)
        case _:
            sides = [np.atleast_1d(side.reshape(space.shape)) for side in spaces.bounds(space)]
            low, high = (np.concatenate([side] * num_frames, axis=-1) for side in sides)
            return spaces.Box(low, high, low.shape, space.dtype)


def _each(change: Callable[[Any, Array, str | None], Array], space: Any, value: Any, name: str | None = None) -> Any:
    """Changes each part of an observation by a function of its space, its array and its name in the outermost Dict."""
    match space:
        case spaces.Dict():
            return {key: _each(change, inner, value[key], name or key) for key, inner in space.items}
        case spaces.Tuple():
            return tuple(_each(change, inner, part, name) for inner, part in zip(space.items, value, strict=True))
        case _:
            return change(space, value, name)


def _clipped(box: spaces.Box, array: Array) -> Array:
    flat = array.reshape(-1)
    return jnp.clip(flat, *like_actions(*spaces.bounds(box), flat)).reshape(array.shape)


def _copies(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * number), tree)


def _shifted(rows: Any, new: Any) -> tuple[Any, Any]:
    """The oldest row of each leaf, and the rows without it and with a new one."""
    oldest = jax.tree.map(lambda leaf: leaf[0], rows)
    return oldest, jax.tree.map(lambda leaf, row: jnp.concatenate([leaf[1:], jnp.asarray(row)[None]]), rows, new)
