import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gaussjax
from gaussjax import envs, rollout, spaces
from tests import policies
from tests.training import jax_probes

CACHED = ("rollout", "first")


def plain(observations):
    return observations


@pytest.fixture(scope="module")
def policy():
    return gaussjax.gaussian(gaussjax.networks.MLP((4,)), 1, jax_probes.UNIT, clip_actions=True)


@pytest.fixture(scope="module")
def collected(policy):
    environment, params = jax_probes.counter(length=3), policy.init(jax.random.key(0))

    @jax.jit
    def run(key):
        state = rollout.compiled.start(environment, policy, jax.random.key(1), 2)
        return rollout.compiled.collect(environment, policy, params, plain, state, key, 5)

    return params, run(jax.random.key(2))


def test_true_last_observations_and_the_start_of_the_next_episode(collected):
    _, (experience, state, episodes) = collected
    np.testing.assert_array_equal(experience.observations[:, 0, 0], [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(experience.next_observations[:, 0, 0], [1, 2, 3, 1, 2])
    np.testing.assert_array_equal(experience.truncated[:, 1], [False, False, True, False, False])
    np.testing.assert_array_equal(experience.resets[:, 0], [True, False, False, True, False])
    assert not experience.terminated.any()
    # Both copies finished one episode of 1 + 2 + 3.
    assert (episodes.count, episodes.returns, episodes.lengths) == (2, 12, 6)
    np.testing.assert_array_equal(state.returns, [3, 3])
    np.testing.assert_array_equal(state.lengths, [2, 2])


def test_actions_are_those_of_the_policy_for_the_noise_drawn(policy, collected):
    params, (experience, _, _) = collected
    noise_key, _ = jax.random.split(jax.random.key(2))
    noise = jax.random.normal(noise_key, (5, 2, 1), np.float32)
    expected = policy.act(params, None, experience.observations, noise=noise)
    np.testing.assert_allclose(experience.raw_actions, expected.outputs["raw_actions"], atol=1e-6)
    np.testing.assert_allclose(experience.actions, expected.actions, atol=1e-6)
    assert not np.allclose(noise[0], noise[1])


def test_uniform_actions_fill_the_box_whatever_the_policy_and_only_if_asked_for():
    narrow, wide = (-1.0, 0.0), (3.0, 1e-3)
    environment = jax_probes.counter(length=3)._replace(action_space=spaces.Box(narrow, wide, (2,)))
    network = gaussjax.networks.MLP((4,), initial_log_std=-9.0)
    policy = gaussjax.squashed_gaussian(network, 1, environment.action_space)
    params, state = policy.init(jax.random.key(0)), rollout.compiled.start(environment, policy, jax.random.key(1), 100)

    @jax.jit
    def actions(uniform):
        key = jax.random.key(2)
        rows = rollout.compiled.collect(environment, policy, params, plain, state, key, 20, uniform=uniform)[0]
        return rows.actions.reshape(-1, 2)

    drawn = np.asarray(actions(True))
    assert np.all((drawn >= narrow) & (drawn <= wide))
    for column, low, high in zip(drawn.T, narrow, wide, strict=True):
        assert stats.kstest((column - low) / (high - low), "uniform").pvalue > 1e-3
    # The policy's own actions hardly vary.
    assert np.all(np.std(np.asarray(actions(False)).reshape(20, 100, 2), axis=1) < 1e-3)


@pytest.mark.without("jax_debug_key_reuse")
def test_resets_are_computed_only_where_an_episode_ends_in_a_vmap_over_trainings_too(policy):
    calls, environment, params = [], jax_probes.counter(length=3), policy.init(jax.random.key(0))

    def reset(key):
        jax.debug.callback(lambda: calls.append(1))
        return environment.reset(key)

    counted = environment._replace(reset=reset)

    def run(key):
        state = rollout.compiled.start(counted, policy, key, 2)
        return rollout.compiled.collect(counted, policy, params, plain, state, key, 5)

    together = jax.vmap(jax.vmap(run))(jax.random.split(jax.random.key(0), (2, 3)))
    jax.effects_barrier()
    # All copies of all six trainings start, and all episodes end at the third of five steps.
    assert len(calls) == 2
    alone = run(jax.random.split(jax.random.key(0), (2, 3))[1, 2])
    jax.tree.map(lambda one, all_: np.testing.assert_allclose(one, all_[1, 2], atol=1e-6), alone, together)


def uneven(length, scale=1.0):
    """Episodes of 1 to `length` steps from a random place, which is multiplied by `scale`; the place never changes."""

    def reset(key):
        place_key, length_key = jax.random.split(key)
        place = scale * (1.0 + jax.random.uniform(place_key, (1,)))
        return (place, jax.random.randint(length_key, (), 0, length)), place

    def step(state, action):
        place, time = state[0], state[1] + 1
        return envs.Step((place, time), place, place[0], jnp.asarray(False), time >= length)

    return envs.Environment(reset, step, spaces.Box(shape=(1,)), jax_probes.UNIT)


# Without compilation it takes minutes.
@pytest.mark.without("jax_debug_key_reuse", "jax_disable_jit")
def test_the_number_of_resets_follows_the_ended_episodes_of_all_trainings(policy):
    computed, environment, params = [], uneven(20), policy.init(jax.random.key(0))

    def reset(key):
        jax.debug.callback(lambda _: computed.append(1), jax.random.key_data(key))
        return environment.reset(key)

    counted = environment._replace(reset=reset)

    def run(key):
        state = rollout.compiled.start(counted, policy, key, 64)
        return rollout.compiled.collect(counted, policy, params, plain, state, key, 24)[:2]

    keys = jax.random.split(jax.random.key(0), (2, 2))
    together = jax.jit(jax.vmap(jax.vmap(run)))(keys)
    jax.effects_barrier()
    ended = np.asarray(together[0].truncated).sum((0, 1, 3))
    # 256 copies start; their resets are computed in groups of 16.
    assert len(computed) == 256 + np.sum(-(-ended // 16) * 16)
    assert len(computed) < 256 + 24 * 64
    experience, _ = together
    # Each start is new.
    begun = np.asarray(experience.observations)[np.asarray(experience.resets)]
    assert len(np.unique(begun)) == begun.size == 256 + ended[:-1].sum()
    alone = jax.jit(run)(keys[1, 0])
    # Parts of the policy may differ by roundoff, and starts may not.
    np.testing.assert_array_equal(alone[0].observations, experience.observations[1, 0])
    jax.tree.map(lambda one, all_: np.testing.assert_array_equal(one, all_[1, 0]), *(alone[1][0], together[1][0]))


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("resets", ["each", *(pytest.param(kind, marks=pytest.mark.slow) for kind in CACHED)])
def test_starts_have_derivatives_by_the_parameters_of_an_environment(policy, resets):
    params = policy.init(jax.random.key(0))

    def total(scale, key):
        environment = uneven(5, scale)._replace(resets=resets)
        state = rollout.compiled.start(environment, policy, key, 3)
        return rollout.compiled.collect(environment, policy, params, plain, state, key, 16)[0].rewards.sum()

    keys, scales = jax.random.split(jax.random.key(0), 2), jnp.array([1.0, 2.0])
    # A reward is the scale times a random number, so the total is the scale times its derivative.
    totals = jax.jit(jax.vmap(total))(scales, keys)
    for derivative in (jax.grad(total), jax.jacfwd(total)):
        found = jax.jit(jax.vmap(derivative))(scales, keys)
        np.testing.assert_allclose(scales * found, totals, rtol=1e-5)
    np.testing.assert_allclose([total(*pair) for pair in zip(scales, keys, strict=True)], totals, rtol=1e-5)


def test_sums_of_episodes_are_those_counted_step_by_step(policy):
    def step(state, action):
        count, length = state
        return envs.Step(
            (count + 1.0, length), count.reshape(1), count + 0.5, count + 1.0 == length, jnp.asarray(False)
        )

    # Each copy and each episode has a length of its own.
    environment = envs.Environment(
        lambda key: ((jnp.zeros(()), jax.random.randint(key, (), 1, 9).astype(jnp.float32)), jnp.zeros(1)),
        step,
        jax_probes.UNIT,
        jax_probes.UNIT,
    )
    params, state = policy.init(jax.random.key(0)), rollout.compiled.start(environment, policy, jax.random.key(1), 5)
    collect = jax.jit(lambda state, key: rollout.compiled.collect(environment, policy, params, plain, state, key, 6))
    returns, lengths = np.zeros(5), np.zeros(5)
    for key in jax.random.split(jax.random.key(2), 3):
        experience, state, episodes = collect(state, key)
        expected = np.zeros(3)
        for rewards, done in zip(experience.rewards, experience.terminated, strict=True):
            returns, lengths = returns + rewards, lengths + 1
            expected += [done.sum(), returns[done].sum(), lengths[done].sum()]
            returns, lengths = np.where(done, 0, returns), np.where(done, 0, lengths)
        np.testing.assert_array_equal(episodes, expected)
        np.testing.assert_array_equal(state.returns, returns)
        np.testing.assert_array_equal(state.lengths, lengths)


@pytest.mark.parametrize("terminates", [True, False])
def test_evaluation_counts_the_first_episode_only_and_uses_each_key_once(policy, terminates):
    environment = jax_probes.counter(length=3, terminates=terminates)
    params, key = policy.init(jax.random.key(0)), jax.random.key(0)
    with jax.debug_key_reuse(True):
        returns = rollout.compiled.evaluate(environment, policy, params, key, episodes=4, max_steps=8)
        with pytest.raises(jax.errors.KeyReuseError):
            jax.random.bits(key)
    np.testing.assert_array_equal(returns, [6.0] * 4)


# Without compilation 20,000 steps take minutes.
@pytest.mark.without("jax_disable_jit")
def test_the_return_of_a_long_episode_keeps_its_digits(policy):
    counter = jax_probes.counter(length=10**6)
    environment = counter._replace(step=lambda *given: counter.step(*given)._replace(reward=jnp.float32(0.1)))
    arguments = environment, policy, policy.init(jax.random.key(0)), jax.random.key(0)
    returns = rollout.compiled.evaluate(*arguments, episodes=1, max_steps=20_000)
    # A sum in float32 is 0.02% smaller.
    np.testing.assert_allclose(returns, [20_000 * np.float64(np.float32(0.1))], rtol=1e-7)


def test_a_carry_is_zeroed_at_each_episode_and_recorded():
    policy = gaussjax.gaussian(gaussjax.networks.GRU(hidden_size=3, sizes=(4,)), 1, jax_probes.UNIT)
    params, environment = policy.init(jax.random.key(0)), jax_probes.counter(length=3)
    state = rollout.compiled.start(environment, policy, jax.random.key(1), 2)
    experience, last, _ = rollout.compiled.collect(environment, policy, params, plain, state, jax.random.key(2), 6)
    (carries,) = jax.tree.leaves(experience.carries)
    assert carries.shape == (7, 2, 3)
    # Episodes are alike, so the carries after their first steps are alike.
    np.testing.assert_allclose(carries[1], carries[4], atol=1e-6)
    np.testing.assert_array_equal(carries[6], jax.tree.leaves(last.carry)[0])
    # The whole rollout unrolled from its first state gives the same means.
    given = {"carry": policy.initial_carry((2,)), "resets": experience.resets}
    mean = policy.apply(params, experience.observations, **given)[1]["mean_actions"]
    stepwise = [
        policy.apply(
            params,
            experience.observations[t],
            carry=jax.tree.map(lambda leaf, t=t: leaf[t], experience.carries),
            resets=experience.resets[t],
        )[1]["mean_actions"]
        for t in range(6)
    ]
    np.testing.assert_allclose(mean, jnp.stack(stepwise), atol=1e-6)


@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize("num_steps", [1, 100])
def test_the_return_of_a_long_training_episode_keeps_its_digits(policy, num_steps):
    counter = jax_probes.counter(length=20_000)
    environment = counter._replace(step=lambda *given: counter.step(*given)._replace(reward=jnp.float32(0.1)))
    arguments = environment, policy, policy.init(jax.random.key(0)), plain

    def collect(state, key):
        return rollout.compiled.collect(*arguments, state, key, num_steps)[1:]

    state = rollout.compiled.start(environment, policy, jax.random.key(1), 2)
    keys = jax.random.split(jax.random.key(0), 20_000 // num_steps)
    state, ended = jax.jit(lambda state: jax.lax.scan(collect, state, keys))(state)
    # A sum in float32 is 0.02% smaller.
    np.testing.assert_allclose(ended.returns[-1], 2 * 20_000 * np.float64(np.float32(0.1)), rtol=1e-7)
    assert ended.count.sum() == 2
    np.testing.assert_array_equal([state.returns, state.lost, state.lengths], np.zeros((3, 2)))


def returning(box):
    """An environment that returns its actions as rewards."""

    def step(state, action):
        return envs.Step(action, action, action[0], jnp.asarray(False), jnp.asarray(False))

    # The actions are float32 in x64 mode too, and a compiled loop keeps the dtypes of the reset.
    zeros = jnp.zeros(1, jnp.float32)
    return envs.Environment(lambda key: (zeros, zeros), step, jax_probes.UNIT, box)


@pytest.mark.parametrize(("dtype", "high"), [("int8", 7.0), ("uint16", 9.0), ("float16", 0.1)])
def test_the_environment_gets_numbers_of_the_dtype_of_the_box(dtype, high):
    environment = returning(gymnasium.spaces.Box(0, high, (1,), dtype))
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,), initial_log_std=2.0), 1, environment.action_space)
    params, state = policies.random_params(policy), rollout.compiled.start(environment, policy, jax.random.key(0), 9)
    rows, _, _ = rollout.compiled.collect(environment, policy, params, plain, state, jax.random.key(1), 9)
    recorded = rollout.record(policy, params, environment, episodes=9, max_steps=9, deterministic=False)
    found = [(rows.rewards, rows.actions), *((each["rewards"], each["actions"]) for each in recorded)]
    rewards, actions = (np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*found, strict=True))
    np.testing.assert_array_equal(rewards, actions)
    np.testing.assert_array_equal(actions, actions.astype(dtype))
    assert len(np.unique(actions)) > 2
    near = np.clip(rows.raw_actions, 0.0, environment.action_space.high)
    np.testing.assert_array_equal(rows.actions, near.round() if dtype != "float16" else near.astype("float16"))


def test_uniform_actions_of_an_integer_box_have_all_integers_alike():
    environment = returning(gymnasium.spaces.Box(0, 2, (1,), np.uint8))
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 1, environment.action_space)
    params, state = policies.random_params(policy), rollout.compiled.start(environment, policy, jax.random.key(0), 100)
    rows, *_ = rollout.compiled.collect(environment, policy, params, plain, state, jax.random.key(1), 9, uniform=True)
    assert stats.chisquare(np.unique(rows.actions, return_counts=True)[1]).pvalue > 1e-3


