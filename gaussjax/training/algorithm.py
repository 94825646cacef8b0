"""What every training algorithm is: two functions, the policy they train, and what steps its environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gaussjax.policy import Policy

Metrics = dict[str, Any]


class Algorithm(NamedTuple):
    """A training algorithm bound to its environments or its data.

    Attributes:
        init: `(key) -> State`. The key is consumed. Resets the environments.
        step: `(State) -> (State, metrics)`: one update of PPO with its rollout, `num_steps` steps of
            SAC with their gradient steps, one epoch of cloning.
        policy: The policy that is trained; `state.params` are its parameters.
        runner: What steps host environments, whose state is not in `State`; None where there are none.
    """

    init: Callable[[Any], Any]
    step: Callable[[Any], tuple[Any, Metrics]]
    policy: Policy
    runner: Any = None


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
