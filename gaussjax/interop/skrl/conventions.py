"""skrl's calling conventions: its functions around a policy of gaussjax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gaussjax.core.choices import choose
from gaussjax.interop.skrl import sequences
from gaussjax.policy import Policy


class Profile(NamedTuple):
    """A policy called as a model of one version of skrl is.

    Attributes:
        act: `(params, key, inputs) -> (actions, log_prob, outputs)` in 1.4.3, and from 2.0.0 on
            `(actions, outputs)` with `outputs["log_prob"]`; `role=` is taken and means nothing.
            `inputs` has the observations as `"states"` in 1.4.3 and `"observations"` after it, and
            maybe `"taken_actions"`. For a recurrent policy `"rnn"` holds the states, each
            `(layers, N, hidden)`, before and, in the outputs, after; with `"terminated"` the batch is
            one of training, see `gaussjax.interop.skrl.sequences.call`.
        entropy: `(params, inputs)`: a dimension, `(N, act)`, and in 2.1.1 their sum, `(N, 1)`.
        log_std: `(params, inputs)`: `(N, act)`; of 1.4.3 only, else None.
    """

    act: Callable[..., Any]
    entropy: Callable[..., Any]
    log_std: Callable[..., Any] | None


def profile(policy: Policy, version: str) -> Profile:
    """The functions of a policy with the arity, names and shapes of a version of skrl.

    It is for moving a program over step by step; keys are given as in gaussjax, for skrl's hidden ones
    freeze under `jit`.

    Args:
        policy: Of `gaussjax.gaussian` or `gaussjax.torch.gaussian`; with a memory if it is one of RNN, GRU, LSTM.
        version: "1.4.3", "2.0.0" or "2.1.1".

    Returns:
        `act`, `entropy` and `log_std` as that version has them.

    Raises:
        ValueError: Another version or kind of policy, or options that skrl has not.

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
    if policy.spec.kind != "gaussian" or options["clipped_log_prob"] != "density" or not options["keepdims"]:
        raise ValueError(
            f"policy: expected one of gaussian with clipped_log_prob='density' and keepdims=True, which skrl has, got "
            f"{policy.spec.kind} with {options}."
        )
    sequences.check(policy)
    name = "states" if version == "1.4.3" else "observations"

    def act(params: Any, key: Any, inputs: Mapping[str, Any], *, role: str = "") -> Any:
        call = sequences.call(policy, inputs, name)
        actions, log_prob, outputs = policy.act(params, key, call.observations, **call.options)
        states = {"rnn": call.states(outputs["carry"])} if "carry" in outputs else {}
        kept = {name: call.flat(value) for name, value in outputs.items() if name not in ("raw_actions", "carry")}
        actions, log_prob = call.flat(actions), call.flat(log_prob)
        if version == "1.4.3":
            return actions, log_prob, {**kept, **states}
        return actions, {**kept, **states, "log_prob": log_prob}

    def each(function: Callable[..., Any], params: Any, inputs: Mapping[str, Any]) -> Any:
        call = sequences.call(policy, inputs, name)
        options = {name: value for name, value in call.options.items() if name != "taken_actions"}
        return call.flat(function(params, call.observations, **options))

    def entropy(params: Any, inputs: Mapping[str, Any]) -> Any:
        terms = each(policy.entropy, params, inputs)
        return terms.sum(-1)[..., None] if version == "2.1.1" else terms

    def log_std(params: Any, inputs: Mapping[str, Any]) -> Any:
        return each(policy.log_std, params, inputs)

    return Profile(act, entropy, log_std if version == "1.4.3" else None)
