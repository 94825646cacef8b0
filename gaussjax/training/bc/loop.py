"""Behavioural cloning: maximum likelihood of recorded actions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from gaussjax import networks, normalize, spaces
from gaussjax.core.choices import choose
from gaussjax.core.compiled import where
from gaussjax.data.recorded import Dataset as Dataset
from gaussjax.data.recorded import read_dataset as read_dataset
from gaussjax.data.recorded import refuse_infinite
from gaussjax.policy import Params, Policy, checks
from gaussjax.random.permutation import permutation
from gaussjax.training.algorithm import (
    KINDS,
    check_argument,
    check_options,
    check_reduction,
    counted,
    log_std_clipped,
    normalized,
    promoting,
    without_axis,
    without_pixels,
)
from gaussjax.training.algorithm import Algorithm as Algorithm


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of behavioural cloning.

    Example:
        >>> Config(num_epochs=20).batch_size
        256
    """

    num_epochs: int = 50
    """Passes over the dataset."""
    batch_size: int = 256
    """Pairs of observation and action in a minibatch; an epoch drops a last, smaller minibatch."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    variance_weight: float = 0.5
    """Power of the variance in the weight of each pair's log-likelihood; 0 is plain maximum likelihood."""
    normalize_observations: bool = True
    """Scale observations to mean 0 and variance 1 by the statistics of the dataset."""
    policy: Literal["gaussian", "squashed_gaussian", "truncated_gaussian"] = "gaussian"
    """Kind of policy: clipped to the Box, squashed into it by tanh, or truncated to it."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: str = "tanh"
    """Activation of the hidden layers."""

    def __post_init__(self) -> None:
        check_options(self, ("num_epochs", "batch_size"), ("learning_rate",))
        if self.policy not in KINDS:
            choose(KINDS, self.policy, "policy")


class State(NamedTuple):
    """Training state of behavioural cloning.

    Attributes:
        params: Parameters of the policy.
        optimizer: State of Adam.
        key: PRNG key of later epochs.
        observation_statistics: Statistics of the dataset for `gaussjax.normalize`.
        steps: Epochs so far, int32; the counter stays at 2³¹ - 1.
    """

    params: Params
    optimizer: Any
    key: Array
    observation_statistics: normalize.Statistics
    steps: Array


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
    network = networks.MLP(config.hidden_sizes, config.activation, output_activation=None, std="state")
    options = {"clip_actions": True, "clipped_log_prob": "unclipped"} if config.policy == "gaussian" else {}
    return KINDS[config.policy](network, observation_space, action_space, min_log_std=-5.0, keepdims=False, **options)


def make(dataset: Dataset, policy: Policy, config: Config) -> Algorithm:
    """A training loop that maximises the likelihood of a dataset.

    Plain maximum likelihood divides the errors of the mean by the variance. Pairs that are hard to predict then
    increase the standard deviation instead of improving the mean; `variance_weight` counteracts this effect. The weight
    takes the variance from `distribution.stddev()`, in units of the action. A distribution of your own without
    `stddev` is weighted by exp(2 log_std).

    Args:
        dataset: Result of `read_dataset`.
        policy: A policy that sums its log-densities, such as the policy from `make_policy`.
        config: The options.

    Returns:
        A loop whose `init` and `step` are pure and compiled; a step is an epoch. Gradients that are not finite
        are skipped and counted in the metric `skipped`. The metric `mean_error` is the mean absolute difference of
        the deterministic actions from the recorded ones.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The dataset is smaller than a minibatch, holds NaN or infinities or does not fit the spaces of the
            policy, or the policy does not sum its log-densities.

    Example:
        >>> import gaussjax, numpy as np
        >>> observations = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(64, 1)
        >>> config = Config(batch_size=32, hidden_sizes=(8,))
        >>> policy = make_policy(1, gaussjax.spaces.Box(-1.0, 1.0, (1,)), config)
        >>> loop = make(Dataset(observations, -observations), policy, config)
        >>> state, metrics = loop.step(loop.init(jax.random.key(0)))
        >>> sorted(metrics)
        ['entropy', 'gradient_norm', 'log_prob', 'log_std_clipped', 'mean_error', 'skipped', 'step']

    Source:
        Pomerleau 1991, efficient training of artificial neural networks for autonomous navigation; the weight:
        Seitzer et al. 2022, on the pitfalls of heteroscedastic uncertainty estimation (arXiv:2203.09168).
    """
    order = "Call make(dataset, policy, config)."
    for name, value, kind in (("dataset", dataset, Dataset), ("policy", policy, Policy), ("config", config, Config)):
        check_argument(name, value, kind, order)
    check_reduction(policy)
    config = without_pixels(config, policy)
    count = len(dataset.actions)
    if count < config.batch_size:
        raise ValueError(f"batch_size: expected at most the {count} pairs of the dataset, got {config.batch_size}.")
    expected = spaces.size(policy.spec.observation_space), spaces.size(policy.spec.action_space)
    widths = math.prod(dataset.observations.shape[1:]), math.prod(dataset.actions.shape[1:])
    if widths != expected:
        raise ValueError(
            f"dataset: expected {expected[0]} observations and {expected[1]} actions a row, as the policy has, got "
            f"{widths[0]} and {widths[1]}. Use a dataset of the same environment."
        )
    refuse_infinite(dataset)
    _refuse_outside(dataset.actions, policy)
    optimizer = promoting(optax.adam(config.learning_rate))
    unclipped = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    scored = "raw_actions" if unclipped else "taken_actions"
    data = Dataset(jnp.asarray(dataset.observations), jnp.asarray(dataset.actions))

    def init(key: Array) -> State:
        checks.key(key)
        key, params_key = jax.random.split(key)
        params = policy.init(params_key)
        statistics = normalize.update(normalize.init(data.observations.shape[1:]), data.observations)
        return State(params, optimizer.init(params), key, statistics, jnp.zeros((), jnp.int32))

    def loss(params: Params, observations: Array, actions: Array) -> tuple[Array, dict[str, Array]]:
        log_prob, entropy, outputs = policy.evaluate(params, observations, **{scored: actions})
        log_prob, entropy = without_axis(policy, log_prob), without_axis(policy, entropy)
        # Stop gradients of outputs that are used only for metrics and weights.
        outputs = jax.lax.stop_gradient(outputs)
        distribution = policy.distribution(outputs)
        # The weight is the geometric mean of the variances, to the power of variance_weight.
        weight = jnp.exp(2.0 * config.variance_weight * jnp.mean(_log_stddev(distribution, outputs), axis=-1))
        weighted = jnp.mean(weight * log_prob)
        log_prob, entropy = jnp.mean(log_prob), jnp.mean(entropy)
        _, means, _ = policy.kind.sample(distribution, None, "sum")
        total = -weighted - config.entropy_coefficient * entropy
        return total, {
            "log_prob": log_prob,
            "entropy": entropy,
            "mean_error": jnp.mean(jnp.abs(means - actions)),
            "log_std_clipped": log_std_clipped(policy, outputs["log_std"]),
        }

    @jax.jit
    def step(state: State) -> tuple[State, dict[str, Array]]:
        key, shuffle_key = jax.random.split(state.key)
        observations = normalized(config, state.observation_statistics, data.observations)
        order = permutation(shuffle_key, count)[: count - count % config.batch_size]

        def gradient_step(carry: tuple[Params, Any], rows: Array) -> Any:
            params, moments = carry
            value_and_grad = jax.value_and_grad(loss, has_aux=True)
            (total, metrics), gradients = value_and_grad(params, observations[rows], data.actions[rows])
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            usable = jnp.isfinite(metrics["gradient_norm"]) & jnp.isfinite(total)
            updates, following = optimizer.update(gradients, moments, params)
            new = optax.apply_updates(params, updates), following
            return where(usable, new, carry), (metrics, usable)

        batches = order.reshape(-1, config.batch_size)
        carry, (metrics, usable) = jax.lax.scan(gradient_step, (state.params, state.optimizer), batches)
        # If all gradient steps were skipped, the mean over none makes the metrics NaN.
        metrics = {name: jnp.mean(metric, where=usable) for name, metric in metrics.items()}
        steps = counted(state.steps, 1)
        state = State(*carry, key, state.observation_statistics, steps)
        return state, {"step": steps, **metrics, "skipped": jnp.sum(~usable)}

    return Algorithm(init, step, policy, normalizes=config.normalize_observations)


def _refuse_outside(actions: Any, policy: Policy) -> None:
    """Raises ValueError for recorded actions whose density is 0 under every policy of this kind."""
    kind = policy.kind
    if kind.support is None or kind.network_outputs:
        return
    actions = jnp.asarray(actions).reshape(len(actions), -1)
    density = kind.log_prob(kind.distribution(actions, jnp.zeros_like(actions), {}), actions, "sum")
    outside = np.flatnonzero(np.isneginf(density))
    if outside.size:
        raise ValueError(
            f"dataset: expected actions within {kind.support}, got {outside.size} rows outside, first {outside[0]}. "
            f"Clip them to the Box, or use another kind of policy."
        )


def _log_stddev(distribution: Any, outputs: dict[str, Any]) -> Array:
    """Logarithm of the standard deviation of each action, or log_std if the distribution does not define it."""
    try:
        stddev = distribution.stddev()
    except NotImplementedError:
        return outputs["log_std"]
    # A squashed action far beyond a bound may have a standard deviation that rounds to 0.
    return jnp.log(jnp.maximum(stddev, jnp.finfo(stddev.dtype).tiny))
