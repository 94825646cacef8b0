"""What every training algorithm is: two functions, the policy they train, and what steps its environments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gaussjax.policy import Policy


def check_options(config: Any, counts: Sequence[str], positive: Sequence[str], fractions: Sequence[str] = ()) -> None:
    """Refuses options outside their range and numbers that are not finite; one that is None is left out.

    Args:
        config: What holds them.
        counts: Names of those that are at least one.
        positive: Of those above zero.
        fractions: Of those from zero to one.

    Raises:
        ValueError: One is outside.

    Example:
        >>> import types
        >>> check_options(types.SimpleNamespace(num_envs=0), ["num_envs"], [])
        Traceback (most recent call last):
        ValueError: num_envs: expected at least 1, got 0.
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


class Algorithm(NamedTuple):
    """A training algorithm bound to its environments or its data.

    Attributes:
        init: `(key) -> State`. The key is consumed. Resets the environments.
        step: `(State) -> (State, metrics)`: one update of PPO with its rollout, `num_steps` steps of
            SAC with their gradient steps, one epoch of cloning. The metrics are Python's numbers where
            environments are on the host, else a `gaussjax.training.metrics.Metrics`.
        policy: The policy that is trained; `state.params` are its parameters.
        runner: What steps host environments, whose state is not in `State`; None where there are none.
        on_policy: Whether the parameters that a step is given play its episodes, to the last of them.
        in_place: Whether a step uses up the state that it is given.
        random_steps: Steps at the beginning whose actions are drawn without the policy.
    """

    init: Callable[[Any], Any]
    step: Callable[[Any], tuple[Any, Mapping[str, Any]]]
    policy: Policy
    runner: Any = None
    on_policy: bool = False
    in_place: bool = False
    random_steps: int = 0


def refuse_wide(policy: Policy) -> None:
    """Refuses a policy whose log-densities are not one number each: among advantages they would broadcast.

    Raises:
        ValueError: It was made with `keepdims=True`, or without a reduction.
    """
    options = dict(policy.spec.options)
    if options["keepdims"] or options["reduction"] == "none":
        raise ValueError(
            f"policy: expected log-densities (…), got keepdims={options['keepdims']} and "
            f"reduction={options['reduction']!r}. Make it with keepdims=False and a reduction."
        )
