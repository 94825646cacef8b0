import gymnasium
import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, exploration, rollout
from gaussjax.envs.guard import EnvironmentStepError
from tests import policies
from tests.training import probes


def still(t, observations, resets, carry):
    actions = np.zeros((len(observations), 1), np.float32)
    return actions, actions, carry


def collect(runner, observations, num_steps):
    return rollout.collect(runner, still, observations, np.ones(len(observations), bool), (), num_steps)


def test_collect_keeps_the_true_last_observation_of_a_truncated_episode():
    runner = rollout.Runner(probes.vector(lambda: probes.Counter(length=3), 2))
    experience, (observations, resets, _), episodes = collect(runner, runner.reset(0), 4)
    # Observations count 0 1 2 | 0; what follows is 1 2 3 | 1, and the reset shows in the next one only.
    np.testing.assert_array_equal(experience.observations[:, 0, 0], [0, 1, 2, 0])
    np.testing.assert_array_equal(experience.next_observations[:, 0, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(experience.truncated[:, 1], [False, False, True, False])
    assert not experience.terminated.any()
    np.testing.assert_array_equal(observations, [[1], [1]])
    # The first step and the one after the end start an episode.
    np.testing.assert_array_equal(experience.resets[:, 0], [True, False, False, True])
    np.testing.assert_array_equal(resets, [False, False])
    assert episodes.returns == [6.0, 6.0]
    assert episodes.lengths == [3, 3]


def test_episodes_are_counted_across_two_collections():
    runner = rollout.Runner(probes.vector(lambda: probes.Counter(length=5), 1))
    _, (observations, _, _), first = collect(runner, runner.reset(0), 3)
    _, _, second = collect(runner, observations, 3)
    assert first.returns == []
    assert second.returns == [15.0]
    assert second.lengths == [5]


def test_held_noise_lasts_from_one_collection_to_the_next_and_ends_with_its_episode():
    runner, (policy, _) = rollout.Runner(probes.vector(lambda: probes.Counter(length=6), 2)), policies.make("gaussian")
    source = exploration.held(policy, num_steps=4)
    standing = runner.reset(0), np.ones(2, bool), source.init(jax.random.key(0), (2,))
    found = []
    for key in jax.random.split(jax.random.key(1), 3):

        def act(t, observations, resets, state, key=key):
            state, noise = source.step(state, jax.random.fold_in(key, t), resets)
            return noise[:, :1], noise[:, :1], state

        experience, standing, _ = rollout.collect(runner, act, *standing, num_steps=5)
        np.testing.assert_array_equal(experience.carries.noise[1:, :, :1], experience.raw_actions)
        found.append(experience.raw_actions)
    noise = np.concatenate(found)
    changed = np.flatnonzero((noise[1:] != noise[:-1]).all(axis=(1, 2))) + 1
    kept = np.flatnonzero((noise[1:] == noise[:-1]).all(axis=(1, 2))) + 1
    # Episodes begin at the steps 6 and 12, and a hold ends at the steps 4 and 10.
    assert changed.tolist() == [4, 6, 10, 12]
    assert sorted([*changed, *kept]) == list(range(1, 15))


@pytest.mark.parametrize(
    ("makes", "says"),
    [
        (
            [lambda: probes.Counter(10), lambda: probes.Counter(10, breaks_at=4)],
            r"environment 1 \(.*probes.py, line \d+\): expected a finite observation at step 4, got \[nan\]",
        ),
        (
            [lambda: probes.Counter(length=2, breaks_at=2)],
            r"environment 0 \(.*\): expected a finite observation at step 2",
        ),
        (
            [lambda: gymnasium.wrappers.TransformReward(probes.Counter(10), lambda _: 1e39)],
            r"environment 0 \(.*\): expected a finite reward at step 1, got 1e\+39",
        ),
    ],
    ids=["within", "at its end", "a reward beyond float32"],
)
def test_numbers_that_are_not_finite_name_the_environment_and_the_step(makes, says):
    runner = rollout.Runner(probes.vector_of(makes))
    with pytest.raises(FloatingPointError, match=says):
        collect(runner, runner.reset(0), 10)


def test_rewards_within_float32_are_finite_even_where_their_squares_are_not():
    runner = rollout.Runner(
        probes.vector_of([lambda: gymnasium.wrappers.TransformReward(probes.Counter(10), lambda _: 1e30)])
    )
    assert collect(runner, runner.reset(0), 3)[0].rewards.tolist() == [[np.float32(1e30)]] * 3


class Odd(gymnasium.Env):
    """The second of three observations has the numbers `value` in a dtype of their own."""

    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, space, value, ends):
        self.observation_space, self._value, self._ends = space, value, ends

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._filled(np.uint8(0)), {}

    def step(self, action):
        self._steps += 1
        odd = self._steps == 2
        return self._filled(self._value if odd else np.uint8(1)), 0.0, self._ends and odd, False, {}

    def _filled(self, value):
        filled = np.full((2, 2), value)
        return {"a": filled} if isinstance(self.observation_space, gymnasium.spaces.Dict) else filled


PIXELS, SIGNS = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8), gymnasium.spaces.Box(-9, 9, (2, 2), np.int16)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("space", "value", "ends", "says"),
    [
        (PIXELS, np.uint16(300), False, "uint8 numbers at step 2, got 300."),
        (PIXELS, 300, True, "uint8 numbers at step 2, got 300."),
        (PIXELS, 2.5, True, "uint8 numbers at step 2, got 2.5."),
        (PIXELS, np.nan, True, "uint8 numbers at step 2, got nan."),
        (PIXELS, -1, True, "uint8 numbers at step 2, got -1."),
        (SIGNS, 2**16 + 1, False, "int16 numbers at step 2, got 65537."),
        (SIGNS, 2**16 + 1, True, "int16 numbers at step 2, got 65537."),
        (PIXELS, np.uint16(255), False, None),
        (PIXELS, 255.0, True, None),
    ],
)
def test_a_number_that_the_dtype_of_the_space_cannot_hold_is_refused(space, value, ends, says, nested):
    space = gymnasium.spaces.Dict(a=space) if nested else space
    runner = rollout.Runner(probes.vector_of([lambda: Odd(space, np.uint8(1), False), lambda: Odd(space, value, ends)]))
    runner.reset(0)
    runner.step(np.zeros(2, int))
    if says is None:
        last = runner.step(np.zeros(2, int))[4]
        assert (last["a"] if nested else last)[1].tolist() == [[255, 255]] * 2
        return
    with pytest.raises(EnvironmentStepError) as caught:
        runner.step(np.zeros(2, int))
    assert f"): expected an observation of {says} Correct the environment, or the dtype of" in str(caught.value)
    assert str(caught.value).startswith("environment 1 (")


