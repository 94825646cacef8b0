"""What PPO is told, and what it carries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from gaussjax import networks, normalize
from gaussjax.policy import Params, Policy, gaussian
from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.algorithm import check_options

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# The fields of the state of which each device has its own environments' part; all else is the same on each.
SPREAD = ("environment", "discounted_returns")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of PPO. Steps are environment steps, counted over all environments.

    Example:
        >>> Config(num_envs=4, num_steps=64, batch_size=64).learning_rate
        0.001
    """

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
    desired_kl: float | None = None
    """Adapt the step size, after each epoch, so that an update moves the policy by about this many nats, or None."""
    gamma: float = 0.99
    """Gamma: what a reward is worth one step later."""
    gae_lambda: float = 0.95
    """Lambda of the advantage estimate."""
    clip_range: float = 0.2
    """How far the probability ratio may leave 1."""
    value_clip_range: float | None = None
    """How far a value may move in one update, or None for no limit."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Longer gradients are scaled down to this length."""
    normalize_observations: bool = True
    """Bring observations to mean 0 and variance 1 by running statistics."""
    normalize_rewards: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    normalize_advantages: bool = True
    """Bring the advantages of a minibatch to mean 0 and variance 1."""
    network: Literal["mlp", "rnn", "gru", "lstm"] = "mlp"
    """Whether the actor and the critic have a memory, and which."""
    sequence_length: int = 16
    """Steps that a memory is trained over; it has to divide num_steps and batch_size."""
    recurrent_size: int = 64
    """Width of the memory."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, of the actor and of the critic."""
    activation: str = "tanh"
    """Activation of the hidden layers."""
    initial_log_std: float = 0.0
    """Where the log standard deviation of the actions starts."""

    def __post_init__(self) -> None:
        counts = ("total_steps", "num_envs", "num_steps", "num_epochs")
        positive = ("learning_rate", "clip_range", "max_grad_norm", "value_clip_range", "desired_kl")
        check_options(self, (*counts, "recurrent_size"), positive, ("gamma", "gae_lambda"))
        samples = self.num_envs * self.num_steps
        if self.batch_size < 1 or samples % self.batch_size:
            raise ValueError(
                f"batch_size: expected a divisor of num_envs * num_steps = {samples}, got {self.batch_size}. "
                f"Choose one such as {_divisor(samples, self.batch_size)}."
            )
        if self.batch_size == 1 and self.normalize_advantages:
            raise ValueError(
                "batch_size: expected 2 or more with normalize_advantages, got 1: an advantage less its own mean is 0."
            )
        if self.desired_kl is not None and self.num_epochs == 1 and self.batch_size == samples:
            raise ValueError(
                "desired_kl: expected several gradient steps an update, got one, before which the policy has not "
                "moved. Train for more epochs or in smaller minibatches."
            )
        if self.network != "mlp":
            self.check_sequences()

    def check_sequences(self) -> None:
        """Refuses sequences that do not divide the experience; a policy with a memory trains on them.

        Raises:
            ValueError: They do not.
        """
        common = int(np.gcd(self.num_steps, self.batch_size))
        if self.sequence_length < 1 or common % self.sequence_length:
            raise ValueError(
                f"sequence_length: expected a divisor of num_steps = {self.num_steps} and of batch_size = "
                f"{self.batch_size}, got {self.sequence_length}. Choose one such as {common}."
            )


def _divisor(number: int, limit: int) -> int:
    """The largest divisor of the number that is no larger than the limit."""
    return next(size for size in range(max(min(limit, number), 1), 0, -1) if number % size == 0)


class Hyperparameters(NamedTuple):
    """The options that are numbers in the compiled program, so that a population may differ in them.

    `jax.vmap` over states whose `hyperparameters` differ trains one program for all.

    Attributes:
        learning_rate: As of `Config`, like all of them.
        gamma: Gamma.
        gae_lambda: Lambda.
        clip_range: How far the probability ratio may leave 1.
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
        """Those of a config."""
        return cls(*(jnp.asarray(getattr(config, name), jnp.float32) for name in cls._fields))


class State(NamedTuple):
    """What a training step carries.

    Attributes:
        params: Of the policy and the critic.
        optimizer: Moments of Adam.
        key: Of the draws to come.
        observation_statistics: For `gaussjax.normalize`.
        return_statistics: Of the discounted returns, the scale of the rewards.
        discounted_returns: Of each environment up to now, `(N,)`.
        environment: Where the environments stand.
        hyperparameters: Read at each update.
        steps: Environment steps so far.
    """

    params: Params
    optimizer: Any
    key: Array
    observation_statistics: normalize.Statistics
    return_statistics: normalize.Statistics
    discounted_returns: Float[Array, " envs"]
    environment: Any
    hyperparameters: Hyperparameters
    steps: Any


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """The policy that PPO trains: orthogonal kernels, a critic beside the actor.

    Its actions are clipped to the Box for the environment; its densities are those of the
    samples before the clip, which is what keeps PPO's ratio right at the bounds.

    Args:
        observation_space: As of `gaussjax.gaussian`.
        action_space: Likewise, a Box.
        config: Whose network, sizes and initial log_std are taken.

    Returns:
        A policy with `outputs["value"]`.

    Example:
        >>> from gaussjax import spaces
        >>> make_policy(3, spaces.Box(-2.0, 2.0, (1,)), Config()).spec.kind
        'gaussian'
    """
    options: dict[str, Any] = {"initializer": "orthogonal", "scale": 2.0**0.5}
    actor_options = {
        **options,
        "output_activation": None,
        "initial_log_std": config.initial_log_std,
        "output_scale": 0.01,
    }
    if config.network == "mlp":
        actor = networks.MLP(config.hidden_sizes, config.activation, **actor_options)
        network = networks.ActorCritic(actor, config.hidden_sizes, config.activation)
    else:
        cell = {"rnn": networks.RNN, "gru": networks.GRU, "lstm": networks.LSTM}[config.network]
        shape = {"hidden_size": config.recurrent_size, "sizes": config.hidden_sizes, "activation": config.activation}
        network = networks.ActorCritic(cell(**shape, **actor_options), critic=cell(**shape, **options))
    return gaussian(
        network, observation_space, action_space, clip_actions=True, clipped_log_prob="unclipped", keepdims=False
    )
