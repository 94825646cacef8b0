"""Trainings on observations that are dicts, tuples, integers and images, from the environment to the network."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, normalize, rollout
from gaussjax.spaces import Box, Dict, Discrete
from gaussjax.training import ppo, sac
from tests.training.jax_probes import UNIT, asymmetric

PPO = ppo.Config(num_envs=3, num_steps=8, batch_size=12, num_epochs=2, hidden_sizes=(8,))
SAC = sac.Config(
    num_envs=3,
    num_steps=8,
    batch_size=12,
    learning_starts=8,
    buffer_size=64,
    hidden_sizes=(8,),
    normalize_observations=True,
)
# Shapes of one observation, and the dtypes in which it is kept.
KEPT = {
    "camera": ((4, 4, 3), np.uint8),
    "mode": ((), np.int32),
    "more": {"joints": ((2,), np.float32), "switches": (((2,), np.float32), ((2,), np.int32))},
}


class Robot(gymnasium.Env):
    """An environment with nested observations of every kind; an episode has five steps."""

    spaces = gymnasium.spaces
    action_space = spaces.Box(-1.0, 1.0, (2,))

    def __init__(self):
        switches = self.spaces.Tuple((self.spaces.MultiBinary(2), self.spaces.MultiDiscrete([2, 3])))
        joints = self.spaces.Box(-5.0, 5.0, (2,), np.float64)
        self.observation_space = self.spaces.Dict(
            {
                "mode": self.spaces.Discrete(3, start=1),
                "more": self.spaces.Dict({"joints": joints, "switches": switches}),
                "camera": self.spaces.Box(0, 255, (4, 4, 3), np.uint8),
            }
        )

    def _observe(self):
        seen = self.observation_space.sample()
        seen["more"]["joints"] = np.full(2, self.time, np.float64)
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time = 0
        return self._observe(), {}

    def step(self, action):
        self.time += 1
        return self._observe(), -float(np.sum(action**2)), self.time == 5, False, {}


@pytest.fixture(scope="module")
def robots():
    environments = envs.make_vector(Robot, 3)
    yield environments
    environments.close()


def test_a_rollout_keeps_the_dtypes_and_the_last_observation_of_each_episode(robots):
    runner = rollout.Runner(robots)
    form = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), runner.observations)
    assert form == KEPT
    zeros = np.zeros((3, 2), np.float32)
    experience, _, episodes = rollout.collect(
        runner, lambda t, *_: (zeros, zeros, ()), runner.reset(0), np.ones(3, bool), (), 7
    )
    joints, following = experience.observations["more"]["joints"], experience.next_observations["more"]["joints"]
    np.testing.assert_array_equal(joints[:, 0, 0], [0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(following[:, 0, 0], [1, 2, 3, 4, 5, 1, 2])
    assert experience.observations["camera"].shape == (7, 3, 4, 4, 3)
    assert episodes.lengths == [5, 5, 5]


@pytest.mark.parametrize(("module", "config"), [(ppo, PPO), (sac, SAC)], ids=["ppo", "sac"])
def test_vector_environments_train_on_nested_observations(robots, module, config):
    loop = module.make(robots, config)
    state = loop.init(jax.random.key(0))
    for _ in range(2):
        state, metrics = loop.step(state)
    assert all(np.isfinite(value) for value in metrics.values())
    statistics = state.observation_statistics
    assert statistics["camera"] is statistics["mode"] is statistics["more"]["switches"][1] is None
    assert statistics["more"]["joints"].count == 48
    np.testing.assert_allclose(statistics["more"]["joints"].mean, [2.0, 2.0], atol=0.2)
    if module is sac:
        kept = jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype), state.buffer.rows.observations)
        assert kept == KEPT


def dicts():
    """A JAX environment with a Dict of an integer and a vector."""

    def seen(time):
        return {"mode": time % 3, "place": jnp.full(2, time, jnp.float32)}

    def step(state, action):
        return envs.Step(state + 1, seen(state + 1), -jnp.sum(action**2), jnp.asarray(False), state >= 4)

    space = Dict((("mode", Discrete(3)), ("place", Box(shape=(2,)))))
    return envs.Environment(lambda key: (jnp.int32(0), seen(jnp.int32(0))), step, space, UNIT)


LSTM = ppo.Config(
    num_envs=3, num_steps=8, batch_size=24, num_epochs=1, network="lstm", recurrent_size=4, sequence_length=4
)


@pytest.mark.parametrize(
    ("module", "config"), [(ppo, PPO), (ppo, LSTM), (sac, SAC)], ids=["ppo", "ppo with an LSTM", "sac"]
)
def test_compiled_loops_train_on_nested_observations(module, config):
    loop = module.make(dicts(), config)
    state = loop.init(jax.random.key(0))
    for _ in range(2):
        state, metrics = loop.step(state)
    assert all(np.isfinite(value) for value in metrics.values())
    assert state.observation_statistics["place"].count == 48
    act = gaussjax.serve(loop.policy, state.params, state.observation_statistics) if config is not LSTM else None
    if act:
        observations = {"mode": np.zeros(5, np.int32), "place": np.ones((5, 2), np.float32)}
        given = {**observations, "place": normalize.apply(state.observation_statistics, observations)["place"]}
        expected = loop.policy.act(state.params, None, given, deterministic=True).actions
        np.testing.assert_allclose(act(observations), expected, atol=1e-6)


def errors_after_training(**keys):
    """Errors of the deterministic actions of six trainings."""
    config = ppo.Config(
        num_envs=64, num_steps=4, batch_size=64, num_epochs=4, normalize_rewards=False, learning_rate=3e-3, **keys
    )
    loop = ppo.make(asymmetric(30.0), config)

    def trained(key):
        state, _ = jax.lax.scan(lambda state, _: loop.step(state), loop.init(key), length=60)
        return state.params, state.observation_statistics

    params, statistics = jax.jit(jax.vmap(trained))(jax.random.split(jax.random.key(0), 6))

    def act(params, statistics):
        # The actor does not need what only the critic sees.
        alone, params = gaussjax.networks.actor(loop.policy, params)
        observations = normalize.apply(statistics["state"], jnp.ones(1))
        return alone.act(params, None, observations, deterministic=True).actions[0]

    return np.abs(jax.vmap(act)(params, statistics) - 0.5)


def errors_of_sac(**keys):
    """Errors of the deterministic actions of four trainings of SAC."""
    options = {"num_steps": 500, "batch_size": 64, "learning_starts": 200, "buffer_size": 300, "hidden_sizes": (16,)}
    options |= {"learning_rate": 3e-3, "normalize_observations": True, "target_entropy": -2.0}
    loop = sac.make(asymmetric(5.0), sac.Config(**options, **keys))

    def trained(key):
        return jax.lax.scan(lambda state, _: loop.step(state), loop.init(key), length=10)[0].params

    def act(params):
        alone, params = gaussjax.networks.actor(loop.policy, params)
        # Its only observation is its own mean, so the statistics make it 0.
        return alone.act(params, None, jnp.zeros(1), deterministic=True).actions[0]

    return np.abs(jax.vmap(act)(jax.jit(jax.vmap(trained))(jax.random.split(jax.random.key(0), 4))) - 0.5)


@pytest.mark.slow
def test_critics_of_sac_that_see_more_than_the_actor_learn_from_few_transitions():
    assert errors_of_sac().max() < 0.06
    assert np.median(errors_of_sac(critic_keys=("state",))) > 0.12


@pytest.mark.slow
def test_a_critic_that_sees_more_than_the_actor_removes_noise_from_the_advantages():
    assert errors_after_training().max() < 0.03
    assert np.median(errors_after_training(critic_keys=("state",))) > 0.1
