"""What soft actor-critic is told, and what it carries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from gaussjax import networks, normalize, spaces
from gaussjax.policy import Params, Policy, squashed_gaussian
from gaussjax.training import replay
from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.algorithm import check_options

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


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
    """Transitions of a gradient step."""
    buffer_size: int = 1_000_000
    """Transitions that are remembered."""
    learning_starts: int = 5_000
    """Steps before the first gradient step: random ones, on JAX environments by the policy as it starts."""
    learning_rate: float = 3e-4
    """Step size of Adam, of the actor, the critics and the temperature."""
    gamma: float = 0.99
    """Gamma: what a reward is worth one step later."""
    tau: float = 0.005
    """How far the target critics follow at each gradient step."""
    initial_temperature: float = 1.0
    """Weight of the entropy at the start."""
    target_entropy: float | None = None
    """Nats that the temperature aims at; None is minus the number of actions, were the Box from -1 to 1."""
    normalize_observations: bool = False
    """Bring observations to mean 0 and variance 1 by running statistics."""
    num_critics: int = 2
    """Critics, of which the smallest value counts."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers, of the actor and of the critics."""
    activation: str = "relu"
    """Activation of the hidden layers."""

    def __post_init__(self) -> None:
        counts = ("total_steps", "num_envs", "num_steps", "batch_size", "buffer_size", "num_critics")
        positive = ("learning_rate", "initial_temperature", "learning_starts")
        check_options(self, (*counts, "gradient_steps"), positive, ("gamma", "tau"))
        if self.learning_starts >= self.total_steps:
            raise ValueError(
                f"learning_starts: expected fewer than the total_steps = {self.total_steps}, got "
                f"{self.learning_starts}: nothing would be learnt. Lower it, or train for longer."
            )
        if self.buffer_size < self.num_envs:
            raise ValueError(
                f"buffer_size: expected room for one step of all {self.num_envs} environments, got {self.buffer_size}."
            )


class Transition(NamedTuple):
    """One step of one environment.

    Attributes:
        observations: What was seen, `(F,)`.
        actions: What was done, in units of the Box, `(A,)`.
        rewards: Of the step.
        terminated: Whether nothing follows. A truncated step is followed by its last observation.
        next_observations: What was seen then, `(F,)`.
    """

    observations: Float[Any, "*batch features"]
    actions: Float[Any, "*batch act"]
    rewards: Float[Any, "*batch"]
    terminated: Bool[Any, "*batch"]
    next_observations: Float[Any, "*batch features"]


class Learner(NamedTuple):
    """What gradient steps change.

    Attributes:
        actor: Parameters of the policy.
        critics: Parameters of the critics, with one leading axis.
        targets: Of the critics that the targets come from.
        log_temperature: Logarithm of the entropy's weight.
        optimizer: Moments of Adam of all three.
    """

    actor: Params
    critics: Params
    targets: Params
    log_temperature: Float[Any, ""]
    optimizer: Any


class State(NamedTuple):
    """What a training step carries.

    Attributes:
        learner: What is learnt.
        buffer: The transitions.
        key: Of the draws to come.
        observation_statistics: For `gaussjax.normalize`.
        environment: Where the environments stand.
        steps: Environment steps so far.
    """

    learner: Learner
    buffer: replay.Buffer
    key: Array
    observation_statistics: normalize.Statistics
    environment: Any
    steps: Any

    @property
    def params(self) -> Params:
        """Parameters of the policy."""
        return self.learner.actor


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """The policy that SAC trains: squashed to the Box, with a standard deviation of its own for each observation.

    Args:
        observation_space: As of `gaussjax.squashed_gaussian`.
        action_space: Likewise, a bounded Box.
        config: Whose sizes and activation are taken.

    Returns:
        The policy, its log-densities without a last axis.

    Example:
        >>> make_policy(3, spaces.Box(-2.0, 2.0, (1,)), Config()).spec.kind
        'squashed_gaussian'
    """
    network = networks.MLP(config.hidden_sizes, config.activation, output_activation=None, std="state")
    return squashed_gaussian(network, observation_space, action_space, min_log_std=-5.0, keepdims=False)


def make_critic(policy: Policy, config: Config) -> networks.ActionValue:
    """One critic; its parameters are vmapped."""
    space = policy.spec.observation_space
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    return networks.ActionValue(config.hidden_sizes, config.activation, observation_space=None if flat else space)
