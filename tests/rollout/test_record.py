"""Recorded episodes are those that the policy plays, with the environment's own observations."""

import gymnasium
import jax
import numpy as np
import pytest
from scipy import stats

import gaussjax
from gaussjax import data, envs, normalize, rollout
from gaussjax.networks import LSTM, MLP
from gaussjax.spaces import Box

PENDULUM = Box(-2.0, 2.0, (1,))


class Nested(gymnasium.Env):
    """A Dict space in episodes of 2, 3, 4 or 5 steps, by the seed."""

    observation_space = gymnasium.spaces.Dict(
        camera=gymnasium.spaces.Box(0, 255, (4, 4), np.uint8),
        mode=gymnasium.spaces.Discrete(3),
        speed=gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.length = 0, 2 + (seed or 0) % 4
        return self.observed(), {}

    def observed(self):
        t = self.steps
        return {"camera": np.full((4, 4), t, np.uint8), "mode": t % 3, "speed": np.full(2, 0.5 * t)}

    def step(self, action):
        self.steps += 1
        return self.observed(), float(action.sum()), self.steps == self.length, False, {}


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("Nested-v0", Nested)
    yield
    del gymnasium.registry["Nested-v0"]


def made(network, observation_space=3, action_space=PENDULUM):
    policy = gaussjax.gaussian(network, observation_space, action_space)
    return policy, policy.init(jax.random.key(0))


NORMALIZER = normalize.update(normalize.init((3,)), jax.random.normal(jax.random.key(1), (64, 3)) * 2.0 + 1.0)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (MLP((8,)), {"normalizer": NORMALIZER}),
        (MLP((8,)), {"max_steps": 7}),
        (LSTM(hidden_size=4), {"deterministic": False}),
    ],
    ids=["normaliser", "limit", "LSTM"],
)
def test_recorded_episodes_are_those_of_evaluate(network, options):
    policy, params = made(network)
    evaluated = rollout.evaluate(policy, params, "Pendulum-v1", episodes=3, seed=5, **options)
    recorded = rollout.record(policy, params, "Pendulum-v1", episodes=3, seed=5, **options)
    np.testing.assert_allclose([each["rewards"].sum() for each in recorded], evaluated.returns, rtol=1e-12)
    assert [len(each["actions"]) for each in recorded] == evaluated.lengths
    assert all(each["truncations"][-1] and not each["truncations"][:-1].any() for each in recorded)


def test_recorded_actions_lead_from_each_observation_to_the_next():
    policy, params = made(MLP((8,)))
    limit = {"max_steps": 50}
    episodes = rollout.record(policy, params, "Pendulum-v1", episodes=2, seed=3, deterministic=False, **limit)
    environment = gymnasium.make("Pendulum-v1")
    for i, each in enumerate(episodes):
        observation, _ = environment.reset(seed=3 + i)
        for t, action in enumerate(each["actions"]):
            np.testing.assert_array_equal(observation, each["observations"][t])
            observation, reward, *_ = environment.step(action)
            assert reward == each["rewards"][t]
        np.testing.assert_array_equal(observation, each["observations"][-1])
    environment.close()


def test_nested_observations_keep_their_dtypes():
    episodes = rollout.record(None, None, "Nested-v0", episodes=4, seed=0)
    assert [len(each["actions"]) for each in episodes] == [2, 3, 4, 5]
    for each in episodes:
        steps = np.arange(len(each["actions"]) + 1)
        assert {name: leaf.dtype.name for name, leaf in each["observations"].items()} == {
            "camera": "uint8", "mode": "int32", "speed": "float32",
        }  # fmt: skip
        np.testing.assert_array_equal(each["observations"]["camera"][:, 0, 0], steps)
        np.testing.assert_array_equal(each["observations"]["mode"], steps % 3)
        np.testing.assert_array_equal(each["observations"]["speed"][:, 1], 0.5 * steps)
        assert each["terminations"].tolist() == [False] * (len(steps) - 2) + [True]
        assert not each["truncations"].any()
        np.testing.assert_allclose(each["rewards"], each["actions"].sum(axis=1), rtol=1e-12)
    found = data.read_dataset(episodes, Nested.observation_space, Nested.action_space)
    assert np.flatnonzero(found.starts).tolist() == [0, 2, 5, 9]
    assert np.flatnonzero(found.terminated).tolist() == [1, 4, 8, 13]


