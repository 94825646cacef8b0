"""PPO on Gymnasium vector environments: the rollout on the host, the update compiled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize, rollout, spaces
from gaussjax.noise import standard_normal
from gaussjax.policy import Params, Policy
from gaussjax.training.ppo.config import Algorithm, Config, Hyperparameters, Metrics, State
from gaussjax.training.ppo.update import make_optimizer, make_update, normalized

if TYPE_CHECKING:
    import gymnasium
    from jaxtyping import Array, Bool, Float


class Standing(NamedTuple):
    """Where host environments stand between two rollouts.

    Attributes:
        observations: To act on next, `(N, F)`.
        resets: Which of them start an episode, `(N,)`.
        carry: Of the policy's memory, or `()`.
    """

    observations: Float[np.ndarray, "envs features"]
    resets: Bool[np.ndarray, " envs"]
    carry: Any


def make_host(environments: gymnasium.vector.VectorEnv, config: Config, policy: Policy) -> Algorithm:
    """PPO on a vector environment; see `make`."""
    if environments.num_envs != config.num_envs:
        raise ValueError(
            f"environments: expected num_envs = {config.num_envs} of them, got {environments.num_envs}. "
            f"Make the two agree."
        )
    runner = rollout.Runner(environments)
    num_actions = spaces.size(policy.spec.action_space)
    optimizer = make_optimizer(config)
    update = jax.jit(make_update(policy, optimizer, config))
    recurrent = bool(jax.tree.leaves(policy.initial_carry()))

    def init(key: Array) -> State:
        key, params_key, seed_key = jax.random.split(key, 3)
        params = policy.init(params_key)
        observations = runner.reset(int(jax.random.bits(seed_key, dtype=jnp.uint16)))
        standing = Standing(observations, np.ones(config.num_envs, bool), policy.initial_carry((config.num_envs,)))
        return State(
            params,
            optimizer.init(params),
            key,
            normalize.init(observations.shape[1:]),
            normalize.init(()),
            jnp.zeros(config.num_envs),
            standing,
            Hyperparameters.of(config),
            0,
        )

    @jax.jit
    def draw(key: Array) -> tuple[Array, Array]:
        key, noise_key = jax.random.split(key)
        return key, standard_normal(noise_key, (config.num_steps, config.num_envs, num_actions))

    @jax.jit
    def choose(
        params: Params, statistics: normalize.Statistics, observations: Array, resets: Array, carry: Any, noise: Array
    ) -> tuple[Array, Array, Any]:
        observations = normalized(statistics, observations, config)
        memory = {"carry": carry, "resets": resets} if recurrent else {}
        act = policy.act(params, None, observations, noise=noise, **memory)
        return act.actions, act.outputs["raw_actions"], act.outputs.get("carry", ())

    def step(state: State) -> tuple[State, Metrics]:
        start = time.perf_counter()
        key, noise = draw(state.key)
        # One draw for the whole rollout: the program that runs at every step has none of its own.
        noise = np.asarray(noise)

        def act(t: int, observations: np.ndarray, resets: np.ndarray, carry: Any) -> tuple[Any, Any, Any]:
            # A network without memory is not handed the resets: one array less to move a step.
            given = resets if recurrent else None
            return choose(state.params, state.observation_statistics, observations, given, carry, noise[t])

        experience, standing, episodes = rollout.collect(runner, act, *state.environment, num_steps=config.num_steps)
        carried, metrics = update(state._replace(key=key, environment=()), experience)
        taken = config.num_steps * config.num_envs
        steps = state.steps + taken
        state = carried._replace(environment=Standing(*standing), steps=steps)
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        return state, {
            "step": steps,
            "steps_per_second": taken / (time.perf_counter() - start),
            "episode_return": float(np.mean(episodes.returns)) if episodes.returns else float("nan"),
            "episode_length": float(np.mean(episodes.lengths)) if episodes.lengths else float("nan"),
            **metrics,
        }

    return Algorithm(init, step, policy, runner)
