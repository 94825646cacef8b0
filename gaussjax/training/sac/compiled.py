"""SAC on JAX environments: environment steps, resets and gradient steps in one compiled program."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gaussjax import envs, rollout
from gaussjax.policy import Policy, checks
from gaussjax.random import keys
from gaussjax.training.algorithm import Algorithm, normalized
from gaussjax.training.sac.config import Config, State, Transition
from gaussjax.training.sac.update import draw, initial_state, make_learner, means, remember


def make_compiled(environment: envs.Environment, config: Config, policy: Policy) -> Algorithm:
    """Makes the training loop of SAC for a JAX environment, with a policy that `make` has validated."""
    init_learner, update = make_learner(policy, config)

    @jax.jit
    def init(key: Array) -> State:
        checks.key(key)
        key, learner_key, reset_key = jax.random.split(key, 3)
        started = rollout.compiled.start(environment, policy, reset_key, config.num_envs)
        state = initial_state(init_learner(learner_key), key, started.observations[0], policy, config)
        return state._replace(environment=started, steps=jnp.zeros((), jnp.int32))

    def advance(state: State, _: None) -> tuple[State, Any]:
        key, rollout_key, update_key = keys.split(state.key, 3)
        preprocess = partial(normalized, config, state.observation_statistics)
        experience, environments, episodes = rollout.compiled.collect(
            environment, policy, state.learner.actor, preprocess, state.environment, rollout_key, num_steps=1
        )
        steps = state.steps + config.num_envs
        row = Transition(*(getattr(experience, name)[0] for name in Transition._fields))
        buffer, statistics, refused = remember(state.buffer, state.observation_statistics, row, config)
        batches = draw(buffer, update_key, config)

        def learn(learner: Any) -> Any:
            learner, metrics = jax.lax.scan(lambda learner, batch: update(learner, batch, statistics), learner, batches)
            return learner, {"learning": jnp.ones(()), **jax.tree.map(jnp.sum, metrics)}

        def wait(learner: Any) -> Any:
            return learner, jax.tree.map(jnp.zeros_like, jax.eval_shape(learn, learner)[1])

        learner, metrics = jax.lax.cond(steps >= config.learning_starts, learn, wait, state.learner)
        metrics["refused"] = refused.astype(jnp.float32)
        return State(learner, buffer, key, statistics, environments, steps), (metrics, episodes)

    @jax.jit
    def step(state: State) -> tuple[State, dict[str, Array]]:
        state, (metrics, episodes) = jax.lax.scan(advance, state, None, length=config.num_steps)
        metrics, episodes = jax.tree.map(jnp.sum, (metrics, episodes))
        learning = metrics.pop("learning")
        metrics = means(metrics, learning * config.gradient_steps)
        return state, {"step": state.steps, **rollout.compiled.episode_metrics(episodes), **metrics}

    return Algorithm(init, step, policy, random_steps=config.learning_starts)
