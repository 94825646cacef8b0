"""PPO on Gymnasium vector environments: the rollout runs on the host, and the update is compiled."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from gaussjax import normalize, rollout, spaces
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.random.normal import standard_normal
from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm, check_num_envs, host_metrics, normalized
from gaussjax.training.ppo.config import SHARDED, Config, State, initial_state
from gaussjax.training.ppo.samples import memory
from gaussjax.training.ppo.update import make_optimizer, make_update


class Standing(NamedTuple):
    """Inputs of the policy at the start of the next rollout; `carry` is `()` for a policy without recurrence."""

    observations: np.ndarray
    resets: np.ndarray
    carry: Any


def make_host(environments: Any, config: Config, policy: Policy, mesh: Mesh | None = None) -> Algorithm:
    """Makes the training loop of PPO for a vector environment, from arguments that `make` has validated."""
    share = parallel.share(mesh, config.num_envs)
    count = share.stop - share.start
    check_num_envs(environments, config.num_envs, count)
    runner = rollout.Runner(environments)
    num_actions = spaces.size(policy.spec.action_space)
    optimizer = make_optimizer(config)
    learn = make_update(policy, optimizer, config, mesh)
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
        observations = runner.reset(int(jax.random.bits(seed_key, dtype=jnp.uint16)) + share.start)
        state = initial_state(policy.init(params_key), optimizer, key, observations.shape[1:], config)
        if mesh is not None:
            state = shard(state)
        standing = Standing(observations, np.ones(count, bool), policy.initial_carry((count,)))
        return state._replace(environment=standing, steps=0)

    @jax.jit
    def draw(key: Array) -> tuple[Array, Array]:
        key, noise_key = jax.random.split(key)
        return key, standard_normal(noise_key, (config.num_steps, config.num_envs, num_actions))

    @jax.jit
    def act(
        params: Params, statistics: normalize.Statistics, observations: Array, resets: Array, carry: Any, noise: Array
    ) -> tuple[Array, Array, Any]:
        observations = normalized(config, statistics, observations)
        actions, _, outputs = policy.act(params, None, observations, noise=noise, **memory(carry, resets))
        return actions, outputs["raw_actions"], outputs.get("carry", ())

    def step(state: State) -> tuple[State, dict[str, Any]]:
        start = time.perf_counter()
        key, noise = draw(state.key)
        # Drawing the noise of the whole rollout at once keeps the program of each step small.
        noise = np.asarray(noise)[:, share]
        params, statistics = parallel.local((state.params, state.observation_statistics), mesh)

        def act_at(t: int, observations: np.ndarray, resets: np.ndarray, carry: Any) -> tuple[Any, Any, Any]:
            # A policy without a carry ignores resets, so it gets None, which avoids a copy to the device at each step.
            return act(params, statistics, observations, resets if recurrent else None, carry, noise[t])

        experience, standing, episodes = rollout.collect(runner, act_at, *state.environment, num_steps=config.num_steps)
        experience = parallel.joined(experience, mesh, axis=1)
        taken = config.num_steps * config.num_envs
        steps = state.steps + taken
        state, metrics = update(state._replace(key=key, environment=()), experience)
        state = state._replace(environment=Standing(*standing), steps=steps)
        metrics = {name: value.item() for name, value in jax.device_get(metrics).items()}
        sums = np.array([len(episodes.returns), sum(episodes.returns), sum(episodes.lengths)])
        sums = sums if mesh is None else parallel.total(sums)
        return state, {**host_metrics(steps, taken, start, *sums), **metrics}

    return Algorithm(init, step, policy, runner, on_policy=True)
