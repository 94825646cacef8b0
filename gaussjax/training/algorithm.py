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
