"""SAC on JAX environments: steps, resets and gradient steps in one compiled program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gaussjax import envs, normalize, rollout, spaces
from gaussjax.policy import Policy, checks
from gaussjax.random import keys
from gaussjax.training import replay
from gaussjax.training.metrics import Metrics
from gaussjax.training.sac.config import Algorithm, Config, State, Transition
from gaussjax.training.sac.update import draw, make_learner, means, remember


def make_compiled(environment: envs.Environment, config: Config, policy: Policy) -> Algorithm:
    """SAC on a JAX environment; see `make`."""
    init_learner, update = make_learner(policy, config)
    num_actions = spaces.size(policy.spec.action_space)

    @jax.jit
    def init(key: Array) -> State:
        checks.key(key)
        key, learner_key, reset_key = jax.random.split(key, 3)
        standing = rollout.compiled.start(environment, policy, reset_key, config.num_envs)
        observation = standing.observations[0]
        row = Transition(observation, jnp.zeros(num_actions), jnp.zeros(()), jnp.zeros((), bool), observation)
        return State(
            init_learner(learner_key),
            replay.init(row, config.buffer_size),
            key,
            normalize.init(observation.shape),
            standing,
            jnp.zeros((), jnp.int32),
        )

    def advance(state: State, _: None) -> tuple[State, Any]:
        key, rollout_key, update_key = keys.split(state.key, 3)
        statistics = state.observation_statistics
        experience, standing, episodes = rollout.compiled.collect(
            environment,
            policy,
            state.learner.actor,
            lambda observations: (
                normalize.apply(statistics, observations) if config.normalize_observations else observations
            ),
            state.environment,
            rollout_key,
            1,
        )
        steps = state.steps + config.num_envs
        row = Transition(
            experience.observations[0],
            experience.actions[0],
            experience.rewards[0],
            experience.terminated[0],
            experience.next_observations[0],
        )
        buffer, statistics, refused = remember(state.buffer, statistics, row, config)

        drawn = draw(buffer, update_key, config)

        def learn(learner: Any) -> Any:
            learner, metrics = jax.lax.scan(lambda learner, drawn: update(learner, drawn, statistics), learner, drawn)
            return learner, {"learning": jnp.ones(()), **jax.tree.map(jnp.sum, metrics)}

        def wait(learner: Any) -> Any:
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(learn, learner)[1])
            return learner, nothing

        learner, metrics = jax.lax.cond(steps >= config.learning_starts, learn, wait, state.learner)
        metrics["refused"] = refused.astype(jnp.float32)
        return State(learner, buffer, key, statistics, standing, steps), (metrics, episodes)

    @jax.jit
    def step(state: State) -> tuple[State, Metrics]:
        state, (metrics, episodes) = jax.lax.scan(advance, state, None, length=config.num_steps)
        metrics, episodes = jax.tree.map(jnp.sum, (metrics, episodes))
        learning = metrics.pop("learning")
        metrics = means(metrics, learning * config.gradient_steps)
        return state, Metrics.of({"step": state.steps, **rollout.compiled.episode_metrics(episodes), **metrics})

    return Algorithm(init, step, policy, random_steps=config.learning_starts)
