"""PPO's update: values, advantages and all epochs of minibatches as one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

from gaussjax import normalize, rollout
from gaussjax.policy import Params, Policy
from gaussjax.training import losses, sharding
from gaussjax.training.advantages import generalized_advantages
from gaussjax.training.ppo.config import Config, Hyperparameters, State
from gaussjax.training.saturation import saturation
from gaussjax.training.shuffle import permutation

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array

# How much the step size answers to a policy that moves too far or too little, and its limits.
_KL_FACTOR, _LOWEST_RATE, _HIGHEST_RATE = 1.5, 1e-6, 1e-2

# Of each gradient step that is taken, and their number.
_TOLD = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "std", "gradient_norm", "taken")


class _Samples(NamedTuple):
    """What a minibatch is made of: samples first, then the steps of a sequence if there is a memory."""

    observations: Any
    actions: Array | None
    raw_actions: Array
    log_prob: Array
    distribution: Any
    values: Array
    advantages: Array
    targets: Array
    resets: Array
    carry: Any


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam's direction for clipped gradients, as one vector; the step size is applied by the update."""
    return optax.flatten(
        optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_adam(eps=1e-5))
    )


def normalized(statistics: normalize.Statistics, observations: Array, config: Config) -> Array:
    """What the policy is shown of the observations."""
    return normalize.apply(statistics, observations) if config.normalize_observations else observations


def adapted_rate(rate: Array, kl: Array, target_kl: float) -> Array:
    """The step size after an epoch: smaller where the policy moved too far, larger where too little."""
    factor = jnp.where(kl > 2.0 * target_kl, 1.0 / _KL_FACTOR, 1.0)
    factor = jnp.where(kl < 0.5 * target_kl, _KL_FACTOR, factor)
    return jnp.clip(rate * factor, _LOWEST_RATE, _HIGHEST_RATE)