@pytest.mark.without("jax_enable_x64")
def test_the_environment_gets_and_the_rollout_holds_actions_of_the_box():
    box = gymnasium.spaces.Box(-0.7, 0.1, (1,), np.float64)
    environment = returning(box)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,), initial_log_std=2.0), 1, box)
    params, state = policies.random_params(policy), rollout.compiled.start(environment, policy, jax.random.key(0), 9)
    experience, _, _ = rollout.compiled.collect(environment, policy, params, plain, state, jax.random.key(1), 9)
    np.testing.assert_array_equal(experience.rewards, experience.actions[..., 0])
    for side, bound in ((experience.actions.min(), -0.7), (experience.actions.max(), 0.1)):
        assert box.contains(np.array([side], np.float32))
        np.testing.assert_allclose(side, bound, rtol=1e-6)
    assert np.abs(experience.raw_actions).max() > 1.0


def wind(length):
    """The start is random, and so is each step; lgamma marks the reset in a program."""

    def reset(key):
        place_key, key = jax.random.split(key)
        place = 1.0 + jax.random.uniform(place_key, (1,))
        return (place, jnp.int32(0), key), place + 0.0 * jax.lax.lgamma(place)

    def step(state, action):
        place, time, key = state
        key, noise_key = jax.random.split(key)
        place, time = place + jax.random.normal(noise_key, (1,)), time + 1
        return envs.Step((place, time, key), place, place[0], jnp.asarray(False), time >= length)

    return envs.Environment(reset, step, spaces.Box(shape=(1,)), jax_probes.UNIT)


