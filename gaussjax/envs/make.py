"""Functions that make environments of Gymnasium from their registered names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gaussjax import spaces
from gaussjax.core.choices import nearest
from gaussjax.core.compiled import count
from gaussjax.envs.environment import Environment
from gaussjax.envs.functional import from_functional
from gaussjax.envs.guard import contained

if TYPE_CHECKING:
    import gymnasium


def make_functional(environment: str) -> Environment:
    """Makes an environment of Gymnasium as pure JAX functions, with its time limit.

    Args:
        environment: Registered name. Gymnasium has JAX functions for "Pendulum-v1" only.

    Returns:
        The environment as two pure functions and two spaces.

    Raises:
        ValueError: Gymnasium has no JAX functions for the environment.

    Example:
        >>> make_functional("Pendulum-v1").action_space.shape
        (1,)
    """
    if environment != "Pendulum-v1":
        raise ValueError(
            f"environment: expected one that Gymnasium has as JAX functions (Pendulum-v1), got {environment!r}. Run "
            f"it on the host, or write your own gaussjax.envs.Environment."
        )
    import gymnasium
    from gymnasium.envs.phys2d.pendulum import PendulumFunctional

    return from_functional(PendulumFunctional(), gymnasium.spec(environment).max_episode_steps)


def make_vector(
    environment: str | Callable[..., gymnasium.Env], num_envs: int, **options: Any
) -> gymnasium.vector.VectorEnv:
    """Makes copies of a Gymnasium environment, which step one after the other in this process.

    A finished episode is reset within the same step; its last observation is in `info["final_obs"]`.
    Observations that are not vectors (images, dicts, tuples, integers) are flattened.

    Args:
        environment: Registered name, such as "Pendulum-v1", or a function that makes one environment.
        num_envs: Number of copies.
        **options: Options for `gymnasium.make` or for the function.

    Returns:
        A vector environment whose observations are `(num_envs, features)`.

    Raises:
        gymnasium.error.Error: The environment is unknown, or a package that it needs is missing; the text names the
            nearest environment or a newer version.
        TypeError: `environment` is an environment, of which no copies can be made; its observation space has no flat
            vectors; or `num_envs` is not an integer.
        ValueError: `num_envs` is below 1.

    Example:
        >>> environments = make_vector("Pendulum-v1", 4)
        >>> environments.num_envs, environments.single_action_space.shape
        (4, (1,))
        >>> environments.close()
    """
    import gymnasium

    if not isinstance(num_envs, int) or isinstance(num_envs, bool) or num_envs < 1:
        count(num_envs, "num_envs")
    if isinstance(environment, gymnasium.Env):
        raise TypeError(
            f"environment: expected a name or a function that makes an environment, got {environment}. Pass its name, "
            f"or a function such as lambda: gymnasium.make(name)."
        )

    def make() -> gymnasium.Env:
        made = environment(**options) if callable(environment) else _make(environment, **options)
        space = made.observation_space
        spaces.as_space(space)
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            made = gymnasium.wrappers.FlattenObservation(made)
        return made

    autoreset = gymnasium.vector.AutoresetMode.SAME_STEP
    with contained():
        return gymnasium.vector.SyncVectorEnv([make] * num_envs, autoreset_mode=autoreset)


def _make(name: str, **options: Any) -> gymnasium.Env:
    import gymnasium

    try:
        return gymnasium.make(name, disable_env_checker=True, **options)
    except (gymnasium.error.DeprecatedEnv, gymnasium.error.UnregisteredEnv, ImportError) as error:
        module, colon, plain = name.rpartition(":")
        family = plain.rpartition("-v")[0]
        versions = [spec for spec in gymnasium.registry.values() if family and spec.id.rpartition("-v")[0] == family]
        newest = max(versions, key=lambda spec: spec.version or 0).id if versions else ""
        if isinstance(error, gymnasium.error.NameNotFound):
            text = f"expected a name that Gymnasium knows, got {name!r}.{nearest(plain, gymnasium.registry)}"
        elif newest and newest != plain:
            reason = " ".join(str(error).split()).rstrip(".")
            text = f"expected a version that can be made, got {name!r} ({reason}). Did you mean {newest!r}?"
        else:
            raise
        known = isinstance(error, gymnasium.error.Error)
        kind = type(error) if known else gymnasium.error.DependencyNotInstalled
        raise kind(f"environment: {text}".replace("mean '", f"mean '{module}{colon}")) from error
