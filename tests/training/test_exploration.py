"""Loops pass noise that lasts to the policy, in every step of an episode and new at its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import exploration, rollout
from gaussjax.training import bc, ppo, sac
from tests.training import jax_probes, probes

LENGTH, HOLD = 7, 3
PPO = {"num_envs": 3, "num_steps": 10, "batch_size": 15, "num_epochs": 1, "hidden_sizes": (4,), "learning_rate": 1e-9}
PPO |= {"initial_log_std": -4.0, "normalize_observations": False}
SAC = {"num_envs": 3, "num_steps": 10, "batch_size": 4, "learning_starts": 1, "hidden_sizes": (4,)}
SAC |= {"learning_rate": 1e-30, "buffer_size": 120}
MEMORY = {"network": "gru", "recurrent_size": 4, "sequence_length": 5}
# A reset comes every 7 steps, and within an episode the noise changes after 3 and 6 steps.
CHANGES = [t % LENGTH in (0, HOLD, 2 * HOLD) for t in range(1, 30)]


def changes(noise):
    """One flag for each step after the first: True if the noise of all rows changed, False if that of none did."""
    differs = ~np.isclose(noise[1:], noise[:-1], rtol=0, atol=2e-4)
    assert (differs.all(axis=(1, 2)) == differs.any(axis=(1, 2))).all()
    return differs.all(axis=(1, 2)).tolist()


def noise_of(policy, params, observations, actions):
    """Noise of actions, whose policy has no memory."""
    outputs = policy.apply(params, jnp.asarray(observations, jnp.float32))[1]
    raw = np.arctanh(np.float64(actions)) if policy.spec.kind == "squashed_gaussian" else np.float64(actions)
    return (raw - outputs["mean_actions"]) / np.exp(np.float64(outputs["log_std"]))


@pytest.mark.parametrize("module", [ppo, pytest.param(sac, marks=pytest.mark.slow)], ids=["ppo", "sac"])
def test_actions_on_the_host_have_held_noise(module):
    environments = probes.vector(lambda: probes.Counter(LENGTH), 3)
    config = module.Config(**(PPO if module is ppo else SAC), hold=HOLD)
    loop = module.make(environments, config)
    seen, step = [], loop.runner.step
    loop.runner.step = lambda actions, **options: (seen.append(actions), step(actions, **options))[1]
    state = loop.init(jax.random.key(0))
    params = state.params if module is ppo else state.learner.actor
    params = jax.tree.map(np.array, params)
    for _ in range(3):
        state, _ = loop.step(state)
    environments.close()
    observations = np.tile((np.arange(30) % LENGTH)[:, None, None], (1, 3, 1))
    # The first action of SAC is uniform.
    first = 1 if module is sac else 0
    found = changes(noise_of(loop.policy, params, observations, np.stack(seen))[first:])
    assert found == CHANGES[first:]


@pytest.mark.parametrize("memory", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiled_rollouts_have_held_noise_which_is_new_in_the_middle_too(memory):
    environment = jax_probes.counter(LENGTH)
    loop = ppo.make(environment, ppo.Config(**PPO, **(MEMORY if memory else {}), hold=HOLD))
    params, source = loop.policy.init(jax.random.key(0)), exploration.held(loop.policy, HOLD)
    state = rollout.compiled.start(environment, loop.policy, jax.random.key(1), 3, source)
    arguments = environment, loop.policy, params, lambda observations: observations
    found = []
    for t in range(3):
        rows, state, _ = rollout.compiled.collect(*arguments, state, jax.random.key(2 + t), 10, exploration=source)
        outputs = loop.policy.apply(
            params,
            rows.observations,
            **({"carry": jax.tree.map(lambda leaf: leaf[0], rows.carries), "resets": rows.resets} if memory else {}),
        )[1]
        found.append((rows.raw_actions - outputs["mean_actions"]) / np.exp(outputs["log_std"]))
    assert changes(np.concatenate(found)) == CHANGES


@pytest.mark.slow
def test_transitions_of_compiled_sac_have_held_noise():
    loop = sac.make(jax_probes.counter(LENGTH), sac.Config(**SAC, hold=HOLD))
    state = loop.init(jax.random.key(0))
    params = state.learner.actor
    for _ in range(3):
        state, _ = loop.step(state)
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[:90].reshape(30, 3, *leaf.shape[1:]), state.buffer.rows)
    # The first action is uniform.
    assert changes(noise_of(loop.policy, params, rows.observations, rows.actions)[1:]) == CHANGES[1:]


def state_of(loop, key=0, steps=2):
    state = loop.init(jax.random.key(key))
    for _ in range(steps):
        state, _ = loop.step(state)
    return state


def same(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("place", ["collect", "record", "ppo", pytest.param("sac", marks=pytest.mark.slow)])
def test_a_source_of_ones_own_is_used_whether_its_noise_lasts_or_not(place, lasts):
    environment, module = jax_probes.counter(LENGTH), sac if place == "sac" else ppo
    config = module.Config(**(SAC if module is sac else PPO))
    policy = module.make_policy(environment.observation_space, environment.action_space, config)

    def step(state, key, resets):
        return state, jnp.sign(policy.noise(key, resets.shape))

    source = exploration.Exploration(lambda key, batch_shape=(): (), step, lasts)
    params, found = policy.init(jax.random.key(0)), []
    if place == "collect":
        state = rollout.compiled.start(environment, policy, jax.random.key(1), 3, source)
        arguments = environment, policy, params, lambda observations: observations, state, jax.random.key(2), 10
        rows, _, _ = rollout.compiled.collect(*arguments, exploration=source)
        found.append((rows.observations, rows.actions))
    elif place == "record":
        with probes.registered(lambda: probes.Counter(LENGTH)) as name:
            for each in (environment, name):
                played = rollout.record(policy, params, each, deterministic=False, exploration=source, episodes=3)
                found += [(episode["observations"][:-1], episode["actions"]) for episode in played]
    else:
        environments = probes.vector(lambda: probes.Counter(LENGTH), 3)
        loop = module.make(environments, config, policy, exploration=source)
        seen, taken = [], loop.runner.step
        loop.runner.step = lambda actions, **options: (seen.append(actions), taken(actions, **options))[1]
        state = loop.init(jax.random.key(0))
        params = jax.tree.map(np.array, state.params if module is ppo else state.learner.actor)
        loop.step(state)
        environments.close()
        observations = np.tile((np.arange(10) % LENGTH)[:, None, None], (1, 3, 1))
        # The first action of SAC is uniform.
        found.append((observations[1:], np.stack(seen)[1:]))
    noise = np.concatenate([noise_of(policy, params, *pair).ravel() for pair in found])
    np.testing.assert_allclose(np.abs(noise), np.ones(noise.size), atol=1e-3)
    assert {-1.0, 1.0} == set(np.sign(noise))


@pytest.mark.slow
@pytest.mark.parametrize("module", [ppo, sac], ids=["ppo", "sac"])
def test_white_noise_by_name_and_as_a_source_is_the_default(module):
    environment, config = jax_probes.counter(LENGTH), module.Config(**(PPO if module is ppo else SAC))
    plain = module.make(environment, config)
    white = module.make(environment, config, exploration=exploration.white(plain.policy))
    same(state_of(plain), state_of(white))


@pytest.mark.slow
@pytest.mark.parametrize("module", [ppo, sac], ids=["ppo", "sac"])
@pytest.mark.parametrize("options", [{"hold": HOLD}, {"exploration": "colored"}], ids=["held", "colored"])
def test_a_config_and_a_source_and_seeds_in_a_vmap_explore_alike(module, options):
    environment, config = jax_probes.counter(LENGTH), module.Config(**(PPO if module is ppo else SAC))
    policy = module.make_policy(environment.observation_space, environment.action_space, config)
    source = exploration.held(policy, HOLD) if "hold" in options else exploration.colored(policy)
    named = module.make(environment, module.Config(**(PPO if module is ppo else SAC), **options))
    loop = module.make(environment, config, policy, exploration=source)
    same(state_of(named), state_of(loop))
    states = jax.vmap(loop.init)(jax.vmap(jax.random.key)(jnp.arange(3)))
    for _ in range(2):
        states, _ = jax.vmap(loop.step)(states)
    alone = state_of(loop, key=2)
    for part in ("exploration", "observations", "resets"):
        together = jax.tree.map(lambda leaf: leaf[2], getattr(states.environment, part))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), together, getattr(alone.environment, part)
        )


@pytest.mark.parametrize("config", [ppo.Config, sac.Config], ids=["ppo", "sac"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"exploration": "held"}, "hold: expected a number of steps for exploration='held', got None. Set one"),
        ({"exploration": "colored", "hold": 8}, "hold: expected None for exploration='colored', which changes"),
        ({"exploration": "white", "hold": 8}, "hold: expected None for exploration='white', which changes at"),
        ({"beta": 1.0}, "beta: expected None without exploration='colored', got 1.0. Leave it out, or set explor"),
        ({"beta": 3.0}, "beta: expected None without exploration='colored', got 3.0. Leave it out, or set explor"),
        ({"exploration": "white", "beta": 1.0}, "beta: expected None without exploration='colored', got 1.0. Leave it"),
        ({"hold": 8, "beta": 1.0}, "beta: expected None for noise with hold=8, got 1.0. Leave one out."),
        ({"exploration": "colored", "beta": 3.0}, "beta: expected a number above 0 and at most 2, got 3.0."),
        ({"hold": 0}, "hold: expected at least 1, got 0."),
        ({"hold": 2.5}, "hold: expected a whole number, got 2.5."),
        ({"exploration": "pink"}, "exploration: expected one of ['colored', 'held', 'white'], got 'pink'."),
    ],
)
def test_options_that_contradict_each_other_are_refused(config, options, says):
    with pytest.raises((TypeError, ValueError)) as caught:
        config(**options)
    assert says in str(caught.value)


def test_two_sources_and_states_without_one_are_refused():
    environment = jax_probes.counter(LENGTH)
    loop = ppo.make(environment, ppo.Config(**PPO))
    source = exploration.held(loop.policy, 2)
    with pytest.raises(ValueError, match=r"^exploration: expected one source of noise"):
        ppo.make(environment, ppo.Config(**PPO, hold=2), exploration=source)
    with pytest.raises(TypeError, match=r"^exploration: expected a gaussjax.exploration.Exploration, got str"):
        ppo.make(environment, ppo.Config(**PPO), exploration="held")
    state = rollout.compiled.start(environment, loop.policy, jax.random.key(0), 3)
    arguments = environment, loop.policy, loop.policy.init(jax.random.key(0)), lambda x: x, state, jax.random.key(1)
    with pytest.raises(ValueError, match=r"^state: expected a state of the noise of shapes .* Make it with start\("):
        rollout.compiled.collect(*arguments, 2, exploration=source)
    with pytest.raises(ValueError, match=r"^exploration: expected None for deterministic actions"):
        rollout.evaluate(loop.policy, arguments[2], environment, exploration=source)
    assert isinstance(gaussjax.exploration.white(loop.policy), exploration.Exploration)


def test_sac_on_the_host_refuses_a_state_of_a_loop_with_other_noise():
    environments = probes.vector(lambda: probes.Counter(LENGTH), 3)
    plain, held = (sac.make(environments, sac.Config(**SAC, **options)) for options in ({}, {"hold": 2}))
    for loop, other in ((plain, held), (held, plain)):
        with pytest.raises(
            ValueError, match=r"^state: expected one of a loop with the same kind of noise, got another\."
        ):
            loop.step(other.init(jax.random.key(0)))
    environments.close()


WIDE = {"hidden_sizes": (64, 256), "activation": "relu"}


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (ppo, {}),
        (ppo, WIDE),
        (bc, {"initial_log_std": -4.0}),
        *(
            pytest.param(module, options, marks=pytest.mark.slow)
            for module, options in (
                (ppo, {"hidden_sizes": (), "initial_log_std": -2.0}),
                (ppo, {"network": "gru", "hidden_sizes": (32,), "recurrent_size": 16}),
                (ppo, {"policy": "squashed_gaussian", "initial_log_std": 1.9}),
                (sac, {}),
                (sac, WIDE),
                (bc, {"network": "lstm"}),
            )
        ),
    ],
)
def test_gsde_begins_with_the_initial_log_std_as_the_mean_over_normal_observations(module, options):
    box = gaussjax.spaces.Box(-1.0, 1.0, (3,))
    space = gaussjax.spaces.Dict((("a", gaussjax.spaces.Box(shape=(5,))), ("b", gaussjax.spaces.Discrete(2))))
    policy = module.make_policy(space, box, module.Config(**options, std="gsde"))
    log_std = []
    for seed in range(8):
        init, draw = jax.random.split(jax.random.key(seed))
        observations = {"a": jax.random.normal(draw, (256, 5)), "b": jnp.zeros(256, jnp.int32)}
        carry = {"carry": policy.initial_carry((256,))} if "network" in options else {}
        log_std.append(policy.log_std(policy.init(init), observations, **carry))
    # The features of a few random networks differ by a tenth.
    assert abs(np.mean(log_std) - min(options.get("initial_log_std", 0.0), 1.9)) < 0.12


def test_a_clone_with_gsde_explores_with_its_share_of_the_box():
    network = gaussjax.networks.MLP((32, 32), std="gsde", log_std_bounds=(-9.0, 3.0), initial_log_std=-4.0)
    environment = jax_probes.counter(LENGTH)
    clone = gaussjax.gaussian(network, environment.observation_space, environment.action_space)
    params = jax.tree.map(lambda leaf: 0.6 * leaf, clone.init(jax.random.key(0)))
    loop = ppo.make(
        environment, ppo.Config(**{**PPO, "initial_log_std": None}), gaussjax.Loaded(clone, params, None, {})
    )
    observations = jax.random.normal(jax.random.key(1), (256, *environment.observation_space.shape))
    low, high = gaussjax.spaces.bounds(environment.action_space)
    log_std = loop.policy.log_std(loop.init(jax.random.key(2)).params, observations)
    # The size of the features of one number varies as it does: the mean of 256 logarithms has an error of 0.07.
    np.testing.assert_allclose(np.mean(log_std), np.mean(np.log(0.3 * (high - low))), atol=0.2)


@pytest.mark.parametrize(
    ("module", "log_std", "lowest"), [(ppo, 5.0, -20.0), (ppo, -30.0, -20.0), (bc, -6.0, -5.0)], ids=str
)
def test_a_log_std_of_gsde_that_would_be_clipped_is_refused_as_the_user_wrote_it(module, log_std, lowest):
    config = module.Config(std="gsde", hidden_sizes=(4,), initial_log_std=log_std)
    with pytest.raises(ValueError, match=rf"^initial_log_std: expected .* from min_.*={lowest} to .*, got {log_std}: "):
        module.make_policy(3, gaussjax.spaces.Box(-1.0, 1.0, (1,)), config)
