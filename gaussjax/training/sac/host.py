"""SAC on Gymnasium vector environments: their steps on the host, everything else compiled."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaussjax import normalize, rollout, spaces
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.training import replay
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.sac.config import Config, Learner, State, Transition
from gaussjax.training.sac.update import METRICS, draw, make_learner, means, normalized, remember

if TYPE_CHECKING:
    import gymnasium


def make_host(environments: gymnasium.vector.VectorEnv, config: Config, policy: Policy) -> Algorithm:
    """A SAC loop on a vector environment; see `make`."""
    if environments.num_envs != config.num_envs:
        raise ValueError(
            f"environments: expected num_envs = {config.num_envs} of them, got {environments.num_envs}. "
            f"Make the two agree."
        )
    runner = rollout.Runner(environments)
    init_learner, update = make_learner(policy, config)
    low, high = spaces.bounds(policy.spec.action_space)
    width = spaces.size(policy.spec.observation_space)

    @jax.jit
    def begin(key: Array) -> tuple[Learner, replay.Buffer, Array, Array]:
        checks.key(key)
        key, learner_key, seed_key = jax.random.split(key, 3)
        observation, action = jnp.zeros(width), jnp.zeros(len(low))
        row = Transition(observation, action, jnp.zeros(()), jnp.zeros((), bool), observation)
        seed = jax.random.bits(seed_key, dtype=jnp.uint16)
        return init_learner(learner_key), replay.init(row, config.buffer_size), key, seed

    def init(key: Array) -> State:
        learner, buffer, key, seed = begin(key)
        return State(learner, buffer, key, normalize.init((width,)), runner.reset(int(seed)), 0)

    @partial(jax.jit, donate_argnames="learner")
    def learn(
        learner: Learner, buffer: replay.Buffer, statistics: normalize.Statistics, key: Array
    ) -> tuple[Learner, dict[str, Array]]:
        batches = draw(buffer, key, config)
        learner, metrics = jax.lax.scan(lambda learner, batch: update(learner, batch, statistics), learner, batches)
        return learner, jax.tree.map(jnp.sum, metrics)

    # XLA: a program that also samples from the buffer copies the whole buffer at every write.
    @partial(jax.jit, donate_argnames="buffer")
    def advance(
        buffer: replay.Buffer, statistics: normalize.Statistics, key: Array, transition: Transition
    ) -> tuple[Any, ...]:
        """Store a transition of each environment, and make the keys of the next step."""
        return *remember(buffer, statistics, transition, config), *keys.split(key, 3)

    @jax.jit
    def act(params: Params, statistics: normalize.Statistics, key: Array, observations: Array) -> Array:
        return policy.act(params, key, normalized(statistics, observations, config)).actions

    def step(state: State) -> tuple[State, dict[str, Any]]:
        start = time.perf_counter()
        learner, buffer, key, statistics, observations, steps = state
        learnt, refusals, finished = [], [], rollout.Episodes([], [])
        key, learn_key, act_key, random_key = jax.random.split(key, 4)
        generator = np.random.default_rng(np.asarray(jax.random.bits(random_key, (4,))))
        actions = act(learner.actor, statistics, act_key, observations)
        for _ in range(config.num_steps):
            # With asynchronous dispatch the gradient steps run while the environments step.
            if steps >= config.learning_starts:
                learner, metrics = learn(learner, buffer, statistics, learn_key)
                learnt.append(metrics)
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
        learnt, refusals = jax.device_get((learnt, refusals))
        totals = {name: sum(float(row[name]) for row in learnt) for name in METRICS}
        metrics = means({**totals, "refused": sum(map(int, refusals))}, len(learnt) * config.gradient_steps)
        return State(learner, buffer, key, statistics, observations, steps), {
            "step": steps,
            "steps_per_second": config.num_steps * config.num_envs / (time.perf_counter() - start),
            "episode_return": float(np.mean(finished.returns)) if finished.returns else float("nan"),
            "episode_length": float(np.mean(finished.lengths)) if finished.lengths else float("nan"),
            **{name: float(value) for name, value in metrics.items()},
        }

    return Algorithm(init, step, policy, runner, in_place=True, random_steps=config.learning_starts)
