"""The training loop of PPO: the rollout runs on the host, or all is one compiled program on JAX environments."""

from __future__ import annotations

import math
import time
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array

from gaussjax import envs, files, normalize, rollout
from gaussjax.core.compiled import varying
from gaussjax.exploration import Exploration
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.rollout.compiled import EpisodeSums
from gaussjax.training import parallel
from gaussjax.training.algorithm import (
    Algorithm,
    Standing,
    check_argument,
    check_num_envs,
    check_spaces,
    counted,
    environment_seed,
    exploration_for,
    normalized,
    policy_for,
    without_pixels,
)
from gaussjax.training.metrics import RECENT, episode_metrics, host_metrics
from gaussjax.training.ppo import initial
from gaussjax.training.ppo.config import SHARDED, Config, State, initial_state, make_policy
from gaussjax.training.ppo.samples import memory
from gaussjax.training.ppo.update import make_optimizer, make_update


def make(
    environments: Any,
    config: Config,
    policy: Policy | files.Loaded | None = None,
    *,
    mesh: Mesh | None = None,
    exploration: Exploration | None = None,
) -> Algorithm:
    """A training loop of PPO on environments.

    Args:
        environments: A Gymnasium vector environment with `config.num_envs` copies, made by
            `gaussjax.envs.make_vector`; or a `gaussjax.envs.Environment`, which is vmapped.
        config: The options.
        policy: A policy whose network returns `outputs["value"]`, by default the policy from `make_policy`. Or a
            trained policy as the start, from `gaussjax.load` or a reader of `gaussjax.interop`: `init` returns its
            parameters, with a new critic if it has none, and its observation statistics. The training leaves these
            statistics as they are, because the actions would change with them. Without any, nothing is normalised.
        mesh: Devices of one or several processes, from `gaussjax.training.mesh()`. Environments and minibatches
            are sharded over the mesh; the result equals the result of one device up to the order of sums. Each
            of several processes passes its share of the vector environments.
        exploration: Source of the noise from `gaussjax.exploration`, by default the one that the config names. The
            loss takes the actions of successive steps as independent, whatever the source.

    Returns:
        A loop. On an `Environment`, `init` and `step` are pure and compiled, so `jax.vmap` and `jax.lax.scan`
        apply. To start from other parameters use `loop.init(key)._replace(params=params)`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The number of environments differs from `config.num_envs` or is not a multiple of the number of
            devices; or the policy has other spaces than the environments, does not sum its log-densities, scores
            clipped actions with the wrong density, or is recurrent with sequences that do not divide the experience.

    Example:
        >>> import jax
        >>> environments = envs.make_vector("Pendulum-v1", 4)
        >>> loop = make(environments, Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=1))
        >>> state, metrics = loop.step(loop.init(jax.random.key(0)))
        >>> state.steps
        64
        >>> environments.close()

    Source:
        Schulman et al. 2017, proximal policy optimization algorithms (arXiv:1707.06347).
    """
    start = None
    if isinstance(policy, files.Loaded):
        start, config = initial.start(policy, environments, config)
        policy = start.policy
    policy = policy_for(environments, config, policy, Config, make_policy)
    check_spaces(environments, policy)
    config = without_pixels(config, policy)
    rows, name = config.batch_size, "batch_size"
    if jax.tree.leaves(jax.eval_shape(policy.initial_carry)):
        config.check_sequences()
        rows, name = rows // config.sequence_length, "batch_size / sequence_length"
    mesh = parallel.checked(mesh, {"num_envs": config.num_envs, name: rows})
    make_loop = _make_compiled if isinstance(environments, envs.Environment) else _make_host
    loop = make_loop(environments, config, policy, mesh, exploration_for(config, policy, exploration), start)
    loop = loop._replace(init=parallel.on(mesh, loop.init), step=parallel.on(mesh, loop.step))
    return loop._replace(step=_noticing_the_end(loop.step, config)) if config.anneal_learning_rate else loop


