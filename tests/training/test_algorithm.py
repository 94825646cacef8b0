"""What every training algorithm asks of its options and of a policy, and what its steps return."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs
from gaussjax.data import Episodes
from gaussjax.rollout.compiled import EpisodeSums
from gaussjax.torch import policy as torch_policy
from gaussjax.training import bc, ppo, replay, sac
from gaussjax.training.algorithm import counted, environment_seed
from gaussjax.training.metrics import RECENT, episode_metrics, log_std_clipped, saturation
from tests.training import jax_probes

BOX = jax_probes.UNIT
ENVIRONMENT = jax_probes.counter(5)
DATASET = Episodes(np.zeros((8, 1), np.float32), np.zeros((8, 1), np.float32))
CONFIGS = {
    "ppo": ppo.Config(num_envs=2, num_steps=8, batch_size=8, hidden_sizes=(8,), num_epochs=1),
    "sac": sac.Config(num_envs=2, num_steps=4, batch_size=4, learning_starts=2, buffer_size=16, hidden_sizes=(8,)),
    "bc": bc.Config(batch_size=4, hidden_sizes=(8,)),
}
LOOPS = {
    "ppo": lambda policy=None: ppo.make(ENVIRONMENT, CONFIGS["ppo"], policy),
    "sac": lambda policy=None: sac.make(ENVIRONMENT, CONFIGS["sac"], policy),
    "bc": lambda policy=None: bc.make(DATASET, policy or bc.make_policy(1, BOX, CONFIGS["bc"]), CONFIGS["bc"]),
}


def policy_of(name, **options):
    actor = gaussjax.networks.MLP((8,), output_activation=None)
    if name == "ppo":
        return gaussjax.gaussian(gaussjax.networks.ActorCritic(actor), 1, BOX, **options)
    return (gaussjax.squashed_gaussian if name == "sac" else gaussjax.gaussian)(actor, 1, BOX, **options)


def shapes(loop):
    """Shapes and dtypes of the state and the metrics after a compiled step."""
    return jax.eval_shape(loop.step, jax.eval_shape(loop.init, jax.random.key(0)))


@pytest.mark.parametrize("name", LOOPS)
def test_a_compiled_step_returns_scalars(name):
    metrics = shapes(LOOPS[name]())[1]
    assert type(metrics) is dict
    assert {leaf.shape for leaf in metrics.values()} == {()}
    assert metrics["step"].dtype == jnp.int32


@pytest.mark.parametrize("reduction", ["mean", "prod", "none"])
@pytest.mark.parametrize("name", LOOPS)
def test_log_densities_that_are_no_sums_are_refused(name, reduction):
    with pytest.raises(ValueError, match=f"policy: expected log-densities summed over the actions, got .*{reduction}"):
        LOOPS[name](policy_of(name, reduction=reduction))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bc", "ppo", "sac"])
def test_both_shapes_of_a_sum_train_alike(name):
    """A trailing axis of keepdims would broadcast among advantages."""
    first = jax.jit(LOOPS[name](policy_of(name)).init)(jax.random.key(0))
    states = []
    for keepdims in (True, False):
        state, metrics = LOOPS[name](policy_of(name, keepdims=keepdims)).step(first)
        assert metrics["skipped"] == 0
        states.append(state.params)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), *states)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_the_density_of_clipped_actions_is_refused(name):
    actor = gaussjax.networks.MLP((4,))
    network = gaussjax.networks.ActorCritic(actor) if name == "ppo" else actor
    make = functools.partial(gaussjax.gaussian, network, 1, BOX, clip_actions=True)
    with pytest.raises(ValueError, match="the gradient would be biased"):
        LOOPS[name](make(clipped_log_prob="density"))
    LOOPS[name](make(clipped_log_prob="censored"))


def test_a_policy_without_a_value_is_refused_by_ppo():
    with pytest.raises(ValueError, match="Put its network into"):
        shapes(LOOPS["ppo"](policy_of("bc", keepdims=False)))


@pytest.mark.parametrize(
    ("key", "came"), [(0, "0|an array of type int"), (jax.random.split(jax.random.key(0), 3), "3 keys in an array")]
)
def test_a_training_begins_with_one_key(key, came):
    environments = envs.make_vector("Pendulum-v1", 2)
    on_host = [module.make(environments, CONFIGS[name]) for name, module in (("ppo", ppo), ("sac", sac))]
    for algorithm in (*on_host, *(make() for make in LOOPS.values())):
        with pytest.raises(TypeError, match=f"key: expected one PRNG key, got ({came}).* Make one with jax.random.key"):
            algorithm.init(key)
    environments.close()


def test_a_step_takes_the_state_alone():
    environments = envs.make_vector("Pendulum-v1", 2)
    on_host = [module.make(environments, CONFIGS[name]) for name, module in (("ppo", ppo), ("sac", sac))]
    for algorithm in (*on_host, *(make() for make in LOOPS.values())):
        for wrong, name in ((None, "NoneType"), ((None, {}), "tuple"), ({}, "dict")):
            with pytest.raises(
                TypeError, match=rf"^state: expected a gaussjax\.training\.\w+\.State, got {name}\. Make"
            ):
                algorithm.step(wrong)
    environments.close()


@pytest.mark.parametrize("module", [ppo, sac])
def test_a_policy_of_torch_is_refused(module):
    environments = envs.make_vector("Pendulum-v1", 2)
    config = CONFIGS["ppo" if module is ppo else "sac"]
    policy = module.make_policy(3, environments.single_action_space, config)
    with pytest.raises(TypeError, match=r"^policy: expected a policy of JAX, got one of torch\. Make it with"):
        module.make(environments, config, torch_policy.from_spec(policy.spec))
    environments.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ppo.Config, "entropy_coefficient"),
        (ppo.Config, "learning_rate"),
        (sac.Config, "target_entropy"),
        (sac.Config, "initial_temperature"),
        (bc.Config, "variance_weight"),
    ],
)
def test_options_that_are_no_finite_numbers_are_refused(config, name, value):
    with pytest.raises(ValueError, match=rf"{name}: expected a finite number of float32, got {value}\."):
        config(**{name: float(value)})


ONE_STEP = functools.partial(ppo.Config, num_envs=2, num_steps=8, batch_size=16, num_epochs=1)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (ONE_STEP, {"desired_kl": 0.01}, "desired_kl: expected several gradient steps an update, got one"),
        (ONE_STEP, {"target_kl": 0.01}, "target_kl: expected several gradient steps an update, got one"),
        (ppo.Config, {"batch_size": 1}, "batch_size: expected 2 or more with normalize_advantages, got 1"),
        *[
            (ppo.Config, {"batch_size": size}, r"batch_size: expected a divisor of num_envs \* num_steps = 2048, got")
            for size in (0, 100, 4096)
        ],
        (
            ppo.Config,
            {"num_steps": 8, "batch_size": 32, "network": "lstm", "sequence_length": 3},
            "sequence_length: expected a divisor of num_steps = 8",
        ),
        *[
            (sac.Config, {name: 0}, f"{name}: expected at least 1, got 0")
            for name in ("num_envs", "num_steps", "batch_size", "num_critics")
        ],
    ],
)
def test_options_with_which_nothing_would_be_learnt_are_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_advantages_that_are_not_normalized_may_come_one_by_one():
    assert ppo.Config(batch_size=1, normalize_advantages=False).batch_size == 1


WORDS = {
    "a whole number": ("total_steps", "num_envs", "batch_size", "num_epochs", "total_epochs", "gradient_steps"),
    "a number": ("learning_rate", "gamma", "target_kl", "target_entropy", "variance_weight"),
    "True or False": ("normalize_observations", "anneal_learning_rate"),
    "a tuple of whole numbers": ("hidden_sizes",),
}
WRONG = {
    "a whole number": (2.5, 64.0, "8", True, None),
    "a number": ("1e-3", True, [0.5]),
    "True or False": ("False", 1),
    "a tuple of whole numbers": (64, (64.0,), "64", (True,)),
}


@pytest.mark.parametrize("config", [ppo.Config, sac.Config, bc.Config])
@pytest.mark.parametrize("words", WORDS)
def test_options_of_another_type_are_refused_with_the_type_and_the_default(config, words):
    names = [name for name in WORDS[words] if hasattr(config, name)]
    for name in names:
        for value in WRONG[words]:
            with pytest.raises(TypeError, match=rf"^{name}: expected {words}, got .*\. The default is"):
                config(**{name: value})


def test_numbers_of_numpy_are_numbers():
    assert ppo.Config(num_envs=np.int64(4), learning_rate=np.float32(1e-3), gamma=1).num_envs == 4


@pytest.mark.parametrize(("option", "near"), [({"network": "lstn"}, "lstm"), ({"entropy": "sampled"}, "sample")])
def test_choices_that_do_not_exist_are_refused(option, near):
    with pytest.raises(ValueError, match=rf"^{next(iter(option))}: expected one of .* Did you mean '{near}'\?"):
        ppo.Config(**option)


WIDER = gaussjax.spaces.Box(-2.0, 2.0, (1,))
ARGUMENTS = {
    "the wrong order": (lambda module, config: module.make(config, ENVIRONMENT), "config: expected a gaussjax.train"),
    "another config": (lambda module, config: module.make(ENVIRONMENT, CONFIGS["bc"]), "got Config. Call make(envir"),
    "no config": (lambda module, config: module.make(ENVIRONMENT, {}), "got dict. Call make(environments, config"),
    "a single environment": (
        lambda module, config: module.make(gymnasium.make("Pendulum-v1"), config),
        "environments: expected a Gymnasium vector environment",
    ),
    "no policy": (lambda module, config: module.make(ENVIRONMENT, config, 3), "policy: expected a gaussjax.policy.P"),
    "another Box": (
        lambda module, config: module.make(ENVIRONMENT, config, module.make_policy(1, WIDER, config)),
        "policy: expected the action space of the environments, Box(low=-1.0",
    ),
    "other observations": (
        lambda module, config: module.make(ENVIRONMENT, config, module.make_policy(2, BOX, config)),
        "policy: expected the observation space of the environments, Box(low=-inf",
    ),
    "another kind of observations": (
        lambda module, config: module.make(
            ENVIRONMENT, config, module.make_policy(gaussjax.spaces.Discrete(1), BOX, config)
        ),
        "policy: expected the observation space of the environments",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("module", [ppo, sac], ids=["ppo", "sac"])
def test_arguments_that_do_not_fit_are_refused_with_the_repair(module, name):
    call, says = ARGUMENTS[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call(module, CONFIGS[module.__name__.rpartition(".")[2]])
    assert says in str(caught.value)


def test_cloning_refuses_arguments_in_the_wrong_order():
    policy = bc.make_policy(1, BOX, CONFIGS["bc"])
    with pytest.raises(TypeError, match=r"^policy: expected a gaussjax.policy.Policy, got Config. Call make\(dataset"):
        bc.make(DATASET, CONFIGS["bc"], policy)


def test_bounds_of_observations_may_differ():
    policy = sac.make_policy(gaussjax.spaces.Box(-8.0, 8.0, (1,)), BOX, CONFIGS["sac"])
    assert LOOPS["sac"](policy).policy == policy


@pytest.mark.parametrize("trainings", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_trainings_of_64_environments_share_no_seed(trainings):
    seeds = sorted(environment_seed(key) for key in jax.random.split(jax.random.key(0), trainings))
    assert min(np.diff(seeds)) >= 64
    assert 2**62 < seeds[-1] < 2**63


@pytest.mark.parametrize("of", [int, jnp.int32])
def test_counters_of_steps_stay_at_the_largest_number(of):
    steps = of(2**31 - 100)
    for expected in (2**31 - 36, 2**31 - 1, 2**31 - 1):
        steps = jax.jit(counted)(steps, 64) if of is jnp.int32 else counted(steps, 64)
        assert steps == expected
        assert isinstance(steps, int) or steps.dtype == jnp.int32


def test_counters_have_32_bits_with_x64_too(x64):
    assert counted(jnp.int32(2**31 - 1), 64) == 2**31 - 1
    buffer, _ = replay.add(replay.Buffer(jnp.zeros(4), jnp.int32(7)), jnp.ones(3))
    assert counted(jnp.int32(0), 64).dtype == buffer.added.dtype == jnp.int32
    assert buffer.added == 6


@pytest.mark.parametrize("xp", [np, jnp], ids=["host", "compiled"])
def test_recent_episodes_are_those_of_the_latest_steps_that_have_a_hundred_together(xp):
    rng, recent, steps = np.random.default_rng(0), EpisodeSums(*xp.zeros((3, RECENT))), []
    for i in range(300):
        # One episode in most steps at first, none in half of the steps, and many in some of the later ones.
        count = rng.integers(0, 2) * (1 if i < 250 else rng.integers(1, 80))
        ended = EpisodeSums(*(xp.asarray(number, "float32") for number in (count, -3.0 * i * count, 5 * count)))
        recent, metrics = episode_metrics(ended, recent)
        steps = [(count, -3.0 * i)] * bool(count) + steps
        used = next((n for n in range(1, len(steps)) if sum(c for c, _ in steps[:n]) >= 100), len(steps))
        expected = sum(c for c, _ in steps[:used])
        mean = sum(c * value for c, value in steps[:used]) / max(expected, 1)
        assert [float(metrics[name]) for name in ("episodes", "recent_episodes")] == [count, expected]
        np.testing.assert_allclose(metrics["recent_return"], mean, rtol=1e-5)
        np.testing.assert_allclose(metrics["episode_return"], steps[0][1] if steps else 0.0, rtol=1e-6)


def test_log_std_clipped_is_the_fraction_at_either_bound():
    options = {"min_log_std": -1.7, "max_log_std": 0.3}
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 3, BOX, **options)
    log_std = jnp.clip(jnp.array([[-3.0], [-1.7], [-1.6], [0.2], [0.3], [4.0], [0.0], [0.0]]), -1.7, 0.3)
    assert log_std_clipped(policy, log_std) == 0.5
    assert log_std_clipped(policy, log_std.astype(jnp.bfloat16)) == 0.5
    free = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 3, BOX, clip_log_std=False)
    assert log_std_clipped(free, log_std) == 0.0


def test_sac_refuses_a_policy_of_an_open_box():
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 1, gaussjax.spaces.Box(shape=(1,)))
    with pytest.raises(ValueError, match=r"policy: expected actions of a Box with finite bounds, got \[-inf\]"):
        LOOPS["sac"](policy)


def test_clipped_gaussian_is_at_a_bound_on_it_and_outside_of_it():
    box = gaussjax.spaces.Box((-1.0, -np.inf), (1.0, 3.0), (2,))
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 3, box, clip_actions=True)
    samples = jnp.array([[-1.0, -9.0], [0.999, 3.0], [5.0, 2.9], [0.0, 4.0]])
    clipped = jnp.clip(samples, jnp.array([[-1.0, -jnp.inf]]), jnp.array([[1.0, 3.0]]))
    # The first and the third of the first component, the second and the last of the other one.
    assert saturation(policy, samples) == saturation(policy, clipped) == 0.5


def test_squashed_gaussian_is_at_a_bound_within_one_percent_of_the_half_width():
    policy = gaussjax.squashed_gaussian(gaussjax.networks.MLP((4,)), 3, gaussjax.spaces.Box(0.0, 4.0, (1,)))
    # The half width is 2, so within 0.02 of 0 and of 4.
    assert saturation(policy, jnp.array([[0.019], [0.021], [3.979], [3.981]])) == 0.5


def test_a_truncated_gaussian_with_open_sides_is_at_a_bound_only_on_it():
    box = gaussjax.spaces.Box((-np.inf, 0.0, -np.inf), (1.0, np.inf, np.inf), (3,))
    policy = gaussjax.truncated_gaussian(gaussjax.networks.MLP((4,)), 3, box)
    assert saturation(policy, jnp.array([[-50.0, 0.5, 7.0], [1.0, 0.0, -7.0]])) == pytest.approx(2.0 / 6.0)
