"""`envs.check` finds each planted fault in one run, and nothing in environments that keep the protocol."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax import envs
from gaussjax.spaces import Box, Dict, Discrete
from tests.training import jax_probes

UNIT = Box(-1.0, 1.0, (1,))


class State(NamedTuple):
    place: jax.Array
    time: jax.Array
    key: jax.Array


class Point:
    """A point on a line that actions move. It starts at random, and ends beyond 1 or, cut off, after nine steps."""

    space, actions = Box(-3.0, 3.0, (1,)), UNIT

    def reset(self, key):
        place_key, key = jax.random.split(key)
        state = State(self.start(place_key), jnp.int32(0), key)
        return state, self.seen(state)

    def start(self, key):
        return jax.random.uniform(key, (1,), minval=-0.5, maxval=0.5)

    def seen(self, state):
        return state.place

    def step(self, state, action):
        key, wind_key = jax.random.split(state.key)
        place = state.place + 0.3 * action + 0.01 * self.wind(state, wind_key)
        return self.end(State(place, state.time + 1, key), jnp.abs(place[0]) > 1.0, state.time + 1 >= 9)

    def wind(self, state, key):
        return jax.random.normal(key, (1,))

    def end(self, state, terminated, truncated):
        return envs.Step(state, self.seen(state), -jnp.abs(state.place[0]), terminated, truncated)


def environment(kind):
    each = kind()
    return envs.Environment(each.reset, each.step, each.space, each.actions)


class Replaced(Point):
    """The result of a step with other fields."""

    def end(self, state, terminated, truncated):
        return self.change(super().end(state, terminated, truncated))


def changed(change):
    return type("Changed", (Replaced,), {"change": lambda self, step: change(step)})


def other(**parts):
    return type("Other", (Point,), parts)


COUNTER = itertools.count()


class Counts(Point):
    def step(self, state, action):
        return super().step(state, action + next(COUNTER))


class Clock(Point):
    """The time limit counts in Python, so no trace sees it."""

    steps = 0

    def end(self, state, terminated, truncated):
        self.steps += 1
        return super().end(state, terminated, jnp.asarray(self.steps >= 50))


LOG = []


class Logs(Point):
    def start(self, key):
        LOG.append("reset")
        return super().start(key)


class FixedKey(Point):
    key = jax.random.key(3)

    def start(self, key):
        return jax.random.uniform(self.key, (1,))


class Keeps(Point):
    def seen(self, state):
        self.last = state.place
        return state.place


class InPlace(Point):
    def reset(self, key):
        state, observation = super().reset(key)
        return state._asdict(), observation

    def step(self, state, action):
        stepped = super().step(State(**state), action)
        state.update(stepped.state._asdict())
        return stepped._replace(state=state)


class Branches(Point):
    def step(self, state, action):
        if state.time > 3:
            action = -action
        return super().step(state, action)


class Converts(Point):
    def seen(self, state):
        return jnp.asarray(np.clip(np.asarray(state.place), -3, 3))


class Prints(Point):
    def seen(self, state):
        jax.debug.print("place {}", state.place)
        return state.place


class Calls(Point):
    """The host draws, in a program that is the same each time."""

    generator = np.random.default_rng(0)

    def wind(self, state, key):
        shape = jax.ShapeDtypeStruct((1,), jnp.float32)
        return jax.pure_callback(
            lambda: self.generator.normal(size=1).astype(np.float32), shape, vmap_method="sequential"
        )


class Unbatched(Point):
    """The callback has no rule for vmap."""

    def wind(self, state, key):
        shape = jax.ShapeDtypeStruct((1,), jnp.float32)
        return jax.pure_callback(lambda place: np.asarray(place), shape, state.place)


class TwoDraws(Point):
    def start(self, key):
        return 0.2 * jax.random.uniform(key, (1,)) + 0.1 * jax.random.normal(key, (1,)).clip(-1, 1)


class SpentKey(Point):
    def reset(self, key):
        state = State(self.start(key), jnp.int32(0), key)
        return state, self.seen(state)


class SameKey(Point):
    """The state keeps a key that each step uses."""

    def step(self, state, action):
        place = state.place + 0.3 * action + 0.01 * self.wind(state, state.key)
        return self.end(State(place, state.time + 1, state.key), place[0] > 1.0, state.time >= 8)


class Lazy(Point):
    """It starts again within the step that ends the episode; the clock is not part of the state."""

    def end(self, state, terminated, truncated):
        fresh = State(self.start(state.key), state.time, jax.random.fold_in(state.key, 1))
        done = terminated | truncated
        place = jnp.where(done, fresh.place, state.place)
        return envs.Step(state._replace(place=place), place, -jnp.abs(state.place[0]), terminated, truncated)


class Restarts(Point):
    def end(self, state, terminated, truncated):
        stepped = super().end(state, terminated, truncated)
        time = jnp.where(terminated | truncated, 0, state.time)
        return stepped._replace(state=state._replace(time=time))


class Home(Point):
    """Each episode starts at zero, and its last observation is already that of the next one."""

    def start(self, key):
        return jnp.zeros(1)

    def end(self, state, terminated, truncated):
        stepped = super().end(state, terminated, truncated)
        return stepped._replace(observation=jnp.where(terminated | truncated, 0.0, stepped.observation))


class Batched(Point):
    """It looks at the axis of copies that a loop adds."""

    def seen(self, state):
        @jax.custom_batching.custom_vmap
        def centred(place):
            return place

        centred.def_vmap(lambda size, _, place: (place - place.mean(0, keepdims=True), True))
        return centred(state.place)


CLOCK = "step.terminated: expected a terminal state, got one in each copy after 9 steps, which no observation shows."
RESET = "expected the last state and observation of the episode where it ends"
FAULTS = {
    "no pair": (other(reset=lambda self, key: jnp.zeros(1)), "reset: expected (state, observation), got a "),
    "no step": (changed(tuple), "step: expected a gaussjax.envs.Step, got a tuple of 5."),
    "text in the state": (
        changed(lambda step: step._replace(state={"name": "point"})),
        "step.state['name']: expected an array or a number, got a str.",
    ),
    "no Box of actions": (other(actions=Discrete(2)), "action_space: "),
    "no space": (other(space=None), "observation_space: space: expected "),
    "reward's shape": (
        changed(lambda step: step._replace(reward=step.reward[None])),
        "step.reward: expected shape (), got (1,).",
    ),
    "reward's dtype": (
        changed(lambda step: step._replace(reward=jnp.int32(1))),
        "step.reward: expected floating-point numbers, got int32.",
    ),
    "flag's dtype": (
        changed(lambda step: step._replace(terminated=step.terminated * 1.0)),
        "step.terminated: expected bool, got float32.",
    ),
    "observation's shape": (other(space=Box(-1.0, 1.0, (2,))), "reset.observation: expected (..., 2), got (1,)."),
    "observation's dtype": (
        other(seen=lambda self, state: state.place.astype(jnp.int32)),
        "reset.observation: expected floating-point numbers, got int32.",
    ),
    "pixels as floats": (
        other(space=Box(0, 255, (1,), "uint8"), seen=lambda self, state: 100 + state.place),
        "reset.observation: expected uint8 as in its space, got float32.",
    ),
    "a batch": (
        other(seen=lambda self, state: jnp.tile(state.place, (4, 1))),
        "reset.observation: expected one element of the observation_space, got a batch of shape (4,).",
    ),
    "another key": (other(space=Dict((("a", UNIT),))), "reset.observation: expected a dict with the keys ['a'], got "),
    "the state changes": (
        changed(lambda step: step._replace(state=step.state._replace(time=step.state.time * 1.0))),
        "step.state.time: expected int32[], got float32[].",
    ),
    "an observation changes": (
        changed(lambda step: step._replace(observation=step.observation.astype(jnp.float16))),
        "step.observation: expected float32[1], got float16[1].",
    ),
    "a branch in Python": (Branches, "step: expected a function that JAX can trace, got TracerBoolConversionError ("),
    "NumPy": (Converts, "reset: expected a function that JAX can trace, got TracerArrayConversionError ("),
    "an error": (other(seen=lambda self, state: 1 / 0), "reset: expected a result, got ZeroDivisionError: division"),
    "Python's random numbers": (
        other(start=lambda self, key: jnp.asarray(np.random.uniform(-0.5, 0.5, 1), jnp.float32)),
        "reset: expected the same program at each trace",
    ),
    "a counter in Python": (Counts, "step: expected the same program at each trace"),
    "a clock in Python": (Clock, "step: expected no Python state, got one that each call changes: self.steps."),
    "a list in Python": (Logs, "reset: expected no Python state, got one that each call changes: len(LOG)."),
    "an attribute": (Keeps, "reset: expected a pure function, got one that keeps a traced value in a Python object"),
    "a change in place": (InPlace, "step: expected a function that leaves its arguments as they are"),
    "a print": (Prints, "reset: expected a pure function, got the side effects Debug"),
    "a draw of the host": (Calls, "step: expected the same result for the same state and action"),
    "no vmap": (Unbatched, "step: expected a result, got "),
    "copies that meet": (Batched, "step.observation: expected the same for a copy under vmap"),
    "a fixed key": (
        other(start=lambda self, key: jax.random.uniform(jax.random.key(3), (1,))),
        "reset: expected random numbers from its argument, got some that are drawn from a fixed key",
    ),
    "a key of the object": (FixedKey, "reset: expected random numbers from its argument"),
    "a fixed key in each step": (
        other(wind=lambda self, state, key: jax.random.normal(jax.random.PRNGKey(3), (1,))),
        "step: expected random numbers from its argument",
    ),
    "two draws of one key": (TwoDraws, "reset: expected each key to be used once"),
    "a key that reset has used": (SpentKey, "step: expected each key to be used once"),
    "a key that a step has used": (SameKey, "step: expected each key to be used once"),
    "NaN": (
        other(seen=lambda self, state: jnp.sqrt(state.place)),
        "reset.observation: expected finite numbers, got nan after 0 steps.",
    ),
    "an infinite reward": (
        changed(lambda step: step._replace(reward=jnp.where(step.state.time > 1, jnp.inf, 0.0))),
        "step.reward: expected finite numbers, got inf after 2 steps.",
    ),
    "outside of the space": (
        other(space=Box(-0.9, 0.9, (1,))),
        "step.observation: expected values from -0.9 to 0.9, got ",
    ),
    "outside of a Discrete": (
        other(space=Discrete(4), seen=lambda self, state: state.time),
        "step.observation: expected values from 0 to 3, got 4 after 4 steps.",
    ),
    "both flags": (
        changed(lambda step: step._replace(terminated=step.truncated, truncated=step.truncated)),
        "step.terminated: expected False where a time limit alone ends the episode, got both flags",
    ),
    "a time limit that terminates": (
        changed(lambda step: step._replace(terminated=step.truncated, truncated=jnp.asarray(False))),
        CLOCK,
    ),
    "a reset with a clock": (Restarts, f"step: {RESET}, got those of a new one (state.time starts again at 0)"),
    "a reset to one place": (Home, f"step: {RESET}, got those of a new one (its observation is that of reset)"),
    "a reset at random": (Lazy, f"step: {RESET}, got those of a new one (its observation is the same for each action)"),
}


# Each of these compiles a run; the others end at the first trace, or stand for their kind.
SLOW = (
    "reward's dtype",
    "flag's dtype",
    "observation's shape",
    "observation's dtype",
    "pixels as floats",
    "a batch",
    "the state changes",
    "an observation changes",
    "a change in place",
    "a fixed key in each step",
    "a key that a step has used",
    "NaN",
    "outside of a Discrete",
    "a reset to one place",
)


@pytest.mark.without("jax_debug_key_reuse", "jax_check_tracer_leaks")
@pytest.mark.parametrize(
    ("kind", "says"),
    [pytest.param(*row, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, row in FAULTS.items()],
)
def test_each_fault_is_found_by_name(kind, says):
    found = envs.check(environment(kind))
    assert [line for line in found if line.startswith(says)], found
    assert all("\n" not in line and line.endswith(".") for line in found)


@pytest.mark.without("jax_debug_key_reuse")
def test_one_run_finds_several_faults():
    class Poor(TwoDraws):
        space = Box(-0.7, 0.7, (1,))

        def end(self, state, terminated, truncated):
            return super().end(state, terminated, truncated)._replace(reward=jnp.int32(1), truncated=jnp.zeros(1, bool))

    found = envs.check(environment(Poor))
    subjects = [line.partition(":")[0] for line in found]
    assert subjects == ["step.truncated", "step.reward", "reset", "step.observation"], found


class Timed(Point):
    """A fixed length is no fault where the observation has the time."""

    space = Box(-9.0, 9.0, (2,))

    def seen(self, state):
        return jnp.stack([state.place[0], state.time.astype(jnp.float32)])

    def end(self, state, terminated, truncated):
        return super().end(state, truncated, jnp.asarray(False))


class Absorbing(Point):
    """The last observation of each episode is zero."""

    def end(self, state, terminated, truncated):
        stepped = super().end(state, terminated, truncated)
        return stepped._replace(observation=jnp.where(terminated | truncated, 0.0, stepped.observation))


CLEAN = {
    "point": environment(Point),
    "timed": environment(Timed),
    "absorbing": environment(Absorbing),
    "bandit": jax_probes.bandit(2.0),
    "recall": jax_probes.recall(3),
    "counter": jax_probes.counter(4),
    "terminates": jax_probes.counter(4, terminates=True),
    "asymmetric": jax_probes.asymmetric(3.0),
    "pendulum": envs.make_functional("Pendulum-v1"),
    "repeated": envs.repeated(environment(Point), 2),
}


@pytest.mark.parametrize(
    "clean",
    [pytest.param(each, id=name, marks=[pytest.mark.slow] * (i > 2)) for i, (name, each) in enumerate(CLEAN.items())],
)
def test_nothing_is_found_in_an_environment_that_keeps_the_protocol(clean):
    assert envs.check(clean) == []


def test_only_an_environment_is_checked():
    with pytest.raises(TypeError, match=r"environment: expected a gaussjax\.envs\.Environment, got a int\. Convert"):
        envs.check(3)
