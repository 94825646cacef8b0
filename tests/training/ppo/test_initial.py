"""PPO from a trained policy: what it keeps of the policy, what is new, and the updates of the critic alone."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import data, envs, networks, normalize, rollout, training
from gaussjax.networks import MLP, ActorCritic
from gaussjax.spaces import Box
from gaussjax.training import bc, ppo
from gaussjax.training.ppo import initial
from tests.training import jax_probes, probes

SHORT = {"num_envs": 8, "num_steps": 8, "batch_size": 32, "num_epochs": 2, "sequence_length": 4}
EXACT = functools.partial(jax.tree.map, np.testing.assert_array_equal)
HIDDEN, PRIVILEGED = jax_probes.hidden_velocity(5), jax_probes.asymmetric(1.0)
STATE = dict(PRIVILEGED.observation_space.items)["state"]


class Own(nn.Module):
    """A network of the user's own."""

    num_actions: int | None = None
    has_value: bool = False

    @nn.compact
    def __call__(self, x):
        log_std = self.param("log_std", nn.initializers.constant(-0.5), (self.num_actions,))
        outputs = {"value": nn.Dense(1)(x)[..., 0]} if self.has_value else {}
        return nn.Dense(self.num_actions)(nn.tanh(nn.Dense(8)(x))), log_std, outputs


def statistics(space):
    """Statistics of random observations of a Box or a Dict of Boxes."""
    if isinstance(space, Box):
        return normalize.update(normalize.init(space.shape), np.random.default_rng(0).normal(1, 2, (100, *space.shape)))
    return {name: statistics(part) for name, part in space.items}


def trained(network, environment=HIDDEN, factory=gaussjax.gaussian, space=None, **options):
    policy = factory(network, space or environment.observation_space, environment.action_space, **options)
    params = jax.tree.map(lambda leaf: leaf + 0.1, policy.init(jax.random.key(7)))
    return gaussjax.Loaded(policy, params, statistics(policy.spec.observation_space), {})


COVARIANCE = MLP((8,), off_diagonal=True)
# Each start with its environment and the std of its first actions.
GRAPH = networks.Graph([{"name": "body", "layers": [8, "tanh"]}], value="body")
STARTS = {
    "mlp": (lambda: trained(MLP((8,), std="state"), clip_actions=True), HIDDEN, 0.6),
    "lstm": (lambda: trained(networks.LSTM(4, sizes=(8,))), HIDDEN, 0.6),
    "state": (lambda: trained(MLP((8,)), PRIVILEGED, space=STATE), PRIVILEGED, 0.6),
    "dict": (lambda: trained(MLP((8,)), PRIVILEGED), PRIVILEGED, 0.6),
    "critic": (lambda: trained(ActorCritic(MLP((8,)), (8,)), reduction="mean"), HIDDEN, np.exp(0.1)),
    "own": (lambda: trained(Own()), HIDDEN, np.exp(-0.4)),
    "bounds": (lambda: trained(MLP((), log_std_bounds=(-3.0, -1.0), initial_log_std=-2.0)), HIDDEN, np.exp(-1.1)),
    "fixed": (lambda: trained(MLP((8,), std="fixed", initial_log_std=-2.0)), HIDDEN, 0.6),
    "squashed": (lambda: trained(MLP((8,)), factory=gaussjax.squashed_gaussian), HIDDEN, 0.6),
    "truncated": (lambda: trained(MLP((8,)), factory=gaussjax.truncated_gaussian), HIDDEN, 0.6),
    "multivariate": (lambda: trained(COVARIANCE, factory=gaussjax.multivariate_gaussian), HIDDEN, 0.6),
    "gsde": (lambda: trained(MLP((8,), std="gsde"), factory=gaussjax.squashed_gaussian), HIDDEN, None),
    "graph": (lambda: trained(GRAPH), HIDDEN, np.exp(0.1)),
}
QUICK = ("mlp", "lstm", "state")
ROWS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in STARTS]


def without_log_std(tree):
    return [
        leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if "log_std" not in jax.tree_util.keystr(path)
    ]


def split(loop, state):
    """Parameters of the actor, and the others."""
    params = state.params["params"]
    if "actor" in params:
        return params["actor"], {name: part for name, part in params.items() if name != "actor"}
    return {name: part for name, part in params.items() if name != "value_layer"}, params["value_layer"]


