"""Adapter for environments of brax and mujoco_playground."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.envs.environment import Environment, Step, at_limit, imported
from gaussjax.random import keys


def from_brax(
    environment: Any, max_steps: int | None = None, randomization_fn: Callable[..., Any] | None = None
) -> Environment:
    """Converts an environment of brax or mujoco_playground to an `Environment`.

    A state with `info["truncation"]`, which brax's `EpisodeWrapper` adds, counts as truncated and not as terminated.

    Args:
        environment: Object with `observation_size`, `action_size`, `reset(key)` and `step(state, action)`, without
            wrappers that reset it or that make copies. States have `obs`, `reward` and `done`; actions are in [-1, 1].
        max_steps: Number of steps after which an episode is truncated, or None.
        randomization_fn: Domain randomisation as brax and mujoco_playground have it: a function `(model, keys) ->
            (batched model, axes)`, whose axes are 0 for leaves with a value for each key and None for the others.
            Each reset draws a model, and the episode keeps it.

    Returns:
        The environment as two pure functions and two spaces.

    Raises:
        ValueError: The environment resets itself; its function `reset` raises this error.
        TypeError: There is a `randomization_fn`, and the environment has no model.

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
    draw, using = _models(environment, randomization_fn)

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        model, key = draw(key)
        with using(model):
            state = environment.reset(key)
        own = [name for name in _info(state) if name.startswith(("first_", "AutoResetWrapper"))]
        if own:
            raise ValueError(
                f"environment: expected one that does not reset itself, got one whose states have info[{own[0]!r}]. "
                f"Call from_brax(environment.unwrapped, max_steps=1000)."
            )
        return (state, jnp.zeros((), jnp.int32), model), state.obs

    def step(state: Any, action: Array) -> Step:
        # These environments change the dicts of a state in place, so they get dicts of their own.
        before, steps, model = jax.tree.map(lambda leaf: leaf, state)
        with using(model):
            state, steps = environment.step(before, action), steps + 1
        done = state.done.astype(bool)
        cut = done & jnp.asarray(_info(state).get("truncation", False)).astype(bool)
        terminated = done & ~cut
        return Step((state, steps, model), state.obs, state.reward, terminated, cut | at_limit(done, steps, max_steps))

    size = environment.observation_size
    parts = [(name, spaces.as_space(part)) for name, part in size.items()] if isinstance(size, Mapping) else []
    observation_space = spaces.Dict(tuple(parts)) if parts else spaces.as_space(size)
    return Environment(reset, step, observation_space, spaces.Box(-1.0, 1.0, (environment.action_size,)))


def _info(state: Any) -> Mapping[str, Any]:
    return getattr(state, "info", {})


def _models(environment: Any, randomization_fn: Callable[..., Any] | None) -> tuple[Callable[..., Any], ...]:
    """Functions that draw the leaves of a model which differ, and that put them into the environment for a call."""
    if randomization_fn is None:
        return lambda key: ((), key), lambda _: contextlib.nullcontext()
    inner = environment.unwrapped
    names = [name for name in ("_mjx_model", "sys") if hasattr(inner, name)]
    if not names:
        raise TypeError(
            f"randomization_fn: expected an environment with a model, got {type(inner).__name__}, which has neither "
            f"sys nor _mjx_model. Leave it out."
        )
    usual = getattr(inner, names[0])

    def drawn(key: Key[Array, ""]) -> tuple[list[Any], list[Any], Any]:
        batched, axes = randomization_fn(usual, key[None])
        axes, structure = jax.tree.flatten(axes, is_leaf=lambda axis: axis is None)
        return structure.flatten_up_to(batched), axes, structure

    # Parts without an axis are the same for each key.
    with jax.ensure_compile_time_eval():
        shared, axes, structure = drawn(jax.random.key(0))

    def draw(key: Key[Array, ""]) -> tuple[list[Any], Key[Array, ""]]:
        model_key, key = keys.split(key)
        differ = [(part, axis) for part, axis in zip(drawn(model_key)[0], axes, strict=True) if axis is not None]
        return [jax.tree.map(lambda leaf, axis=axis: jnp.take(leaf, 0, axis), part) for part, axis in differ], key

    @contextlib.contextmanager
    def using(model: list[Any]) -> Iterator[None]:
        own = iter(model)
        whole = [part if axis is None else next(own) for part, axis in zip(shared, axes, strict=True)]
        setattr(inner, names[0], jax.tree.unflatten(structure, whole))
        try:
            yield
        finally:
            setattr(inner, names[0], usual)

    return draw, using


def load_brax(
    name: str, max_steps: int | None = None, randomization_fn: Callable[..., Any] | None = None, **options: Any
) -> Environment:
    """Makes an environment of brax by its name; an episode has 1000 steps unless `max_steps` says otherwise."""
    package = imported("brax.envs", "brax")
    known = {key: key for key in sorted(package._envs)}
    made = package.get_environment(choose(known, name, "environment of brax"), **options)
    return from_brax(made, 1000 if max_steps is None else max_steps, randomization_fn)._replace(resets="rollout")


def load_playground(
    name: str, max_steps: int | None = None, randomization_fn: Callable[..., Any] | None = None, **options: Any
) -> Environment:
    """Makes an environment of mujoco_playground by its name, with its own time limit unless `max_steps` is given.

    The options replace entries of its config; `impl` is "jax" unless it is among them.
    """
    registry = imported("mujoco_playground", "playground").registry
    name = choose({key: key for key in registry.ALL_ENVS}, name, "environment of mujoco_playground")
    config = registry.get_default_config(name)
    overrides = {**({"impl": "jax"} if "impl" in config else {}), **options}
    made = registry.load(name, config_overrides=overrides)
    limit = int(config.episode_length) if max_steps is None else max_steps
    return from_brax(made, limit, randomization_fn)._replace(resets="rollout")
