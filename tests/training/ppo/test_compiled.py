import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional
from jax.flatten_util import ravel_pytree

import gaussjax
from gaussjax import envs, normalize, rollout
from gaussjax.training import ppo
from gaussjax.training.ppo.update import make_optimizer
from tests.training import jax_probes, probes

SHORT = {"num_envs": 8, "num_steps": 8, "batch_size": 32, "num_epochs": 2, "hidden_sizes": (8,)}


def train(algorithm, state, updates):
    return jax.jit(lambda state: jax.lax.scan(lambda s, _: algorithm.step(s), state, None, length=updates))(state)


def mean_return(environment, algorithm, state, max_steps):
    def preprocess(observations):
        return normalize.apply(state.observation_statistics, observations)

    returns = rollout.compiled.evaluate(
        environment,
        algorithm.policy,
        state.params,
        jax.random.key(99),
        preprocess=preprocess,
        episodes=64,
        max_steps=max_steps,
    )
    return float(returns.mean())


def squashed(environment, **options):
    actor = gaussjax.networks.MLP((16,), "tanh", output_activation=None)
    network = gaussjax.networks.ActorCritic(actor, (16,))
    return gaussjax.squashed_gaussian(network, 1, environment.action_space, **{"keepdims": False, **options})


@pytest.fixture(scope="module")
def algorithm():
    return ppo.make(jax_probes.counter(5), ppo.Config(**SHORT, total_steps=512))


def test_whole_training_is_one_program_equal_to_its_steps(algorithm):
    state = algorithm.init(jax.random.key(0))
    scanned, metrics = train(algorithm, state, 3)
    for _ in range(3):
        state, last = algorithm.step(state)
    assert int(scanned.steps) == int(state.steps) == 3 * 64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), scanned.params, state.params)
    assert metrics["episode_return"].shape == (3,)
    # 1 + 2 + 3 + 4 + 5, whatever the policy does.
    np.testing.assert_allclose(last["episode_return"], 15.0)


def test_same_key_trains_bitwise_the_same(algorithm):
    one, two = (algorithm.step(algorithm.init(jax.random.key(3)))[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    # The next step draws from another key.
    assert one.key != algorithm.init(jax.random.key(3)).key


def test_population_over_seeds_and_learning_rates(algorithm):
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.vmap(algorithm.init)(keys)
    rates = jnp.array([1e-3, 1e-3, 0.0])
    states = states._replace(hyperparameters=states.hyperparameters._replace(learning_rate=rates))
    trained, metrics = jax.vmap(algorithm.step)(states)
    alone, _ = algorithm.step(algorithm.init(keys[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), trained.params, alone.params)
    # Without a step size nothing is learnt.
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2], b[2]), trained.params, states.params)
    assert metrics["kl"].shape == (3,)


def test_step_size_follows_the_desired_kl():
    far, near = (
        ppo.make(jax_probes.recall(1), ppo.Config(**SHORT, total_steps=10**6, desired_kl=target))
        for target in (1e3, 1e-9)
    )
    for algorithm, grows in ((far, True), (near, False)):
        state = algorithm.init(jax.random.key(0))
        state, metrics = algorithm.step(state)
        factor = 1.5**2 if grows else 1.5**-2
        np.testing.assert_allclose(metrics["learning_rate"], 1e-3 * factor, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Gymnasium", "JAX"])
def test_target_kl_ends_an_update_early(kind):
    """Parameters are those of an update that has no more minibatches than the steps that were taken."""
    environments = probes.vector(lambda: probes.Counter(9), 8) if kind == "Gymnasium" else jax_probes.counter(9)
    options = {**SHORT, "learning_rate": 0.1, "anneal_learning_rate": False}
    results = {}
    for name, target in (("never", None), ("far", 1e3), ("near", 1e-9)):
        loop = ppo.make(environments, ppo.Config(**options, target_kl=target))
        before = loop.init(jax.random.key(0))
        results[name] = loop.step(before)
    _, metrics = results["near"]
    # The first minibatch has a divergence of zero; after its step every divergence is too large.
    assert metrics["gradient_steps"] == 1
    assert metrics["skipped"] == 0
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-9)
    assert results["far"][1]["gradient_steps"] == results["never"][1]["gradient_steps"] == 4
    jax.tree.map(np.testing.assert_array_equal, results["far"][0].params, results["never"][0].params)
    # One step of Adam moves a weight by at most the step size.
    moved = jax.tree.map(lambda old, new: float(np.abs(new - old).max()), before.params, results["near"][0].params)
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 0.1, rtol=1e-3)
    assert int(results["near"][0].optimizer[1].count) == 1
    if kind == "Gymnasium":
        environments.close()


@pytest.mark.slow
@pytest.mark.parametrize(("network", "solves"), [("gru", True), ("mlp", False)])
def test_memory_recalls_what_is_shown_no_more(network, solves):
    environment = jax_probes.recall(length=4)
    config = ppo.Config(
        num_envs=64,
        num_steps=20,
        batch_size=320,
        num_epochs=4,
        total_steps=64 * 20 * 60,
        learning_rate=3e-3,
        network=network,
        sequence_length=20,
        recurrent_size=16,
        hidden_sizes=(16,),
        initial_log_std=-1.0,
    )
    algorithm = ppo.make(environment, config)
    state, _ = train(algorithm, algorithm.init(jax.random.key(0)), 60)
    reached = mean_return(environment, algorithm, state, max_steps=6)
    # Without a memory the best is the action 0, at -0.25.
    assert reached > -0.03 if solves else reached < -0.2


