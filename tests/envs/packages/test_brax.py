"""brax's own environments and wrappers, in the environment of `make test-envs`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax import envs
from gaussjax.training import ppo
from tests.envs.values import PROBES, check_values

package = pytest.importorskip("brax.envs")
training = pytest.importorskip("brax.envs.wrappers.training")
pytestmark = pytest.mark.filterwarnings("ignore")


class Probe(package.Env):
    """The probe as an environment of brax. Its state has a dict that each step changes in place."""

    observation_size = property(lambda self: self.probe.size)
    action_size = property(lambda self: 1)
    backend = property(lambda self: "spring")

    def __init__(self, probe):
        self.probe = probe

    def reset(self, rng):
        zero = jnp.zeros(())
        return package.State(None, self.probe.observation(0), zero, zero, {}, {"time": jnp.int32(0)})

    def step(self, state, action):
        before = state.info["time"]
        state.info["time"] = before + 1
        done = self.probe.terminated(before + 1).astype(jnp.float32)
        return state.replace(obs=self.probe.observation(before + 1), reward=self.probe.reward(before), done=done)


def plain(probe):
    return envs.from_brax(Probe(probe), max_steps=probe.limit)


def in_episodes(probe):
    """The time limit is brax's own."""
    return envs.from_brax(training.EpisodeWrapper(Probe(probe), 10**6 if probe.limit is None else probe.limit, 1))


@pytest.mark.parametrize("seeds", [None, 2])
@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("kind", [plain, in_episodes])
def test_the_values_of_a_probe_are_learnt_to_two_percent(kind, name, seeds):
    check_values(kind(PROBES[name]), PROBES[name], seeds)


def test_an_environment_that_resets_itself_is_refused():
    wrapped = training.AutoResetWrapper(training.EpisodeWrapper(Probe(PROBES["truncation"]), 5, 1))
    with pytest.raises(ValueError, match=r"expected one that does not reset itself, got .*first_pipeline_state"):
        envs.from_brax(wrapped).reset(jax.random.key(0))


def randomize(model, rng):
    """As in brax's own examples: gravity differs for each key."""
    gravity = jax.vmap(lambda key: model.gravity * jax.random.uniform(key, (), minval=0.5, maxval=1.5))(rng)
    axes = jax.tree.map(lambda _: None, model).tree_replace({"gravity": 0})
    return model.tree_replace({"gravity": gravity}), axes


def test_each_episode_has_a_model_of_its_own():
    environment = envs.make("brax:inverted_pendulum", backend="spring", randomization_fn=randomize)
    usual = envs.make("brax:inverted_pendulum", backend="spring")
    keys = jax.random.split(jax.random.key(0), 3)
    states, observations = jax.jit(jax.vmap(environment.reset))(keys)
    assert observations.shape == (3, 4)
    (gravities,) = states[2]
    assert len(set(np.asarray(gravities[:, 2]))) == 3
    step = jax.jit(jax.vmap(environment.step))
    first = step(states, jnp.zeros((3, 1)))
    np.testing.assert_array_equal(first.state[2][0], gravities)
    # The same state falls at another rate under another gravity, and at the usual one under the usual gravity.
    same = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 3), states[:2])
    model = [jnp.stack([gravities[0], gravities[1], jnp.array([0.0, 0.0, -9.81])])]
    fell = np.asarray(step((*same, model), jnp.zeros((3, 1))).observation)
    assert not np.array_equal(fell[0], fell[1])
    alone = usual.step((*jax.tree.map(lambda leaf: leaf[0], states[:2]), ()), jnp.zeros(1))
    np.testing.assert_allclose(fell[2], alone.observation, atol=1e-5)


def test_a_real_environment_is_checked_and_trained():
    environment = envs.make("brax:inverted_pendulum", backend="spring", max_steps=20)
    assert envs.check(environment, 25) == []
    loop = ppo.make(environment, ppo.Config(num_envs=8, num_steps=32, batch_size=64, hidden_sizes=(16,)))
    _, metrics = jax.jit(loop.step)(loop.init(jax.random.key(0)))
    assert float(metrics["episodes"]) >= 8
    assert 1 <= float(metrics["episode_length"]) <= 20
