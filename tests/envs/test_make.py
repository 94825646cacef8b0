import re
import sys
import warnings
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs
from gaussjax.envs.environment import TRIED
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


def seen(environment, actions):
    """The (terminated, truncated) of each step."""
    state, found = environment.reset(jax.random.key(0))[0], []
    for action in actions:
        stepped = environment.step(state, jnp.array([action]))
        found.append((bool(stepped.terminated), bool(stepped.truncated)))
        state = stepped.state
    return found


class BraxState(NamedTuple):
    obs: Any
    reward: Any
    done: Any
    info: Any = {}


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

    # 0.4, 0.8, 1.2: the third step leaves the field and meets the limit; the end counts.
    assert seen(environment, [0.4] * 3) == [(False, False), (False, False), (True, False)]
    assert seen(environment, [0.1] * 3)[-1] == (False, True)


class Episodes(BraxLike):
    """brax's EpisodeWrapper around an environment: the time limit sets `done` and says so in the state's info."""

    def reset(self, key):
        return super().reset(key)._replace(info={"steps": jnp.zeros(()), "truncation": jnp.zeros(())})

    def step(self, state, action):
        after, steps = super().step(state, action), state.info["steps"] + 1.0
        late = steps >= 3.0
        info = {"steps": steps, "truncation": jnp.where(late, 1.0 - after.done, 0.0)}
        return after._replace(done=jnp.where(late, 1.0, after.done), info=info)


def test_a_truncation_of_brax_is_no_termination():
    environment = envs.from_brax(Episodes())
    assert seen(environment, [0.1] * 3) == [(False, False), (False, False), (False, True)]
    assert seen(environment, [0.4] * 3)[-1] == (True, False)
    assert seen(envs.from_brax(Episodes(), max_steps=2), [0.1] * 2)[-1] == (False, True)


@pytest.mark.parametrize("name", ["first_obs", "first_pipeline_state", "AutoResetWrapper_first_obs"])
def test_environments_of_brax_that_reset_themselves_are_refused(name):
    class Resetting(BraxLike):
        def reset(self, key):
            return super().reset(key)._replace(info={"steps": 0, name: jnp.zeros(1)})

    with pytest.raises(ValueError, match=rf"does not reset itself, got one whose states have info\['{name}'\]"):
        jax.eval_shape(envs.from_brax(Resetting()).reset, jax.random.key(0))


def test_sizes_of_several_observations_are_a_dict():
    class Asymmetric(BraxLike):
        observation_size = MappingProxyType({"state": (2,), "privileged_state": (3,), "pixels": (4, 4, 3)})

    space = envs.from_brax(Asymmetric()).observation_space
    assert {name: part.shape for name, part in space.items} == dict(Asymmetric.observation_size)


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


class Limit(NamedTuple):
    max_steps_in_episode: Any = 3

    def replace(self, **changes):
        return self._replace(**changes)


class Timed(GymnaxLike):
    """A point that actions move, done beyond 1 and, as in gymnax before 1.0, at the time limit."""

    default_params = Limit()

    def reset_env(self, key, parameters):
        return jnp.zeros(1), (jnp.zeros(()), jnp.int32(0))

    def step_env(self, key, state, action, parameters):
        state = state[0] + action[0], state[1] + 1
        return state[0].reshape(1), state, state[0], self.is_terminal(state, parameters), {}

    def is_terminal(self, state, parameters):
        return (state[0] > 1.0) | (state[1] >= parameters.max_steps_in_episode)


class Separate(Timed):
    """The same as gymnax reports it from 1.0 on."""

    def is_terminal(self, state, parameters):
        return state[0] > 1.0

    def is_truncated(self, state, parameters):
        return state[1] >= parameters.max_steps_in_episode


@pytest.mark.parametrize("kind", [Timed, Separate])
def test_the_time_limit_of_gymnax_truncates(kind):
    environment = envs.from_gymnax(kind())
    assert seen(environment, [0.1] * 3) == [(False, False), (False, False), (False, True)]
    # 0.4, 0.8, 1.2: the third step leaves the field and meets the limit; the end counts.
    assert seen(environment, [0.4] * 3)[-1] == (True, False)
    assert seen(environment, [0.9] * 2)[-1] == (True, False)
    assert seen(envs.from_gymnax(kind(), Limit(9)), [0.1] * 4)[-1] == (False, False)
    assert seen(envs.from_gymnax(kind(), max_steps=2), [0.1] * 2)[-1] == (False, True)


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


