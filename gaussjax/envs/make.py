"""Functions that make environments from names."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, get_args

from gaussjax import spaces
from gaussjax.core.choices import choose, nearest
from gaussjax.core.compiled import count
from gaussjax.envs.brax import load_brax, load_playground
from gaussjax.envs.environment import Environment, Resets, repeated
from gaussjax.envs.functional import from_functional
from gaussjax.envs.guard import contained
from gaussjax.envs.gymnax import load_gymnax
from gaussjax.envs.wrappers import action_delay, action_noise, frame_stack, observation_delay, observation_noise

if TYPE_CHECKING:
    import gymnasium


# Functions that make an environment of a package, which is the prefix of its name.
PACKAGES = {"brax": load_brax, "playground": load_playground, "gymnax": load_gymnax}
# In the order in which they apply: noise and delay act on single frames.
WRAPPERS: dict[str, Callable[[Environment, Any], Environment]] = {
    "observation_noise": observation_noise,
    "observation_delay": observation_delay,
    "frame_stack": frame_stack,
    "action_noise": action_noise,
    "action_delay": action_delay,
}
# Texts of MuJoCo's warnings that were given.
_WARNED: set[str] = set()


def make(
    name: str,
    *,
    num_envs: int | None = None,
    backend: str | None = None,
    max_steps: int | None = None,
    action_repeat: int = 1,
    resets: Resets | None = None,
    **options: Any,
) -> Any:
    """Makes an environment by name, for `gaussjax.training` and `gaussjax.rollout`.

    Args:
        name: Name that is registered in Gymnasium, such as "Pendulum-v1" or "mymodule:Reach-v0", whose module is
            imported first. "brax:ant", "playground:CartpoleBalance" and "gymnax:Pendulum-v1" are environments of these
            packages. "mymodule:thing" is an `Environment` of your module, or a class or function that makes one or a
            `gymnasium.Env`.
        num_envs: Number of copies of an environment of Gymnasium, by default 1. JAX environments are single ones, which
            the training copies.
        backend: "jax" for Gymnasium's environments that exist as JAX functions. brax takes the name of its physics,
            such as "spring".
        max_steps: Number of steps after which an episode is truncated, or None for the environment's own limit.
        action_repeat: Number of steps for which a JAX environment applies each action.
        resets: Start of an episode in a JAX environment, as in `Environment`: by default "rollout" for brax and
            mujoco_playground, whose resets cost as much as steps, and "each" for others.
        **options: Wrappers of `gaussjax.envs` for a JAX environment, by name with their argument, such as
            `frame_stack=4`; and further options of the environment.

    Returns:
        An `Environment`, or a vector environment of Gymnasium.

    Raises:
        ValueError: The name is unknown, or an option does not apply to the environment.
        ModuleNotFoundError: A package is missing; the text has its line of pip.

    Example:
        >>> make("Pendulum-v1", backend="jax").action_space.shape
        (1,)
        >>> environments = make("Pendulum-v1", num_envs=4)
        >>> environments.close()
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected text such as 'Pendulum-v1', got {type(name).__name__}. The name comes first.")
    prefix, _, rest = name.partition(":")
    count(action_repeat, "action_repeat")
    if max_steps is not None:
        count(max_steps, "max_steps")
    wrappers = {wrapper: options.pop(wrapper) for wrapper in WRAPPERS if wrapper in options}

    def wrapped(environment: Environment) -> Environment:
        environment = repeated(environment, action_repeat)
        for wrapper, argument in wrappers.items():
            environment = WRAPPERS[wrapper](environment, argument)
        if resets is None:
            return environment
        return environment._replace(resets=choose({each: each for each in get_args(Resets)}, resets, "resets"))

    if prefix in PACKAGES and rest:
        if backend not in (None, "jax"):
            if prefix != "brax":
                raise ValueError(f"backend: expected jax for {name}, got {backend!r}.")
            options["backend"] = backend
        return wrapped(PACKAGES[prefix](rest, max_steps, **options))
    if backend == "jax":
        return wrapped(make_functional(name, max_steps))
    if backend not in (None, "gymnasium"):
        raise ValueError(f"backend: expected gymnasium or jax for {name}, got {backend!r}.")
    import gymnasium

    # A name that the module registers in Gymnasium is no attribute of the module.
    own: Any = getattr(importlib.import_module(prefix), rest, None) if rest else None
    if callable(own) and not (isinstance(own, type) and issubclass(own, gymnasium.Env)):
        made = own(**options)
        if isinstance(made, Environment):
            own = made
        else:
            getattr(made, "close", lambda: None)()
    if isinstance(own, Environment):
        if max_steps is not None:
            raise ValueError(f"max_steps: expected None for {name}, whose own steps say when an episode is truncated.")
        return wrapped(own)
    if action_repeat != 1:
        raise ValueError(f"action_repeat: expected 1 for {name}, got {action_repeat}. Only JAX environments repeat.")
    for option in [*wrappers, *["resets"] * (resets is not None)]:
        raise ValueError(f"{option}: expected a JAX environment, got {name}. Leave the option out.")
    limit = {} if max_steps is None else {"max_episode_steps": max_steps}
    target: Any = name if own is None else own
    return make_vector(target, 1 if num_envs is None else num_envs, **limit, **options)