@pytest.mark.parametrize(
    ("resets", "num_steps", "within", "between"),
    [("each", 16, 6, 11), ("first", 16, 1, 1), ("rollout", 16, 2, 3), ("rollout", 8, 3, 6)],
)
def test_cached_starts_are_those_of_the_copy_or_of_the_rollout(policy, resets, num_steps, within, between):
    """Starts of a copy in a rollout and in two. 16 steps begin 6 episodes, then 5; 8 steps begin 3, and again 3."""
    environment = wind(3)._replace(resets=resets)
    params = policy.init(jax.random.key(0))
    state = rollout.compiled.start(environment, policy, jax.random.key(1), 2)
    starts, noise = [], []
    for key in (2, 3):
        steps, state, _ = rollout.compiled.collect(
            environment, policy, params, plain, state, jax.random.key(key), num_steps
        )
        places, after, begun = (
            np.asarray(each) for each in (steps.observations, steps.next_observations, steps.resets)
        )
        starts.append(places[begun[:, 0], 0, 0])
        noise.append((after - places).ravel())
    assert len(set(starts[0])) == within
    assert len(set(np.concatenate(starts))) == between
    # The noise of every step is new.
    noise = np.concatenate(noise)
    assert len(set(np.round(noise, 5))) == noise.size


@pytest.mark.without("jax_debug_key_reuse", "jax_disable_jit")
@pytest.mark.parametrize(("resets", "inside"), [("each", True), ("first", False), ("rollout", False)])
def test_cached_starts_need_no_reset_within_a_rollout_of_several_seeds(policy, resets, inside):
    environment, params = wind(3)._replace(resets=resets), policy.init(jax.random.key(0))

    def run(key):
        state = rollout.compiled.start(environment, policy, key, 2)
        return rollout.compiled.collect(environment, policy, params, plain, state, key, 16)

    program = jax.make_jaxpr(jax.vmap(run))(jax.random.split(jax.random.key(0), 3))
    (scan,) = [each for each in program.eqns if each.primitive.name == "scan"]
    assert ("lgamma" in str(scan.params["jaxpr"])) == inside
    assert "lgamma" in str(program)