def test_sequence_length_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="sequence_length: expected a divisor of num_steps = 8"):
        ppo.Config(**SHORT, network="lstm", sequence_length=3)


def test_sequences_of_a_policy_with_memory_of_ones_own_have_to_divide_too():
    environment = jax_probes.counter(5)
    network = gaussjax.networks.ActorCritic(gaussjax.networks.GRU(8), critic=gaussjax.networks.GRU(8))
    policy = gaussjax.gaussian(network, 1, environment.action_space, keepdims=False)
    with pytest.raises(ValueError, match=r"^sequence_length: expected a divisor of num_steps = 8 and of"):
        ppo.make(environment, ppo.Config(**SHORT, sequence_length=16), policy)


def test_recurrent_update_equals_the_whole_rollout_at_once():
    """Cut into sequences with stored states, the experience has the log-densities of one unrolled rollout."""
    config = ppo.Config(
        **{**SHORT, "num_epochs": 1, "batch_size": 64}, network="lstm", sequence_length=4, recurrent_size=4
    )
    algorithm = ppo.make(jax_probes.counter(3), config)
    state = algorithm.init(jax.random.key(0))
    _, metrics = algorithm.step(state._replace(steps=jnp.asarray(10**9)))
    # The step size is 0 beyond total_steps, so that the ratio of every sample is exactly that of
    # the sequences to the rollout: no divergence where the two agree.
    assert abs(float(metrics["kl"])) < 1e-9
    assert float(metrics["clip_fraction"]) == 0.0
    np.testing.assert_allclose(metrics["policy_loss"], 0.0, atol=1e-6)


@pytest.mark.slow
def test_squashed_policy_solves_the_bandit_of_a_narrow_box_of_two_axes():
    environment = jax_probes.bandit(0.2, (2, 2))
    config = ppo.Config(num_envs=64, num_steps=16, num_epochs=4, learning_rate=3e-3, total_steps=60 * 1024)
    algorithm = ppo.make(environment, config, squashed(environment))
    state, _ = train(algorithm, algorithm.init(jax.random.key(0)), 60)
    seen = normalize.apply(state.observation_statistics, jnp.ones((1, 1)))
    actions = algorithm.policy.act(state.params, None, seen, deterministic=True).actions
    np.testing.assert_allclose(actions, np.full((1, 4), 0.1), atol=0.02)


def test_values_with_an_axis_of_their_own_are_refused():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(x), self.param("log_std", nn.initializers.zeros, (1,)), {"value": nn.Dense(1)(x)}

    environment = jax_probes.bandit(1.0)
    policy = gaussjax.gaussian(Wide(), 1, environment.action_space, keepdims=False)
    algorithm = ppo.make(environment, ppo.Config(**SHORT), policy)
    with pytest.raises(ValueError, match=r"^policy: expected outputs\['value'\] of shape \(9, 8\), one for each "):
        algorithm.step(algorithm.init(jax.random.key(0)))


@pytest.mark.slow
def test_jax_pendulum_is_learnt():
    environment = envs.from_functional(PendulumFunctional(), max_steps=200)
    config = ppo.Config(num_envs=64, num_steps=64, batch_size=512, total_steps=64 * 64 * 40)
    algorithm = ppo.make(environment, config)
    state, _ = train(algorithm, algorithm.init(jax.random.key(0)), 40)
    assert mean_return(environment, algorithm, state, max_steps=200) >= -250


def test_an_order_is_computed_once_and_not_for_each_column():
    config = ppo.Config(num_envs=16, num_steps=32, batch_size=64, num_epochs=2, hidden_sizes=(8,))
    algorithm = ppo.make(envs.from_functional(PendulumFunctional(), max_steps=200), config)
    program = algorithm.step.lower(jax.eval_shape(algorithm.init, jax.random.key(0))).compile().as_text()
    # A constant of the cipher that orders 512 samples and more: once for each of its two halves.
    assert program.count(f"constant({0x85EBCA6B})") == 2


def test_a_policy_with_correlations_may_have_one_action():
    """Its triangle of correlations is empty."""
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,)))
    environment = jax_probes.bandit(1.0)
    boxes = environment.observation_space, environment.action_space
    policy = gaussjax.multivariate_gaussian(network, *boxes, keepdims=False)
    algorithm = ppo.make(environment, ppo.Config(num_envs=4, num_steps=8, batch_size=16), policy)
    _, metrics = jax.jit(algorithm.step)(algorithm.init(jax.random.key(0)))
    assert metrics["skipped"] == 0


def test_one_vector_of_parameters_needs_fewer_kernels(monkeypatch):
    """Holds as long as XLA does not fuse the arrays of an optimizer's step by itself."""

    def kernels(params):
        optimizer = make_optimizer(ppo.Config())

        def step(params, moments, gradients):
            updates, moments = optimizer.update(gradients, moments, params)
            return jax.tree.map(jnp.subtract, params, updates), moments

        program = jax.jit(step).lower(params, optimizer.init(params), params).compile().as_text()
        entry = program[program.index("ENTRY") :]
        return entry.count("calls=") + entry.count("to_apply=")

    params = ppo.make_policy(3, jax_probes.UNIT, ppo.Config()).init(jax.random.key(0))
    one_vector = kernels(ravel_pytree(params)[0])
    monkeypatch.setattr(optax, "flatten", lambda optimizer: optimizer)
    assert one_vector < 0.5 * kernels(params)