MINE = """
import gymnasium
import jax.numpy as jnp
from gaussjax import envs, spaces


def make(length=3):
    def step(state, action):
        return envs.Step(state + 1, jnp.ones(1), action[0], jnp.asarray(False), state + 1 >= length)

    both = spaces.Box(shape=(1,)), spaces.Box(-1, 1, (1,))
    return envs.Environment(lambda key: (jnp.int32(0), jnp.ones(1)), step, *both)


fixed = make()


class Host(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))


def host(**options):
    return Host(**options)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mine", None)


def test_the_versions_that_errors_and_the_page_name_are_those_of_the_tests(repository):
    page = (repository / "docs" / "environments.md").read_text()
    for package, pins in TRIED.items():
        tried = (repository / "tests" / "envs" / "packages" / f"envs-{package}.txt").read_text().splitlines()
        assert set(pins.split()) <= set(tried)
        assert f"`{pins}`" in page
    assert TRIED.keys() == envs.PACKAGES.keys()


@pytest.mark.usefixtures("mine")
def test_names_of_all_kinds_make_environments():
    for name, options in (("mine:make", {"length": 4}), ("mine:fixed", {}), ("Pendulum-v1", {"backend": "jax"})):
        made = envs.make(name, frame_stack=2, observation_delay=1, resets="first", **options)
        assert made.observation_space.shape[0] == 2 * envs.make(name, **options).observation_space.shape[0]
        assert made.resets == "first"
    for name in ("Pendulum-v1", "mine:Host", "mine:host"):
        environments = envs.make(name, num_envs=2)
        assert environments.num_envs == 2
        environments.close()
    limited = envs.make("Pendulum-v1", max_steps=7)
    assert limited.envs[0].spec.max_episode_steps == 7
    limited.close()
    assert seen(envs.make("Pendulum-v1", backend="jax", max_steps=2), [0.0] * 2)[-1] == (False, True)


@pytest.mark.usefixtures("mine")
def test_an_action_is_repeated_until_the_episode_ends():
    plain = envs.Environment(
        lambda key: (0, np.zeros(1)),
        lambda state, _: envs.Step(state + 1, np.zeros(1), 1, False, state > 8),
        None,
        None,
    )
    assert int(envs.repeated(plain, 3).step(0, jnp.zeros(1)).reward) == 3
    environment = envs.make("mine:make", action_repeat=2)
    state, _ = environment.reset(jax.random.key(0))
    first = environment.step(state, jnp.array([0.5]))
    assert (float(first.reward), bool(first.truncated)) == (1.0, False)
    second = jax.jit(environment.step)(first.state, jnp.array([0.5]))
    assert (float(second.reward), bool(second.truncated), int(second.state)) == (0.5, True, 3)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "brax:ant",
            {},
            r"ModuleNotFoundError: environment: expected the package brax, .*: pip install brax==",
        ),
        ("playground:CartpoleBalance", {}, r"ModuleNotFoundError: .* mujoco_playground, .*: pip install playground=="),
        ("gymnax:Pendulum-v1", {}, r"ModuleNotFoundError: .* gymnax, .*: pip install gymnax==1\.0\.1"),
        ("mine:fixed", {"max_steps": 3}, r"ValueError: max_steps: expected None for mine:fixed"),
        ("Pendulum-v1", {"action_repeat": 2}, r"ValueError: action_repeat: expected 1 for Pendulum-v1, got 2\."),
        ("Pendulum-v1", {"frame_stack": 2}, r"ValueError: frame_stack: expected a JAX environment, got Pendulum-v1\."),
        ("mine:host", {"resets": "first"}, r"ValueError: resets: expected a JAX environment, got mine:host\."),
        ("mine:make", {"resets": "once"}, r"ValueError: resets: expected one of \['each', 'first', 'rollout'\], got "),
        ("Pendulum-v1", {"backend": "spring"}, r"ValueError: backend: expected gymnasium or jax for Pendulum-v1"),
        ("Pendulum-v1", {"num_envs": 0}, r"ValueError: num_envs: expected at least 1, got 0\."),
        ("Pendulum-v1", {"max_steps": "7"}, r"TypeError: max_steps: expected an integer, got '7'\."),
        ("mine:make", {"action_repeat": 1.5}, r"TypeError: action_repeat: expected an integer, got 1\.5\."),
        ("gymnax:Pendulum-v1", {"backend": "spring"}, r"ValueError: backend: expected jax for gymnax:Pendulum-v1"),
        ("brax:ant", {"backend": "jax"}, r"ModuleNotFoundError: environment: expected the package brax"),
        (None, {}, r"TypeError: name: expected text such as 'Pendulum-v1', got NoneType\."),
        ("mine:nothing", {}, r"NameNotFound: environment: expected a name that Gymnasium knows, got 'mine:nothing'"),
    ],
)
def test_names_that_make_nothing_say_why(name, options, says):
    with pytest.raises((ModuleNotFoundError, TypeError, ValueError, gymnasium.error.Error)) as caught:
        envs.make(name, **options)
    assert re.match(says, f"{caught.typename}: {caught.value}")


def test_each_warning_of_mujoco_comes_once_and_into_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["gaussjax.envs.make"], "_WARNED", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            envs.make_vector("HalfCheetah-v5", 3).close()
    texts = [str(warning.message) for warning in caught]
    assert "MuJoCo: compiler attribute 'settotalmass' is deprecated" in texts[0]
    assert len(set(texts)) == len(texts)
    assert "settotalmass" not in "".join(capfd.readouterr())
    assert not list(tmp_path.iterdir())


def test_a_handler_of_ones_own_gets_the_warnings_of_mujoco():
    seen = []
    mujoco.set_mju_user_warning(seen.append)
    try:
        envs.make_vector("HalfCheetah-v5", 2).close()
    finally:
        mujoco.set_mju_user_warning(None)
    assert len(seen) == 2