@pytest.mark.parametrize("name", ROWS)
def test_the_first_updates_train_the_critic_alone_and_the_actions_stay_those_of_the_policy(name):
    make, environment, std = STARTS[name]
    loaded = make()
    loop = ppo.make(environment, ppo.Config(**SHORT, critic_warmup=2), loaded)
    state = loop.init(jax.random.key(0))
    given = loaded.params["params"]
    EXACT(
        without_log_std(split(loop, state)[0]),
        without_log_std(
            given.get(
                "actor", split(loop, state)[0] and {name: part for name, part in given.items() if name != "value_layer"}
            )
        ),
    )
    observations = state.environment.observations
    carry = loaded.initial_carry((8,)) or None
    ours = gaussjax.Loaded(loop.policy, state.params, state.observation_statistics, {})
    acted = ours.act(observations, carry=carry)
    seen = observations["state"] if name == "state" else observations
    EXACT(acted.actions, loaded.act(seen, carry=carry).actions)
    if std is not None:
        np.testing.assert_allclose(np.exp(acted.outputs["log_std"]), std, rtol=1e-5)
    for update in range(3):
        before = state
        state, metrics = loop.step(state)
        (actor, critic), (actor_before, critic_before) = split(loop, state), split(loop, before)
        assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (critic, critic_before)), strict=True))
        if update < 2:
            EXACT(actor, actor_before)
            assert abs(metrics["kl"]) < 1e-6
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (actor, actor_before)), strict=True))
    if name == "state":
        EXACT(state.observation_statistics["state"], loaded.normalizer)
        # Statistics of entries that the policy does not see are those of the training.
        assert float(state.observation_statistics["privileged_state"].count) == 3 * 64
    else:
        EXACT(state.observation_statistics, loaded.normalizer)


@pytest.mark.without("jax_debug_key_reuse")
def test_the_first_update_of_the_actor_is_that_of_a_training_that_begins_there():
    """Averages of Adam over gradients that were 0 would make the first steps several times too long."""
    loaded = STARTS["mlp"][0]()
    loop, plain = (ppo.make(HIDDEN, ppo.Config(**SHORT, critic_warmup=warmup), loaded) for warmup in (1, 0))
    state, _ = loop.step(loop.init(jax.random.key(0)))
    anew = state._replace(optimizer=plain.init(jax.random.key(0)).optimizer)
    EXACT(loop.step(state)[0].params, plain.step(anew)[0].params)


def test_a_policy_on_the_host_starts_as_in_a_compiled_training():
    policy = gaussjax.gaussian(MLP((8,)), 1, Box(-1.0, 1.0, (1,)))
    loaded = gaussjax.Loaded(policy, policy.init(jax.random.key(7)), None, {})
    environments = probes.vector(probes.Bandit, 8)
    loop = ppo.make(environments, ppo.Config(**SHORT, initial_log_std=0.0), loaded)
    state = loop.init(jax.random.key(0))
    EXACT(state.params["params"]["actor"], loaded.params["params"])
    # Three updates by default, and nothing is normalised because the policy got observations as they are.
    for update in range(4):
        state, _ = loop.step(state)
        assert np.array_equal(
            *map(
                lambda tree: tree["head"]["mean"]["kernel"], (state.params["params"]["actor"], loaded.params["params"])
            )
        ) == (update < 3)
    environments.close()
    assert not loop.normalizes
    assert float(state.observation_statistics.count) == 0.0


@pytest.mark.slow
def test_a_population_has_one_actor_and_critics_of_its_own():
    loop = ppo.make(HIDDEN, ppo.Config(**SHORT), STARTS["mlp"][0]())
    states = jax.vmap(loop.init)(jax.random.split(jax.random.key(0), 3))
    states, metrics = jax.jit(jax.vmap(loop.step))(states)
    for path, leaf in jax.tree_util.tree_leaves_with_path(states.params):
        equal = "actor" in jax.tree_util.keystr(path)
        assert np.array_equal(leaf[0], leaf[1]) == equal, path
    assert metrics["kl"].shape == (3,)


@pytest.mark.slow
def test_the_step_size_stays_while_the_policy_does():
    """Without a divergence a step size that adapts to it would grow without need."""
    loop = ppo.make(HIDDEN, ppo.Config(**SHORT, critic_warmup=1, desired_kl=0.01), STARTS["mlp"][0]())
    state, _ = loop.step(loop.init(jax.random.key(0)))
    assert float(state.hyperparameters.learning_rate) == np.float32(1e-3)
    assert float(loop.step(state)[0].hyperparameters.learning_rate) != np.float32(1e-3)


class Plain:
    """A network that is no module of Flax."""

    def init(self, key, observations):
        return {"weights": jax.random.normal(key, (1, 1))}

    def apply(self, params, observations):
        return observations @ params["weights"], jax.numpy.zeros(1), {}


