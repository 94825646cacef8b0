"""Functions of a policy with skrl's calling conventions: dicts of inputs, and flat batches of sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax

from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.core.text import quoted
from gaussjax.networks.recurrent.networks import Recurrent
from gaussjax.policy import Policy


class ModelAct(Protocol):
    """Signature of the method `act` of a skrl model, with the parameters and the key as arguments."""

    def __call__(self, params: Any, key: Any, inputs: Mapping[str, Any], *, role: str = "") -> tuple[Any, ...]:
        """Returns `(actions, outputs)`, or `(actions, log_prob, outputs)` for version 1.4.3."""
        ...


class Profile(NamedTuple):
    """Functions of a policy with the signatures of one version of skrl.

    Attributes:
        act: `(params, key, inputs) -> (actions, log_prob, outputs)` in 1.4.3, and from 2.0.0 on
            `(actions, outputs)` with `outputs["log_prob"]`; `role=` is ignored. `inputs` holds the observations as
            `"states"` (1.4.3) or `"observations"`, and optionally `"taken_actions"`. For a recurrent policy `"rnn"`
            holds the carry in inputs and outputs, as a list of arrays `(layers, N, hidden)`. With `"terminated"` the
            batch consists of sequences of the network's `sequence_length`; the carry is zero after flagged steps.
        entropy: `(params, inputs) -> (N, act)`, the entropy of each dimension; in 2.1.1 their sum, `(N, 1)`.
        log_std: `(params, inputs) -> (N, act)` in 1.4.3, else None.
    """

    act: ModelAct
    entropy: Callable[[Any, Mapping[str, Any]], Any]
    log_std: Callable[[Any, Mapping[str, Any]], Any] | None


def profile(policy: Policy, version: str) -> Profile:
    """Returns a policy's functions with the arguments and results of one version of skrl, for gradual migration.

    The key is an argument, as in gaussjax, because the hidden key of skrl would be a constant under `jit`.

    Args:
        policy: Policy of `gaussjax.gaussian` or `gaussjax.torch.gaussian`; a recurrent one has RNN, GRU or LSTM.
        version: "1.4.3", "2.0.0" or "2.1.1".

    Returns:
        `act`, `entropy` and `log_std` of that version.

    Raises:
        ValueError: The version is unknown, or skrl has no such policy.

    Example:
        >>> import gaussjax, jax, jax.numpy as jnp
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> old, params = profile(policy, "2.1.1"), policy.init(jax.random.key(0))
        >>> actions, outputs = old.act(params, jax.random.key(1), {"observations": jnp.zeros((5, 3))})
        >>> actions.shape, outputs["log_prob"].shape, old.entropy(params, {"observations": jnp.zeros((5, 3))}).shape
        ((5, 2), (5, 1), (5, 1))
    """
    choose(dict.fromkeys(("1.4.3", "2.0.0", "2.1.1")), version, "version")
    options = dict(policy.spec.options)
    clipped_log_prob, keepdims = options.get("clipped_log_prob"), options.get("keepdims")
    if clipped_log_prob != "density" or not keepdims or policy.kind.network_outputs:
        raise ValueError(
            f"policy: expected mean, log_std, clipped_log_prob='density' and keepdims=True, which skrl has, got "
            f"{policy.kind.name} with {options}. Make the policy with gaussjax.gaussian."
        )
    if jax.tree.leaves(policy.initial_carry()) and not isinstance(policy.spec.network, Recurrent):
        raise ValueError(
            f"policy: expected a network that is not recurrent, or RNN, GRU, LSTM or MinGRU, got "
            f"{type(policy.spec.network).__name__}. Call its functions with carry and resets."
        )
    name = "states" if version == "1.4.3" else "observations"

    def act(params: Any, key: Any, inputs: Mapping[str, Any], *, role: str = "") -> tuple[Any, ...]:
        call = _call(policy, inputs, name)
        actions, log_prob, outputs = policy.act(params, key, call.observations, **call.options)
        states = {"rnn": call.states(outputs["carry"])} if "carry" in outputs else {}
        kept = {name: call.flat(value) for name, value in outputs.items() if name not in ("raw_actions", "carry")}
        actions, log_prob = call.flat(actions), call.flat(log_prob)
        if version == "1.4.3":
            return actions, log_prob, {**kept, **states}
        return actions, {**kept, **states, "log_prob": log_prob}

    def call_with_inputs(function: Callable[..., Any], params: Any, inputs: Mapping[str, Any]) -> Any:
        call = _call(policy, inputs, name)
        options = {name: value for name, value in call.options.items() if name != "taken_actions"}
        return call.flat(function(params, call.observations, **options))

    def entropy(params: Any, inputs: Mapping[str, Any]) -> Any:
        terms = call_with_inputs(policy.entropy, params, inputs)
        return terms.sum(-1)[..., None] if version == "2.1.1" else terms

    return Profile(act, entropy, partial(call_with_inputs, policy.log_std) if version == "1.4.3" else None)


class _Call(NamedTuple):
    """Arguments for a policy, and two functions that convert its results and its carry to skrl's shapes."""

    observations: Any
    options: dict[str, Any]
    flat: Callable[[Any], Any]
    states: Callable[[Any], list[Any]]


def _call(policy: Policy, inputs: Mapping[str, Any], name: str) -> _Call:
    """Converts the inputs of a skrl model, with observations under `name`, to arguments of a policy."""
    if name not in inputs:
        raise ValueError(f"inputs: expected the observations as {name!r}, got the names {quoted(sorted(inputs))}.")
    observations, taken = inputs[name], inputs.get("taken_actions")
    template = policy.initial_carry()
    if not jax.tree.leaves(template):
        return _Call(observations, {"taken_actions": taken}, lambda array: array, lambda carry: [])
    hidden, structure = jax.tree.flatten(template[0])
    given, layers, width = inputs.get("rnn", []), len(template), hidden[0].shape[-1]
    shapes = [tuple(state.shape) for state in given]
    if len(given) != len(hidden) or any(shape[:1] + shape[2:] != (layers, width) for shape in shapes):
        raise ValueError(
            f"inputs['rnn']: expected a list of {len(hidden)} states of shape ({layers}, N, {width}), got {shapes}. "
            f"Begin with zeros."
        )
    ended = inputs.get("terminated")
    length = 1 if ended is None else policy.spec.network.sequence_length
    if shapes[0][1] % length:
        raise ValueError(
            f"inputs: expected consecutive sequences of {length} steps, got {shapes[0][1]} steps in all. Set "
            f"the network's sequence_length to that of skrl's memory."
        )

    def sequences(array: Any) -> Any:
        array = array.reshape(-1, length, *array.shape[1:])
        return array[:, 0] if ended is None else array.swapaxes(0, 1)

    def flat(array: Any) -> Any:
        return array if ended is None else array.swapaxes(0, 1).reshape(-1, *array.shape[2:])

    first = [state.reshape(layers, -1, length, width)[:, :, 0] for state in given]
    options = {"carry": tuple(jax.tree.unflatten(structure, [state[i] for state in first]) for i in range(layers))}
    if taken is not None:
        options["taken_actions"] = sequences(taken)
    if ended is not None:
        ends = ended.reshape(-1, length).swapaxes(0, 1) != 0
        options["resets"] = xp.concatenate([xp.zeros_like(ends[:1]), ends[:-1]])

    def states(carry: Any) -> list[Any]:
        after = [xp.stack(parts) for parts in zip(*map(jax.tree.leaves, carry), strict=True)]
        return after if ended is None else [state * ~ends[-1][None, :, None] for state in after]

    return _Call(jax.tree.map(sequences, observations), options, flat, states)
