"""PPO on JAX environments: rollout, resets and update in one compiled program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from gaussjax import envs, normalize, rollout
from gaussjax.policy import Policy, checks
from gaussjax.random import keys
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.parallel import sharding
from gaussjax.training.ppo.config import SHARDED, Config, Hyperparameters, State
from gaussjax.training.ppo.samples import normalized
from gaussjax.training.ppo.update import make_optimizer, make_update


def make_compiled(environment: envs.Environment, config: Config, policy: Policy, mesh: Mesh | None = None) -> Algorithm:
    """A PPO loop on a JAX environment; see `make`."""
    optimizer = make_optimizer(config)
    update = make_update(policy, optimizer, config, mesh)

    @jax.jit
    def init(key: Array) -> State:
        checks.key(key)
        key, params_key, reset_key = keys.split(key, 3)
        params = policy.init(params_key)
        standing = rollout.compiled.start(environment, policy, reset_key, config.num_envs)
        statistics = normalize.init(standing.observations.shape[1:]), normalize.init(())
        returns, options, steps = jnp.zeros(config.num_envs), Hyperparameters.of(config), jnp.zeros((), jnp.int32)
        state = State(params, optimizer.init(params), key, *statistics, returns, standing, options, steps)
        return sharding.shard_fields(state, mesh, SHARDED)

    @jax.jit
    def step(state: State) -> tuple[State, dict[str, Array]]:
        # One hash for all keys.
        drawn = keys.split(state.key, 2 + config.num_epochs)
        key, rollout_key, epoch_keys = drawn[0], drawn[1], drawn[2:]
        experience, standing, episodes = rollout.compiled.collect(
            environment,
            policy,
            state.params,
            lambda observations: normalized(state.observation_statistics, observations, config),
            state.environment,
            rollout_key,
            config.num_steps,
            mesh=mesh,
        )
        state, metrics = update(state._replace(key=key, environment=()), experience, epoch_keys)
        steps = state.steps + config.num_steps * config.num_envs
        metrics = {"step": steps, **rollout.compiled.episode_metrics(episodes), **metrics}
        state = state._replace(environment=standing, steps=steps)
        return sharding.shard_fields(state, mesh, SHARDED), sharding.whole(metrics, mesh)

    return Algorithm(init, step, policy, on_policy=True)
