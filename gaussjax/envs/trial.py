"""Run of a few copies of a JAX environment with actions of all kinds, for faults that shapes do not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import spaces
from gaussjax.envs.environment import Environment, Step

# Copies in the run, and random actions that are tried beside those of the run.
COPIES, _OTHERS = 8, 4
# Bounds of a space are often computed in another order or precision than the observations.
_TOLERANCE = 1e-4
_KEYS = {
    "reset": "Split it for each use: key, place_key = jax.random.split(key).",
    "step": "Let reset keep a key that it has not used, and let each step keep a new one from jax.random.split.",
}


class _End(NamedTuple):
    """End of the first episode of a copy; `fixed` is True if the last observation is the same for other actions."""

    steps: int
    terminated: bool
    truncated: bool
    observation: np.ndarray
    fixed: bool


class Trial:
    """Copies of an environment, the jitted functions that run them, and the faults that were found."""

    def __init__(self, environment: Environment):
        self._environment, self._space = environment, environment.observation_space
        self._box = spaces.action_box(environment.action_space)
        self._random = np.random.default_rng(0)
        self._reset = jax.jit(jax.vmap(lambda key: environment.reset(key)))
        self._step = jax.jit(jax.vmap(lambda state, action: environment.step(state, action)))
        self._watches_keys = True
        # By its subject, each fault is reported once.
        self._found: dict[str, str] = {}

    def faults(self, num_steps: int) -> list[str]:
        """Runs the copies until each has ended an episode, for at most `num_steps` steps; returns the faults."""
        keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), COPIES)
        states, observation = self._call("reset", self._reset, _unused(keys))
        self._same("reset", (states, observation), self._call("reset", self._reset, _unused(keys)), "key")
        running, ends = np.ones(COPIES, bool), []
        self._look("reset.observation", observation, running, 0)
        first = previous = _flat(observation)
        begun = _numbers(states)
        counting = {path: np.ones(COPIES, bool) for path in begun}
        # Entries of the observation that are the same in all copies, and those that change with the time.
        shared, changes, depends = np.ones(first.shape[1], bool), np.zeros(first.shape[1], bool), False
        for steps in range(1, num_steps + 1):
            actions, before = self._actions(), _unused(states)
            stepped = self._call("step", self._step, states, actions)
            terminated, truncated = _flags(stepped)
            ended, observation = running & (terminated | truncated), _flat(stepped.observation)
            self._look("step.observation", stepped.observation, running, steps)
            self._look_at("step.reward", spaces.Box(shape=np.shape(stepped.reward)[1:]), stepped.reward, running, steps)
            if steps == 1:
                self._same(
                    "step", stepped, self._call("step", self._step, _unused(before), actions), "state and action"
                )
                self._alone(_unused(keys), actions, stepped)
            if steps == 1 or ended.any():
                alike, varies = self._other_actions(before, observation)
                depends = depends or bool((varies & running & ~ended).any())
                for copy in np.flatnonzero(ended):
                    flags = bool(terminated[copy]), bool(truncated[copy])
                    ends.append(_End(steps, *flags, observation[copy], bool(alike[copy])))
            values = _numbers(stepped.state)
            for path, was in counting.items():
                value = values.get(path, begun[path])
                if steps > 2 and (was & ended & (value == begun[path])).any():
                    self._resets(f"state{path} starts again at {begun[path][0]:g}")
                was &= value == begun[path] + steps
            still = (previous == first).all(1)
            if steps > 1 and (first == first[0]).all() and (ended & (observation == first).all(1) & ~still).any():
                self._resets("its observation is that of reset")
            shared &= (observation == observation[:1]).all(0)
            changes |= observation[0] != first[0]
            running, previous, states = running & ~ended, observation, stepped.state
            if not running.any():
                self._compare_ends(ends, bool((shared & changes).any()), depends)
                break
        return list(self._found.values())

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._watches_keys:
            try:
                with jax.debug_key_reuse(True):
                    return function(*arguments)
            except jax.errors.KeyReuseError:
                self._watches_keys = False
                text = f"{name}: expected each key to be used once, got one that is used again. {_KEYS[name]}"
                self._found[f"{name} keys"] = text
        return function(*_unused(arguments))

    def _actions(self) -> np.ndarray:
        """Random actions, but for two copies that stay at the upper and at the lower bounds."""
        low, high = spaces.bounds(self._box)
        noise = self._random.normal(size=(COPIES, low.size))
        share = self._random.uniform(size=noise.shape)
        share[:2] = [[1.0], [0.0]]
        with np.errstate(invalid="ignore"):
            inside = low * (1 - share) + high * share
        half = np.where(np.isfinite(low), low + abs(noise), np.where(np.isfinite(high), high - abs(noise), noise))
        actions = np.where(np.isfinite(inside), inside, half)
        return actions.reshape(COPIES, *self._box.shape).astype(np.float32)

    def _other_actions(self, before: Any, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flags of copies: at least two other actions end the episode, all with the same observation; some differ."""
        ending, alike, varies = np.zeros(COPIES, int), np.ones(COPIES, bool), np.zeros(COPIES, bool)
        for _ in range(_OTHERS):
            other = self._call("step", self._step, _unused(before), self._actions())
            ended = np.logical_or(*_flags(other))
            equal = (_flat(other.observation) == observation).all(1)
            ending, alike, varies = ending + ended, alike & (equal | ~ended), varies | (~equal & ~ended)
        return (ending > 1) & alike, varies

    def _resets(self, reason: str) -> None:
        self._found["resets"] = (
            f"step: expected the last state and observation of the episode where it ends, got those of a new one "
            f"({reason}). Remove the automatic reset, because the loops reset; from_brax takes environment.unwrapped."
        )

    def _compare_ends(self, ends: list[_End], timed: bool, depends: bool) -> None:
        """Looks at the ends of all copies for automatic resets and for time limits that terminate."""
        different = any((end.observation != ends[0].observation).any() for end in ends)
        # An action changes what follows, but not the observation of a new episode, which differs among the copies.
        if depends and different and all(end.fixed for end in ends):
            self._resets("its observation is the same for each action")
        if all(end.terminated and end.truncated for end in ends):
            self._found["both"] = (
                "step.terminated: expected False where a time limit alone ends the episode, got both flags at each "
                "end. The value of the last observation is zero after a termination only: keep them apart."
            )
        lengths = {end.steps for end in ends}
        limited = len(lengths) == 1 and min(lengths) > 1 and all(end.terminated and not end.truncated for end in ends)
        if limited and different and not timed:
            self._found["limit"] = (
                f"step.terminated: expected a terminal state, got one in each copy after {min(lengths)} steps, which "
                f"no observation shows. Report a time limit as truncated, or add the time to the observation."
            )

    def _same(self, name: str, one: Any, other: Any, what: str) -> None:
        leaves = [list(map(_data, jax.tree.leaves(tree))) for tree in (one, other)]
        if not all(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in zip(*leaves, strict=True)):
            self._found[f"{name} same"] = (
                f"{name}: expected the same result for the same {what}, got another one. Draw all random numbers with "
                f"jax.random from the key, and keep no state on the host."
            )

    def _alone(self, keys: Any, actions: np.ndarray, stepped: Step) -> None:
        """Compares the first step of one copy with that of the environment on its own."""
        environment = self._environment
        alone = jax.jit(lambda key, action: environment.step(environment.reset(key)[0], action))(keys[0], actions[0])
        for name in ("observation", "reward", "terminated", "truncated"):
            pairs = zip(jax.tree.leaves(getattr(alone, name)), jax.tree.leaves(getattr(stepped, name)), strict=True)
            if not all(np.allclose(one, rows[0], 1e-3, 1e-3, equal_nan=True) for one, rows in pairs):
                self._found["alone"] = (
                    f"step.{name}: expected the same for a copy under vmap as for one environment, got another. Write "
                    f"reset and step for a single environment, without axes of copies."
                )

    def _look(self, name: str, observation: Any, rows: np.ndarray, steps: int) -> None:
        try:
            for part, space, array in parts(self._space, observation, name):
                self._look_at(part, space, array, rows, steps)
        except (LookupError, TypeError, ValueError):
            return  # An observation that does not fit its space is a fault already.

    def _look_at(self, name: str, space: Any, array: Any, rows: np.ndarray, steps: int) -> None:
        if name not in self._found and (fault := _value_fault(space, np.asarray(array, np.float64)[rows])):
            self._found[name] = f"{name}: {fault} after {steps} steps. Correct the environment or its space."