def _noticing_the_end(step: Any, config: Config) -> Any:
    """The function `step`, which warns once if the learning rate of a loop is annealed to 0 already."""
    updates, following, warned = 0, None, False

    def noticing(state: State) -> tuple[State, dict[str, Any]]:
        nonlocal updates, following, warned
        check_argument("state", state, State, "Make one with loop.init; step returns (state, metrics).")
        # Under `jit` and `vmap` the counter has no value.
        if warned or isinstance(state.steps, Tracer):
            return step(state)
        if updates == 0 or state.steps is not following:
            # Reading the counter waits for the update before, so it is read only once the total may be reached, and for
            # a state that is not the one of the update before.
            steps = int(state.steps)
            updates = max(0, math.ceil((config.total_steps - steps) / (config.num_steps * config.num_envs)))
            if updates == 0:
                warned = True
                warnings.warn(
                    f"total_steps: expected no update beyond {config.total_steps:,} steps, where the annealed learning "
                    f"rate is 0, got one at step {steps:,}. It changes no parameter: increase total_steps, or make the "
                    f"loop with anneal_learning_rate=False.",
                    stacklevel=2,
                )
        updates -= 1
        result = step(state)
        following = result[0].steps
        return result

    return noticing


def _make_host(
    environments: Any,
    config: Config,
    policy: Policy,
    mesh: Mesh | None,
    exploration: Exploration | None,
    start: initial.Start | None,
) -> Algorithm:
    """Makes the training loop of PPO for a vector environment, from arguments that `make` has validated."""
    share = parallel.share(mesh, config.num_envs)
    count = share.stop - share.start
    check_num_envs(environments, config.num_envs, count)
    runner = rollout.Runner(environments)
    draw_noise, exploration = (policy.noise, None) if exploration is None else exploration.sources(policy)
    optimizer = make_optimizer(config)
    learn = make_update(policy, optimizer, config, mesh, start)
    recurrent = bool(jax.tree.leaves(policy.initial_carry()))
    shard = jax.jit(lambda state: parallel.shard_fields(state, mesh, SHARDED))

    @jax.jit
    def update(state: State, experience: rollout.Rollout) -> tuple[State, dict[str, Array]]:
        key, shuffle_key = keys.split(state.key)
        state, metrics = learn(state._replace(key=key), experience, keys.split(shuffle_key, config.num_epochs))
        return parallel.shard_fields(state, mesh, SHARDED), parallel.whole(metrics, mesh)

    def init(key: Array) -> State:
        checks.key(key)
        key, params_key, seed_key = jax.random.split(key, 3)
        # Adding `share.start` makes the seed of each environment independent of the number of processes.
        observations = runner.reset(environment_seed(seed_key) + share.start)
        state = initial_state(policy.init(params_key), optimizer, key, runner.observations, config, start)
        if mesh is not None:
            state = shard(state)
        standing = Standing(observations, np.ones(count, bool), policy.initial_carry((count,)))
        if exploration is not None:
            # The first step is a reset, which draws new noise.
            standing = standing._replace(exploration=exploration.init(jax.random.key(0), (count,)))
        return state._replace(environment=standing, episodes=EpisodeSums(*np.zeros((3, RECENT))), steps=0)

    @jax.jit
    def draw(key: Array) -> tuple[Array, Array]:
        key, noise_key = jax.random.split(key)
        if exploration is not None:
            return key, parallel.whole(noise_key, mesh)
        return key, draw_noise(noise_key, (config.num_steps, config.num_envs))

    @jax.jit
    def act(
        params: Params,
        statistics: normalize.Normalizer,
        observations: Any,
        resets: Array,
        carry: Any,
        noise: Array,
        lasting: Any = (),
        t: Any = 0,
    ) -> tuple[Array, Array, Any, Any]:
        if exploration is not None:
            rows = jnp.arange(share.start, share.stop)
            lasting, noise = exploration.step_rows(lasting, keys.fold_in(noise, t), resets, rows)
        observations = normalized(config, statistics, observations)
        actions, _, outputs = policy.act(params, None, observations, noise=noise, **memory(carry, resets))
        return actions, outputs["raw_actions"], outputs.get("carry", ()), lasting

    def step(state: State) -> tuple[State, dict[str, Any]]:
        check_argument("state", state, State, "Make one with loop.init; step returns (state, metrics).")
        began = time.perf_counter()
        key, noise = draw(state.key)
        params, statistics = parallel.local((state.params, state.observation_statistics), mesh)
        *standing, lasting = state.environment
        # Drawing the noise of the whole rollout at once keeps the program of each step small.
        noise = np.asarray(noise)[:, share] if exploration is None else parallel.local(noise, mesh)

        def act_at(t: int, observations: Any, resets: np.ndarray, carry: Any) -> tuple[Any, Any, Any]:
            nonlocal lasting
            # A policy without a carry ignores resets, so it gets None, which avoids a copy to the device at each step.
            starts = resets if recurrent or exploration is not None else None
            drawn = (noise[t],) if exploration is None else (noise, lasting, t)
            actions, raw_actions, carry, lasting = act(params, statistics, observations, starts, carry, *drawn)
            return actions, raw_actions, carry

        experience, standing, episodes = rollout.collect(runner, act_at, *standing, num_steps=config.num_steps)
        experience = parallel.joined(experience, mesh, axis=1)
        taken = config.num_steps * config.num_envs
        steps = counted(state.steps, taken)
        sums = np.array([len(episodes.returns), sum(episodes.returns), sum(episodes.lengths)], np.float64)
        ended = EpisodeSums(*(sums if mesh is None else parallel.total(sums)).tolist())
        recent = state.episodes
        state, metrics = update(state._replace(key=key, environment=(), episodes=()), experience)
        metrics = {name: value.item() for name, value in jax.device_get(metrics).items()}
        recent, episodes = host_metrics(steps, taken, began, ended, recent)
        state = state._replace(environment=Standing(*standing, lasting), episodes=recent, steps=steps)
        return state, {**episodes, **metrics}

    return Algorithm(init, step, policy, runner, on_policy=True, normalizes=config.normalize_observations)


