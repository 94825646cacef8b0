"""The training loop of behavioural cloning: epochs over a dataset in memory, or over chunks of a dataset on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from gaussjax import data
from gaussjax.core.compiled import where
from gaussjax.data import Episodes
from gaussjax.data.episodes import is_on_disk
from gaussjax.policy import Policy, checks
from gaussjax.random.permutation import permutation
from gaussjax.training.algorithm import Algorithm, check_argument, check_reduction, counted, without_pixels
from gaussjax.training.bc.config import Best, Config, Learner, State, first_best
from gaussjax.training.bc.samples import Chunks, Samples, Source, has_images, split, statistics
from gaussjax.training.bc.update import make_assess, make_evaluate, make_learn, make_optimizer

# Rows of a minibatch without gradients.
_VALIDATION_ROWS = 4096


def make(
    dataset: Episodes,
    policy: Policy,
    config: Config,
    *,
    weights: Callable[[Episodes], Float[Any, " steps"]] | None = None,
) -> Algorithm:
    """A training loop that maximises the likelihood of recorded actions, or minimises their squared error.

    Plain maximum likelihood divides the errors of the mean by the variance. Rows that are hard to predict then
    increase the standard deviation instead of improving the mean; `variance_weight` counteracts this effect. The weight
    takes the variance from `distribution.stddev()`, in units of the action. A distribution of your own without
    `stddev` is weighted by exp(2 log_std).

    Some episodes are held out (`validation_share`). Their score chooses the best policy, which is `state.params`; a
    critic is neither trained nor used. Weights of rows are divided by their mean. A row of weight 0 is not trained on,
    though a recurrent policy sees its observation.

    Args:
        dataset: Result of `gaussjax.data.read_dataset`, or `Episodes` of your own.
        policy: A policy that sums its log-densities, such as the policy from `make_policy`.
        config: The options.
        weights: A function from an episode to the weight of each of its rows, `(T,)`; or None for the weights of the
            dataset, which are equal if it has none.

    Returns:
        A loop whose `init` and `step` are pure and compiled; a step is an epoch. Only the step of a dataset that is
        read in chunks does not work inside `jax.jit`. Gradients that are not finite are skipped and counted in the
        metric `skipped`. The metric `score` chooses the best policy: the log-likelihood in nats for each dimension of
        the action, or minus the mean squared error. `loop.done(state)` is True after `patience` epochs without a better
        score.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The dataset is smaller than a minibatch, holds NaN or infinities, does not fit the spaces of the
            policy or lacks the episodes that an option needs; the weights are no numbers of 0 or more; or the policy
            does not sum its log-densities.

    Example:
        >>> from gaussjax import spaces
        >>> from gaussjax.training import bc
        >>> observations = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(64, 1)
        >>> config = bc.Config(batch_size=32, hidden_sizes=(8,))
        >>> policy = bc.make_policy(1, spaces.Box(-1.0, 1.0, (1,)), config)
        >>> loop = bc.make(Episodes(observations, -observations), policy, config)
        >>> state, metrics = loop.step(loop.init(jax.random.key(0)))
        >>> sorted(metrics)
        ['entropy', 'gradient_norm', 'log_prob', 'log_std_clipped', 'mean_error', 'score', 'skipped', 'step']

    Source:
        Pomerleau 1991, efficient training of artificial neural networks for autonomous navigation; the weight of the
        variance: Seitzer et al. 2022, on the pitfalls of heteroscedastic uncertainty estimation (arXiv:2203.09168).
    """
    order = "Call make(dataset, policy, config)."
    for name, value, kind in (("dataset", dataset, Episodes), ("policy", policy, Policy), ("config", config, Config)):
        check_argument(name, value, kind, order)
    if weights is not None and not callable(weights):
        raise TypeError(
            f"weights: expected a function of an episode, got {type(weights).__name__}. Put an array into the field "
            f"weights of the dataset."
        )
    check_reduction(policy)
    config = without_pixels(config, policy)
    recurrent = bool(jax.tree.leaves(policy.initial_carry((1,))))
    config = config.with_loss(recurrent)
    space = policy.spec.observation_space
    dataset = data.read_dataset(dataset, space, policy.spec.action_space)
    if any(map(is_on_disk, jax.tree.leaves(dataset))):
        # Rows on disk are checked when they are read, so all of them are read before the training.
        data.check(dataset, None, None)
    _refuse_options(dataset, config, recurrent, space)
    episodes, starts, trained, held_out, scale = split(dataset, weights, config.validation_share)
    source = Source(episodes, starts, scale, space, config.burn_in, config.sequence_length if recurrent else None)
    length = source.length or 1
    batch = config.batch_size // length
    large = max(1, min(_VALIDATION_ROWS, int(np.count_nonzero(held_out))) // length)
    training = Chunks(source, trained, config.chunk_size, batch)
    if training.count < batch:
        count = np.count_nonzero(trained)
        raise ValueError(
            f"batch_size: expected at most the {count:,} rows to train on, got {config.batch_size:,}. Choose a smaller "
            f"number, or record more."
        )
    validation: Any = ()
    if held_out.any():
        validation = Chunks(source, held_out, config.chunk_size, large, filled=True)
    elif config.patience is not None:
        raise ValueError(
            "patience: expected validation episodes, whose score tells when to stop, got none. Set validation_share, "
            "or leave patience out."
        )
    found = statistics(source, trained, config.normalize_observations)
    optimizer, evaluate = make_optimizer(config), make_evaluate(policy, config)
    learn = jax.jit(make_learn(policy, evaluate, config, batch))
    assess = jax.jit(make_assess(evaluate, large))

    def init(key: Array) -> State:
        checks.key(key)
        key, params_key = jax.random.split(key)
        params = policy.init(params_key)
        learner = Learner(params, optimizer.init(params))
        return State(learner, first_best(params) if validation else (), key, found, jnp.zeros((), jnp.int32))

    def epoch(state: State, training: Sequence[Samples] | Chunks, validation: Sequence[Samples] | Chunks) -> Any:
        key, shuffle_key = jax.random.split(state.key)
        order_key, *chunk_keys = jax.random.split(shuffle_key, 1 + len(training))
        learner, steps = state.learner, []
        for i in range(1) if len(training) == 1 else np.asarray(permutation(order_key, len(training))):
            samples = training[i]
            if len(training) > 1:
                # JAX runs asynchronously: without waiting, all chunks could be in memory at once.
                jax.block_until_ready(learner)
            learner, taken = learn(learner, state.observation_statistics, samples, chunk_keys[i])
            steps.append(taken)
        sums = [assess(learner.params, state.observation_statistics, validation[i]) for i in range(len(validation))]
        return _finish(state._replace(learner=learner, key=key), steps, sums)

    resident = len(training) == 1 and len(validation) <= 1
    compiled = jax.jit(epoch)
    if resident:
        whole = (training[0],), tuple(validation[i] for i in range(len(validation)))

    def step(state: State) -> tuple[State, dict[str, Array]]:
        check_argument("state", state, State, "Make one with loop.init; step returns (state, metrics).")
        if resident:
            return compiled(state, *whole)
        if isinstance(state.steps, Tracer):
            raise ValueError(
                f"chunk_size: expected the dataset in one chunk inside jax.jit, got {len(training)} chunks. Increase "
                f"chunk_size, or call step outside of jit."
            )
        return epoch(state, training, validation)

    done = partial(_is_done, config.patience)
    return Algorithm(init, step, policy, normalizes=config.normalize_observations, done=done)


@jax.jit
def _finish(state: State, steps: list[Any], sums: list[dict[str, Array]]) -> tuple[State, dict[str, Array]]:
    """State and metrics after the gradient steps of an epoch, given the sums over its validation episodes."""
    metrics, usable = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *steps)
    # If all gradient steps were skipped, the mean over none makes the metrics NaN.
    metrics = {name: jnp.mean(metric, where=usable) for name, metric in metrics.items()}
    state = state._replace(steps=counted(state.steps, 1))
    if sums:
        total = jax.tree.map(lambda *parts: sum(parts), *sums)
        metrics["score"] = total["score"] / total["weight"]
        metrics |= {f"validation_{name}": total[name] / total["rows"] for name in ("log_prob", "mean_error")}
        # NaN is no better score.
        new = Best(state.learner.params, metrics["score"], state.steps)
        best = where(metrics["score"] > state.best.score, new, state.best)
        state, metrics["best_epoch"] = state._replace(best=best), best.epoch
    return state, {"step": state.steps, **metrics, "skipped": jnp.sum(~usable)}


def _is_done(patience: int | None, state: State) -> bool:
    return patience is not None and int(state.steps) - int(state.best.epoch) >= patience


def _refuse_options(dataset: Episodes, config: Config, recurrent: bool, space: Any) -> None:
    """Raises ValueError for options that the dataset or the policy cannot have."""
    if recurrent:
        config.check_sequences()
    if recurrent and dataset.starts is None:
        raise ValueError(
            "dataset: expected the first rows of episodes in `starts` for a recurrent policy, got None. Mark them, or "
            "give a list of episodes."
        )
    if config.augment and not has_images(space):
        raise ValueError(
            f"augment: expected images of dtype uint8 among the observations, got {space}. Leave augment out."
        )