REFUSED = {
    "a network that gets no critic": (
        lambda: trained(Plain()),
        {},
        "policy: expected a network of flax.linen, which can get a critic, got Plain.",
    ),
    "entries chosen twice": (
        lambda: trained(ActorCritic(MLP((8,)), critic_keys=("privileged_state",)), PRIVILEGED),
        {"actor_keys": ("state",)},
        r"actor_keys, critic_keys: expected None, because .* got \('state',\) and None.",
    ),
    "another space": (lambda: trained(MLP(), space=Box(shape=(2,))), {}, r"policy: expected the observation space of"),
    "parameters of another policy": (
        lambda: trained(MLP((8,)))._replace(params=trained(MLP((9,))).params),
        {},
        "params: expected the leaves of this policy, got others",
    ),
    "an unknown critic": (
        lambda: trained(Own(has_value=True)),
        {"critic_warmup": 1},
        "critic_warmup: expected 0 for a network whose critic is unknown, a Own, got",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_that_cannot_start_a_training_is_refused(name):
    make, options, message = REFUSED[name]
    environment = PRIVILEGED if "entries" in name else HIDDEN
    with pytest.raises(ValueError, match=f"^{message}"):
        ppo.make(environment, ppo.Config(**SHORT, **options), make())


@pytest.mark.slow
def test_a_network_of_ones_own_with_a_value_trains_as_a_whole():
    loop = ppo.make(HIDDEN, ppo.Config(**SHORT), loaded := trained(Own(has_value=True)))
    state = loop.init(jax.random.key(0))
    EXACT(state.params, loaded.params)
    following, _ = loop.step(state)
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state.params, following.params)), strict=True))


PENDULUM, SEEDS, UPDATES = envs.make("Pendulum-v1", backend="jax"), 3, 48


def curves(updates, start=None):
    """Last state of PPO on the pendulum, and returns of 50 deterministic episodes after each update; for each seed."""
    loop = training.evaluating(ppo.make(PENDULUM, ppo.Config(), start), PENDULUM, every=1, episodes=50)

    @jax.jit
    @jax.vmap
    def run(key):
        return jax.lax.scan(lambda state, _: loop.step(state), loop.init(key), length=updates)

    states, metrics = run(jax.random.split(jax.random.key(0), SEEDS))
    return loop.policy, states, np.asarray(metrics["evaluation_return"])


@functools.cache
def from_scratch():
    return curves(UPDATES)


def needed(returns):
    """Updates until a return reaches the bar, or all if none does; 0 if the first one, of the clone itself, does."""
    reached = np.flatnonzero(returns >= -200.0)
    return UPDATES if not reached.size else 0 if reached[0] == 0 else reached[0] + 1


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [4, 50])
def test_ppo_from_a_clone_needs_half_the_steps_of_ppo_from_scratch_and_keeps_what_the_clone_can(episodes):
    policy, states, scratch = from_scratch()
    params, statistics = jax.tree.map(lambda leaf: leaf[0], (states.params, states.observation_statistics))
    recorded = rollout.record(policy, params, PENDULUM, normalizer=statistics, episodes=episodes, seed=1)
    both, config = (PENDULUM.observation_space, PENDULUM.action_space), bc.Config(batch_size=64)
    cloning = bc.make(data.read_dataset(recorded, *both), bc.make_policy(*both, config), config)
    state = cloning.init(jax.random.key(0))
    for _ in range(config.total_epochs):
        state, _ = cloning.step(state)
    clone = gaussjax.Loaded(cloning.policy, state.params, state.observation_statistics, {})
    _, _, improved = curves(UPDATES // 2, clone)
    # The first updates leave the policy as it is, so the first return is that of the clone.
    np.testing.assert_array_equal(improved[:, 0], improved[:, 2])
    print(f"clone {improved[0, 0]}, lowest {improved.min(axis=1)}, last {improved[:, -1]}; scratch {scratch[:, -1]}")
    for alone, helped in zip(scratch, improved, strict=True):
        print(f"updates: {needed(alone)} from scratch, {needed(helped)} from the clone")
        assert needed(helped) <= 0.5 * needed(alone)
        # The share of the way from an untrained policy, -1200, to a perfect one.
        assert helped.min() + 1200.0 >= 0.8 * (helped[0] + 1200.0)


def test_parameters_in_lists_are_replaced():
    old, new = ({"params": [np.full(2, value, np.float32)]} for value in (1.0, 0.0))
    start = initial.Start(None, old, None, None, is_new=False, explores=True)
    found, _ = start.replace(new, ())
    np.testing.assert_array_equal(found["params"][0], 1.0)
