"""Adapter for environments of brax and mujoco_playground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.envs.environment import Environment, Step, at_limit, imported


def from_brax(environment: Any, max_steps: int | None = None) -> Environment:
    """Converts an environment of brax or mujoco_playground to an `Environment`.

    A state with `info["truncation"]`, which brax's `EpisodeWrapper` adds, counts as truncated and not as terminated.

    Args:
        environment: Object with `observation_size`, `action_size`, `reset(key)` and `step(state, action)`, without
            wrappers that reset it or that make copies. States have `obs`, `reward` and `done`; actions are in [-1, 1].
        max_steps: Number of steps after which an episode is truncated, or None.

    Returns:
        The environment as two pure functions and two spaces.

    Raises:
        ValueError: The environment resets itself; its function `reset` raises this error.

    Example:
        >>> import jax
        >>> from types import SimpleNamespace as Namespace
        >>> state_at = lambda x: Namespace(obs=x, reward=-jnp.abs(x[0]), done=jnp.zeros(()))
        >>> reset, step = lambda key: state_at(jnp.zeros(1)), lambda state, action: state_at(state.obs + action)
        >>> line = Namespace(observation_size=1, action_size=1, reset=reset, step=step)
        >>> environment = from_brax(line, max_steps=1)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).truncated)
        True
    """

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        state = environment.reset(key)
        own = [name for name in _info(state) if name.startswith(("first_", "AutoResetWrapper"))]
        if own:
            raise ValueError(
                f"environment: expected one that does not reset itself, got one whose states have info[{own[0]!r}]. "
                f"Call from_brax(environment.unwrapped, max_steps=1000)."
            )
        return (state, jnp.zeros((), jnp.int32)), state.obs

    def step(state: Any, action: Array) -> Step:
        state, steps = environment.step(state[0], action), state[1] + 1
        done = state.done.astype(bool)
        cut = done & jnp.asarray(_info(state).get("truncation", False)).astype(bool)
        terminated = done & ~cut
        return Step((state, steps), state.obs, state.reward, terminated, cut | at_limit(done, steps, max_steps))

    size = environment.observation_size
    parts = [(name, spaces.as_space(part)) for name, part in size.items()] if isinstance(size, Mapping) else []
    observation_space = spaces.Dict(tuple(parts)) if parts else spaces.as_space(size)
    return Environment(reset, step, observation_space, spaces.Box(-1.0, 1.0, (environment.action_size,)))


def _info(state: Any) -> Mapping[str, Any]:
    return getattr(state, "info", {})


def load_brax(name: str, max_steps: int | None = None, **options: Any) -> Environment:
    """Makes an environment of brax by its name; an episode has 1000 steps unless `max_steps` says otherwise."""
    package = imported("brax.envs", "brax==0.14.2")
    known = {key: key for key in sorted(package._envs)}
    made = package.get_environment(choose(known, name, "environment of brax"), **options)
    return from_brax(made, 1000 if max_steps is None else max_steps)


def load_playground(name: str, max_steps: int | None = None, **options: Any) -> Environment:
    """Makes an environment of mujoco_playground by its name, with its own time limit unless `max_steps` is given.

    The options replace entries of its config; `impl` is "jax" unless it is among them.
    """
    registry = imported("mujoco_playground", "playground==0.2.0").registry
    name = choose({key: key for key in registry.ALL_ENVS}, name, "environment of mujoco_playground")
    config = registry.get_default_config(name)
    overrides = {**({"impl": "jax"} if "impl" in config else {}), **options}
    made = registry.load(name, config_overrides=overrides)
    return from_brax(made, int(config.episode_length) if max_steps is None else max_steps)
