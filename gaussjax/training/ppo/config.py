"""Configuration, training state and default policy of PPO."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaussjax import networks, normalize
from gaussjax.core.choices import choose
from gaussjax.policy import Params, Policy
from gaussjax.training import initial_std
from gaussjax.training.algorithm import (
    CELLS,
    KINDS,
    LAST_STEP,
    check_exploration,
    check_options,
    first_statistics,
    observation_keys,
)

# Fields of the training state that a mesh shards by environment; every device holds a copy of the other fields.
SHARDED = ("environment", "discounted_returns")
_ENTROPIES = ("exact", "sample")
_STDS = ("parameter", "state", "gsde")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of PPO. Steps are environment steps, counted over all environments.

    Example:
        >>> Config(num_envs=4, num_steps=64, batch_size=64).num_epochs
        10
    """

    total_steps: int = 200_000
    """Steps to train for; the last update may go beyond this number."""
    num_envs: int = 16
    """Environments that step together."""
    num_steps: int = 128
    """Steps of each environment between two updates."""
    batch_size: int = 256
    """Samples in a minibatch; a divisor of num_envs * num_steps."""
    num_epochs: int = 10
    """Passes over the experience in one update."""
    learning_rate: float = 1e-3
    """Initial step size of Adam."""
    anneal_learning_rate: bool = True
    """Decrease the step size linearly to zero at total_steps; later updates change nothing, and the first one warns."""
    desired_kl: float | None = None
    """Adapt the step size after each epoch to keep the KL divergence of an update near this many nats, or None."""
    target_kl: float | None = None
    """End an update early once the KL divergence of a minibatch exceeds 1.5 times this many nats, or None."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Lambda of the generalised advantage estimate."""
    clip_range: float | None = None
    """Largest deviation of the probability ratio from 1; by default 0.2, and 0.1 with an initial policy."""
    value_clip_range: float | None = None
    """Largest change of a predicted value in one update, or None for no limit."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    entropy: Literal["exact", "sample"] = "exact"
    """Entropy of the distribution, or the estimate -log_prob of one sample, which is cheaper for squashed policies."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    critic_warmup: int | None = None
    """Updates at the start that train the critic alone; by default 3 with an initial policy, else 0."""
    max_grad_norm: float = 0.5
    """Largest norm of a gradient; a longer gradient is scaled down to it."""
    normalize_observations: bool = True
    """Scale observations to mean 0 and variance 1 by running statistics."""
    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    clip_reward: float | None = 10.0
    """Largest absolute value of a reward that is divided by the standard deviation, or None for no limit."""
    normalize_advantages: bool = True
    """Scale the advantages of a minibatch to mean 0 and variance 1."""
    network: Literal["mlp", "rnn", "gru", "lstm", "mingru"] = "mlp"
    """Network of the actor and of the critic; all but mlp are recurrent."""
    policy: Literal["gaussian", "squashed_gaussian", "truncated_gaussian"] = "gaussian"
    """Kind of policy: clipped to the Box, squashed into it by tanh, or truncated to it."""
    sequence_length: int = 16
    """Steps of a training sequence of a recurrent policy; a divisor of num_steps and batch_size."""
    recurrent_size: int = 64
    """Width of the recurrent layer."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, of the actor and of the critic."""
    activation: str = "tanh"
    """Activation of the hidden layers."""
    std: Literal["parameter", "state", "gsde"] = "parameter"
    """Source of log_std: one parameter for each action, a layer, or exploration that is linear in the features."""
    initial_log_std: float | None = None
    """Initial log standard deviation of the actions, with gsde the mean over standard normal observations. By default
    0. An initial policy without a critic begins with a std of 0.3 of the Box's width; one with a critic keeps its."""
    exploration: Literal["white", "held", "colored"] | None = None
    """Noise of the actions: new at each step, held for some steps, or with a spectrum of 1/f^beta; by default white."""
    hold: int | None = None
    """Steps for which held noise, or the matrix of std=gsde, stays the same; without exploration it means held."""
    beta: float | None = None
    """Exponent of colored noise, above 0 and at most 2; None means 1, pink noise."""
    actor_keys: tuple[str, ...] | None = None
    """Entries of a Dict observation for the actor; by default state if there is a privileged_state, else all."""
    critic_keys: tuple[str, ...] | None = None
    """Entries of a Dict observation for the critic; by default privileged_state if there is a state, else all."""

    def __post_init__(self) -> None:
        counts = ("total_steps", "num_envs", "num_steps", "num_epochs", "recurrent_size", "hold")
        positive = ("learning_rate", "clip_range", "max_grad_norm", "value_clip_range", "desired_kl", "target_kl")
        check_options(self, counts, (*positive, "clip_reward"), ("gamma", "gae_lambda"))
        for name, known in (("network", ("mlp", *CELLS)), ("policy", KINDS), ("entropy", _ENTROPIES), ("std", _STDS)):
            if getattr(self, name) not in known:
                choose(dict.fromkeys(known), getattr(self, name), name)
        check_exploration(self)
        if self.critic_warmup is not None and self.critic_warmup < 0:
            raise ValueError(f"critic_warmup: expected 0 or more updates, got {self.critic_warmup}.")
        samples = self.num_envs * self.num_steps
        if samples > LAST_STEP:
            raise ValueError(
                f"num_steps: expected fewer than 2**31 samples in an update, got num_envs * num_steps = {samples}. "
                f"Decrease one of them."
            )
        if self.batch_size < 1 or samples % self.batch_size:
            largest = max(min(samples, self.batch_size), 1)
            pairs = ((size, samples // size) for size in range(1, math.isqrt(samples) + 1) if samples % size == 0)
            nearest = max(size for pair in pairs for size in pair if size <= largest)
            raise ValueError(
                f"batch_size: expected a divisor of num_envs * num_steps = {samples}, got {self.batch_size}. "
                f"Choose one such as {nearest}."
            )
        if self.batch_size == 1 and self.normalize_advantages:
            raise ValueError(
                "batch_size: expected 2 or more with normalize_advantages, got 1: an advantage minus its mean is 0."
            )
        for name in ("desired_kl", "target_kl"):
            if getattr(self, name) is not None and self.num_epochs == 1 and self.batch_size == samples:
                raise ValueError(
                    f"{name}: expected several gradient steps an update, got one: the policy is unchanged before the "
                    f"first step. Increase num_epochs or decrease batch_size."
                )
        if self.network != "mlp":
            self.check_sequences()

    def check_sequences(self) -> None:
        """Raises ValueError unless `sequence_length` divides `num_steps` and `batch_size`."""
        common = int(np.gcd(self.num_steps, self.batch_size))
        if self.sequence_length < 1 or common % self.sequence_length:
            raise ValueError(
                f"sequence_length: expected a divisor of num_steps = {self.num_steps} and of batch_size = "
                f"{self.batch_size}, got {self.sequence_length}. Choose one such as {common}."
            )


class Hyperparameters(NamedTuple):
    """Options that the training state holds as arrays, so that `jax.vmap` can train a population with different ones.

    Attributes:
        learning_rate: Step size of Adam, before annealing.
        gamma: Discount factor.
        gae_lambda: Lambda of the generalised advantage estimate.
        clip_range: Largest deviation of the probability ratio from 1.
        entropy_coefficient: Weight of the entropy bonus.
        value_coefficient: Weight of the value loss.
    """

    learning_rate: Float[Array, ""]
    gamma: Float[Array, ""]
    gae_lambda: Float[Array, ""]
    clip_range: Float[Array, ""]
    entropy_coefficient: Float[Array, ""]
    value_coefficient: Float[Array, ""]

    @classmethod
    def of(cls, config: Config) -> Hyperparameters:
        """The hyperparameters of a config as float32 scalars."""
        if config.clip_range is None:
            config = dataclasses.replace(config, clip_range=0.2)
        return cls(*(jnp.asarray(getattr(config, name), jnp.float32) for name in cls._fields))


class State(NamedTuple):
    """Training state of PPO.

    Attributes:
        params: Parameters of the policy and the critic.
        optimizer: State of Adam.
        key: PRNG key of later steps.
        observation_statistics: Statistics for `gaussjax.normalize`.
        return_statistics: Statistics of the discounted returns, which scale the rewards.
        discounted_returns: Current discounted return of each environment, `(N,)`.
        environment: State of the environments between two rollouts.
        episodes: Sums over the episodes of each of the latest 100 updates in which any ended, for the metrics.
        hyperparameters: Options of the next update.
        steps: Environment steps so far; the counter stays at 2³¹ - 1.
    """

    params: Params
    optimizer: Any
    key: Array
    observation_statistics: normalize.Normalizer
    return_statistics: normalize.Statistics
    discounted_returns: Float[Array, " envs"]
    environment: Any
    episodes: Any
    hyperparameters: Hyperparameters
    steps: Any


def initial_state(
    params: Params, optimizer: Any, key: Array, observation: Any, config: Config, start: Any = None
) -> State:
    """Training state before the first step, without environments; `observation` is an example observation."""
    statistics = first_statistics(observation)
    if start is not None:
        params, statistics = start.replace(params, statistics)
    returns, options = jnp.zeros(config.num_envs), Hyperparameters.of(config)
    return State(params, optimizer.init(params), key, statistics, normalize.init(()), returns, (), (), options, 0)


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """Default policy of PPO: a Gaussian actor with orthogonal kernels, and a critic.

    With `config.policy` "gaussian", actions are clipped to the Box. Log-densities score the samples before the clip,
    because the ratio of clipped densities is wrong at the bounds.

    Args:
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box of any shape.
        config: Options of the network.

    Returns:
        A policy whose network also returns `outputs["value"]`.

    Example:
        >>> from gaussjax import spaces
        >>> make_policy(3, spaces.Box(-2.0, 2.0, (1,)), Config()).spec.kind
        'gaussian'
    """
    keys = observation_keys(observation_space, config)
    both: dict[str, Any] = {"activation": config.activation, "initializer": "orthogonal", "scale": 2.0**0.5}
    head = {"std": config.std, "initial_log_std": config.initial_log_std or 0.0}
    head |= {"output_activation": None, "output_scale": 0.01}
    if config.network == "mlp":
        actor = networks.MLP(config.hidden_sizes, **both, **head)
        network = networks.ActorCritic(actor, config.hidden_sizes, config.activation, **keys)
    else:
        cell = CELLS[config.network]
        # A single layer of MinGRU only averages its inputs.
        both |= {"num_layers": 2 if config.network == "mingru" else 1}
        # The custom backward pass is faster. It excludes forward mode (`jax.jvp`), which an update never needs.
        both |= {"hidden_size": config.recurrent_size, "sizes": config.hidden_sizes, "fast_backward": True}
        network = networks.ActorCritic(cell(**both, **head), critic=cell(**both), **keys)
    options = {"clip_actions": True, "clipped_log_prob": "unclipped"} if config.policy == "gaussian" else {}
    policy = KINDS[config.policy](network, observation_space, action_space, keepdims=False, **options)
    return initial_std.scaled(policy) if config.std == "gsde" else policy
