"""Proximal policy optimisation on Gymnasium vector environments.

The rollout runs on the host, where the environments live. Everything after it (values,
advantages, all epochs of shuffled minibatches, the statistics) is one compiled program.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaussjax import factories, networks, normalize, rollout, spaces
from gaussjax.noise import standard_normal
from gaussjax.policy import Params, Policy
from gaussjax.training import losses
from gaussjax.training.advantages import generalized_advantages

if TYPE_CHECKING:
    import gymnasium
    from jaxtyping import Array, Float

Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of PPO. Steps are environment steps, counted over all environments."""

    total_steps: int = 200_000
    """Steps to train for; the last update may pass it."""
    num_envs: int = 16
    """Environments that step together."""
    num_steps: int = 128
    """Steps of each environment between two updates."""
    batch_size: int = 256
    """Samples of a minibatch; it has to divide num_envs * num_steps."""
    num_epochs: int = 10
    """Passes over the experience of one update."""
    learning_rate: float = 1e-3
    """Step size of Adam at the start."""
    anneal_learning_rate: bool = True
    """Lower the step size linearly to zero over the training."""
    discount: float = 0.99
    """Gamma: what a reward is worth one step later."""
    trace: float = 0.95
    """Lambda of the advantage estimate."""
    clip_ratio: float = 0.2
    """How far the probability ratio may leave 1."""
    clip_value: float | None = None
    """How far a value may move in one update, or None for no limit."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    max_gradient_norm: float = 0.5
    """Longer gradients are scaled down to this length."""
    normalize_observations: bool = True
    """Bring observations to mean 0 and variance 1 by running statistics."""
    normalize_rewards: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    normalize_advantages: bool = True
    """Bring the advantages of a minibatch to mean 0 and variance 1."""
    sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, of the actor and of the critic."""
    activation: str = "tanh"
    """Activation of the hidden layers."""
    initial_log_std: float = 0.0
    """Where the log standard deviation of the actions starts."""

    def __post_init__(self) -> None:
        samples = self.num_envs * self.num_steps
        if self.batch_size < 1 or samples % self.batch_size:
            raise ValueError(
                f"batch_size: expected a divisor of num_envs * num_steps = {samples}, got {self.batch_size}. "
                f"Choose one such as {np.gcd(samples, max(self.batch_size, 1))}."
            )


class State(NamedTuple):
    """What a training step carries.

    Attributes:
        params: Of the policy and the critic.
        optimizer: Moments of Adam.
        key: Of the draws to come.
        observation_statistics: For `gaussjax.normalize`.
        return_statistics: Of the discounted returns, the scale of the rewards.
        discounted_returns: Of each environment up to now, `(N,)`.
        observations: Where the environments stand, `(N, F)`.
        steps: Environment steps so far.
    """

    params: Params
    optimizer: Any
    key: Array
    observation_statistics: normalize.Statistics
    return_statistics: normalize.Statistics
    discounted_returns: Float[Array, " envs"]
    observations: Float[np.ndarray, "envs features"]
    steps: int


class Algorithm(NamedTuple):
    """A training algorithm bound to its environments.

    Attributes:
        init: `(seed) -> State`. Resets the environments.
        step: `(State) -> (State, metrics)`: one rollout and one update.
        policy: The policy that is trained; `state.params` are its parameters.
    """

    init: Callable[[int], State]
    step: Callable[[State], tuple[State, Metrics]]
    policy: Policy


class _Samples(NamedTuple):
    observations: Array
    actions: Array
    log_prob: Array
    values: Array
    advantages: Array
    targets: Array


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """The policy that PPO trains: tanh layers, orthogonal kernels, a critic beside the actor.

    Its actions are clipped to the Box for the environment; its densities are those of the
    samples before the clip, which is what keeps PPO's ratio right at the bounds.
    """
    actor = networks.MLP(
        config.sizes,
        config.activation,
        output_activation=None,
        initial_log_std=config.initial_log_std,
        initializer="orthogonal",
        scale=2.0**0.5,
        output_scale=0.01,
    )
    network = networks.ActorCritic(actor, config.sizes, config.activation)
    return factories.gaussian(
        network, observation_space, action_space, clip_actions=True, clipped_log_prob="unclipped", keepdims=False
    )