@pytest.mark.parametrize(
    ("actions", "says"), [([0.0, 1.7], "got 1.7"), ([0.0, np.nan], "got nan"), ([0.0, 1e30], "got 1e.30")]
)
def test_actions_that_the_dtype_of_the_space_cannot_hold_are_refused(actions, says):
    runner = rollout.Runner(probes.vector(lambda: Odd(PIXELS, np.uint8(1), False), 2))
    runner.reset(0)
    with pytest.raises(ValueError, match=rf"^actions: expected int64 numbers as in the action space, {says}"):
        runner.step(np.array(actions))


def test_other_autoreset_modes_are_refused():
    environments = gymnasium.vector.SyncVectorEnv([probes.Bandit])
    with pytest.raises(ValueError, match="expected the autoreset mode SAME_STEP, got"):
        rollout.Runner(environments)
    environments.close()


POLICY = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
JAX = envs.make_functional("Pendulum-v1")


def started(**wrong):
    good = {"environment": JAX, "policy": POLICY, "key": jax.random.key(0), "num_envs": 2}
    return rollout.compiled.start(**{**good, **wrong})


def collected(**wrong):
    good = {"environment": JAX, "policy": POLICY, "params": {}, "preprocess": abs, "state": None, "num_steps": 2}
    return rollout.compiled.collect(**{**good, "key": jax.random.key(0), **wrong})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rollout.Runner("Pendulum-v1"), "environments: expected a Gymnasium vector environment, got str. Make"),
        (lambda: rollout.evaluate("Pendulum-v1", POLICY, {}), "policy: expected a policy such as gaussjax.gaussian ma"),
        (lambda: rollout.evaluate(POLICY, {}, gymnasium.make("Pendulum-v1")), "Environment, got TimeLimit. evaluate"),
        (lambda: rollout.evaluate(POLICY, {}, "Pendulum-v1", deterministic="no"), "expected True or False, got 'no'."),
        (
            lambda: rollout.evaluate(POLICY, {}, "Pendulum-v1", deterministic=False, exploration="held"),
            "exploration: expected a gaussjax.exploration.Exploration, got str. Make one with",
        ),
        (
            lambda: started(environment="Pendulum-v1"),
            "environment: expected a gaussjax.envs.Environment, got str. Make",
        ),
        (lambda: started(policy={}), "policy: expected a policy such as gaussjax.gaussian makes, got dict."),
        (lambda: started(key=0), "key: expected one PRNG key, got 0."),
        (lambda: started(exploration=exploration.held), "expected a gaussjax.exploration.Exploration, got function."),
        (
            lambda: collected(preprocess=None),
            "preprocess: expected a function such as partial(normalize.apply, statist",
        ),
        (lambda: collected(key=3), "key: expected one PRNG key, got 3."),
        (lambda: collected(deterministic="no"), "deterministic: expected True or False, got 'no'."),
        (lambda: collected(exploration="held"), "exploration: expected a gaussjax.exploration.Exploration, got str."),
    ],
)
def test_arguments_of_other_types_are_named(call, says):
    with pytest.raises(TypeError) as caught:
        call()
    assert says in str(caught.value)


