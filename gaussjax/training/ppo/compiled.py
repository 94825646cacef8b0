"""PPO on JAX environments: rollout, resets and update in one compiled program."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from gaussjax import envs, rollout
from gaussjax.policy import Policy, checks
from gaussjax.random import keys
from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm, normalized
from gaussjax.training.ppo.config import SHARDED, Config, State, initial_state
from gaussjax.training.ppo.update import make_optimizer, make_update


def make_compiled(environment: envs.Environment, config: Config, policy: Policy, mesh: Mesh | None = None) -> Algorithm:
    """Makes the training loop of PPO for a JAX environment, from arguments that `make` has validated."""
    optimizer = make_optimizer(config)
    update = make_update(policy, optimizer, config, mesh)

    @jax.jit
    def init(key: Array) -> State:
        checks.key(key)
        key, params_key, reset_key = keys.split(key, 3)
        started = rollout.compiled.start(environment, policy, reset_key, config.num_envs)
        state = initial_state(policy.init(params_key), optimizer, key, started.observations.shape[1:], config)
        state = state._replace(environment=started, steps=jnp.zeros((), jnp.int32))
        return parallel.shard_fields(state, mesh, SHARDED)

    @jax.jit
    def step(state: State) -> tuple[State, dict[str, Array]]:
        # Splitting once computes all keys with one hash, where several splits would need several.
        split = keys.split(state.key, 2 + config.num_epochs)
        key, rollout_key, epoch_keys = split[0], split[1], split[2:]
        preprocess = partial(normalized, config, state.observation_statistics)
        experience, environments, episodes = rollout.compiled.collect(
            environment, policy, state.params, preprocess, state.environment, rollout_key, config.num_steps, mesh=mesh
        )
        state, metrics = update(state._replace(key=key, environment=()), experience, epoch_keys)
        steps = state.steps + config.num_steps * config.num_envs
        metrics = {"step": steps, **rollout.compiled.episode_metrics(episodes), **metrics}
        state = state._replace(environment=environments, steps=steps)
        return parallel.shard_fields(state, mesh, SHARDED), parallel.whole(metrics, mesh)

    return Algorithm(init, step, policy, on_policy=True)
