import re
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs
from tests.training import probes


def test_functional_pendulum_is_gymnasiums_pendulum():
    environment = envs.from_functional(PendulumFunctional(), max_steps=200)
    state, observation = environment.reset(jax.random.key(0))
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    theirs.state = np.asarray(state[0], np.float64)
    step = jax.jit(environment.step)
    rng = np.random.default_rng(0)
    for t in range(200):
        action = rng.uniform(-3, 3, 1).astype(np.float32)
        stepped = step(state, action)
        expected, reward, _, _, _ = theirs.step(action)
        np.testing.assert_allclose(stepped.observation, expected, atol=2e-3)
        np.testing.assert_allclose(stepped.reward, reward, atol=2e-2)
        assert not stepped.terminated
        assert stepped.truncated == (t == 199)
        state = stepped.state
    theirs.close()
    assert observation.shape == (3,)


class BraxState(NamedTuple):
    obs: Any
    reward: Any
    done: Any


class BraxLike:
    """An environment with brax's methods: a point that actions move, done beyond 1."""

    observation_size, action_size = 1, 1

    def reset(self, key):
        return BraxState(jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        place = state.obs + action
        return BraxState(place, -place[0], (place[0] > 1.0).astype(jnp.float32))


def test_brax_interface_tells_an_end_from_a_time_limit():
    environment = envs.from_brax(BraxLike(), max_steps=3)
    assert environment.action_space == gaussjax.spaces.Box(-1.0, 1.0, (1,))

    def ends(place):
        state, found = environment.reset(jax.random.key(0))[0], []
        for _ in range(3):
            stepped = environment.step(state, jnp.array([place]))
            found.append((bool(stepped.terminated), bool(stepped.truncated)))
            state = stepped.state
        return found

    # 0.4, 0.8, 1.2: the third step leaves the field and meets the limit; the end counts.
    assert ends(0.4) == [(False, False), (False, False), (True, False)]
    assert ends(0.1)[-1] == (False, True)


class GymnaxLike:
    """An environment with gymnax's methods and random steps."""

    def observation_space(self, parameters):
        return gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def action_space(self, parameters):
        return gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def reset_env(self, key, parameters):
        return jnp.zeros(1), jnp.zeros(())

    def step_env(self, key, state, action, parameters):
        state = state + parameters * jax.random.normal(key)
        return state.reshape(1), state, -jnp.abs(state), jnp.abs(state) > 10.0, {}


def test_gymnax_interface_draws_anew_at_each_step():
    environment = envs.from_gymnax(GymnaxLike(), 1.0)
    state, _ = environment.reset(jax.random.key(0))
    places = []
    for _ in range(4):
        stepped = environment.step(state, jnp.zeros(1))
        places.append(float(stepped.observation[0]))
        state = stepped.state
    assert len(set(np.round(np.diff([0.0, *places]), 4))) == 4


def test_a_function_makes_the_environments():
    environments = envs.make_vector(lambda length: probes.Counter(length), 3, length=2)
    assert environments.num_envs == 3
    assert [each._length for each in environments.envs] == [2, 2, 2]


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (gymnasium.spaces.Text(3), "got Text"),
        (gymnasium.spaces.OneOf((gymnasium.spaces.Discrete(2),)), "got OneOf"),
    ],
)
def test_observations_without_flat_vectors_are_refused(space, says):
    class Speaking(probes.Counter):
        observation_space = space

    with pytest.raises(TypeError, match=f"space: expected a Box, .* {says}"):
        envs.make_vector(lambda: Speaking(2), 2)


def test_an_environment_is_no_name():
    with pytest.raises(TypeError, match="environment: expected a name or a function that makes an environment, got <"):
        envs.make_vector(probes.Counter(2), 2)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("Pendulm-v1", "NameNotFound", "got 'Pendulm-v1'. Did you mean 'Pendulum-v1'?"),
        ("math:Pendulm-v1", "NameNotFound", "got 'math:Pendulm-v1'. Did you mean 'math:Pendulum-v1'?"),
        ("Pendulum-v7", "VersionNotFound", "Did you mean 'Pendulum-v1'?"),
        ("HalfCheetah-v2", "DependencyNotInstalled", "gymnasium-robotics)). Did you mean 'HalfCheetah-v5'?"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is out of date")
def test_an_environment_that_cannot_be_made_is_named_with_the_nearest_one(name, kind, says):
    with pytest.raises(getattr(gymnasium.error, kind), match=f"^environment: expected .*{re.escape(says)}$"):
        envs.make_vector(name, 2)