def make_update(
    policy: Policy, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh | None = None
) -> Callable[[State, rollout.Rollout, Array], tuple[State, dict[str, Array]]]:
    """`(state, experience, keys) -> (state, metrics)`, pure and to be compiled; there is a key for each epoch.

    On a mesh the samples are gathered once, whole on each device, so that the minibatches are
    those of one device; each device then takes its rows of every minibatch.

    Source:
        Schulman et al. 2017 (arXiv:1707.06347).
    """
    recurrent = bool(jax.tree.leaves(jax.eval_shape(policy.initial_carry)))
    length = config.sequence_length if recurrent else 1

    def memory(carry: Any, resets: Array | None) -> dict[str, Any]:
        return {"carry": carry, "resets": resets} if recurrent else {}

    # Where the density is known to be of the raw actions alone, the others are not carried along.
    raw_alone = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"

    def scored(
        params: Params, observations: Array, actions: Array | None, raw_actions: Array, given: dict[str, Any]
    ) -> Any:
        taken_actions = raw_actions if actions is None else actions
        scores = policy.evaluate(params, observations, taken_actions, raw_actions=raw_actions, **given)
        _check_value(scores.outputs, scores.log_prob)
        return scores

    def loss(params: Params, samples: _Samples, options: Hyperparameters) -> tuple[Array, dict[str, Array]]:
        if recurrent:
            # Sequences lie side by side: time goes first.
            carry = samples.carry
            samples = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), samples._replace(carry=()))
            samples = samples._replace(carry=carry)
        given = memory(samples.carry, samples.resets)
        log_prob, entropy, outputs = scored(params, samples.observations, samples.actions, samples.raw_actions, given)
        # What is only told has no gradient, and then none is traced.
        held = jax.lax.stop_gradient(outputs)
        advantages = samples.advantages
        if config.normalize_advantages:
            advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
        log_ratios = losses.log_ratio(log_prob, samples.log_prob)
        policy_loss = losses.clipped_surrogate(log_ratios, advantages, options.clip_ratio)
        value_loss = losses.value_loss(outputs["value"], samples.targets, samples.values, config.clip_value)
        entropy = jnp.mean(entropy)
        total = policy_loss + options.value_coefficient * value_loss - options.entropy_coefficient * entropy
        # Side by side, for a mean by itself is two kernels.
        moved = samples.distribution.kl_divergence(policy.distribution(held))
        clipped = jnp.abs(jnp.expm1(jax.lax.stop_gradient(log_ratios))) > options.clip_ratio
        kl, clip_fraction = jnp.mean(jnp.stack([moved, clipped]).reshape(2, -1), axis=1)
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": kl,
            "clip_fraction": clip_fraction,
            "std": jnp.mean(jnp.exp(held["log_std"])),
        }

    def annealed(rate: Any, progress: Array) -> Any:
        return rate * (1.0 - progress) if config.anneal_learning_rate else rate

    def learnt_from(
        samples: _Samples, orders: Array, learnt: Any, options: Hyperparameters, progress: Array, unravel: Any
    ) -> Any:
        num_epochs, num_batches, _ = orders.shape

        def batch_loss(params: Array, batch: _Samples) -> tuple[Array, dict[str, Array]]:
            return loss(unravel(params), batch, options)

        def gradient_step(carry: Any, now: tuple[Array, Array]) -> tuple[Any, None]:
            ((params, moments, sums), rate), (order, ends_epoch) = carry, now
            order = sharding.spread(order, mesh)
            batch = sharding.spread(jax.tree.map(lambda leaf: leaf[order], samples), mesh)
            (total, metrics), gradients = jax.value_and_grad(batch_loss, has_aux=True)(params, batch)
            metrics["gradient_norm"] = optax.tree.norm(gradients)
            # The norm is finite only where every gradient is: one number says it all.
            usable = jnp.isfinite(metrics["gradient_norm"]) & jnp.isfinite(total)
            metrics["taken"] = jnp.ones_like(total)
            # As one vector, to be added up at once.
            told = jnp.stack([metrics[name] for name in _TOLD]).astype(sums.dtype)

            updates, following = optimizer.update(gradients, moments, params)
            taken = params - annealed(rate, progress) * updates, following, sums + told
            learnt = jax.tree.map(lambda new, old: jnp.where(usable, new, old), taken, carry[0])
            if config.target_kl is not None:
                rate = jnp.where(ends_epoch, adapted_rate(rate, metrics["kl"], config.target_kl), rate)
            return (learnt, rate), None

        # One loop: of two, one in the other, each level is compiled, and the minibatches are stored in between.
        ends_epoch = jnp.arange(num_epochs * num_batches) % num_batches == num_batches - 1
        orders = orders.reshape(num_epochs * num_batches, -1)
        return jax.lax.scan(gradient_step, (learnt, options.learning_rate), (orders, ends_epoch))[0]

    def following_values(params: Params, values: Array, observations: Array, experience: rollout.Rollout) -> Array:
        def of(steps: slice) -> Array:
            # Each observation is seen with the memory of its own step, not of the episode after it.
            carries = jax.tree.map(lambda leaf: leaf[1:][steps], experience.carries)
            return policy.apply(params, observations[steps], **memory(carries, None))[1]["value"]

        # What follows a step is what the next one sees, and valued already, but where an episode was cut.
        shifted = jnp.concatenate([values[1:], of(slice(-1, None))]) if recurrent else values[1:]
        cut = jnp.any(experience.truncated[:-1])
        return jax.lax.cond(cut, lambda: of(slice(None)), lambda: shifted)

    def update(state: State, experience: rollout.Rollout, epoch_keys: Array) -> tuple[State, dict[str, Array]]:
        options = state.hyperparameters
        rewards, return_statistics, discounted_returns = _scaled_rewards(state, experience, config, mesh)
        observations = normalized(state.observation_statistics, experience.observations, config)
        next_observations = normalized(state.observation_statistics, experience.next_observations, config)

        given = memory(jax.tree.map(lambda leaf: leaf[0], experience.carries), experience.resets)
        actions = None if raw_alone else experience.actions
        seen, acted = observations, (actions, experience.raw_actions)
        if not recurrent:
            # What follows the last step is valued in the same pass.
            seen = jnp.concatenate([seen, next_observations[-1:]])
            acted = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[-1:]]), acted)
        log_prob, _, outputs = scored(state.params, seen, acted[0], acted[1], given)
        next_values = following_values(state.params, outputs["value"], next_observations, experience)
        log_prob, distribution, values = jax.tree.map(
            lambda leaf: leaf[: experience.rewards.shape[0]],
            (log_prob, policy.distribution(outputs), outputs["value"]),
        )
        advantages = generalized_advantages(
            rewards,
            values,
            next_values,
            experience.terminated,
            experience.truncated,
            discount=options.discount,
            trace=options.trace,
        )
        targets = advantages + values
        columns = _Samples(
            observations,
            actions,
            experience.raw_actions,
            log_prob,
            distribution,
            values,
            advantages,
            targets,
            experience.resets,
            (),
        )
        starts = jax.tree.map(lambda leaf: leaf[:-1:length], experience.carries)
        columns, starts = sharding.whole((columns, starts), mesh)
        samples = jax.tree.map(lambda leaf: _rows(leaf, length if recurrent else None), columns)
        samples = samples._replace(carry=jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), starts))
        progress = jnp.minimum(jnp.asarray(state.steps, jnp.float32) / config.total_steps, 1.0)
        # As one vector, a step of Adam is a few kernels and not a few for each array.
        params, unravel = jax.flatten_util.ravel_pytree(state.params)
        # All orders before the loop: within it XLA computes the order anew for each column that it gathers.
        orders = jax.vmap(lambda key: permutation(key, samples.log_prob.shape[0]))(epoch_keys)
        orders = orders.reshape(config.num_epochs, -1, config.batch_size // length)
        learnt = params, state.optimizer, jnp.zeros(len(_TOLD))
        (params, moments, sums), rate = learnt_from(samples, orders, learnt, options, progress, unravel)
        # NaN where no step was taken.
        metrics: dict[str, Any] = dict(zip(_TOLD[:-1], sums[:-1] / sums[-1], strict=True))
        metrics["skipped"] = orders.shape[0] * orders.shape[1] - sums[-1].astype(jnp.int32)
        unexplained, variance = jnp.var(jnp.stack([targets - values, targets]), axis=(1, 2))
        metrics["explained_variance"] = 1.0 - unexplained / (variance + 1e-8)
        metrics["learning_rate"] = annealed(rate, progress)
        metrics["saturation"] = saturation(policy.spec, experience.actions)
        seen = state.observation_statistics
        if config.normalize_observations:
            seen = normalize.update(seen, sharding.environments_first(experience.observations, mesh))
        # Statistics never come back from NaN, so an experience that holds it leaves no trace in them.
        usable = jnp.all(jnp.isfinite(seen.m2)) & jnp.isfinite(return_statistics.m2)
        seen, return_statistics, discounted_returns = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old),
            (seen, return_statistics, discounted_returns),
            (state.observation_statistics, state.return_statistics, state.discounted_returns),
        )
        return state._replace(
            params=unravel(params),
            optimizer=moments,
            observation_statistics=seen,
            return_statistics=return_statistics,
            discounted_returns=discounted_returns,
            hyperparameters=options._replace(learning_rate=rate),
        ), metrics

    return update