def parts(space: Any, value: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Yields the name, the space and the array of each part of an observation."""
    match space := spaces.as_space(space):
        case spaces.Dict():
            for key, inner in space.items:
                yield from parts(inner, value[key], f"{name}[{key!r}]")
        case spaces.Tuple():
            for index, inner in enumerate(space.items):
                yield from parts(inner, value[index], f"{name}[{index}]")
        case _:
            yield name, space, value


def _value_fault(space: Any, values: np.ndarray) -> str | None:
    if not np.isfinite(values).all():
        return f"expected finite numbers, got {values[~np.isfinite(values)][0]}"
    match space:
        case spaces.Discrete(n, start):
            sides = np.array(start), np.array(start + n - 1)
        case spaces.MultiDiscrete(nvec):
            sides = np.zeros(len(nvec)), np.array(nvec) - 1
        case _:
            sides = tuple(side.reshape(space.shape) for side in spaces.bounds(space))
    values = values.reshape(-1, *sides[0].shape)
    low, high = (np.broadcast_to(side, values.shape) for side in sides)
    with np.errstate(invalid="ignore"):
        below = values < low - _TOLERANCE * np.maximum(1.0, abs(low))
        outside = below | (values > high + _TOLERANCE * np.maximum(1.0, abs(high)))
    if not outside.any():
        return None
    return f"expected values from {low[outside][0]:g} to {high[outside][0]:g}, got {values[outside][0]:g}"


def _unused(tree: Any) -> Any:
    """The same pytree, whose keys are not marked as used by JAX's checker of reused keys."""

    def fresh(leaf: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            return leaf
        return jax.random.wrap_key_data(jax.random.key_data(leaf), impl=jax.random.key_impl(leaf))

    return jax.tree.map(fresh, tree)


def _data(leaf: Any) -> np.ndarray:
    is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _flags(stepped: Step) -> tuple[np.ndarray, np.ndarray]:
    """The flags of each copy, also where they have a wrong shape or dtype."""
    rows = [np.asarray(flag, bool).reshape(COPIES, -1) for flag in (stepped.terminated, stepped.truncated)]
    return np.any(rows[0], axis=1), np.any(rows[1], axis=1)


def _flat(observation: Any) -> np.ndarray:
    """All numbers of the observations in float64, a row for each copy."""
    rows = [np.asarray(leaf, np.float64).reshape(COPIES, -1) for leaf in jax.tree.leaves(observation)]
    return np.concatenate(rows, axis=1) if rows else np.zeros((COPIES, 0))


def _numbers(states: Any) -> dict[str, np.ndarray]:
    """The leaves of the states that are one number for each copy, by their paths."""
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(states)[0]]
    found = [(path, _data(leaf)) for path, leaf in leaves if jnp.shape(leaf) == (COPIES,)]
    return {path: value.astype(np.float64) for path, value in found if value.shape == (COPIES,)}
