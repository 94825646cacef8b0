"""The `Algorithm` record that PPO, SAC and behavioural cloning return, and the functions that they share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaussjax import envs, normalize, spaces
from gaussjax.core.arrays import like_actions
from gaussjax.policy import Policy


class Algorithm(NamedTuple):
    """A training loop bound to its environments or its dataset.

    Attributes:
        init: `(key) -> state`. Consumes the key and resets the environments.
        step: `(state) -> (state, metrics)`: one update of PPO with its rollout, `num_steps` environment
            steps of SAC with their gradient steps, or one epoch of cloning. Metrics are a dict of scalars.
        policy: The policy that is trained; its parameters are `state.params`.
        runner: The `rollout.Runner` of host environments, whose state is not part of `state`; otherwise None.
        on_policy: True if all actions of a step come from the parameters of its input state.
        in_place: True if a step donates the buffers of its input state.
        random_steps: Environment steps at the start whose actions ignore the policy.
    """

    init: Callable[[Any], Any]
    step: Callable[[Any], tuple[Any, dict[str, Any]]]
    policy: Policy
    runner: Any = None
    on_policy: bool = False
    in_place: bool = False
    random_steps: int = 0


def check_options(config: Any, counts: Sequence[str], positive: Sequence[str], fractions: Sequence[str] = ()) -> None:
    """Raises ValueError unless all options are finite, counts >= 1, positive numbers > 0 and fractions in [0, 1]."""
    for name, value in vars(config).items():
        if value is None:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}.")
        if name in counts and not value >= 1:
            raise ValueError(f"{name}: expected at least 1, got {value}.")
        if name in counts and value >= 2**31:
            raise ValueError(f"{name}: expected less than 2**31, as steps are counted in 32 bits, got {value}.")
        if name in positive and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}.")
        if name in fractions and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number from 0 to 1, got {value}.")


def check_reduction(policy: Policy) -> None:
    """Raises ValueError for a policy whose log-densities are not summed over the action axis."""
    reduction = dict(policy.spec.options)["reduction"]
    if reduction != "sum":
        raise ValueError(
            f"policy: expected log-densities summed over the actions, got reduction={reduction!r}. Make the policy "
            f"with reduction='sum'."
        )


def check_num_envs(environments: Any, num_envs: int, share: int) -> None:
    """Raises ValueError unless this process has `share` environments, its part of the total `num_envs`."""
    if environments.num_envs != share:
        part = "" if share == num_envs else f"{share} of the "
        raise ValueError(
            f"environments: expected {part}num_envs = {num_envs}, got {environments.num_envs}. Make the numbers equal."
        )


def policy_for(environments: Any, config: Any, policy: Policy | None, make_policy: Callable[..., Policy]) -> Policy:
    """Validates and returns the policy to train: `policy`, or the default from `make_policy` if `policy` is None."""
    if policy is None:
        prefix = "" if isinstance(environments, envs.Environment) else "single_"
        both = (getattr(environments, f"{prefix}{name}_space") for name in ("observation", "action"))
        policy = make_policy(*both, config)
    check_reduction(policy)
    return policy


def without_axis(policy: Policy, log_prob: Array) -> Array:
    """Log-densities with the shape of the batch; drops the last axis that a policy with `keepdims=True` keeps."""
    return log_prob[..., 0] if dict(policy.spec.options)["keepdims"] else log_prob


def normalized(config: Any, statistics: normalize.Statistics, observations: Array) -> Array:
    """Observations for the policy and the critics, normalized if `config.normalize_observations` is true."""
    return normalize.apply(statistics, observations) if config.normalize_observations else observations


def saturation(policy: Policy, actions: Float[Array, "*batch act"]) -> Float[Array, ""]:
    """Fraction of action components at a bound of the Box, before or after the clip to the Box; from 0 to 1.

    Actions of a squashed policy never reach a bound, so components closer to it than 1% of half the Box's width
    count as well (`policy.kind.saturation_margin`). No component counts at an infinite bound.
    """
    low, high = (np.asarray(bound, np.float32) for bound in spaces.bounds(policy.spec.action_space))
    if policy.kind.saturation_margin:
        margin = policy.kind.saturation_margin * 0.5 * (high - low)
        low, high = low + margin, high - margin
    low, high = like_actions(low, high, actions)
    return jnp.mean((actions <= low) | (actions >= high), dtype=jnp.float32)


def where(condition: Array, new: Any, old: Any) -> Any:
    """Returns the pytree `new` if the scalar condition is true, and the pytree `old` otherwise."""
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def host_metrics(steps: int, taken: int, start: float, episodes: float, returns: float, lengths: float) -> dict:
    """Metrics of a training step, from sums over the episodes that finished in it; their means are NaN if none did."""
    return {
        "step": steps,
        "steps_per_second": taken / (time.perf_counter() - start),
        "episode_return": float(returns / episodes) if episodes else float("nan"),
        "episode_length": float(lengths / episodes) if episodes else float("nan"),
    }