def _check_value(outputs: dict[str, Any], log_prob: Array) -> None:
    if "value" not in outputs:
        raise ValueError(
            f"policy: expected outputs['value'] beside the mean, got {sorted(outputs)}. Put its network "
            f"into gaussjax.networks.ActorCritic."
        )
    if outputs["value"].shape != log_prob.shape:
        raise ValueError(
            f"policy: expected outputs['value'] of shape {log_prob.shape}, one for each observation, got "
            f"{outputs['value'].shape}. Among advantages it would broadcast: use value[..., 0]."
        )


def _rows(leaf: Array, length: int | None) -> Array:
    """`(T, N, …)` as samples `(T·N, …)`, or as sequences `(T/length·N, length, …)`."""
    if length is None:
        return leaf.reshape(-1, *leaf.shape[2:])
    chunks = leaf.reshape(-1, length, *leaf.shape[1:])
    return jnp.swapaxes(chunks, 1, 2).reshape(-1, length, *leaf.shape[2:])


def _scaled_rewards(
    state: State, experience: rollout.Rollout, config: Config, mesh: Mesh | None
) -> tuple[Array, normalize.Statistics, Array]:
    """Rewards divided by the deviation of the discounted return, which is kept up to date."""
    if not config.normalize_rewards:
        return experience.rewards, state.return_statistics, state.discounted_returns
    ends = experience.terminated | experience.truncated

    def accumulate(returns: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, end = now
        returns = state.hyperparameters.discount * returns + reward
        return jnp.where(end, 0.0, returns), returns

    last, returns = jax.lax.scan(accumulate, state.discounted_returns, (experience.rewards, ends))
    statistics = normalize.update(state.return_statistics, sharding.environments_first(returns, mesh))
    return experience.rewards * jax.lax.rsqrt(normalize.variance(statistics) + 1e-8), statistics, last
