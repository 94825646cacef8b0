"""Conversion of the states of Gymnasium environments to JSON and back, to resume a training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gymnasium

# Attributes that hold the state of each of Gymnasium's classic control environments.
_ATTRIBUTES = {
    "gymnasium.envs.classic_control.acrobot:AcrobotEnv": ("state",),
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv": ("state", "steps_beyond_terminated"),
    "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv": ("state",),
    "gymnasium.envs.classic_control.mountain_car:MountainCarEnv": ("state",),
    "gymnasium.envs.classic_control.pendulum:PendulumEnv": ("state",),
}
# Attributes that hold the state of Gymnasium's wrappers. Other wrappers are refused: they may hold a state.
_STATELESS = ("ClipAction", "DtypeObservation", "FlattenObservation", "RescaleAction", "RescaleObservation")
_WRAPPERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_STATELESS, ()),
    "OrderEnforcing": ("_has_reset",),
    "PassiveEnvChecker": ("checked_reset", "checked_step", "checked_render"),
    "TimeLimit": ("_elapsed_steps",),
}


class UnsavableError(ValueError):
    """Raised if the state of an environment cannot be saved or restored."""


def capture(environments: gymnasium.vector.VectorEnv) -> str:
    """Returns the states of all environments as JSON, including random generators and elapsed steps.

    Gymnasium's classic control environments are supported, and environments whose unwrapped class has the methods
    `get_state() -> plain data` and `set_state(data)`. All others raise UnsavableError.
    """
    return json.dumps([_capture_one(environment) for environment in _each(environments)])


def restore(environments: gymnasium.vector.VectorEnv, text: str) -> None:
    """Restores the states that `capture` returned; the environments must have the same number and classes."""
    states, each = json.loads(text), _each(environments)
    if not isinstance(states, list) or len(states) != len(each):
        raise UnsavableError(f"environments: expected {len(states)} as in the saved state, got {len(each)}.")
    for environment, state in zip(each, states, strict=True):
        _restore_one(environment, state)


def _each(environments: Any) -> list[Any]:
    inner = getattr(environments, "envs", None)
    if inner is None:
        raise UnsavableError(
            f"environments: expected a vector environment within this process, got {type(environments).__name__}. "
            f"Use gaussjax.envs.make_vector."
        )
    return list(inner)


def _unwrap(environment: Any) -> tuple[list[Any], Any]:
    """Returns the wrappers around an environment, from the outside in, and the environment within them."""
    wrappers = []
    while environment is not environment.unwrapped:
        wrappers.append(environment)
        environment = environment.env
    return wrappers, environment


def _name(thing: Any) -> str:
    return f"{type(thing).__module__}:{type(thing).__qualname__}"


def _capture_one(environment: Any) -> dict[str, Any]:
    wrappers, core = _unwrap(environment)
    kept = []
    for wrapper in wrappers:
        kind = type(wrapper).__name__
        if kind not in _WRAPPERS or not type(wrapper).__module__.startswith("gymnasium."):
            raise UnsavableError(f"environment: the wrapper {_name(wrapper)} may hold a state that cannot be saved.")
        kept.append({name: getattr(wrapper, name) for name in _WRAPPERS[kind] if hasattr(wrapper, name)})
    if hasattr(core, "get_state") and hasattr(core, "set_state"):
        state = _write(core.get_state())
    elif _name(core) in _ATTRIBUTES:
        state = _write({name: getattr(core, name) for name in _ATTRIBUTES[_name(core)]})
    else:
        raise UnsavableError(
            f"environment: the state of {_name(core)} cannot be saved. Give it the methods get_state() and "
            f"set_state(state)."
        )
    generator = _write(core.np_random.bit_generator.state)
    return {"class": _name(core), "state": state, "wrappers": kept, "generator": generator}


def _restore_one(environment: Any, saved: dict[str, Any]) -> None:
    wrappers, core = _unwrap(environment)
    if saved["class"] != _name(core) or len(saved["wrappers"]) != len(wrappers):
        raise UnsavableError(
            f"environment: expected {saved['class']} in {len(saved['wrappers'])} wrappers, got {_name(core)} in "
            f"{len(wrappers)}. Make the same environments as in the saved training."
        )
    for wrapper, values in zip(wrappers, saved["wrappers"], strict=True):
        for name in _WRAPPERS.get(type(wrapper).__name__, ()):
            if name in values:
                setattr(wrapper, name, values[name])
    state = _read(saved["state"])
    if hasattr(core, "set_state"):
        core.set_state(state)
    else:
        for name in _ATTRIBUTES[_name(core)]:
            setattr(core, name, state[name])
    core.np_random.bit_generator.state = _read(saved["generator"])


def _write(value: Any) -> Any:
    """Converts plain data to values for JSON; arrays keep their dtype and their values exactly."""
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": np.asarray(value).tolist(), "dtype": str(value.dtype)}
    if isinstance(value, tuple):
        return {"tuple": [_write(part) for part in value]}
    if isinstance(value, dict):
        return {"pairs": [[_write(name), _write(part)] for name, part in value.items()]}
    if isinstance(value, list):
        return [_write(part) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UnsavableError(f"environment: a state that holds {type(value).__name__} cannot be saved. Use numbers.")


def _read(value: Any) -> Any:
    match value:
        case {"array": data, "dtype": dtype}:
            return np.array(data, dtype)
        case {"tuple": parts}:
            return tuple(_read(part) for part in parts)
        case {"pairs": pairs}:
            return {_read(name): _read(part) for name, part in pairs}
        case list():
            return [_read(part) for part in value]
    return value