def make(environments: gymnasium.vector.VectorEnv, config: Config, policy: Policy | None = None) -> Algorithm:
    """PPO on a vector environment.

    Args:
        environments: Made by `gaussjax.envs.make_vector`, `config.num_envs` of them.
        config: The options.
        policy: A policy of yours whose network gives `outputs["value"]`, made with
            `keepdims=False`; None makes `make_policy`'s.

    Raises:
        ValueError: The number of environments is not the config's.

    Example:
        >>> from gaussjax import envs
        >>> environments = envs.make_vector("Pendulum-v1", 4)
        >>> algorithm = make(environments, Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=1))
        >>> state, metrics = algorithm.step(algorithm.init(0))
        >>> state.steps
        64
        >>> environments.close()

    Source:
        Schulman et al. 2017, proximal policy optimization algorithms (arXiv:1707.06347).
    """
    if environments.num_envs != config.num_envs:
        raise ValueError(
            f"environments: expected num_envs = {config.num_envs} of them, got {environments.num_envs}. "
            f"Make the two agree."
        )
    if policy is None:
        policy = make_policy(environments.single_observation_space, environments.single_action_space, config)
    runner = rollout.Runner(environments)
    num_actions = spaces.size(policy.spec.action_space)
    optimizer = _optimizer(config)
    update = _make_update(policy, optimizer, config)

    def init(seed: int) -> State:
        key, params_key = jax.random.split(jax.random.key(seed))
        params = policy.init(params_key)
        observations = runner.reset(seed)
        return State(
            params,
            optimizer.init(params),
            key,
            normalize.init(observations.shape[1:]),
            normalize.init(()),
            jnp.zeros(config.num_envs),
            observations,
            0,
        )

    @jax.jit
    def draw(key: Array) -> tuple[Array, Array]:
        key, noise_key = jax.random.split(key)
        return key, standard_normal(noise_key, (config.num_steps, config.num_envs, num_actions))

    @jax.jit
    def choose(
        params: Params, statistics: normalize.Statistics, observations: Array, noise: Array
    ) -> tuple[Array, Array]:
        observations = _normalized(statistics, observations, config)
        act = policy.act(params, None, observations, noise=noise)
        return act.actions, act.outputs["raw_actions"]

    def step(state: State) -> tuple[State, Metrics]:
        start = time.perf_counter()
        key, noise = draw(state.key)
        # One draw for the whole rollout: the program that runs at every step has none of its own.
        noise = np.asarray(noise)
        experience, observations, episodes = rollout.collect(
            runner,
            lambda observations, t: choose(state.params, state.observation_statistics, observations, noise[t]),
            state.observations,
            config.num_steps,
        )
        carried, metrics = update(state._replace(key=key, observations=None, steps=0), experience)
        taken = config.num_steps * config.num_envs
        state = carried._replace(observations=observations, steps=state.steps + taken)
        metrics = {name: float(value) for name, value in metrics.items()}
        return state, {
            "step": state.steps,
            "steps_per_second": taken / (time.perf_counter() - start),
            "episode_return": float(np.mean(episodes.returns)) if episodes.returns else float("nan"),
            "episode_length": float(np.mean(episodes.lengths)) if episodes.lengths else float("nan"),
            **metrics,
        }

    return Algorithm(init, step, policy)


