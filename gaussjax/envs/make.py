"""Environments: Gymnasium's by name, and the protocol of those that are pure JAX functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from gaussjax import spaces
from gaussjax.random import keys

if TYPE_CHECKING:
    import gymnasium
    from jaxtyping import Array, Bool, Float


_FUNCTIONAL = {"Pendulum-v1": ("gymnasium.envs.phys2d.pendulum", "PendulumFunctional")}


class Step(NamedTuple):
    """What a step of a JAX environment returns.

    Attributes:
        state: To step from next; any pytree.
        observation: What is seen then; at the end of an episode its true last observation.
        reward: Of this step.
        terminated: The episode ended here: nothing follows.
        truncated: The episode was cut here, by a time limit for one.
    """

    state: Any
    observation: Float[Array, " features"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Environment(NamedTuple):
    """One environment as two pure functions, to be vmapped; it does not reset itself.

    Attributes:
        reset: `(key) -> (state, observation)`. The key is consumed.
        step: `(state, action) -> Step`. An environment that draws keeps a key in its state.
        observation_space: A Gymnasium space, or one of `gaussjax.spaces`.
        action_space: Likewise, a Box.
    """

    reset: Callable[[Array], tuple[Any, Array]]
    step: Callable[[Any, Array], Step]
    observation_space: Any
    action_space: Any


def from_functional(functional: Any, max_steps: int | None = None) -> Environment:
    """An environment of Gymnasium's functional interface (`gymnasium.experimental.functional.FuncEnv`).

    Args:
        functional: Such as `gymnasium.envs.phys2d.pendulum.PendulumFunctional()`.
        max_steps: Steps after which an episode is truncated, or None.

    Returns:
        Two pure functions and the spaces. Nothing is reset by itself.

    Example:
        >>> import jax
        >>> from gymnasium.envs.phys2d.pendulum import PendulumFunctional
        >>> environment = from_functional(PendulumFunctional(), max_steps=200)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> environment.step(state, jax.numpy.zeros(1)).observation.shape
        (3,)
    """

    def reset(key: Array) -> tuple[Any, Array]:
        reset_key, key, seen_key = keys.split(key, 3)
        state = functional.initial(keys.written_out(reset_key))
        return (state, key, jnp.zeros((), jnp.int32)), functional.observation(state, seen_key)

    def step(state: Any, action: Array) -> Step:
        state, key, steps = state
        # Keys cost time; an environment that draws nothing does not use them, and then neither is
        # computed. One that was carried from step to step would be.
        transition_key, seen_key = keys.split(keys.fold_in(key, steps))
        following = functional.transition(state, action, transition_key)
        reward = jnp.asarray(functional.reward(state, action, following, seen_key), jnp.float32)
        terminated = jnp.asarray(functional.terminal(following, seen_key), bool)
        truncated = jnp.asarray(False) if max_steps is None else ~terminated & (steps + 1 >= max_steps)
        observation = functional.observation(following, seen_key)
        return Step((following, key, steps + 1), observation, reward.reshape(()), terminated.reshape(()), truncated)

    return Environment(
        reset, step, spaces.as_space(functional.observation_space), spaces.as_space(functional.action_space)
    )


def make_functional(environment: str) -> Environment:
    """A Gymnasium environment in its functional form, with its time limit.

    Args:
        environment: Registered name; of the continuous ones Gymnasium has "Pendulum-v1".

    Returns:
        Two pure functions and their spaces.

    Raises:
        ValueError: Gymnasium has no functional form of it.

    Example:
        >>> make_functional("Pendulum-v1").action_space.shape
        (1,)
    """
    if environment not in _FUNCTIONAL:
        raise ValueError(
            f"environment: expected one that Gymnasium has as JAX functions ({', '.join(_FUNCTIONAL)}), got "
            f"{environment!r}. Run it on the host, or make a gaussjax.envs.Environment of your own."
        )
    import importlib

    import gymnasium

    module, name = _FUNCTIONAL[environment]
    functional = getattr(importlib.import_module(module), name)()
    return from_functional(functional, gymnasium.spec(environment).max_episode_steps)


def from_brax(environment: Any, max_steps: int | None = None) -> Environment:
    """An environment of brax or of mujoco_playground, without its own wrappers.

    Args:
        environment: An object with `reset(key)` and `step(state, action)` that return a state with
            `obs`, `reward` and `done`, and with `observation_size` and `action_size`. Actions
            are in [-1, 1].
        max_steps: Steps after which an episode is truncated, or None.

    Returns:
        Two pure functions and the spaces. Nothing is reset by itself.

    Example:
        >>> import jax
        >>> from collections import namedtuple
        >>> State = namedtuple("State", "obs reward done")
        >>> class Line:  # An environment of brax has these four.
        ...     observation_size, action_size = 1, 1
        ...     def reset(self, key):
        ...         return State(jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))
        ...     def step(self, state, action):
        ...         return State(state.obs + action, -jnp.abs(state.obs[0]), jnp.zeros(()))
        >>> environment = from_brax(Line(), max_steps=1)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).truncated)
        True
    """

    def reset(key: Array) -> tuple[Any, Array]:
        state = environment.reset(key)
        return (state, jnp.zeros((), jnp.int32)), state.obs

    def step(state: Any, action: Array) -> Step:
        state, steps = state
        following = environment.step(state, action)
        terminated = following.done.astype(bool)
        truncated = jnp.asarray(False) if max_steps is None else ~terminated & (steps + 1 >= max_steps)
        return Step((following, steps + 1), following.obs, following.reward, terminated, truncated)

    return Environment(
        reset, step, spaces.as_space(environment.observation_size), spaces.Box(-1.0, 1.0, (environment.action_size,))
    )


def from_gymnax(environment: Any, parameters: Any) -> Environment:
    """An environment of gymnax.

    Args:
        environment: An object with `reset_env(key, parameters) -> (observation, state)` and
            `step_env(key, state, action, parameters) -> (observation, state, reward, done, info)`.
        parameters: Its parameters. gymnax does not tell an end from a time limit, so that each
            end counts as a termination.

    Returns:
        Two pure functions and the spaces. Nothing is reset by itself.

    Example:
        >>> import jax
        >>> class Line:  # An environment of gymnax has these four.
        ...     def observation_space(self, parameters):
        ...         return spaces.Box(shape=(1,))
        ...     def action_space(self, parameters):
        ...         return spaces.Box(-1.0, 1.0, (1,))
        ...     def reset_env(self, key, parameters):
        ...         return jnp.zeros(1), jnp.zeros(1)
        ...     def step_env(self, key, state, action, parameters):
        ...         return state + action, state + action, jnp.zeros(()), jnp.ones(()), {}
        >>> environment = from_gymnax(Line(), None)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).terminated)
        True
    """

    def reset(key: Array) -> tuple[Any, Array]:
        reset_key, key = keys.split(key)
        observation, state = environment.reset_env(reset_key, parameters)
        return (state, key), observation

    def step(state: Any, action: Array) -> Step:
        state, key = state
        key, step_key = keys.split(key)
        observation, state, reward, done, _ = environment.step_env(step_key, state, action, parameters)
        return Step((state, key), observation, reward, done.astype(bool), jnp.asarray(False))

    return Environment(
        reset,
        step,
        spaces.as_space(environment.observation_space(parameters)),
        spaces.as_space(environment.action_space(parameters)),
    )


def make_vector(environment: str, num_envs: int, **options: Any) -> gymnasium.vector.VectorEnv:
    """Copies of one Gymnasium environment that step together in this process.

    An episode that ends is reset within the same step, and its true last observation is in
    `info["final_obs"]`: nothing has to be masked, and truncated episodes can be bootstrapped.
    That is all that `info` holds: to merge what else the environments tell, key by key, takes
    MuJoCo's a tenth of a step. Make a `gymnasium.vector.SyncVectorEnv` of your own where you need it.
    Observations that are not vectors (images, dicts, tuples, integers) are flattened.

    Args:
        environment: Registered name, such as "Pendulum-v1".
        num_envs: Number of copies.
        **options: For `gymnasium.make`.

    Returns:
        A vector environment whose observations are `(num_envs, features)`.

    Raises:
        gymnasium.error.Error: There is no such environment, or a package for it is missing.

    Example:
        >>> environments = make_vector("Pendulum-v1", 4)
        >>> environments.num_envs, environments.single_action_space.shape
        (4, (1,))
        >>> environments.close()
    """
    import gymnasium

    def make() -> gymnasium.Env:
        made = gymnasium.make(environment, disable_env_checker=True, **options)
        space = made.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            made = gymnasium.wrappers.FlattenObservation(made)
        return made

    class Environments(gymnasium.vector.SyncVectorEnv):
        """Copies that step one after the other and tell nothing but how episodes ended."""

        def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
            if "final_obs" not in env_info:
                return vector_infos
            return super()._add_info(vector_infos, {"final_obs": env_info["final_obs"]}, env_num)

    return Environments([make] * num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