def make_functional(environment: str, max_steps: int | None = None) -> Environment:
    """Makes an environment of Gymnasium as pure JAX functions, with its time limit.

    Args:
        environment: Registered name. Gymnasium has JAX functions for "Pendulum-v1" only.
        max_steps: Number of steps after which an episode is truncated, or None for Gymnasium's limit.

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

    limit = gymnasium.spec(environment).max_episode_steps if max_steps is None else max_steps
    return from_functional(PendulumFunctional(), limit)


def make_vector(
    environment: str | Callable[..., gymnasium.Env], num_envs: int, **options: Any
) -> gymnasium.vector.VectorEnv:
    """Makes copies of a Gymnasium environment, which step one after the other in this process.

    A finished episode is reset within the same step; its last observation is in `info["final_obs"]`.

    Args:
        environment: Registered name, such as "Pendulum-v1", or a function that makes one environment.
        num_envs: Number of copies.
        **options: Options for `gymnasium.make` or for the function.

    Returns:
        A vector environment whose observations are arrays `(num_envs, …)`, nested like the space.

    Raises:
        gymnasium.error.Error: The environment is unknown, or a package that it needs is missing; the text names the
            nearest environment or a newer version.
        TypeError: `environment` is an environment, of which no copies can be made; its observation space is of a kind
            that `spaces.as_space` refuses; or `num_envs` is not an integer.
        ValueError: `num_envs` is below 1.

    Example:
        >>> environments = make_vector("Pendulum-v1", 4)
        >>> environments.num_envs, environments.single_action_space.shape
        (4, (1,))
        >>> environments.close()
    """
    import gymnasium

    count(num_envs, "num_envs")
    if isinstance(environment, gymnasium.Env):
        raise TypeError(
            f"environment: expected a name or a function that makes an environment, got {environment}. Pass its name, "
            f"or a function such as lambda: gymnasium.make(name)."
        )

    def make() -> gymnasium.Env:
        made = environment(**options) if callable(environment) else _make(environment, **options)
        spaces.as_space(made.observation_space)
        return made

    autoreset = gymnasium.vector.AutoresetMode.SAME_STEP
    with contained(), _warnings_of_mujoco(environment):
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


@contextlib.contextmanager
def _warnings_of_mujoco(environment: Any) -> Iterator[None]:
    """Makes MuJoCo's warnings Python's, each text once; MuJoCo prints them for every copy and into a file."""
    import gymnasium

    described = gymnasium.registry.get(environment) if isinstance(environment, str) else None
    if "mujoco" in str(getattr(described, "entry_point", "")):
        with contextlib.suppress(ImportError):
            importlib.import_module("mujoco")
    mujoco: Any = sys.modules.get("mujoco")
    if not hasattr(mujoco, "set_mju_user_warning") or mujoco.get_mju_user_warning() is not None:
        yield
        return
    texts: list[str] = []
    mujoco.set_mju_user_warning(texts.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)
    for text in dict.fromkeys(texts):
        if text not in _WARNED:
            _WARNED.add(text)
            # A deprecated attribute of a model concerns the author of the model.
            warnings.warn(f"MuJoCo: {text}", DeprecationWarning if "deprecated" in text else UserWarning, stacklevel=4)
