"""Recurrent policies called as skrl calls its own: flat batches, states as a list, flags of what ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from gaussjax.core.arrays import xp
from gaussjax.networks.recurrent.networks import Recurrent
from gaussjax.policy import Policy


class Call(NamedTuple):
    """What a policy is to be given, and how its results are those of skrl again.

    Attributes:
        observations: `(N, …)`, or a sequence `(length, N, …)`.
        options: `carry` and `resets`, and `taken_actions` where there are some.
        flat: Brings an array of one entry for each observation into skrl's order.
        states: The carry that the policy returned as skrl's list, each `(layers, N, hidden)`.
    """

    observations: Any
    options: dict[str, Any]
    flat: Callable[[Any], Any]
    states: Callable[[Any], list[Any]]


def check(policy: Policy) -> None:
    """Refuses a policy whose memory skrl could not hold.

    Raises:
        ValueError: Its network has a memory, and is none of RNN, GRU, LSTM and MinGRU.
    """
    if jax.tree.leaves(policy.initial_carry()) and not isinstance(policy.spec.network, Recurrent):
        raise ValueError(
            f"policy: expected a network without a memory, or RNN, GRU, LSTM or MinGRU, got "
            f"{type(policy.spec.network).__name__}. Call its functions with carry and resets."
        )


def call(policy: Policy, inputs: Mapping[str, Any], name: str) -> Call:
    """The arguments for the policy from the inputs of a model of skrl.

    Args:
        policy: One that `check` lets pass.
        inputs: The observations under `name`; `"rnn"`, the states before them; with `"terminated"`
            the batch is one of training: sequences of the network's `sequence_length` one behind the
            other, where a state is zeroed behind each step that is flagged.
        name: "states" or "observations".

    Raises:
        ValueError: There are no observations, no states, others than the network has, or no whole sequences.
    """
    if name not in inputs:
        raise ValueError(f"inputs: expected the observations as {name!r}, got the names {sorted(inputs)}.")
    observations, taken = inputs[name], inputs.get("taken_actions")
    template = policy.initial_carry()
    if not jax.tree.leaves(template):
        return Call(observations, {"taken_actions": taken}, lambda array: array, lambda carry: [])
    hidden, kind = jax.tree.flatten(template[0])
    given, layers, width = inputs.get("rnn", []), len(template), hidden[0].shape[-1]
    shapes = [tuple(state.shape) for state in given]
    if len(given) != len(hidden) or any(shape[:1] + shape[2:] != (layers, width) for shape in shapes):
        raise ValueError(
            f"inputs['rnn']: expected a list of {len(hidden)} states of shape ({layers}, N, {width}), got {shapes}. "
            f"At the beginning they are zeros."
        )
    ended = inputs.get("terminated")
    length = 1 if ended is None else policy.spec.network.sequence_length
    if shapes[0][1] % length:
        raise ValueError(
            f"inputs: expected sequences of {length} steps one behind the other, got {shapes[0][1]} steps. "
            f"Set sequence_length of the network to the one of the memory."
        )

    def sequences(array: Any) -> Any:
        array = array.reshape(-1, length, *array.shape[1:])
        return array[:, 0] if ended is None else array.swapaxes(0, 1)

    def flat(array: Any) -> Any:
        return array if ended is None else array.swapaxes(0, 1).reshape(-1, *array.shape[2:])

    first = [state.reshape(layers, -1, length, width)[:, :, 0] for state in given]
    options = {"carry": tuple(jax.tree.unflatten(kind, [state[i] for state in first]) for i in range(layers))}
    if taken is not None:
        options["taken_actions"] = sequences(taken)
    if ended is not None:
        ends = ended.reshape(-1, length).swapaxes(0, 1) != 0
        options["resets"] = xp.concatenate([xp.zeros_like(ends[:1]), ends[:-1]])

    def states(carry: Any) -> list[Any]:
        after = [xp.stack(parts) for parts in zip(*map(jax.tree.leaves, carry), strict=True)]
        return after if ended is None else [state * ~ends[-1][None, :, None] for state in after]

    return Call(jax.tree.map(sequences, observations), options, flat, states)
