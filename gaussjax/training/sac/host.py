"""SAC on Gymnasium vector environments: the steps on the host, all else in three compiled programs a step."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize, rollout, spaces
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.training import replay
from gaussjax.training.sac.config import Algorithm, Config, Learner, State, Transition
from gaussjax.training.sac.update import METRICS, draw, make_learner, means, remember

if TYPE_CHECKING:
    import gymnasium
    from jaxtyping import Array


def make_host(environments: gymnasium.vector.VectorEnv, config: Config, policy: Policy) -> Algorithm:
    """SAC on a vector environment; see `make`."""
    if environments.num_envs != config.num_envs:
        raise ValueError(
            f"environments: expected num_envs = {config.num_envs} of them, got {environments.num_envs}. "
            f"Make the two agree."
        )
    runner = rollout.Runner(environments)
    init_learner, update = make_learner(policy, config)
    low, high = spaces.bounds(policy.spec.action_space)
    width = spaces.size(policy.spec.observation_space)

    def shown(statistics: normalize.Statistics, observations: Array) -> Array:
        return normalize.apply(statistics, observations) if config.normalize_observations else observations

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

    # Learner and buffer are changed in place. Not the actor: the next gradient step need not wait until it has acted.
    @functools.partial(jax.jit, donate_argnames=("learner", "totals"))
    def learn(
        actor: Params,
        learner: Learner,
        buffer: replay.Buffer,
        statistics: normalize.Statistics,
        key: Array,
        totals: dict[str, Array],
    ) -> tuple[Learner, Params, dict[str, Array]]:
        learner, metrics = jax.lax.scan(
            lambda learner, drawn: update(learner, drawn, statistics),
            learner._replace(actor=actor),
            draw(buffer, key, config),
        )
        # The actor last: an output takes the first buffer of its size that is given away, and that is a moment's.
        return (
            learner._replace(actor=None),
            learner.actor,
            {name: total + jnp.sum(metrics[name]) for name, total in totals.items()},
        )

    # A program of its own: in one that also reads the buffer, the compiler joins the write with the reads,
    # which need the old rows too, and then copies a million transitions at every step.
    @functools.partial(jax.jit, donate_argnames=("buffer",))
    def advance(
        buffer: replay.Buffer, statistics: normalize.Statistics, refused: Array, key: Array, transition: Transition
    ) -> tuple[Any, ...]:
        """Remembers a step, and makes the keys of the next one."""
        buffer, statistics, left_out = remember(buffer, statistics, transition, config)
        return buffer, statistics, refused + left_out, *keys.split(key, 3)

    @jax.jit
    def act(params: Params, statistics: normalize.Statistics, key: Array, observations: Array) -> Array:
        return policy.act(params, key, shown(statistics, observations)).actions

    summary = jax.jit(means)

    def step(state: State) -> tuple[State, dict[str, Any]]:
        start = time.perf_counter()
        learner, buffer, key, statistics, observations, steps = state
        totals = {name: jnp.zeros(()) for name in METRICS if name != "refused"}
        refused = jnp.zeros((), jnp.int32)
        learning, finished = 0, rollout.Episodes([], [])
        key, learn_key, act_key, random_key = jax.random.split(key, 4)
        generator = np.random.default_rng(np.asarray(jax.random.bits(random_key, (4,))))
        actions = act(learner.actor, statistics, act_key, observations)
        for _ in range(config.num_steps):
            # Where calls return before they are done, this learns while the environments step.
            if steps >= config.learning_starts:
                rest = learner._replace(actor=None)
                rest, actor, totals = learn(learner.actor, rest, buffer, statistics, learn_key, totals)
                learner = rest._replace(actor=actor)
                learning += 1
            else:
                actions = generator.uniform(low, high, (config.num_envs, len(low))).astype(np.float32)
            taken = np.asarray(actions)
            following, rewards, terminated, _, last, episodes = runner.step(taken)
            steps += config.num_envs
            transition = Transition(observations, taken, rewards.astype(np.float32), terminated, last)
            buffer, statistics, refused, key, learn_key, act_key = advance(buffer, statistics, refused, key, transition)
            actions = act(learner.actor, statistics, act_key, following)
            finished.returns.extend(episodes.returns)
            finished.lengths.extend(episodes.lengths)
            observations = following
        totals["refused"] = refused.astype(jnp.float32)
        metrics = jax.device_get(summary(totals, learning * config.gradient_steps))
        return State(learner, buffer, key, statistics, observations, steps), {
            "step": steps,
            "steps_per_second": config.num_steps * config.num_envs / (time.perf_counter() - start),
            "episode_return": float(np.mean(finished.returns)) if finished.returns else float("nan"),
            "episode_length": float(np.mean(finished.lengths)) if finished.lengths else float("nan"),
            **{name: float(metrics[name]) for name in METRICS},
        }

    return Algorithm(init, step, policy, runner, in_place=True, random_steps=config.learning_starts)
