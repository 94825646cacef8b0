"""What users hold of a policy: its functions, what they return, and its description."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gaussjax import spaces
from gaussjax.networks.description import to_dict

if TYPE_CHECKING:
    from jaxtyping import Array, Float


Params = Any
"""The pytree that the network's `init` gives."""


class ActOutput(NamedTuple):
    """What `act` returns.

    Attributes:
        actions: For the environment, `(…, act)`.
        log_prob: Log-density in nats, `(…, 1)`; see `reduction` and `keepdims` of the factory.
        outputs: `mean_actions`, `log_std` and `raw_actions` (before clip or squash), each
            `(…, act)`, then `carry` for a recurrent network and what the network adds.
    """

    actions: Float[Array, "*batch act"]
    log_prob: Float[Array, "..."]
    outputs: dict[str, Any]


class EvaluateOutput(NamedTuple):
    """What `evaluate` returns.

    Attributes:
        log_prob: Log-density of the actions given, in nats.
        entropy: In nats, reduced as `log_prob` is.
        outputs: As of `act`, without `raw_actions`: nothing was sampled.
    """

    log_prob: Float[Array, "..."]
    entropy: Float[Array, "..."]
    outputs: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Spec:
    """All that a policy was made from; `gaussjax.from_spec` makes it again.

    Attributes:
        kind: Name of the factory.
        network: The network as it was given.
        observation_space: Described by `gaussjax.spaces`.
        action_space: Likewise, a Box.
        options: The factory's options as pairs of name and value.
    """

    kind: str
    network: Any
    observation_space: spaces.Space
    action_space: spaces.Box
    options: tuple[tuple[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {
            "kind": self.kind,
            "network": to_dict(self.network),
            "observation_space": spaces.to_dict(self.observation_space),
            "action_space": spaces.to_dict(self.action_space),
            "options": {name: _plain(value) for name, value in self.options},
        }


class Policy(NamedTuple):
    """Pure functions of one policy, compiled, to be called bare or inside jit, vmap and scan.

    Observations have any leading dimensions, and all results have the same. Errors are raised
    while a call is traced, so they cost nothing afterwards and read the same under `jit`.

    Attributes:
        init: `(key, observations=None) -> params`. The key is consumed.
        apply: `(params, observations, *, carry=None, resets=None) -> (distribution, outputs)`.
        act: `(params, key, observations, *, taken_actions=None, carry=None, resets=None,
            deterministic=False, noise=None) -> ActOutput`. The key is consumed; `noise`, standard
            normal and of the shape of the actions, takes the place of the draw, and then, as
            when `deterministic`, the key may be None.
        evaluate: `(params, observations, taken_actions, *, raw_actions=None, carry=None,
            resets=None) -> EvaluateOutput`: one forward pass, nothing sampled. `raw_actions`,
            from the outputs of `act`, are read where the log-density is theirs: of squashed
            actions, and of clipped ones with `clipped_log_prob="unclipped"`.
        entropy: `(params, observations, *, carry=None, resets=None)`: nats a dimension, `(…, act)`.
        log_std: The same arguments: the log standard deviation after the clip, `(…, act)`.
        distribution: `(outputs) -> distribution`, of the outputs of `act` or `evaluate` that which
            `apply` gives, without another forward pass.
        initial_carry: `(batch_shape=()) -> carry`: zeros, or `()` for a network without memory.
        spec: What the policy was made from, hashable.
    """

    init: Callable[..., Params]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    act: Callable[..., ActOutput]
    evaluate: Callable[..., EvaluateOutput]
    entropy: Callable[..., Array]
    log_std: Callable[..., Array]
    distribution: Callable[[dict[str, Any]], Any]
    initial_carry: Callable[..., Any]
    spec: Spec

    def __repr__(self) -> str:
        # What it is made of; a tuple would show where its functions lie in memory.
        of = self.spec
        return f"<{of.kind} policy: {type(of.network).__name__}, {of.observation_space} to {of.action_space}>"


def _plain(value: Any) -> Any:
    # JSON has no number for infinity.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
