"""Checks that `test_parallel.py` runs in separate processes; each prints one line of JSON.

`eight` and the slower `more`, `kinds`, `seeds`, `lasting` and `brax` run on eight devices of one process. `pair PORT
INDEX [compiled] [host] [brax]` runs in each of two processes.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from gymnasium.envs.phys2d.pendulum import PendulumFunctional
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gaussjax
from gaussjax import envs, normalize, rollout
from gaussjax.random.keys import standard_normal
from gaussjax.training import parallel, ppo, sac
from gaussjax.training.algorithm import exploration_for
from gaussjax.training.run import checkpoint
from tests import policies as table

# One device and eight draw with the same keys, to compare them.
jax.config.update("jax_debug_key_reuse", False)

OPTIONS = {
    "num_envs": 16,
    "num_steps": 8,
    "batch_size": 64,
    "num_epochs": 2,
    "hidden_sizes": (8,),
    "total_steps": 10**6,
}
CONFIG = ppo.Config(**OPTIONS)
COLLECTIVES = r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def pendulum():
    # Short episodes, so that some end within an update.
    return envs.from_functional(PendulumFunctional(), max_steps=5)


def trained(algorithm, updates=2):
    state = algorithm.init(jax.random.key(0))
    for _ in range(updates):
        state, metrics = algorithm.step(state)
    return state, metrics


def on_host(mesh, count):
    """PPO on as many Gymnasium environments of this process: what is learnt and measured."""
    environments = envs.make_vector("Pendulum-v1", count, max_episode_steps=5)
    state, metrics = trained(ppo.make(environments, CONFIG, mesh=mesh))
    environments.close()
    return plain((learnt(state), {**metrics, "steps_per_second": 0.0}))


def learnt(state):
    return state.params, state.optimizer, state.observation_statistics[:3], state.return_statistics[:3]


def plain(tree):
    return [np.asarray(leaf, np.float64).ravel().tolist() for leaf in jax.tree.leaves(tree)]


def compiled(function, *arguments):
    """A compiled program and the communication in it."""
    program = jax.jit(function).lower(*arguments).compile()
    return program, re.findall(COLLECTIVES, program.as_text())


def difference(one, two, least=1e-3):
    """The largest difference of two trees, relative to the largest number of each array, or to `least` above it."""
    pairs = zip(plain(one), plain(two), strict=True)
    # NumPy's maximum keeps NaN, and Python's drops it.
    return float(np.max([np.abs(np.subtract(a, b)).max() / max(np.abs(a).max(), least) for a, b in pairs]))


def training(mesh):
    environment = pendulum()
    alone, many = ppo.make(environment, CONFIG), ppo.make(environment, CONFIG, mesh=mesh)
    one, metrics_one = trained(alone)
    eight, metrics_eight = trained(many)
    yield "learnt", difference(learnt(one), learnt(eight))
    yield "reference", plain(learnt(one))
    yield "metrics", difference(metrics_one, metrics_eight)
    yield "ended", float(metrics_eight["episode_length"])
    yield "standing", difference(*[(s.environment.observations, s.discounted_returns) for s in (one, eight)])
    spread = jax.tree.leaves((eight.environment, eight.discounted_returns))
    yield "parts", sorted({leaf.addressable_shards[0].data.shape[0] for leaf in spread})
    yield "whole", all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(learnt(eight)))

    folder = Path(tempfile.mkdtemp())
    checkpoint.save(folder, eight, {})
    again = checkpoint.load(folder, many.init(jax.random.key(1))).state
    yield (
        "restored",
        [leaf.sharding for leaf in jax.tree.leaves(again)] == [leaf.sharding for leaf in jax.tree.leaves(eight)],
    )
    steps = [
        algorithm.step(checkpoint.load(folder, state).state)[0] for algorithm, state in ((many, eight), (alone, one))
    ]
    onward = many.step(eight)[0]
    yield "resumed_on_eight", plain(learnt(steps[0])) == plain(learnt(onward))
    yield "resumed_on_one", difference(learnt(steps[1]), learnt(onward))


def rollouts(mesh):
    environment, policy = pendulum(), ppo.make(pendulum(), CONFIG).policy
    params = policy.init(jax.random.key(0))

    def collect(standing, key):
        return rollout.compiled.collect(environment, policy, params, lambda x: x, standing, key, 8, mesh=mesh)[:2]

    standing = rollout.compiled.start(environment, policy, jax.random.key(1), 16)
    standing = jax.device_put(standing, NamedSharding(mesh, PartitionSpec("envs")))
    yield "rollout_collectives", compiled(collect, standing, jax.random.key(2))[1]


def policies(mesh):
    spread = NamedSharding(mesh, PartitionSpec("envs"))
    policy = gaussjax.squashed_gaussian(
        gaussjax.networks.MLP((8,), output_activation=None), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,))
    )
    params, key = policy.init(jax.random.key(0)), jax.random.key(1)
    observations = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    both = observations, jax.device_put(observations, spread)
    acts = [policy.act(params, key, x) for x in both]
    yield "actions_parts", acts[1].actions.addressable_shards[0].data.shape[0]
    yield "actions", difference(acts[0], acts[1])
    taken = [jax.device_put(acts[0].actions, to) for to in (None, spread)]
    yield "evaluations", difference(*(policy.evaluate(params, x, a) for x, a in zip(both, taken, strict=True)))

    def drawn(key):
        return parallel.spread(standard_normal(key, (64, 2)), mesh)

    program, communication = compiled(drawn, key)
    expected = jax.random.normal(key, (64, 2), np.float32)
    yield "noise", bool((np.asarray(program(key)) == np.asarray(expected)).all())
    yield "noise_collectives", communication


def statistics(mesh):
    batch = (100.0 + np.random.default_rng(0).normal(size=(64, 8, 3))).astype(np.float32)
    before = normalize.update(normalize.init((3,)), np.ones((5, 3), np.float32))
    many = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("envs")))
    # The program wants all its arguments on all devices.
    spread = jax.device_put(before, NamedSharding(mesh, PartitionSpec()))
    program, communication = compiled(normalize.update, spread, many)
    # The rests of count, mean and squares hold the roundoff of the sums, which depends on the devices.
    yield "statistics", difference(normalize.update(before, batch)[:3], program(spread, many)[:3])
    yield "statistics_gathered", "all-gather" in communication


def lasting(mesh):
    """Noise that lasts is the same on every mesh, and needs no communication."""
    for name, options in (("held", {"hold": 3}), ("colored", {"exploration": "colored"})):
        config = ppo.Config(**OPTIONS, **options)
        one, many = (trained(ppo.make(pendulum(), config, mesh=over))[0] for over in (None, mesh))
        yield f"{name} learnt", difference(learnt(one), learnt(many))
        yield f"{name} noise", plain(one.environment.exploration) == plain(many.environment.exploration)
        policy = ppo.make(pendulum(), config).policy
        source = exploration_for(config, policy, None)
        standing = rollout.compiled.start(pendulum(), policy, jax.random.key(1), 16, source)
        standing = jax.device_put(standing, NamedSharding(mesh, PartitionSpec("envs")))
        params = policy.init(jax.random.key(0))

        def collect(standing, key, policy=policy, params=params, source=source):
            arguments = pendulum(), policy, params, lambda x: x, standing, key, 8
            return rollout.compiled.collect(*arguments, exploration=source, mesh=mesh)[:2]

        yield f"{name} collectives", compiled(collect, standing, jax.random.key(2))[1]
        for place, over in (("alone", None), ("shared", mesh)):
            environments = envs.make_vector("Pendulum-v1", 16, max_episode_steps=5)
            state = trained(ppo.make(environments, config, mesh=over))[0]
            environments.close()
            yield f"{name} {place}", plain((learnt(state), state.environment.exploration))


def populations(mesh):
    algorithm = ppo.make(pendulum(), ppo.Config(**{**OPTIONS, "num_epochs": 1}))
    keys = jax.device_put(jax.random.split(jax.random.key(0), 8), NamedSharding(mesh, PartitionSpec("envs")))
    states, each = jax.jit(jax.vmap(algorithm.init))(keys), jax.vmap(algorithm.step)
    share = PartitionSpec(mesh.axis_names)
    apart, communication = compiled(jax.shard_map(each, mesh=mesh, in_specs=share, out_specs=share), states)
    yield "population_collectives", communication
    # Without shard_map all trainings share their conditions, so the devices communicate.
    yield "population", difference(*(learnt(program(states)[0]) for program in (apart, compiled(each, states)[0])))


def every_result(policy, observations, *batch):
    """A compiled function `params -> results`: actions, scores and gradients for a batch, or for a sequence of it."""
    carry = {"carry": policy.initial_carry(batch[-1:])} if jax.tree.leaves(policy.initial_carry()) else {}
    noise = table.noise(policy, batch)

    def loss(params):
        acted = policy.act(params, None, observations, noise=noise, **carry)
        scored = policy.evaluate(params, observations, **table.scoring(policy, acted), **carry)
        return scored.log_prob.mean() + scored.entropy.mean(), (acted[:2], scored[:2])

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def on_explicit_axes(*names):
    """Differences of the results on a mesh as `jax.make_mesh` makes it from those without a mesh."""
    mesh = jax.make_mesh((8,), ("rows",))
    assert mesh.axis_types == (AxisType.Explicit,)
    for name in names or table.TABLE:
        policy, params = table.make(name)
        for batch in ((16,), (3, 16))[: 1 + bool(jax.tree.leaves(policy.initial_carry()))]:
            observations = table.observations(policy, batch)
            plain = every_result(policy, observations, *batch)(params)
            with jax.set_mesh(mesh):
                rows = NamedSharding(mesh, PartitionSpec(*[None] * (len(batch) - 1), "rows"))
                found = every_result(policy, jax.device_put(observations, rows), *batch)(params)
            yield f"{name} {batch}", [difference(plain, found, 0.1), "rows" in tuple(found[0][1][0][0].sharding.spec)]


def kinds(mesh):
    yield "kinds", dict(on_explicit_axes())


def explicit(mesh):
    yield "explicit", dict(on_explicit_axes("gaussian-clipped", "squashed", "multivariate"))
    over = jax.make_mesh((8,), ("rows",))
    batch = (1e3 + np.random.default_rng(0).normal(size=(5, 16, 3))).astype(np.float32)
    before = normalize.update(normalize.init((3,)), np.ones((5, 3), np.float32))
    with jax.set_mesh(over):
        many = jax.device_put(batch, NamedSharding(over, PartitionSpec(None, "rows")))
        after = normalize.update(before, many)
        scaled = normalize.apply(after, many), normalize.apply(normalize.update(before, batch), batch)
    yield "explicit_statistics", difference(*scaled)


def seeds(mesh):
    small = {"num_envs": 4, "batch_size": 32, "hidden_sizes": (8,), "total_steps": 10**6}
    on_policy = {**small, "num_steps": 16, "num_epochs": 1}
    memory = {"network": "lstm", "recurrent_size": 8, "sequence_length": 8}
    loops = {
        "ppo": ppo.make(pendulum(), ppo.Config(**on_policy)),
        "ppo-lstm": ppo.make(pendulum(), ppo.Config(**on_policy, **memory, entropy="sample")),
        "sac": sac.make(pendulum(), sac.Config(**small, learning_starts=8, num_steps=4, buffer_size=64)),
    }
    keys = jax.random.split(jax.random.key(0), 16)
    for name, loop in loops.items():

        def train(key, loop=loop):
            state, metrics = jax.lax.scan(lambda state, _: loop.step(state), loop.init(key), length=2)
            returns = rollout.compiled.evaluate(pendulum(), loop.policy, acting(state), key, episodes=2, max_steps=6)
            return acting(state), metrics, returns

        plain = jax.jit(jax.vmap(train))(keys)
        for kind in (AxisType.Explicit, AxisType.Auto):
            over = jax.make_mesh((8,), ("seeds",), axis_types=(kind,))
            spread = jax.device_put(keys, NamedSharding(over, PartitionSpec("seeds")))
            with jax.set_mesh(over):
                axes = {"in_specs": PartitionSpec("seeds"), "out_specs": PartitionSpec("seeds")}
                yield f"{name} {kind.name}", difference(plain, jax.jit(jax.shard_map(jax.vmap(train), **axes))(spread))


def acting(state):
    return state.params if hasattr(state, "params") else state.learner.actor


def contexts(mesh):
    """A loop learns the same on its mesh, on the same mesh with explicit axes, and inside `jax.set_mesh`."""
    reference = learnt(trained(ppo.make(pendulum(), CONFIG))[0])
    for kind in (AxisType.Explicit, AxisType.Auto):
        over = jax.make_mesh((8,), ("rows",), axis_types=(kind,))
        for chosen in (over, None):
            with jax.set_mesh(over):
                state = trained(ppo.make(pendulum(), CONFIG, mesh=chosen))[0]
            yield f"{kind.name} {chosen is not None}", difference(reference, learnt(state))


def counts(environment):
    one = learnt(trained(ppo.make(environment, CONFIG))[0])
    for count in (1, 2, 4, 8):
        mesh = parallel.mesh(jax.devices()[:count])
        yield str(count), difference(one, learnt(trained(ppo.make(environment, CONFIG, mesh=mesh))[0]))


def cart():
    return envs.make("brax:inverted_pendulum", backend="generalized", max_steps=5)


def brax(mesh):
    yield "counts", dict(counts(cart()))
    yield "reference", plain(learnt(trained(ppo.make(cart(), CONFIG))[0]))


def meshes(mesh):
    square = jax.make_mesh((2, 4), ("x", "y"))
    yield "own_mesh", parallel.checked(square, {"num_envs": 16}).shape["envs"]
    for options in ({"num_envs": 12, "batch_size": 32}, {"batch_size": 4}):
        try:
            ppo.make(pendulum(), ppo.Config(**{**OPTIONS, **options}), mesh=square)
        except ValueError as error:
            yield next(iter(options)), str(error)


def hosts(mesh):
    yield "host_reference", on_host(None, 16)
    yield "host", on_host(mesh, 16)


def eight(*checks):
    mesh = parallel.mesh()
    found = {"devices": jax.device_count()}
    for check in checks:
        found |= dict(check(mesh))
    return found


def pair(port, index, *trainings):
    parallel.connect(f"127.0.0.1:{port},2,{index}")
    mesh = parallel.mesh()
    found = {"processes": jax.process_count(), "leads": parallel.leads()}
    found["any"] = [parallel.any_of(flag) for flag in (index == "1", False)]
    if "host" in trainings:
        found["host"] = on_host(mesh, 8)
    if "compiled" in trainings:
        found["learnt"] = plain(learnt(trained(ppo.make(pendulum(), CONFIG, mesh=mesh))[0]))
    if "brax" in trainings:
        found["learnt"] = plain(learnt(trained(ppo.make(cart(), CONFIG, mesh=mesh))[0]))
    return found | left_alone(index)


def left_alone(index):
    """The second process ends without a word, and the first one asks it."""
    if index == "1":
        return {}
    try:
        for _ in range(2):
            parallel.any_of(False)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        return {"lost": parallel.lost(error), "own_fault": parallel.lost(ValueError("expected 2 rows, got 3."))}
    return {"lost": False}


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    runs = {
        "eight": lambda: eight(policies, statistics, meshes, explicit),
        "more": lambda: eight(training, rollouts, populations, hosts),
        "kinds": lambda: eight(kinds),
        "seeds": lambda: eight(seeds),
        "contexts": lambda: eight(contexts, lambda _: [("counts", dict(counts(pendulum())))]),
        "brax": lambda: eight(brax),
        "lasting": lambda: eight(lasting),
        "pair": lambda: pair(*sys.argv[2:]),
    }
    print(json.dumps(runs[sys.argv[1]]()), flush=True)
    # An orderly end of one of two processes would wait for the other.
    os._exit(0)