def test_uniform_actions_fill_the_box():
    actions = np.concatenate([each["actions"] for each in rollout.record(None, None, "Pendulum-v1", episodes=10)])
    assert actions.min() >= -2.0
    assert actions.max() <= 2.0
    # The standard deviation of a mean of 2000 uniform numbers from -2 to 2 is 2 / sqrt(3 · 2000) = 0.026.
    assert abs(actions.mean()) < 0.13
    np.testing.assert_allclose(actions.std(), 2.0 / np.sqrt(3.0), rtol=0.05)


def test_uniform_actions_of_an_integer_box_have_all_integers_alike():
    box = gymnasium.spaces.Box(-1, 2, (1,), np.int32)
    environment = envs.make("Pendulum-v1", backend="jax")._replace(action_space=box)
    actions = np.concatenate([each["actions"] for each in rollout.record(None, None, environment, episodes=20)])
    counts = np.unique(actions, return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert len(counts) == 4


@pytest.mark.without("jax_enable_x64")
def test_episodes_of_a_jax_environment_follow_its_functions():
    environment = envs.make("Pendulum-v1", backend="jax", max_steps=6)
    policy, params = made(MLP((8,)))
    follow = jax.jit(environment.step)
    for arguments in ((policy, params), (None, None)):
        episodes = rollout.record(*arguments, environment, episodes=2, seed=1)
        starts = jax.vmap(environment.reset)(jax.random.split(jax.random.key(1), 2))
        for i, each in enumerate(episodes):
            state, observation = jax.tree.map(lambda leaf, i=i: leaf[i], starts)
            np.testing.assert_array_equal(each["observations"][0], observation)
            for t, action in enumerate(each["actions"]):
                assert action.dtype == np.float32
                step = follow(state, action)
                state = step.state
                np.testing.assert_allclose(each["observations"][t + 1], step.observation, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(each["rewards"][t], step.reward, rtol=1e-5)
            assert each["truncations"].tolist() == [False] * 5 + [True]
    # JAX's key of this seed is the key of seed 1, unless x64 is on.
    (other,) = rollout.record(None, None, environment, episodes=1, seed=2**32 + 1, max_steps=1)
    assert (other["observations"][0] != episodes[0]["observations"][0]).any()
    (cut,) = rollout.record(policy, params, environment, episodes=1, seed=1, max_steps=4)
    assert cut["truncations"].tolist() == [False] * 3 + [True]


def test_a_jax_environment_that_diverges_is_named():
    pendulum = envs.make("Pendulum-v1", backend="jax")
    broken = pendulum._replace(
        step=lambda state, action: pendulum.step(state, action)._replace(reward=pendulum.step(state, action).reward / 0)
    )
    with pytest.raises(FloatingPointError, match="environment 0: expected a finite reward, got -inf"):
        rollout.record(None, None, broken, episodes=2)
    # Its velocity is no integer.
    integers = pendulum._replace(observation_space=Box(0, 9, (3,), "uint8"))
    with pytest.raises(
        envs.guard.EnvironmentStepError, match=r"expected an observation of uint8 numbers at reset, got"
    ):
        rollout.record(None, None, integers, episodes=2)


def test_uniform_actions_need_a_finite_box():
    pendulum = envs.make("Pendulum-v1", backend="jax")._replace(action_space=Box(shape=(1,)))
    with pytest.raises(ValueError, match="expected a Box with finite bounds for uniform actions"):
        rollout.record(None, None, pendulum)
