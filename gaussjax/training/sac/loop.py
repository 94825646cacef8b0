"""The training loop of SAC: environments step on the host, or all is one compiled program on JAX environments."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaussjax import envs, normalize, rollout
from gaussjax.core.arrays import inwards
from gaussjax.core.compiled import varying
from gaussjax.exploration import Exploration
from gaussjax.policy import Params, Policy, checks
from gaussjax.random import keys
from gaussjax.rollout.compiled import EpisodeSums
from gaussjax.spaces.arrays import uniform_bounds
from gaussjax.training import replay
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
from gaussjax.training.sac.config import Config, Learner, State, Transition, make_policy
from gaussjax.training.sac.update import METRICS, draw, initial_state, make_learner, means, remember


def make(
    environments: Any, config: Config, policy: Policy | None = None, *, exploration: Exploration | None = None
) -> Algorithm:
    """A training loop of SAC on environments.

    Args:
        environments: A Gymnasium vector environment with `config.num_envs` copies, made by
            `gaussjax.envs.make_vector`; or a `gaussjax.envs.Environment`, which is vmapped.
        config: The options.
        policy: A policy on a bounded Box, by default the policy from `make_policy`.
        exploration: Source of the noise from `gaussjax.exploration`, by default the one that the config names. It is
            for the actions in the environments; the losses draw white noise.

    Returns:
        A loop. On an `Environment`, `init` and `step` are pure and compiled, so `jax.vmap` and `jax.lax.scan`
        apply. On a vector environment, `step` donates the buffers of its state.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The number of environments differs from `config.num_envs`, a bound of the actions is
            infinite, or the policy has other spaces than the environments, does not sum its log-densities, or scores
            clipped actions with the wrong density.

    Example:
        >>> import jax
        >>> environments = envs.make_vector("Pendulum-v1", 2)
        >>> config = Config(num_envs=2, num_steps=8, batch_size=4, learning_starts=8, hidden_sizes=(8,))
        >>> loop = make(environments, config)
        >>> state, metrics = loop.step(loop.init(jax.random.key(0)))
        >>> state.steps
        16
        >>> environments.close()

    Source:
        Haarnoja et al. 2018, soft actor-critic algorithms and applications (arXiv:1812.05905).
    """
    policy = policy_for(environments, config, policy, Config, make_policy)
    make_loop = _make_compiled if isinstance(environments, envs.Environment) else _make_host
    source = exploration_for(config, policy, exploration)
    loop = make_loop(environments, without_pixels(config, policy), policy, source)
    # The error of `make_loop` about an infinite bound says more.
    check_spaces(environments, policy)
    return loop


def _make_host(environments: Any, config: Config, policy: Policy, exploration: Exploration | None) -> Algorithm:
    """Makes the training loop of SAC for a vector environment, with a policy that `make` has validated."""
    check_num_envs(environments, config.num_envs, config.num_envs)
    runner = rollout.Runner(environments)
    init_learner, update = make_learner(policy, config)
    draw_noise, exploration = (policy.noise, None) if exploration is None else exploration.sources(policy)
    low, high = inwards(*uniform_bounds(policy.spec.action_space), np.dtype("float32"))

    @jax.jit
    def begin(key: Array) -> tuple[State, Array]:
        checks.key(key)
        key, learner_key, seed_key = jax.random.split(key, 3)
        observation = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), runner.observations)
        state = initial_state(init_learner(learner_key), key, observation, policy, config)
        return state, seed_key

    def init(key: Array) -> State:
        state, seed_key = begin(key)
        standing = runner.reset(environment_seed(seed_key))
        if exploration is not None:
            # The first step is a reset, which draws new noise.
            lasting = exploration.init(jax.random.key(0), (config.num_envs,))
            standing = Standing(standing, np.ones(config.num_envs, bool), (), lasting)
        return state._replace(environment=standing, episodes=EpisodeSums(*np.zeros((3, RECENT))), steps=0)

    @partial(jax.jit, donate_argnames="learner")
    def learn(learner: Learner, buffer: replay.Buffer, statistics: normalize.Normalizer, key: Array) -> Any:
        batches = draw(buffer, key, config)
        learner, metrics = jax.lax.scan(lambda learner, batch: update(learner, batch, statistics), learner, batches)
        return learner, jax.tree.map(jnp.sum, metrics)

    # A program of its own: if `learn` wrote to the buffer that it samples from, XLA would copy the whole buffer.
    @partial(jax.jit, donate_argnames="buffer")
    def advance(buffer: replay.Buffer, statistics: normalize.Normalizer, key: Array, row: Transition) -> Any:
        """Adds one transition of each environment to buffer and statistics; splits the key for the next step."""
        return *remember(buffer, statistics, row, config), *keys.split(key, 3)

    @jax.jit
    def act(
        params: Params, statistics: normalize.Normalizer, key: Array, observations: Any, resets: Any, lasting: Any
    ) -> tuple[Array, Any]:
        observations = normalized(config, statistics, observations)
        if exploration is None:
            return policy.act(params, None, observations, noise=draw_noise(key, (config.num_envs,))).actions, lasting
        lasting, noise = exploration.step_rows(lasting, key, resets, jnp.arange(config.num_envs))
        return policy.act(params, None, observations, noise=noise).actions, lasting

    def step(state: State) -> tuple[State, dict[str, Any]]:
        check_argument("state", state, State, "Make one with loop.init; step returns (state, metrics).")
        if isinstance(state.environment, Standing) != (exploration is not None):
            raise ValueError(
                "state: expected one of a loop with the same kind of noise, got another. Make it with loop.init."
            )
        start = time.perf_counter()
        learner, buffer, key, statistics, observations, recent, steps = state
        resets, lasting = None, ()
        if exploration is not None:
            observations, resets, _, lasting = observations
        trained, refusals, finished = [], [], rollout.EpisodeStatistics([], [])
        key, learn_key, act_key, random_key = jax.random.split(key, 4)
        generator = np.random.default_rng(np.asarray(jax.random.bits(random_key, (4,))))
        actions, following_noise = act(learner.actor, statistics, act_key, observations, resets, lasting)
        for _ in range(config.num_steps):
            # Dispatch is asynchronous, so the gradient steps run while the environments step.
            if steps >= config.learning_starts:
                learner, metrics = learn(learner, buffer, statistics, learn_key)
                trained.append(metrics)
            else:
                actions = generator.uniform(low, high, (config.num_envs, len(low))).astype(np.float32)
            taken = runner.clip(actions)
            following, rewards, terminated, truncated, last, episodes = runner.step(taken, clip=False)
            steps = counted(steps, config.num_envs)
            transition = Transition(observations, taken, rewards.astype(np.float32), terminated, last)
            buffer, statistics, refused, key, learn_key, act_key = advance(buffer, statistics, key, transition)
            refusals.append(refused)
            resets, lasting = None if exploration is None else terminated | truncated, following_noise
            actions, following_noise = act(learner.actor, statistics, act_key, following, resets, lasting)
            finished.returns.extend(episodes.returns)
            finished.lengths.extend(episodes.lengths)
            observations = following
        trained, refusals = jax.device_get((trained, refusals))
        totals = {name: sum(float(row[name]) for row in trained) for name in METRICS}
        metrics = means({**totals, "refused": sum(map(int, refusals))}, len(trained) * config.gradient_steps)
        metrics = {name: float(value) for name, value in metrics.items()}
        ended = EpisodeSums(*map(float, (len(finished.returns), sum(finished.returns), sum(finished.lengths))))
        recent, episodes = host_metrics(steps, config.num_steps * config.num_envs, start, ended, recent)
        if exploration is not None:
            # The next step draws the noise of these observations again, from the state before it.
            observations = Standing(observations, resets, (), lasting)
        return State(learner, buffer, key, statistics, observations, recent, steps), {**episodes, **metrics}

    options = {"random_steps": config.learning_starts, "normalizes": config.normalize_observations}
    return Algorithm(init, step, policy, runner, in_place=True, **options)


def _make_compiled(
    environment: envs.Environment, config: Config, policy: Policy, exploration: Exploration | None
) -> Algorithm:
    """Makes the training loop of SAC for a JAX environment, with a policy that `make` has validated."""
    init_learner, update = make_learner(policy, config)

    @jax.jit
    def init(key: Array) -> State:
        checks.key(key)
        key, learner_key, reset_key = jax.random.split(key, 3)
        started = rollout.compiled.start(environment, policy, reset_key, config.num_envs, exploration)
        example = jax.tree.map(lambda leaf: leaf[0], started.observations)
        state = initial_state(init_learner(learner_key), key, example, policy, config)
        state = state._replace(
            environment=started, episodes=EpisodeSums(*jnp.zeros((3, RECENT))), steps=jnp.zeros((), jnp.int32)
        )
        return varying(state, like=key)

    def advance(state: State, _: None) -> tuple[State, Any]:
        key, rollout_key, update_key = keys.split(state.key, 3)
        preprocess = partial(normalized, config, state.observation_statistics)
        arguments = environment, policy, state.learner.actor, preprocess, state.environment, rollout_key
        uniform = state.steps < config.learning_starts
        options = {"num_steps": 1, "uniform": uniform, "exploration": exploration}
        experience, environments, ended = rollout.compiled.collect(*arguments, **options)
        steps = counted(state.steps, config.num_envs)
        row = jax.tree.map(lambda leaf: leaf[0], Transition(*(getattr(experience, n) for n in Transition._fields)))
        buffer, statistics, refused = remember(state.buffer, state.observation_statistics, row, config)
        batches = draw(buffer, update_key, config)

        def learn(learner: Any) -> Any:
            learner, metrics = jax.lax.scan(lambda learner, batch: update(learner, batch, statistics), learner, batches)
            return learner, {"learning": jnp.ones(()), **jax.tree.map(jnp.sum, metrics)}

        def wait(learner: Any) -> Any:
            return learner, jax.tree.map(jnp.zeros_like, jax.eval_shape(learn, learner)[1])

        learner, metrics = jax.lax.cond(steps >= config.learning_starts, learn, wait, state.learner)
        metrics["refused"] = refused.astype(jnp.float32)
        return State(learner, buffer, key, statistics, environments, state.episodes, steps), (metrics, ended)

    @jax.jit
    def step(state: State) -> tuple[State, dict[str, Array]]:
        check_argument("state", state, State, "Make one with loop.init; step returns (state, metrics).")
        state, (metrics, ended) = jax.lax.scan(advance, state, None, length=config.num_steps)
        metrics, ended = jax.tree.map(jnp.sum, (metrics, ended))
        learning = metrics.pop("learning")
        metrics = means(metrics, learning * config.gradient_steps)
        recent, episodes = episode_metrics(ended, state.episodes)
        return state._replace(episodes=recent), {"step": state.steps, **episodes, **metrics}

    options = {"random_steps": config.learning_starts, "normalizes": config.normalize_observations}
    return Algorithm(init, step, policy, **options)
