"""Behavioural cloning: the policy that makes recorded actions most likely."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaussjax import factories, networks, normalize
from gaussjax.policy import Params, Policy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Metrics = dict[str, Any]


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
    normalize_observations: bool = True
    """Bring observations to mean 0 and variance 1 by the statistics of the data."""
    sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: str = "tanh"
    """Activation of the hidden layers."""


class Dataset(NamedTuple):
    """Pairs of what was seen and what was done.

    Attributes:
        observations: `(N, F)`.
        actions: In units of the Box, `(N, A)`.
    """

    observations: Float[Any, "pairs features"]
    actions: Float[Any, "pairs act"]


class State(NamedTuple):
    """What an epoch carries.

    Attributes:
        params: Of the policy.
        optimizer: Moments of Adam.
        key: Of the shuffles to come.
        observation_statistics: Of the data, for `gaussjax.normalize`.
        epochs: How many are done.
    """

    params: Params
    optimizer: Any
    key: Array
    observation_statistics: normalize.Statistics
    epochs: Array


class Algorithm(NamedTuple):
    """Behavioural cloning bound to its data.

    Attributes:
        init: `(key) -> State`. The key is consumed.
        step: `(State) -> (State, metrics)`: one epoch, compiled.
        policy: The policy that is trained.
    """

    init: Callable[[Array], State]
    step: Callable[[State], tuple[State, Metrics]]
    policy: Policy


def read_dataset(source: str | Path | Mapping[str, Any]) -> Dataset:
    """Pairs from a file or a dict.

    Args:
        source: A dict or an `.npz` file with `observations` and `actions`, as Minari's and D4RL's
            have them (an observation more than actions, at the end, is dropped), or a `.csv` file
            whose header names columns `observation_0`, … and `action_0`, ….

    Returns:
        Both as float32, a row for each pair.

    Raises:
        ValueError: A part is missing, holds NaN, or the lengths differ.

    Example:
        >>> read_dataset({"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1))}).actions.shape
        (3, 1)
    """
    if isinstance(source, Mapping):
        columns: Mapping[str, Any] = source
    elif Path(source).suffix == ".npz":
        with np.load(source, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    else:
        columns = _read_csv(Path(source))
    missing = {"observations", "actions"} - set(columns)
    if missing:
        raise ValueError(f"dataset: expected observations and actions, got {sorted(columns)}.")
    observations = np.asarray(columns["observations"], np.float32)
    actions = np.asarray(columns["actions"], np.float32)
    if len(observations) == len(actions) + 1:
        observations = observations[:-1]
    if len(observations) != len(actions) or not len(actions):
        raise ValueError(
            f"dataset: expected one action for each observation, got {len(observations)} observations and "
            f"{len(actions)} actions."
        )
    for name, column in (("observations", observations), ("actions", actions)):
        broken = np.flatnonzero(~np.isfinite(column.reshape(len(column), -1)).all(axis=1))
        if broken.size:
            raise ValueError(
                f"dataset: expected finite {name}, got NaN or inf in {broken.size} rows, first {broken[0]}."
            )
    return Dataset(observations, actions.reshape(len(actions), -1))


def make_policy(observation_space: Any, action_space: Any, config: Config) -> Policy:
    """A diagonal Gaussian whose standard deviation depends on the observation.

    Args:
        observation_space: As of `gaussjax.gaussian`.
        action_space: Likewise, a Box.
        config: Whose sizes and activation are taken.

    Returns:
        The policy, its log-densities without a last axis.

    Example:
        >>> from gaussjax import spaces
        >>> make_policy(3, spaces.Box((1,)), Config()).spec.kind
        'gaussian'
    """
    network = networks.MLP(config.sizes, config.activation, output_activation=None, std="state")
    return factories.gaussian(network, observation_space, action_space, min_log_std=-5.0, keepdims=False)


def make(dataset: Dataset, policy: Policy, config: Config) -> Algorithm:
    """Maximum likelihood on a dataset.

    Args:
        dataset: From `read_dataset`.
        policy: Made with `keepdims=False`, by `make_policy` or of your own.
        config: The options.

    Returns:
        `init` and `step`, pure and compiled; a step is an epoch.

    Raises:
        ValueError: The dataset is smaller than a batch.

    Example:
        >>> import gaussjax
        >>> seen = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(64, 1)
        >>> config = Config(batch_size=32, sizes=(8,))
        >>> policy = make_policy(1, gaussjax.spaces.Box((1,), -1.0, 1.0), config)
        >>> algorithm = make(Dataset(seen, -seen), policy, config)
        >>> state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
        >>> sorted(metrics)
        ['entropy', 'epoch', 'gradient_norm', 'log_prob', 'mean_error']

    Source:
        Pomerleau 1991, efficient training of artificial neural networks for autonomous navigation.
    """
    count = len(dataset.actions)
    if count < config.batch_size:
        raise ValueError(f"batch_size: expected at most the {count} pairs of the dataset, got {config.batch_size}.")
    optimizer = optax.adam(config.learning_rate)
    data = Dataset(jnp.asarray(dataset.observations), jnp.asarray(dataset.actions))

    def shown(statistics: normalize.Statistics, observations: Array) -> Array:
        return normalize.apply(statistics, observations) if config.normalize_observations else observations

    def init(key: Array) -> State:
        key, params_key = jax.random.split(key)
        params = policy.init(params_key)
        statistics = normalize.update(normalize.init(data.observations.shape[1:]), data.observations)
        return State(params, optimizer.init(params), key, statistics, jnp.zeros((), jnp.int32))

    def loss(params: Params, observations: Array, actions: Array) -> tuple[Array, Metrics]:
        log_prob, entropy, outputs = policy.evaluate(params, observations, actions)
        log_prob, entropy = jnp.mean(log_prob), jnp.mean(entropy)
        error = jnp.mean(jnp.abs(outputs["mean_actions"] - actions))
        metrics = {"log_prob": log_prob, "entropy": entropy, "mean_error": error}
        return -log_prob - config.entropy_coefficient * entropy, metrics

    @jax.jit
    def step(state: State) -> tuple[State, Metrics]:
        key, shuffle_key = jax.random.split(state.key)
        observations = shown(state.observation_statistics, data.observations)
        order = jax.random.permutation(shuffle_key, count)[: count - count % config.batch_size]

        def gradient_step(carry: tuple[Params, Any], rows: Array) -> tuple[tuple[Params, Any], Metrics]:
            params, moments = carry
            gradients, metrics = jax.grad(loss, has_aux=True)(params, observations[rows], data.actions[rows])
            updates, moments = optimizer.update(gradients, moments, params)
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            return (optax.apply_updates(params, updates), moments), metrics

        carry, metrics = jax.lax.scan(
            gradient_step, (state.params, state.optimizer), order.reshape(-1, config.batch_size)
        )
        epochs = state.epochs + 1
        state = State(*carry, key, state.observation_statistics, epochs)
        return state, {"epoch": epochs, **jax.tree.map(jnp.mean, metrics)}

    return Algorithm(init, step, policy)


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        values = np.array([[float(value) for value in row] for row in rows], np.float32)
    columns = {}
    for plural, singular in (("observations", "observation_"), ("actions", "action_")):
        named = {name: i for i, name in enumerate(header) if name.startswith(singular)}
        wanted = [f"{singular}{i}" for i in range(len(named))]
        if set(named) != set(wanted) or not named:
            raise ValueError(f"dataset: expected columns {singular}0, {singular}1, … in {path}, got {header}.")
        columns[plural] = values[:, [named[name] for name in wanted]]
    return columns