def _make_compiled(
    environment: envs.Environment,
    config: Config,
    policy: Policy,
    mesh: Mesh | None,
    exploration: Exploration | None,
    start: initial.Start | None,
) -> Algorithm:
    """Makes the training loop of PPO for a JAX environment, from arguments that `make` has validated."""
    optimizer = make_optimizer(config)
    update = make_update(policy, optimizer, config, mesh, start)

    @jax.jit
    def init(key: Array) -> State:
        checks.key(key)
        key, params_key, reset_key = keys.split(key, 3)
        started = rollout.compiled.start(environment, policy, reset_key, config.num_envs, exploration)
        example = jax.tree.map(lambda leaf: leaf[0], started.observations)
        state = initial_state(policy.init(params_key), optimizer, key, example, config, start)
        state = state._replace(
            environment=started, episodes=EpisodeSums(*jnp.zeros((3, RECENT))), steps=jnp.zeros((), jnp.int32)
        )
        state = varying(state, like=key)
        return parallel.shard_fields(state, mesh, SHARDED)

    @jax.jit
    def step(state: State) -> tuple[State, dict[str, Array]]:
        check_argument("state", state, State, "Make one with loop.init; step returns (state, metrics).")
        # Splitting once computes all keys with one hash, where several splits would need several.
        split = keys.split(state.key, 2 + config.num_epochs)
        key, rollout_key, epoch_keys = split[0], split[1], split[2:]
        preprocess = partial(normalized, config, state.observation_statistics)
        arguments = environment, policy, state.params, preprocess, state.environment, rollout_key, config.num_steps
        experience, environments, ended = rollout.compiled.collect(*arguments, exploration=exploration, mesh=mesh)
        state, metrics = update(state._replace(key=key, environment=()), experience, epoch_keys)
        steps = counted(state.steps, config.num_steps * config.num_envs)
        recent, episodes = episode_metrics(ended, state.episodes)
        metrics = {"step": steps, **episodes, **metrics}
        state = state._replace(environment=environments, episodes=recent, steps=steps)
        return parallel.shard_fields(state, mesh, SHARDED), parallel.whole(metrics, mesh)

    return Algorithm(init, step, policy, on_policy=True, normalizes=config.normalize_observations)