def _optimizer(config: Config) -> optax.GradientTransformation:
    updates = -(-config.total_steps // (config.num_envs * config.num_steps))
    gradients = updates * config.num_epochs * (config.num_envs * config.num_steps // config.batch_size)
    rate = config.learning_rate
    schedule = optax.linear_schedule(rate, 0.0, gradients) if config.anneal_learning_rate else rate
    return optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(schedule, eps=1e-5))


def _normalized(statistics: normalize.Statistics, observations: Array, config: Config) -> Array:
    return normalize.apply(statistics, observations) if config.normalize_observations else observations


def _make_update(
    policy: Policy, optimizer: optax.GradientTransformation, config: Config
) -> Callable[[State, rollout.Rollout], tuple[State, dict[str, Array]]]:
    def loss(params: Params, samples: _Samples) -> tuple[Array, dict[str, Array]]:
        log_prob, entropy, outputs = policy.evaluate(params, samples.observations, samples.actions)
        advantages = samples.advantages
        if config.normalize_advantages:
            advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
        log_ratios = losses.log_ratio(log_prob, samples.log_prob)
        policy_loss = losses.clipped_surrogate(log_ratios, advantages, config.clip_ratio)
        value_loss = losses.value_loss(outputs["value"], samples.targets, samples.values, config.clip_value)
        entropy = jnp.mean(entropy)
        total = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approximate_kl": losses.approximate_kl(log_ratios),
            "clip_fraction": jnp.mean(jnp.abs(jnp.expm1(log_ratios)) > config.clip_ratio),
            "std": jnp.mean(jnp.exp(outputs["log_std"])),
        }

    def gradient_step(carry: tuple[Params, Any], samples: _Samples) -> tuple[tuple[Params, Any], dict[str, Array]]:
        params, moments = carry
        gradients, metrics = jax.grad(loss, has_aux=True)(params, samples)
        updates, moments = optimizer.update(gradients, moments, params)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return (optax.apply_updates(params, updates), moments), metrics

    def epoch(carry: Any, key: Array, samples: _Samples) -> tuple[Any, dict[str, Array]]:
        order = jax.random.permutation(key, config.num_envs * config.num_steps)
        batches = jax.tree.map(lambda column: column[order].reshape(-1, config.batch_size, *column.shape[1:]), samples)
        return jax.lax.scan(gradient_step, carry, batches)

    # The experience is a rollout.Rollout whose NumPy arrays are JAX's within the program.
    @jax.jit
    def update(state: State, experience: Any) -> tuple[State, dict[str, Array]]:
        key, shuffle_key = jax.random.split(state.key)
        rewards, return_statistics, discounted_returns = _scaled_rewards(state, experience, config)
        observations = _normalized(state.observation_statistics, experience.observations, config)
        next_observations = _normalized(state.observation_statistics, experience.next_observations, config)

        log_prob, _, outputs = policy.evaluate(state.params, observations, experience.raw_actions)
        values = outputs["value"]
        next_values = policy.apply(state.params, next_observations)[1]["value"]
        advantages = generalized_advantages(
            rewards,
            values,
            next_values,
            experience.terminated,
            experience.truncated,
            discount=config.discount,
            trace=config.trace,
        )
        targets = advantages + values
        samples = jax.tree.map(
            lambda column: column.reshape(-1, *column.shape[2:]),
            _Samples(observations, experience.raw_actions, log_prob, values, advantages, targets),
        )
        carry, metrics = jax.lax.scan(
            lambda carry, key: epoch(carry, key, samples),
            (state.params, state.optimizer),
            jax.random.split(shuffle_key, config.num_epochs),
        )
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics["explained_variance"] = 1.0 - jnp.var(targets - values) / (jnp.var(targets) + 1e-8)
        params, moments = carry
        return state._replace(
            params=params,
            optimizer=moments,
            key=key,
            observation_statistics=normalize.update(state.observation_statistics, experience.observations),
            return_statistics=return_statistics,
            discounted_returns=discounted_returns,
        ), metrics

    return update


def _scaled_rewards(state: State, experience: Any, config: Config) -> tuple[Array, normalize.Statistics, Array]:
    """Rewards divided by the deviation of the discounted return, which is kept up to date."""
    ends = experience.terminated | experience.truncated

    def accumulate(returns: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, end = now
        returns = config.discount * returns + reward
        return jnp.where(end, 0.0, returns), returns

    last, returns = jax.lax.scan(accumulate, state.discounted_returns, (experience.rewards, ends))
    statistics = normalize.update(state.return_statistics, returns)
    if not config.normalize_rewards:
        return experience.rewards, statistics, last
    return experience.rewards * jax.lax.rsqrt(normalize.variance(statistics) + 1e-8), statistics, last
