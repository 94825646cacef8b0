"""Record of an environment as pure JAX functions, and the types of its functions."""

from __future__ import annotations

import importlib
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gaussjax.core.compiled import count, where


class Step(NamedTuple):
    """Result of one step of a JAX environment.

    Attributes:
        state: State after the step, any pytree.
        observation: Observation after the step and before any reset, nested like the observation space.
        reward: Reward of the step.
        terminated: True if the episode ended in a terminal state, whose value is zero.
        truncated: True if the episode was cut off, for example by a time limit.
    """

    state: Any
    observation: Any
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class ResetFunction(Protocol):
    """The environment's reset function, `(key) -> (state, observation)` at the start of an episode."""

    def __call__(self, key: Key[Array, ""], /) -> tuple[Any, Array]: ...


class StepFunction(Protocol):
    """The environment's step function, `(state, action) -> Step`."""

    def __call__(self, state: Any, action: Array, /) -> Step: ...


Resets = Literal["each", "rollout", "first"]


class Environment(NamedTuple):
    """A single environment as two pure functions. Training loops vmap the functions and reset finished episodes.

    Attributes:
        reset: `(key) -> (state, observation)`. The key is consumed.
        step: `(state, action) -> Step`. An environment with random steps keeps a key in its state.
        observation_space: Space of observations, of Gymnasium or `gaussjax.spaces`.
        action_space: Box of actions, of Gymnasium or `gaussjax.spaces`.
        resets: Start of an episode in a loop. "each" calls `reset`; "first" goes back to the first state and
            observation of the copy, as brax does; "rollout" goes back to a state of the copy that each rollout of 16 or
            more steps draws anew. Keys in these states change in each episode.
    """

    reset: ResetFunction
    step: StepFunction
    observation_space: Any
    action_space: Any
    resets: Resets = "each"


def at_limit(terminated: Bool[Array, ""], steps: Int[Array, ""], max_steps: int | None) -> Bool[Array, ""]:
    """Returns True if an episode that has not terminated reaches its time limit after `steps` steps."""
    return jnp.asarray(False) if max_steps is None else ~terminated & (steps >= max_steps)


# Versions with which the environments of each package are tested. gymnax needs six, but does not require it.
TRIED = {
    "brax": "brax==0.14.2 mujoco==4.0.0 mujoco-mjx==3.17.0",
    "playground": "playground==0.2.0 mujoco==4.0.0 mujoco-mjx==3.17.0",
    "gymnax": "gymnax==1.0.1 gymnasium==1.3.0 six==1.17.0",
}


def imported(module: str, package: str) -> Any:
    """Imports a package of environments; raises ModuleNotFoundError with the line of pip that was tried."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"environment: expected the package {error.name}, got none. Install the versions that gaussjax was tried "
            f"with: pip install {TRIED[package]}",
            name=error.name,
        ) from error


def repeated(environment: Environment, times: int) -> Environment:
    """Environment in which each action is applied for several steps, or until the episode ends.

    Args:
        environment: An environment.
        times: Number of steps, at least 1.

    Returns:
        An environment whose reward is the sum over the steps.

    Raises:
        ValueError: `times` is below 1.

    Example:
        >>> from gaussjax import envs
        >>> pendulum = repeated(envs.make_functional("Pendulum-v1"), 4)
        >>> state, observation = pendulum.reset(jax.random.key(0))
        >>> pendulum.step(state, jnp.zeros(1)).observation.shape
        (3,)
    """
    count(times, "times")

    def step(state: Any, action: Array) -> Step:
        # Numbers of Python become arrays, because a loop carries arrays.
        first = jax.tree.map(jnp.asarray, environment.step(state, action))

        def again(before: Step, _: None) -> tuple[Step, None]:
            after = environment.step(before.state, action)
            after = after._replace(reward=before.reward + after.reward)
            done = before.terminated | before.truncated
            return where(done, before, after), None

        return jax.lax.scan(again, first, None, length=times - 1)[0]

    return environment if times == 1 else environment._replace(step=step)
