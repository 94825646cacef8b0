"""Behavioural cloning: the policy that makes recorded actions most likely."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gaussjax import networks, normalize, spaces
from gaussjax.data.recorded import Dataset as Dataset
from gaussjax.data.recorded import read_dataset as read_dataset
from gaussjax.policy import Params, Policy, checks, gaussian
from gaussjax.random.permutation import permutation
from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.algorithm import check_options, refuse_wide
from gaussjax.training.metrics import Metrics as Metrics

if TYPE_CHECKING:
    from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of behavioural cloning.

    Example:
        >>> Config(num_epochs=20).batch_size
        256
    """

    num_epochs: int = 50
    """Passes over the data to train for."""
    batch_size: int = 256
    """Pairs of a gradient step; the last, smaller batch of an epoch is left out."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    variance_weight: float = 0.5
    """Power of the variance that weighs the likelihood of each pair; 0 is plain maximum likelihood."""
    normalize_observations: bool = True
    """Bring observations to mean 0 and variance 1 by the statistics of the data."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: str = "tanh"
    """Activation of the hidden layers."""

    def __post_init__(self) -> None:
        check_options(self, ("num_epochs", "batch_size"), ("learning_rate",))


class State(NamedTuple):
    """What an epoch carries.

    Attributes:
        params: Of the policy.
        optimizer: Moments of Adam.
        key: Of the shuffles to come.
        observation_statistics: Of the data, for `gaussjax.normalize`.
        steps: Epochs that are done.
    """

    params: Params
    optimizer: Any
    key: Array
    observation_statistics: normalize.Statistics
    steps: Array


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """A diagonal Gaussian whose standard deviation depends on the observation.

    Its actions are clipped to the Box for the environment; the density is that of the samples before.

    Args:
        observation_space: As of `gaussjax.gaussian`.
        action_space: Likewise, a Box.
        config: Whose sizes and activation are taken.

    Returns:
        The policy, its log-densities without a last axis.

    Example:
        >>> from gaussjax import spaces
        >>> make_policy(3, spaces.Box(shape=(1,)), Config()).spec.kind
        'gaussian'
    """
    network = networks.MLP(config.hidden_sizes, config.activation, output_activation=None, std="state")
    return gaussian(
        network,
        observation_space,
        action_space,
        clip_actions=True,
        clipped_log_prob="unclipped",
        min_log_std=-5.0,
        keepdims=False,
    )


def make(dataset: Dataset, policy: Policy, config: Config) -> Algorithm:
    """Maximum likelihood on a dataset.

    Args:
        dataset: From `read_dataset`.
        policy: Made with `keepdims=False`, by `make_policy` or of your own.
        config: The options.

    Returns:
        `init` and `step`, pure and compiled, an epoch each. A gradient that is not finite is not taken, and counted
        (`skipped`).

    Raises:
        ValueError: The dataset is smaller than a batch, or its widths are not those of the policy; or that
            was made with `keepdims=True`.

    Example:
        >>> import gaussjax, numpy as np
        >>> seen = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(64, 1)
        >>> config = Config(batch_size=32, hidden_sizes=(8,))
        >>> policy = make_policy(1, gaussjax.spaces.Box(-1.0, 1.0, (1,)), config)
        >>> algorithm = make(Dataset(seen, -seen), policy, config)
        >>> state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
        >>> sorted(metrics)
        ['entropy', 'gradient_norm', 'log_prob', 'mean_error', 'skipped', 'step']

    Plain maximum likelihood divides the errors of the mean by the variance, so that pairs that are hard to
    predict get a large deviation instead of a better mean. The weight gives part of that back.

    Source:
        Pomerleau 1991, efficient training of artificial neural networks for autonomous navigation; the weight:
        Seitzer et al. 2022, on the pitfalls of heteroscedastic uncertainty estimation (arXiv:2203.09168).
    """
    refuse_wide(policy)
    count = len(dataset.actions)
    if count < config.batch_size:
        raise ValueError(f"batch_size: expected at most the {count} pairs of the dataset, got {config.batch_size}.")
    widths = spaces.size(policy.spec.observation_space), spaces.size(policy.spec.action_space)
    came = math.prod(dataset.observations.shape[1:]), math.prod(dataset.actions.shape[1:])
    if came != widths:
        raise ValueError(
            f"dataset: expected {widths[0]} observations and {widths[1]} actions a row, as the policy has, got "
            f"{came[0]} and {came[1]}. Is it of another environment?"
        )
    optimizer = optax.adam(config.learning_rate)
    unclipped = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    scored = "raw_actions" if unclipped else "taken_actions"
    data = Dataset(jnp.asarray(dataset.observations), jnp.asarray(dataset.actions))

    def shown(statistics: normalize.Statistics, observations: Array) -> Array:
        return normalize.apply(statistics, observations) if config.normalize_observations else observations

    def init(key: Array) -> State:
        checks.key(key)
        key, params_key = jax.random.split(key)
        params = policy.init(params_key)
        statistics = normalize.update(normalize.init(data.observations.shape[1:]), data.observations)
        return State(params, optimizer.init(params), key, statistics, jnp.zeros((), jnp.int32))

    def loss(params: Params, observations: Array, actions: Array) -> tuple[Array, dict[str, Array]]:
        log_prob, entropy, outputs = policy.evaluate(params, observations, **{scored: actions})
        # The weight itself has no gradient. Of several actions it is the geometric mean of the variances.
        weight = jnp.exp(2.0 * config.variance_weight * jnp.mean(outputs["log_std"], axis=-1))
        weighted = jnp.mean(jax.lax.stop_gradient(weight) * log_prob)
        log_prob, entropy = jnp.mean(log_prob), jnp.mean(entropy)
        error = jnp.mean(jnp.abs(outputs["mean_actions"] - actions))
        metrics = {"log_prob": log_prob, "entropy": entropy, "mean_error": error}
        return -weighted - config.entropy_coefficient * entropy, metrics

    @jax.jit
    def step(state: State) -> tuple[State, Metrics]:
        key, shuffle_key = jax.random.split(state.key)
        observations = shown(state.observation_statistics, data.observations)
        order = permutation(shuffle_key, count)[: count - count % config.batch_size]

        def gradient_step(carry: tuple[Params, Any], rows: Array) -> Any:
            params, moments = carry
            (total, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(
                params, observations[rows], data.actions[rows]
            )
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            usable = jnp.isfinite(metrics["gradient_norm"]) & jnp.isfinite(total)

            def take() -> Any:
                updates, following = optimizer.update(gradients, moments, params)
                return optax.apply_updates(params, updates), following

            return jax.lax.cond(usable, take, lambda: (params, moments)), (metrics, usable)

        carry, (metrics, usable) = jax.lax.scan(
            gradient_step, (state.params, state.optimizer), order.reshape(-1, config.batch_size)
        )
        # Of the steps that were taken; NaN where none was.
        metrics = jax.tree.map(lambda metric: jnp.sum(jnp.where(usable, metric, 0.0)) / jnp.sum(usable), metrics)
        steps = state.steps + 1
        state = State(*carry, key, state.observation_statistics, steps)
        return state, Metrics.of({"step": steps, **metrics, "skipped": jnp.sum(~usable)})

    return Algorithm(init, step, policy)
