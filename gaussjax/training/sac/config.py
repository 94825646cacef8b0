"""Configuration, training state and default policy of soft actor-critic."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Bool, Float

from gaussjax import networks, normalize
from gaussjax.core.choices import choose
from gaussjax.policy import Params, Policy
from gaussjax.training import initial_std, replay
from gaussjax.training.algorithm import KINDS, check_exploration, check_options, observation_keys

_KINDS = ("squashed_gaussian", "truncated_gaussian")
_STDS = ("state", "gsde")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of SAC. Steps are environment steps, counted over all environments.

    Example:
        >>> Config(hidden_sizes=(64, 64), learning_starts=1000).batch_size
        256
    """

    total_steps: int = 1_000_000
    """Steps to train for."""
    num_envs: int = 1
    """Environments that step together."""
    num_steps: int = 500
    """Steps of each environment between two rows of metrics."""
    gradient_steps: int = 1
    """Gradient steps after each step of the environments."""
    batch_size: int = 256
    """Transitions in a minibatch."""
    buffer_size: int = 1_000_000
    """Capacity of the replay buffer, in transitions; at most 2**30."""
    learning_starts: int = 5_000
    """Steps before the first gradient step; their actions are uniform in the Box."""
    learning_rate: float = 3e-4
    """Step size of Adam for the actor, the critics and the temperature."""
    gamma: float = 0.99
    """Discount factor."""
    tau: float = 0.005
    """Weight of the critics in the moving average of the target critics at each gradient step."""
    initial_temperature: float = 1.0
    """Initial weight of the entropy."""
    target_entropy: float | None = None
    """Desired entropy in nats; None means minus the number of actions, for a Box scaled to [-1, 1]."""
    normalize_observations: bool = False
    """Scale observations to mean 0 and variance 1 by running statistics."""
    policy: Literal["squashed_gaussian", "truncated_gaussian"] = "squashed_gaussian"
    """Kind of policy: squashed into the Box by tanh, or truncated to it."""
    num_critics: int = 2
    """Number of critics; the smallest of their values is used."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers, of the actor and of the critics."""
    activation: str = "relu"
    """Activation of the hidden layers."""
    std: Literal["state", "gsde"] = "state"
    """Source of log_std: a layer, or exploration that is linear in the features."""
    exploration: Literal["white", "held", "colored"] | None = None
    """Noise of the actions: new at each step, held for some steps, or with a spectrum of 1/f^beta; by default white."""
    hold: int | None = None
    """Steps for which held noise, or the matrix of std=gsde, stays the same; without exploration it means held."""
    beta: float | None = None
    """Exponent of colored noise, above 0 and at most 2; None means 1, pink noise."""
    actor_keys: tuple[str, ...] | None = None
    """Entries of a Dict observation for the actor; by default state if there is a privileged_state, else all."""
    critic_keys: tuple[str, ...] | None = None
    """Entries of a Dict observation for the critics; by default privileged_state if there is a state, else all."""

    def __post_init__(self) -> None:
        sizes = ("num_envs", "num_steps", "batch_size", "buffer_size", "num_critics")
        counts = ("total_steps", "gradient_steps", "hold", *sizes)
        check_options(self, counts, ("learning_rate", "initial_temperature", "learning_starts"), ("gamma", "tau"))
        for name, known in (("policy", _KINDS), ("std", _STDS)):
            if getattr(self, name) not in known:
                choose(dict.fromkeys(known), getattr(self, name), name)
        check_exploration(self)
        if self.learning_starts >= self.total_steps:
            raise ValueError(
                f"learning_starts: expected fewer than the total_steps = {self.total_steps}, got "
                f"{self.learning_starts}: nothing would be learnt. Decrease it, or increase total_steps."
            )
        if not self.num_envs <= self.buffer_size <= 2**30:
            raise ValueError(
                f"buffer_size: expected room for one step of all {self.num_envs} environments and at most 2**30, got "
                f"{self.buffer_size}."
            )


class Transition(NamedTuple):
    """One step of one environment.

    Attributes:
        observations: Observation that was acted on, `(F,)`.
        actions: Action in units of the Box, `(A,)`.
        rewards: Reward of the step.
        terminated: True if the episode ended by itself; false for a truncated step.
        next_observations: Observation after the step and before any reset, `(F,)`.
    """

    observations: Any
    actions: Float[Any, "*batch act"]
    rewards: Float[Any, "*batch"]
    terminated: Bool[Any, "*batch"]
    next_observations: Any


class Learner(NamedTuple):
    """Parameters and optimizer state of SAC.

    Attributes:
        actor: Parameters of the policy.
        critics: Parameters of all critics, stacked along a leading axis.
        targets: Parameters of the target critics, stacked in the same way.
        log_temperature: Logarithm of the entropy's weight.
        optimizer: State of Adam for actor, critics and temperature.
    """

    actor: Params
    critics: Params
    targets: Params
    log_temperature: Float[Any, ""]
    optimizer: Any


class State(NamedTuple):
    """Training state of SAC.

    Attributes:
        learner: Parameters and optimizer state.
        buffer: Replay buffer of transitions.
        key: PRNG key of later steps.
        observation_statistics: Statistics for `gaussjax.normalize`.
        environment: State of the environments between two steps; on the host observations, or a `Standing`.
        episodes: Sums over the episodes of each of the latest 100 rows of metrics in which any ended.
        steps: Environment steps so far; the counter stays at 2³¹ - 1.
    """

    learner: Learner
    buffer: replay.Buffer
    key: Array
    observation_statistics: normalize.Normalizer
    environment: Any
    episodes: Any
    steps: Any

    @property
    def params(self) -> Params:
        """Parameters of the policy."""
        return self.learner.actor


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """Default policy of SAC: squashed into the Box or truncated to it, with a state-dependent standard deviation.

    A network for some entries of a Dict observation is an `ActorCritic`, whose value SAC does not train or use.

    Args:
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box of any shape with finite bounds.
        config: Options of the network.

    Returns:
        The policy.

    Example:
        >>> from gaussjax import spaces
        >>> make_policy(3, spaces.Box(-2.0, 2.0, (1,)), Config()).spec.kind
        'squashed_gaussian'
    """
    head: dict[str, Any] = {"output_activation": None, "std": config.std}
    network: Any = networks.MLP(config.hidden_sizes, config.activation, **head)
    if keys := observation_keys(observation_space, config)["actor_keys"]:
        network = networks.ActorCritic(network, (), actor_keys=keys, critic_keys=keys)
    policy = KINDS[config.policy](network, observation_space, action_space, min_log_std=-5.0, keepdims=False)
    return initial_std.scaled(policy) if config.std == "gsde" else policy
