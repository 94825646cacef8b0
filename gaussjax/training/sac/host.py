"""SAC on Gymnasium vector environments, which step on the host; everything else is compiled."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaussjax import normalize, rollout, spaces
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.training import replay
from gaussjax.training.algorithm import Algorithm, check_num_envs, host_metrics, normalized
from gaussjax.training.sac.config import Config, Learner, State, Transition
from gaussjax.training.sac.update import METRICS, draw, initial_state, make_learner, means, remember


def make_host(environments: Any, config: Config, policy: Policy) -> Algorithm:
    """Makes the training loop of SAC for a vector environment, with a policy that `make` has validated."""
    check_num_envs(environments, config.num_envs, config.num_envs)
    runner = rollout.Runner(environments)
    init_learner, update = make_learner(policy, config)
    low, high = spaces.bounds(policy.spec.action_space)

    @jax.jit
    def begin(key: Array) -> tuple[State, Array]:
        checks.key(key)
        key, learner_key, seed_key = jax.random.split(key, 3)
        observation = jnp.zeros(spaces.size(policy.spec.observation_space))
        state = initial_state(init_learner(learner_key), key, observation, policy, config)
        return state, jax.random.bits(seed_key, dtype=jnp.uint16)

    def init(key: Array) -> State:
        state, seed = begin(key)
        return state._replace(environment=runner.reset(int(seed)), steps=0)

    @partial(jax.jit, donate_argnames="learner")
    def learn(learner: Learner, buffer: replay.Buffer, statistics: normalize.Statistics, key: Array) -> Any:
        batches = draw(buffer, key, config)
        learner, metrics = jax.lax.scan(lambda learner, batch: update(learner, batch, statistics), learner, batches)
        return learner, jax.tree.map(jnp.sum, metrics)

    # A program of its own: if `learn` wrote to the buffer that it samples from, XLA would copy the whole buffer.
    @partial(jax.jit, donate_argnames="buffer")
    def advance(buffer: replay.Buffer, statistics: normalize.Statistics, key: Array, row: Transition) -> Any:
        """Adds one transition of each environment to buffer and statistics; splits the key for the next step."""
        return *remember(buffer, statistics, row, config), *keys.split(key, 3)

    @jax.jit
    def act(params: Params, statistics: normalize.Statistics, key: Array, observations: Array) -> Array:
        return policy.act(params, key, normalized(config, statistics, observations)).actions

    def step(state: State) -> tuple[State, dict[str, Any]]:
        start = time.perf_counter()
        learner, buffer, key, statistics, observations, steps = state
        trained, refusals, finished = [], [], rollout.Episodes([], [])
        key, learn_key, act_key, random_key = jax.random.split(key, 4)
        generator = np.random.default_rng(np.asarray(jax.random.bits(random_key, (4,))))
        actions = act(learner.actor, statistics, act_key, observations)
        for _ in range(config.num_steps):
            # Dispatch is asynchronous, so the gradient steps run while the environments step.
            if steps >= config.learning_starts:
                learner, metrics = learn(learner, buffer, statistics, learn_key)
                trained.append(metrics)
            else:
                actions = generator.uniform(low, high, (config.num_envs, len(low))).astype(np.float32)
            taken = np.asarray(actions)
            following, rewards, terminated, _, last, episodes = runner.step(taken)
            steps += config.num_envs
            transition = Transition(observations, taken, rewards.astype(np.float32), terminated, last)
            buffer, statistics, refused, key, learn_key, act_key = advance(buffer, statistics, key, transition)
            refusals.append(refused)
            actions = act(learner.actor, statistics, act_key, following)
            finished.returns.extend(episodes.returns)
            finished.lengths.extend(episodes.lengths)
            observations = following
        trained, refusals = jax.device_get((trained, refusals))
        totals = {name: sum(float(row[name]) for row in trained) for name in METRICS}
        metrics = means({**totals, "refused": sum(map(int, refusals))}, len(trained) * config.gradient_steps)
        metrics = {name: float(value) for name, value in metrics.items()}
        sums = len(finished.returns), np.sum(finished.returns), np.sum(finished.lengths)
        episodes = host_metrics(steps, config.num_steps * config.num_envs, start, *sums)
        return State(learner, buffer, key, statistics, observations, steps), {**episodes, **metrics}

    return Algorithm(init, step, policy, runner, in_place=True, random_steps=config.learning_starts)