def test_evaluate_runs_each_episode_once_and_to_its_end():
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
    params = policy.init(jax.random.key(0))
    episodes = rollout.evaluate(policy, params, "Pendulum-v1", episodes=3, seed=5)
    assert episodes.lengths == [200, 200, 200]
    # By hand, one episode from the second environment's seed.
    environment = gymnasium.make("Pendulum-v1")
    observation, _ = environment.reset(seed=6)
    total, actions = 0.0, []
    for _ in range(200):
        action = policy.act(params, None, observation, deterministic=True).actions
        actions.append(np.asarray(action))
        observation, reward, _, _, _ = environment.step(np.asarray(action))
        total += float(reward)
    environment.close()
    np.testing.assert_allclose(episodes.returns[1], total, rtol=1e-3)
    assert episodes.cut == 0
    alone = rollout.evaluate(policy, params, "Pendulum-v1", episodes=1, seed=6).smoothness
    measured = rollout.smoothness(np.stack(actions)[:, None], [200], policy.spec.action_space)
    np.testing.assert_allclose(alone, measured, rtol=1e-2)


def test_evaluate_cuts_episodes_without_end():
    class Uneven(probes.Counter):
        def __init__(self):
            super().__init__(0)

        def reset(self, *, seed=None, options=None):
            self._length = 3 if seed == 0 else 10**9
            return super().reset(seed=seed)

    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 1, gaussjax.spaces.Box(-1.0, 1.0, (1,)))
    params = policy.init(jax.random.key(0))
    with probes.registered(Uneven) as name:
        episodes = rollout.evaluate(policy, params, name, episodes=2, max_steps=7)
    assert (episodes.lengths, episodes.cut) == ([3, 7], 1)
    # The reward is the number of the step.
    assert episodes.returns == [6.0, 28.0]


class Reach(gymnasium.Env):
    """Ends at once with the action as observation; the reward is 1 if the Box contains the action."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def __init__(self, dtype=np.float64):
        edges = (3, 250) if dtype is np.uint8 else (-0.7, 0.3)
        self.action_space = gymnasium.spaces.Box(*edges, (2,), dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(3, np.float32), {}

    def step(self, action):
        return np.float32([*action, 0.0]), float(self.action_space.contains(action)), True, False, {}


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (gaussjax.gaussian, {}),
        (gaussjax.gaussian, {"clip_actions": True}),
        (gaussjax.multivariate_gaussian, {}),
        (gaussjax.squashed_gaussian, {}),
    ],
    ids=["unclipped", "clipped", "multivariate", "squashed"],
)
def test_environments_get_actions_of_their_box_in_its_dtype(factory, options):
    network = gaussjax.networks.MLP((), initial_log_std=2.0)
    policy = factory(network, 3, Reach().action_space, **options)
    params = policies.random_params(policy)
    with probes.registered(Reach) as name:
        episodes = rollout.evaluate(policy, params, name, episodes=20, deterministic=False)
    assert episodes.returns == [1.0] * 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_collect_records_the_actions_that_the_environments_got(dtype):
    def wild(t, observations, resets, carry):
        actions = np.float32([[-300.0, 0.123456], [np.inf, 17.6]])
        return actions, actions, carry

    runner = rollout.Runner(probes.vector(lambda: Reach(dtype), 2))
    experience, _, _ = rollout.collect(runner, wild, runner.reset(0), np.ones(2, bool), (), 2)
    box = runner.environments.single_action_space
    assert experience.rewards.tolist() == [[1.0, 1.0]] * 2
    assert np.all((box.low <= experience.actions) & (experience.actions <= box.high))
    np.testing.assert_array_equal(experience.actions, experience.next_observations[..., :2])
    assert dtype != np.uint8 or experience.actions[0].tolist() == [[3.0, 3.0], [250.0, 18.0]]
    np.testing.assert_array_equal(experience.raw_actions[0], np.float32([[-300.0, 0.123456], [np.inf, 17.6]]))


def test_pixels_stay_integers_and_other_observations_become_float32():
    class Camera(probes.Counter):
        observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)

        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0].astype(np.uint8), {}

        def step(self, action):
            observation, *rest = super().step(action)
            return observation.astype(np.uint8), *rest

    runner = rollout.Runner(probes.vector(lambda: Camera(2), 2))
    experience, _, _ = collect(runner, runner.reset(0), 3)
    assert experience.observations.dtype == experience.next_observations.dtype == np.uint8
    assert experience.next_observations[:, 0, 0, 0].tolist() == [1, 2, 1]
    assert rollout.Runner(probes.vector(lambda: probes.Counter(2), 1)).reset(0).dtype == np.float32
