"""An environment that breaks the protocol raises an error that names the field, before anything is compiled."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, rollout
from gaussjax.spaces import Box, Dict
from gaussjax.training import ppo, sac
from tests.envs import test_make as test_envs
from tests.training.jax_probes import UNIT


class State(NamedTuple):
    place: jax.Array
    time: jax.Array


def environment(space=UNIT, begun=lambda begun: begun, stepped=lambda step: step):
    """A point that actions move; `begun` and `stepped` change the results of its functions."""

    def reset(key):
        return begun((State(jnp.zeros(1), jnp.int32(0)), jnp.zeros(1)))

    def step(state, action):
        state = State(state.place + action, state.time + 1)
        return stepped(envs.Step(state, state.place, -state.place[0], jnp.asarray(False), state.time >= 3))

    return envs.Environment(reset, step, space, UNIT)


def replaced(**changes):
    return environment(stepped=lambda step: step._replace(**{name: new(step) for name, new in changes.items()}))


@pytest.fixture(scope="module")
def policy():
    return gaussjax.gaussian(gaussjax.networks.MLP((4,)), 1, UNIT)


def run(environment, policy):
    return rollout.compiled.evaluate(environment, policy, policy.init(jax.random.key(0)), jax.random.key(1), episodes=2)


WRONG = {
    "no pair": (environment(begun=lambda begun: begun[0].place), r"^reset: expected \(state, observation\), got a "),
    "plain tuple": (environment(stepped=tuple), r"^step: expected a gaussjax\.envs\.Step, got a tuple of 5\. Return"),
    "no pytree": (environment(stepped=lambda _: object()), r"^step: expected a gaussjax\.envs\.Step, got a object\."),
    "reward": (replaced(reward=lambda step: step.reward.reshape(1)), r"^step\.reward: expected shape \(\), got \(1,\)"),
    "terminated": (replaced(terminated=lambda _: jnp.zeros(1, bool)), r"^step\.terminated: expected shape \(\), got"),
    "truncated": (replaced(truncated=lambda _: jnp.zeros(())), r"^step\.truncated: expected bool, got float32\. Use"),
    "space": (environment(Box(shape=(2,))), r"^reset\.observation: expected \(\.\.\., 2\), got \(1,\)"),
    "keys": (environment(Dict((("a", UNIT),))), r"^reset\.observation: expected a dict with the keys \['a'\]"),
    "batch": (
        environment(begun=lambda begun: (begun[0], jnp.zeros((4, 1)))),
        r"^reset\.observation: expected one element of the observation_space, got a batch of shape \(4,\)",
    ),
    "observation": (
        replaced(observation=lambda _: jnp.zeros(2)),
        r"^step\.observation: expected \(\.\.\., 1\), got \(2,\)",
    ),
    "observation's type": (
        replaced(observation=lambda step: step.observation.astype(jnp.int32)),
        r"^step\.observation: expected float32\[1\], got int32\[1\]\. A compiled loop",
    ),
    "state's type": (
        replaced(state=lambda step: step.state._replace(time=step.state.time.astype(jnp.float32))),
        r"^step\.state\.time: expected int32\[\], got float32\[\]\. A compiled loop",
    ),
    "state's shape": (
        replaced(state=lambda step: step.state._replace(place=jnp.zeros(3))),
        r"^step\.state\.place: expected float32\[1\], got float32\[3\]\. A compiled loop",
    ),
    "state's leaves": (
        replaced(state=lambda step: {"place": step.state.place}),
        r"^step\.state\.place is missing \(expected float32\[1\]\).*step\.state\['place'\] is unknown",
    ),
    "state's structure": (
        envs.Environment(
            lambda key: ([0, 0], jnp.zeros(1)),
            lambda state, _: envs.Step((0, 0), jnp.zeros(1), 0, False, False),
            UNIT,
            UNIT,
        ),
        r"^step\.state: expected PyTreeDef\(\[\*, \*\]\), got PyTreeDef\(\(\*, \*\)\)",
    ),
}


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_a_broken_protocol_is_refused_by_name(policy, wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        run(wrong, policy)


def test_numbers_of_python_keep_the_protocol(policy):
    plain = envs.Environment(
        lambda key: [{"time": 0}, np.zeros(1)],
        lambda state, action: envs.Step({"time": state["time"] + 1}, jnp.zeros(1), 1, False, state["time"] >= 2),
        UNIT,
        UNIT,
    )
    np.testing.assert_array_equal(run(plain, policy), [3.0, 3.0])


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize(
    "adapted",
    [
        envs.make_functional("Pendulum-v1"),
        envs.from_brax(test_envs.BraxLike(), max_steps=3),
        envs.from_gymnax(test_envs.GymnaxLike(), 1.0),
    ],
    ids=["functional", "brax", "gymnax"],
)
def test_environments_of_others_keep_the_protocol(adapted):
    network = gaussjax.networks.MLP((4,))
    policy = gaussjax.gaussian(network, adapted.observation_space, adapted.action_space)
    assert jax.eval_shape(lambda key: run(adapted, policy), jax.random.key(0)).shape == (2,)


@pytest.mark.parametrize(("module", "options"), [(ppo, {"batch_size": 4}), (sac, {"buffer_size": 8})])
def test_compiled_training_refuses_before_it_compiles(module, options):
    config = module.Config(num_envs=2, num_steps=2, hidden_sizes=(4,), **options)
    algorithm = module.make(environment(Box(shape=(2,))), config)
    with pytest.raises(ValueError, match=r"^reset\.observation: expected"):
        algorithm.init(jax.random.key(0))
    algorithm = module.make(replaced(reward=lambda step: step.reward.reshape(1)), config)
    with pytest.raises(ValueError, match=r"^step\.reward: expected shape \(\), got \(1,\)\. The environment"):
        jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, jax.random.key(0)))
