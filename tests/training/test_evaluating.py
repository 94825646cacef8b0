"""Evaluations within a training: their numbers, and a training that does not change by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, rollout
from gaussjax.training import evaluating, ppo
from gaussjax.training.run import output_files
from tests.training import jax_probes
from tests.training.run.test_checkpoint import SHORT, same
from tests.training.run.test_loop import Opaque, make_run, train
from tests.training.test_algorithm import LOOPS

COUNTER = jax_probes.counter(5)


def scanned(loop, keys, length=4):
    """Final states and metrics of several trainings in one program."""

    def whole(key):
        return jax.lax.scan(lambda state, _: loop.step(state), loop.init(key), length=length)

    return jax.jit(jax.vmap(whole))(keys)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("name", ["bc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ppo", "sac"))])
def test_an_evaluation_inside_a_compiled_population_leaves_each_training_as_it_is(name):
    loop, keys = LOOPS[name](), jax.random.split(jax.random.key(0), 2)
    with jax.debug_nans(True):
        states, metrics = scanned(evaluating(loop, COUNTER, every=2, episodes=3), keys)
    plain, others = scanned(loop, keys)
    same(states, plain)
    # 1 + 2 + 3 + 4 + 5, whatever the policy does.
    np.testing.assert_array_equal(metrics.pop("evaluation_return"), [[0.0, 15.0, 0.0, 15.0]] * 2)
    np.testing.assert_array_equal(metrics.pop("evaluation_length"), [[0.0, 5.0, 0.0, 5.0]] * 2)
    same(metrics, others)


def test_an_evaluation_is_computed_in_its_own_steps_only_in_a_population_too():
    calls = []

    def step(state, action):
        jax.debug.callback(lambda: calls.append(1))
        return COUNTER.step(state, action)

    loop = evaluating(LOOPS["bc"](), COUNTER._replace(step=step), every=3, episodes=2)
    jax.block_until_ready(scanned(loop, jax.random.split(jax.random.key(0), 2)))
    jax.effects_barrier()
    # One evaluation in four steps of the loop; its five steps are those of all episodes of all trainings.
    assert len(calls) == 5


@pytest.mark.slow
@pytest.mark.parametrize("normalizes", [True, False])
def test_an_evaluation_is_of_the_deterministic_policy_after_the_step(normalizes):
    """The reward is the action, and the first observation is drawn from a normal distribution far from 0."""

    def reset(key):
        seen = 5.0 + 3.0 * jax.random.normal(key, (1,))
        return seen, seen

    def step(state, action):
        return envs.Step(state, state, action[0], jnp.asarray(True), jnp.asarray(False))

    environment = COUNTER._replace(reset=reset, step=step)
    config = ppo.Config(num_envs=8, num_steps=8, batch_size=32, num_epochs=1, normalize_observations=normalizes)
    loop = evaluating(ppo.make(environment, config), environment, every=1, episodes=16, seed=3)
    state, metrics = loop.step(loop.init(jax.random.key(0)))
    statistics = state.observation_statistics if normalizes else None
    expected = rollout.evaluate(
        loop.policy, state.params, environment, normalizer=statistics, episodes=16, seed=3, max_steps=10_000
    )
    np.testing.assert_allclose(metrics["evaluation_return"], np.mean(expected.returns), rtol=1e-5)
    assert np.std(expected.returns) > 0


def test_an_evaluation_on_the_host_has_environments_of_its_own():
    environments = envs.make_vector("Pendulum-v1", 4)
    plain = ppo.make(environments, ppo.Config(**SHORT))
    options = {"episodes": 2, "seed": 7, "max_steps": 20}
    loops, ends = [plain, evaluating(plain, "Pendulum-v1", every=2, **options)], []
    for loop in loops:
        state = loop.init(jax.random.key(0))
        rows = []
        for _ in range(2):
            state, row = loop.step(state)
            rows.append(row)
        ends.append(state)
    environments.close()
    same(*ends)
    statistics = state.observation_statistics
    expected = rollout.evaluate(plain.policy, state.params, "Pendulum-v1", normalizer=statistics, **options)
    assert [row["evaluation_return"] for row in rows] == [0.0, np.mean(expected.returns)]
    assert [row["evaluation_length"] for row in rows] == [0.0, 20.0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"every": 0}, "every: expected at least 1, got 0"), ({"every": 1, "episodes": 0}, "episodes: expected at least")],
)
def test_evaluations_that_never_happen_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        evaluating(LOOPS["bc"](), COUNTER, **arguments)


def test_the_best_policy_is_the_one_with_the_best_evaluation(tmp_path):
    folder, algorithm, state = make_run(tmp_path, Opaque)
    scores = iter([(0.0, 0.0), (9.0, 5.0), (0.0, 0.0), (8.0, 5.0)])

    def step(before):
        following, row = algorithm.step(before)
        return following, {**row, **dict(zip(("evaluation_return", "evaluation_length"), next(scores), strict=True))}

    train(folder, algorithm._replace(step=step), state, 4, score="evaluation_return")
    best = gaussjax.load(folder / output_files.BEST).metadata
    # The policy after the second update, and not the one that played its episodes.
    assert (best["evaluation_return"], best["steps"]) == (9.0, 2 * 64)
    written = [row["evaluation_return"] for row in output_files.read_metrics(folder / output_files.METRICS)]
    np.testing.assert_array_equal(written, [np.nan, 9.0, np.nan, 8.0])
