"""Configuration, training state and default policy of behavioural cloning."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax import networks, normalize
from gaussjax.core.choices import choose
from gaussjax.policy import Params, Policy
from gaussjax.training import initial_std
from gaussjax.training.algorithm import CELLS, KINDS, check_options, observation_keys

_NETWORKS = ("mlp", "cnn", *CELLS)
_LOSSES = ("log_prob", "mean_squared_error")
_STDS = ("state", "parameter", "fixed", "gsde")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of behavioural cloning.

    Example:
        >>> Config(total_epochs=20).batch_size
        256
    """

    total_epochs: int = 50
    """Passes over the dataset."""
    batch_size: int = 256
    """Rows of a minibatch; an epoch drops a last, smaller minibatch."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    weight_decay: float = 0.0
    """Fraction of each kernel that a gradient step removes, times the step size, as in AdamW; biases are left alone."""
    loss: Literal["log_prob", "mean_squared_error"] | None = None
    """Log-density of the recorded actions, or squared error of the deterministic action; None is the squared error for
    a recurrent policy and the density for all others."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    variance_weight: float = 0.5
    """Power of the variance in the weight of each row's log-density; 0 is plain maximum likelihood."""
    validation_share: float | None = None
    """Share of the episodes that is held out to choose the best policy; None is 0.1 from 10 episodes on, else 0."""
    patience: int | None = None
    """Stop after this number of epochs without a better score on the validation episodes, or None."""
    augment: int = 0
    """Largest random shift of images in pixels, up, down, left and right."""
    chunk_size: int = 2**27
    """Bytes of data in memory at a time; a larger dataset is read in chunks, in random order."""
    normalize_observations: bool = True
    """Scale observations to mean 0 and variance 1 by the statistics of the training rows."""
    network: Literal["mlp", "cnn", "rnn", "gru", "lstm", "mingru"] = "mlp"
    """Network of the policy; cnn is for one image, and all after it are recurrent."""
    policy: Literal["gaussian", "squashed_gaussian", "truncated_gaussian"] = "gaussian"
    """Kind of policy: clipped to the Box, squashed into it by tanh, or truncated to it."""
    sequence_length: int = 16
    """Steps of a training sequence of a recurrent policy; a divisor of batch_size."""
    burn_in: int = 8
    """Steps before a sequence that only prepare the carry of a recurrent policy."""
    recurrent_size: int = 64
    """Width of the recurrent layer."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: str = "tanh"
    """Activation of the hidden layers."""
    std: Literal["state", "parameter", "fixed", "gsde"] = "state"
    """Source of log_std: a layer, one parameter for each action, a constant, or a linear function of the features."""
    initial_log_std: float = 0.0
    """Initial log standard deviation of the actions, which stays with fixed, and with gsde is
    the mean over standard normal observations."""
    actor_keys: tuple[str, ...] | None = None
    """Entries of a Dict observation for the policy; by default state if there is a privileged_state, else all."""

    def __post_init__(self) -> None:
        counts = ("total_epochs", "batch_size", "patience", "chunk_size", "sequence_length", "recurrent_size")
        check_options(self, counts, ("learning_rate",))
        known = (*([("loss", _LOSSES)] if self.loss else []), ("network", _NETWORKS), ("policy", KINDS), ("std", _STDS))
        for name, choices in known:
            if getattr(self, name) not in choices:
                choose(dict.fromkeys(choices), getattr(self, name), name)
        for name in ("weight_decay", "augment", "burn_in"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}.")
        if self.validation_share is not None and not 0 <= self.validation_share < 1:
            raise ValueError(
                f"validation_share: expected a number from 0 to below 1, got {self.validation_share}. Keep some "
                f"episodes for the training."
            )
        if self.network in CELLS:
            self.check_sequences()

    def check_sequences(self) -> None:
        """Raises ValueError unless `sequence_length` divides `batch_size`."""
        if self.batch_size % self.sequence_length:
            raise ValueError(
                f"sequence_length: expected a divisor of batch_size = {self.batch_size}, got {self.sequence_length}. "
                f"Choose one such as {math.gcd(self.batch_size, self.sequence_length)}."
            )

    def with_loss(self, recurrent: bool) -> Config:
        """The config with the loss that its None stands for.

        Args:
            recurrent: Whether the policy has a carry.

        Returns:
            The config, with the squared error for a recurrent policy and the density for all others.
        """
        # The likelihood weighs rows at rest, which a teacher repeats exactly, far above its movements. A policy with
        # memory then imitates the movements too coarsely to reach the rest (`benchmarks/cloning_shares.py`).
        default = "mean_squared_error" if recurrent else "log_prob"
        return dataclasses.replace(self, loss=self.loss or default)


class Learner(NamedTuple):
    """Parameters and optimizer state of cloning.

    Attributes:
        params: Parameters after the last gradient step.
        optimizer: State of Adam.
    """

    params: Params
    optimizer: Any


class Best(NamedTuple):
    """The policy with the best score on the validation episodes.

    Attributes:
        params: Parameters at the end of the best epoch.
        score: Score of the epoch, as in the metrics.
        epoch: Number of the epoch, int32; 0 before the first.
    """

    params: Params
    score: Float[Array, ""]
    epoch: Array


class State(NamedTuple):
    """Training state of behavioural cloning.

    Attributes:
        learner: Parameters and optimizer state.
        best: The best policy so far, a `Best`; `()` without validation episodes.
        key: PRNG key of later epochs.
        observation_statistics: Statistics of the training rows for `gaussjax.normalize`.
        steps: Epochs so far, int32; the counter stays at 2³¹ - 1.
    """

    learner: Learner
    best: Any
    key: Array
    observation_statistics: normalize.Normalizer
    steps: Array

    @property
    def params(self) -> Params:
        """Parameters of the best policy so far, or of the last epoch without validation episodes."""
        return self.best.params if self.best else self.learner.params


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """Default policy of cloning: a diagonal Gaussian with a state-dependent standard deviation.

    With `config.policy` "gaussian", actions are clipped to the Box; log-densities score the samples before the clip.

    Args:
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box of any shape.
        config: Options of the network.

    Returns:
        The policy.

    Example:
        >>> from gaussjax import spaces
        >>> make_policy(3, spaces.Box(shape=(1,)), Config()).spec.kind
        'gaussian'
    """
    options: dict[str, Any] = {"std": config.std, "initial_log_std": config.initial_log_std}
    options |= {"sizes": config.hidden_sizes, "activation": config.activation, "output_activation": None}
    if config.network == "mlp":
        network: Any = networks.MLP(**options)
    elif config.network == "cnn":
        network = networks.CNN(**options)
    else:
        # A single layer of MinGRU only averages its inputs. An epoch never needs forward mode.
        options |= {"num_layers": 2 if config.network == "mingru" else 1, "fast_backward": True}
        network = CELLS[config.network](hidden_size=config.recurrent_size, **options)
    if keys := observation_keys(observation_space, config)["actor_keys"]:
        network = networks.ActorCritic(network, (), actor_keys=keys, critic_keys=keys)
    clip = {"clip_actions": True, "clipped_log_prob": "unclipped"} if config.policy == "gaussian" else {}
    policy = KINDS[config.policy](network, observation_space, action_space, min_log_std=-5.0, keepdims=False, **clip)
    return initial_std.scaled(policy) if config.std == "gsde" else policy


def first_best(params: Params) -> Best:
    """The record before the first epoch, whose score is below all others."""
    return Best(params, jnp.asarray(-jnp.inf, jnp.float32), jnp.zeros((), jnp.int32))
