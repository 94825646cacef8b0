"""PPO on environments of the host, and as one compiled program on JAX environments."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs, normalize, rollout
from gaussjax.training import ppo
from tests.training import jax_probes, probes

SHORT = {"num_envs": 8, "num_steps": 8, "batch_size": 32, "num_epochs": 2, "hidden_sizes": (8,)}
SMALL = ppo.Config(num_envs=16, num_steps=16, batch_size=64, num_epochs=4, hidden_sizes=(16,), learning_rate=3e-3)


def train(algorithm, state, updates):
    return jax.lax.scan(lambda state, _: algorithm.step(state), state, None, length=updates)


def trained(environment, config, policy=None):
    """Algorithm and last state of a compiled training."""
    algorithm = ppo.make(environment, config, policy)
    updates = config.total_steps // (config.num_envs * config.num_steps)
    return algorithm, jax.jit(lambda key: train(algorithm, algorithm.init(key), updates)[0])(jax.random.key(0))


def mean_return(environment, algorithm, state, max_steps):
    returns = rollout.compiled.evaluate(
        environment,
        algorithm.policy,
        state.params,
        jax.random.key(99),
        preprocess=lambda observations: normalize.apply(state.observation_statistics, observations),
        episodes=64,
        max_steps=max_steps,
    )
    return float(returns.mean())


def outputs(policy, state, observations):
    seen = normalize.apply(state.observation_statistics, jnp.asarray(observations, jnp.float32))
    return policy.apply(state.params, seen)[1]


@pytest.fixture(scope="module")
def algorithm():
    return ppo.make(jax_probes.counter(5), ppo.Config(**SHORT, total_steps=512))


@pytest.mark.slow
def test_a_population_of_whole_trainings_is_one_program_equal_to_its_steps(algorithm):
    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.jit(jax.vmap(algorithm.init))(keys)
    rates = np.array([1e-3, 0.0], np.float32)
    states = states._replace(hyperparameters=states.hyperparameters._replace(learning_rate=rates))
    scanned, metrics = jax.jit(jax.vmap(lambda state: train(algorithm, state, 3)))(states)
    state = algorithm.init(keys[0])
    for _ in range(3):
        state, last = algorithm.step(state)
    assert int(scanned.steps[0]) == int(state.steps) == 3 * 64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), scanned.params, state.params)
    # Without a step size nothing is learnt.
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), scanned.params, states.params)
    assert metrics["kl"].shape == metrics["episode_return"].shape == (2, 3)
    # 1 + 2 + 3 + 4 + 5, whatever the policy does.
    np.testing.assert_allclose(last["episode_return"], 15.0)


@pytest.mark.slow
def test_returns_of_the_latest_episodes_stay_until_others_end(algorithm):
    """The state counts the steps of an episode; beyond the length of the episode it never ends."""

    def endless(state):
        return state._replace(environment=state.environment._replace(environment_states=jnp.full(8, 100.0)))

    began = algorithm.init(jax.random.key(0))
    _, none = algorithm.step(endless(began))
    assert [float(none[name]) for name in ("episodes", "episode_return", "episode_length")] == [0.0, 0.0, 0.0]
    state, some = algorithm.step(began)
    assert [float(some[name]) for name in ("episodes", "episode_return", "episode_length")] == [8.0, 15.0, 5.0]
    for _ in range(2):
        state, later = algorithm.step(endless(state))
        assert [float(later[name]) for name in ("episodes", "episode_return", "episode_length")] == [0.0, 15.0, 5.0]


def test_steps_beyond_32_bits_leave_the_learning_rate_at_zero(algorithm):
    # The counter of a state may jump after other steps of the same loop, as that of a restored training does.
    state, _ = algorithm.step(algorithm.init(jax.random.key(0)))
    with pytest.warns(UserWarning, match="no update beyond"):
        state, _ = algorithm.step(state._replace(steps=state.steps + (2**31 - 65)))
    state, metrics = algorithm.step(state)
    assert int(state.steps) == int(metrics["step"]) == 2**31 - 1
    assert metrics["learning_rate"] == 0.0


@pytest.mark.parametrize("compiled", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_first_update_beyond_the_total_warns_that_the_learning_rate_is_zero(compiled):
    environments = jax_probes.bandit(1.0) if compiled else probes.vector(probes.Bandit, 4)
    config = ppo.Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=1, total_steps=100)
    loop = ppo.make(environments, config)
    # Two updates of 64 steps reach the total; a state that begins again is no update beyond it.
    for _ in range(2):
        state = loop.init(jax.random.key(0))
        for _ in range(2):
            state, _ = loop.step(state)
    with pytest.warns(UserWarning, match="no update beyond 100 steps, where the annealed .* got one at step 128"):
        state, metrics = loop.step(state)
    assert metrics["learning_rate"] == 0
    # Warnings are errors here, so a second one would be raised.
    loop.step(state)


def test_same_key_trains_bitwise_the_same(algorithm):
    one, two = (algorithm.step(algorithm.init(jax.random.key(3)))[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    # The next step draws from another key.
    assert one.key != algorithm.init(jax.random.key(3)).key


def test_same_seed_gives_the_same_training_on_the_host_and_another_seed_another():
    # The options of the example of `ppo.make`, so that both have the same compiled programs.
    environments = envs.make_vector("Pendulum-v1", 4)
    algorithm = ppo.make(environments, ppo.Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=1))

    def first_updates(seed):
        state = algorithm.init(jax.random.key(seed))
        for _ in range(2):
            state, metrics = algorithm.step(state)
        return state, metrics

    (one, metrics), (two, _), (three, _) = first_updates(0), first_updates(0), first_updates(1)
    # Seeds of 16 bits are equal for these two.
    starts = [algorithm.init(jax.random.key(seed)).environment.observations for seed in (207, 358)]
    environments.close()
    assert not np.any(starts[0] == starts[1])
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    kernel = one.params["params"]["actor"]["layers"]["dense_0"]["kernel"]
    assert not np.array_equal(kernel, three.params["params"]["actor"]["layers"]["dense_0"]["kernel"])
    assert one.steps == 128
    assert math.isfinite(metrics["policy_loss"])
    # It falls to zero at 200,000 steps.
    np.testing.assert_allclose(metrics["learning_rate"], 1e-3 * (1.0 - 64 / 200_000), rtol=1e-6)


def test_sequences_of_a_policy_with_memory_of_ones_own_have_to_divide_too():
    environment = jax_probes.counter(5)
    network = gaussjax.networks.ActorCritic(gaussjax.networks.GRU(8), critic=gaussjax.networks.GRU(8))
    policy = gaussjax.gaussian(network, 1, environment.action_space, keepdims=False)
    with pytest.raises(ValueError, match=r"^sequence_length: expected a divisor of num_steps = 8 and of"):
        ppo.make(environment, ppo.Config(**SHORT, sequence_length=16), policy)


@pytest.mark.parametrize("network", ["rnn", pytest.param("lstm", marks=pytest.mark.slow)])
def test_recurrent_update_equals_the_whole_rollout_at_once(network):
    """Cut into sequences with stored states, the experience has the log-densities of one unrolled rollout."""
    options = {**SHORT, "num_epochs": 1, "batch_size": 64, "network": network, "sequence_length": 4}
    # The loss is minus the mean of the normalized advantages. Without a discount it is rounded less.
    config = ppo.Config(**options, recurrent_size=4, gamma=0.0)
    algorithm = ppo.make(jax_probes.counter(3), config)
    state = algorithm.init(jax.random.key(0))
    with pytest.warns(UserWarning, match="total_steps: expected no update beyond"):
        _, metrics = algorithm.step(state._replace(steps=np.asarray(10**9, np.int32)))
    # The step size is 0 beyond total_steps, so that the ratio of every sample is exactly that of
    # the sequences to the rollout: no divergence where the two agree.
    assert abs(float(metrics["kl"])) < 1e-9
    assert float(metrics["clip_fraction"]) == 0.0
    np.testing.assert_allclose(metrics["policy_loss"], 0.0, atol=1e-6)


def test_values_with_an_axis_of_their_own_are_refused():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(x), self.param("log_std", nn.initializers.zeros, (1,)), {"value": nn.Dense(1)(x)}

    environment = jax_probes.bandit(1.0)
    policy = gaussjax.gaussian(Wide(), 1, environment.action_space, keepdims=False)
    algorithm = ppo.make(environment, ppo.Config(**SHORT), policy)
    with pytest.raises(ValueError, match=r"^policy: expected outputs\['value'\] of shape \(9, 8\), one for each "):
        jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, jax.random.key(0)))


def test_another_number_of_environments_is_refused():
    environments = probes.vector(probes.Bandit, 2)
    with pytest.raises(ValueError, match="expected num_envs = 16, got 2"):
        ppo.make(environments, ppo.Config())
    environments.close()


@pytest.mark.slow
def test_a_policy_with_correlations_may_have_one_action():
    """Its triangle of correlations is empty."""
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,)))
    environment = jax_probes.bandit(1.0)
    boxes = environment.observation_space, environment.action_space
    policy = gaussjax.multivariate_gaussian(network, *boxes, keepdims=False)
    algorithm = ppo.make(environment, ppo.Config(num_envs=4, num_steps=8, batch_size=16), policy)
    _, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    assert metrics["skipped"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "total_steps", "observation", "action", "atol"),
    [(probes.Bandit, 20_000, [[1.0]], 0.5, 0.1), (probes.DelayedReward, 40_000, [[0.0, 0.0]], -0.25, 0.15)],
)
def test_bandit_is_solved_and_credit_flows_back_to_the_first_of_two_actions(
    make, total_steps, observation, action, atol
):
    policy, state, _ = probes.trained(ppo, probes.vector(make, 16), SMALL, total_steps=total_steps)
    np.testing.assert_allclose(outputs(policy, state, observation)["mean_actions"], [[action]], atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truncates", "value"),
    [
        # Cut short, the wages would go on: 1 + 0.5 + 0.25 + … = 2 everywhere.
        (True, 2.0),
        # Ended, a state five, four, … one step before the end is worth 1.9375, 1.875, 1.75, 1.5, 1.
        # They look the same, so the value function learns their mean, 1.6125.
        (False, 1.6125),
    ],
)
def test_value_goes_on_after_a_truncation_and_stops_at_a_termination(truncates, value):
    options = {"total_steps": 40_000, "gamma": 0.5, "gae_lambda": 1.0, "normalize_rewards": False}
    policy, state, _ = probes.trained(ppo, probes.vector(lambda: probes.Wages(truncates), 16), SMALL, **options)
    np.testing.assert_allclose(outputs(policy, state, [[1.0]])["value"], [value], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "solves"), [("gru", True), ("mlp", False)])
def test_memory_recalls_what_is_shown_no_more(network, solves):
    environment = jax_probes.recall(length=4)
    options = {"num_envs": 64, "num_steps": 20, "batch_size": 320, "num_epochs": 4, "total_steps": 64 * 20 * 60}
    options |= {"learning_rate": 3e-3, "sequence_length": 20, "recurrent_size": 16, "hidden_sizes": (16,)}
    config = ppo.Config(**options, network=network, initial_log_std=-1.0)
    reached = mean_return(environment, *trained(environment, config), max_steps=6)
    # Without a memory the best is the action 0, at -0.25.
    assert reached > -0.03 if solves else reached < -0.2


@pytest.mark.slow
@pytest.mark.parametrize(("network", "solves"), [("lstm", True), ("gru", True), ("mingru", True), ("mlp", False)])
def test_memory_replaces_a_velocity_that_is_not_seen(network, solves):
    environment, options = jax_probes.hidden_velocity(30), {"num_envs": 64, "num_steps": 30, "batch_size": 480}
    options |= {"num_epochs": 4, "total_steps": 64 * 30 * 250, "learning_rate": 3e-3, "sequence_length": 30}
    config = ppo.Config(**options, recurrent_size=32, hidden_sizes=(16,), network=network, initial_log_std=-1.0)
    reached = mean_return(environment, *trained(environment, config), max_steps=30)
    # Without a memory the mass swings to the end of the episode, at -9.
    assert reached > -5.0 if solves else reached < -8.0


@pytest.mark.slow
def test_squashed_policy_solves_the_bandit_of_a_narrow_box_of_two_axes():
    environment = jax_probes.bandit(0.2, (2, 2))
    config = ppo.Config(num_envs=64, num_steps=16, num_epochs=4, learning_rate=3e-3, total_steps=60 * 1024)
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((16,), "tanh", output_activation=None), (16,))
    policy = gaussjax.squashed_gaussian(network, 1, environment.action_space, keepdims=False)
    _, state = trained(environment, config, policy)
    seen = normalize.apply(state.observation_statistics, jnp.ones((1, 1)))
    actions = policy.act(state.params, None, seen, deterministic=True).actions
    np.testing.assert_allclose(actions, np.full((1, 4), 0.1), atol=0.02)


@pytest.mark.slow
def test_jax_pendulum_is_learnt():
    environment = envs.from_functional(PendulumFunctional(), max_steps=200)
    config = ppo.Config(num_envs=64, num_steps=64, batch_size=512, total_steps=64 * 64 * 40)
    assert mean_return(environment, *trained(environment, config), max_steps=200) >= -250


@pytest.mark.slow
def test_pendulum_is_learnt_in_one_short_run():
    environments = envs.make_vector("Pendulum-v1", ppo.Config().num_envs)
    policy, state, _ = probes.trained(ppo, environments, ppo.Config(), total_steps=150_000)
    normalizer = state.observation_statistics
    episodes = rollout.evaluate(policy, state.params, "Pendulum-v1", normalizer=normalizer, seed=10_000)
    # A policy that does nothing gets about -1200; a swing-up and a balance about -150.
    assert np.mean(episodes.returns) >= -250
