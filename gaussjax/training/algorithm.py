"""The record that every training algorithm returns, and checks of its options and its policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from gaussjax.policy import Policy


class Algorithm(NamedTuple):
    """A training loop bound to its environments or its dataset.

    Attributes:
        init: `(key) -> state`. Consumes the key and resets the environments.
        step: `(state) -> (state, metrics)`: one update of PPO with its rollout, `num_steps` environment
            steps of SAC with their gradient steps, or one epoch of cloning. Metrics are a dict of scalars.
        policy: The policy that is trained; its parameters are `state.params`.
        runner: The object that steps host environments; their state is not part of `state`. None without them.
        on_policy: True when the parameters given to a step act in all episodes of that step.
        in_place: True when a step donates the buffers of the state it is given.
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
    """Refuse options outside their range, and numbers that are not finite; None is never refused.

    Args:
        config: Any object with the options as attributes.
        counts: Names of the options that are at least one.
        positive: Names of the options above zero.
        fractions: Names of the options from zero to one.

    Raises:
        ValueError: An option is out of range.
    """
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}.")
    for name in (*counts, *positive, *fractions):
        value = getattr(config, name)
        if value is None:
            continue
        if name in counts and not value >= 1:
            raise ValueError(f"{name}: expected at least 1, got {value}.")
        if name in counts and value >= 2**31:
            raise ValueError(f"{name}: expected less than 2**31, for steps are counted in 32 bits, got {value}.")
        if name in positive and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}.")
        if name in fractions and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number from 0 to 1, got {value}.")


def check_reduction(policy: Policy) -> None:
    """Refuse a policy whose log-densities are not sums over the actions."""
    reduction = dict(policy.spec.options)["reduction"]
    if reduction != "sum":
        raise ValueError(
            f"policy: expected log-densities summed over the actions, got reduction={reduction!r}. Make the policy "
            f"with reduction='sum'."
        )


def without_axis(policy: Policy, log_prob: jax.Array) -> jax.Array:
    """Summed log-densities as `(…)`, also for a policy with `keepdims=True`."""
    return log_prob[..., 0] if dict(policy.spec.options)["keepdims"] else log_prob
