"""Noise, delay and stacked frames: their values step by step, in Dict observations too, and at resets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, rollout
from gaussjax.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

SPACE = Dict((("count", Box(-9.0, 9.0, (2,))), ("inner", Tuple((Discrete(9), Box(0, 255, (2, 2, 3), "uint8"))))))


def clock(length=4):
    """Every part of the observation counts the steps; the reward is the action."""

    def seen(time):
        pixels = jnp.full((2, 2, 3), time, jnp.uint8)
        return {"count": jnp.stack([time, -time]).astype(jnp.float32), "inner": (time, pixels)}

    def step(state, action):
        time = state + 1
        return envs.Step(time, seen(time), action[0], jnp.asarray(False), time >= length)

    return envs.Environment(lambda key: (jnp.int32(0), seen(jnp.int32(0))), step, SPACE, Box(-1.0, 1.0, (1,)))


def run(environment, actions):
    """Observations from the reset on, and the rewards."""
    state, observation = environment.reset(jax.random.key(0))
    observations, rewards = [observation], []
    for action in actions:
        stepped = environment.step(state, jnp.array([action], jnp.float32))
        state = stepped.state
        observations.append(stepped.observation)
        rewards.append(float(stepped.reward))
    return observations, rewards


def test_a_delayed_observation_is_an_earlier_one():
    observations, _ = run(envs.observation_delay(clock(), 2), [0.0] * 4)
    assert [int(each["inner"][0]) for each in observations] == [0, 0, 0, 1, 2]
    assert [float(each["count"][1]) for each in observations] == [0, 0, 0, -1, -2]


def test_a_delayed_action_is_applied_later():
    assert run(envs.action_delay(clock(), 2), [0.25, 0.5, 0.75])[1] == [0.0, 0.0, 0.25]
    # Zero is no action of this Box.
    narrow = clock()._replace(action_space=Box(0.5, 1.0, (1,)))
    assert run(envs.action_delay(narrow, 1), [0.75, 1.0])[1] == [0.5, 0.75]


def test_stacked_frames_are_the_last_ones_with_the_newest_last():
    environment = envs.frame_stack(clock(), 3)
    observations, _ = run(environment, [0.0] * 3)
    assert [each["count"].tolist() for each in observations[::3]] == [[0.0] * 6, [1, -1, 2, -2, 3, -3]]
    assert observations[2]["inner"][0].tolist() == [0, 1, 2]
    pixels = observations[2]["inner"][1]
    assert (pixels.shape, pixels.dtype) == ((2, 2, 9), np.uint8)
    assert pixels[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    count, inner = (part for _, part in environment.observation_space.items)
    assert (count.shape, inner.items[0], inner.items[1].dtype) == ((6,), MultiDiscrete((9, 9, 9)), "uint8")
    assert gaussjax.spaces.bounds(inner.items[1])[1].tolist() == [255.0] * 36


@pytest.mark.parametrize(
    ("scale", "deviations"), [(0.5, (0.5, 0.5)), ({"count": 0.25}, (0.25, 0.25)), ({}, (0.0, 0.0))]
)
def test_noise_of_observations_has_its_scale_and_leaves_integers(scale, deviations):
    environment = envs.observation_noise(clock(), scale)

    def both(key):
        state, first = environment.reset(key)
        return first, environment.step(state, jnp.zeros(1)).observation

    first, second = jax.vmap(both)(jax.random.split(jax.random.key(0), 4000))
    errors = np.concatenate([first["count"], np.asarray(second["count"]) - np.array([1.0, -1.0])], axis=1)
    np.testing.assert_allclose(errors.std(0), np.repeat(deviations, 2), rtol=0.05)
    np.testing.assert_allclose(errors.mean(0), np.zeros(4), atol=0.03)
    if scale:
        np.testing.assert_allclose(np.corrcoef(errors.T), np.eye(4), atol=0.06)
    assert set(np.asarray(second["inner"][0])) == {1}
    assert set(np.asarray(second["inner"][1]).ravel()) == {1}


def test_noise_stays_within_the_spaces():
    noisy = envs.observation_noise(clock(), 100.0).reset(jax.random.key(0))[1]["count"]
    assert np.all(np.abs(noisy) == 9.0)
    rewards = run(envs.action_noise(clock(), 0.1), [1.0] * 20)[1]
    assert max(rewards) == 1.0
    assert 0.5 < min(rewards) < 1.0
    assert len(set(run(envs.action_noise(clock(), 0.1), [0.0] * 20)[1])) == 20


WRAPPED = {
    "observation_noise": envs.observation_noise(clock(), 0.1),
    "action_noise": envs.action_noise(clock(), 0.1),
    "observation_delay": envs.observation_delay(clock(), 2),
    "action_delay": envs.action_delay(clock(), 2),
    "frame_stack": envs.frame_stack(clock(), 2),
    "all": envs.frame_stack(envs.observation_delay(envs.action_noise(envs.repeated(clock(9), 2), 0.1), 1), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("environment", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_environments_keep_the_protocol(environment):
    assert envs.check(environment) == []


def test_a_new_episode_has_nothing_of_the_one_before():
    environment = envs.frame_stack(envs.observation_delay(envs.action_delay(clock(), 1), 1), 2)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), environment.observation_space, environment.action_space)
    params = policy.init(jax.random.key(0))
    state = rollout.compiled.start(environment, policy, jax.random.key(1), 2)
    steps, _, _ = rollout.compiled.collect(
        environment, policy, params, lambda observations: observations, state, jax.random.key(2), 9
    )
    times = np.asarray(steps.observations["inner"][0])[:, 0]
    assert times.tolist() == [[0, 0], [0, 0], [0, 1], [1, 2]] * 2 + [[0, 0]]
    # The first action of an episode waits, so a zero is applied.
    assert np.asarray(steps.rewards)[[0, 4, 8], 0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda: envs.observation_noise(clock(), -1.0), r"ValueError: scale: expected a number at least 0, got -1\.0"),
        (lambda: envs.observation_noise(clock(), {"cuont": 1.0}), "ValueError: scale: expected a number for a part of"),
        (lambda: envs.action_noise(clock(), "1"), "TypeError: scale: expected a number, got '1'"),
        (lambda: envs.observation_delay(clock(), 0), r"ValueError: steps: expected at least 1, got 0\."),
        (lambda: envs.action_delay(clock(), 1.5), r"TypeError: steps: expected an integer, got 1\.5"),
        (lambda: envs.frame_stack(clock(), 0), r"ValueError: num_frames: expected at least 1, got 0\."),
        (
            lambda: envs.frame_stack(clock()._replace(observation_space=Discrete(3, 1)), 2),
            "ValueError: frame_stack: expected a Discrete space that starts at 0",
        ),
    ],
)
def test_wrong_arguments_are_refused(wrap, says):
    with pytest.raises((TypeError, ValueError)) as caught:
        wrap()
    assert f"{caught.typename}: {caught.value}".startswith(says.replace("\\", ""))
