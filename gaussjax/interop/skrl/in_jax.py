"""The class of the models that skrl's agents in JAX get."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.core import Tracer

from gaussjax.distributions.special import HALF_LOG_2PI
from gaussjax.interop.skrl.conventions import Conventions, described_spaces, with_value
from gaussjax.policy import Policy

# Entropy in nats of a normal distribution whose standard deviation is 1, about 1.4189.
_UNIT_ENTROPY = 0.5 + HALF_LOG_2PI
# Inputs of a model besides those that the policy observes.
_OPTIONS = ("taken_actions", "rnn", "terminated", "truncated")


# The second base of the models is skrl's own class, which is imported with the first of them.
_Base: Any = object


class Methods(_Base):
    """A policy of gaussjax as a model of skrl; `state_dict` holds the parameters, which skrl's optimizers step.

    skrl's agents compute the entropy from `outputs["stddev"]` alone, as of a normal distribution. So `stddev` is
    `exp(entropy of the dimension - 1.4189)`: the standard deviation of a normal distribution, and for any other kind
    the number from which `get_entropy` gives the right entropy.
    """

    def __init__(
        self,
        policy: Policy,
        key: jax.Array,
        params: Any,
        deterministic: bool,
        converted: Conventions,
        state_space: Any,
        device: Any,
    ) -> None:
        super().__init__(**described_spaces(policy, converted, state_space, device, super().__init__))
        nn.Module.__post_init__(self)  # type: ignore[arg-type]
        # A device cannot be pickled, but its name can.
        device = f"{self.device.platform}:{self.device.id}"
        self._made_with = policy, key, deterministic, converted, state_space, device
        self.policy, self.conventions, self.deterministic = policy, converted, deterministic
        self._calls, self._shared = 0, None
        self._jitted = jax.jit(self._run, static_argnames="is_value")
        start, self._key = jax.random.split(key)
        with jax.default_device(self.device):
            self._hold(policy.init(start) if params is None else jax.tree.map(jnp.asarray, params))

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes the model anew, because compiled functions cannot be copied."""
        return _remade, (self._made_with, self.state_dict.params, self._calls, self.training)

    # Flax copies a module by its fields.
    def __deepcopy__(self, _: Any) -> Any:
        return _remade(self._made_with, self.state_dict.params, self._calls, self.training)

    def _hold(self, params: Any) -> None:
        from skrl.models.jax.base import StateDict  # type: ignore[import-not-found]

        self.state_dict = StateDict.create(apply_fn=self.apply, params=params)

    def init_state_dict(self, inputs: Any = None, *, role: str = "", key: jax.Array | None = None) -> None:
        """Draws the parameters anew if there is a key; without one the model keeps its parameters."""
        if key is not None:
            self._hold(self.policy.init(key))

    def init(self, key: jax.Array, *_: Any, **__: Any) -> Any:
        """Returns new parameters of the policy."""
        return self.policy.init(key)

    def apply(self, params: Any, inputs: Mapping[str, Any], role: str = "", **_: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the mean and the outputs of the network, or the value and no outputs."""
        actions, outputs = self._run(params, None, self._chosen(inputs), is_value=self._is_value(role))
        return outputs.get("mean_actions", actions), {name: x for name, x in outputs.items() if name != "value"}

    def act(self, inputs: Mapping[str, Any], role: str = "", params: Any = None) -> tuple[Any, ...]:
        """Returns actions, or a value, and a dict of further outputs, in the form of the model's version.

        The noise depends on the key of the model and on the number of the call, or on `inputs["key"]`. Within a `jit`
        of the caller key and number are constants, so there parameters and observations are folded into the key.
        """
        params = self.state_dict.params if params is None else params
        chosen, is_value, key, calls = self._chosen(inputs), self._is_value(role), None, None
        seen = jax.tree.leaves((params, {**chosen, "taken_actions": None}))
        if is_value and self._shared is not None and all(map(operator.is_, seen, self._shared[0])):
            (_, result), self._shared = self._shared, None
            return self._result(*result)
        traced = any(isinstance(leaf, Tracer) for leaf in seen)
        if not self.deterministic and not is_value:
            key = inputs.get("key")
            if key is None:
                calls, self._calls = self._calls, self._calls + 1
                key = _folded(self._key, seen) if traced else self._key
        run = self._run if traced else self._jitted
        actions, outputs = run(params, key, chosen, calls, is_value=is_value)
        # The values of immutable arrays are kept for the call that asks for them next.
        if "value" in outputs and all(isinstance(leaf, jax.Array) for leaf in seen) and not traced:
            states = {"rnn": outputs["rnn"]} if "rnn" in outputs else {}
            self._shared = seen, (outputs["value"], states)
        return self._result(actions, outputs)

    def get_entropy(self, stddev: jax.Array, role: str = "") -> jax.Array:
        """Returns the entropy in nats of `outputs["stddev"]`: `(N, 1)` in 2.1.1, else `(N, act)`."""
        terms = jnp.log(stddev) + _UNIT_ENTROPY
        return terms.sum(-1, keepdims=True) if self.conventions.version == "2.1.1" else terms

    def get_specification(self) -> dict[str, Any]:
        """Returns the sizes of the recurrent states."""
        return self.conventions.specification()

    def _is_value(self, role: str) -> bool:
        return role == "value" and not self.deterministic

    def _chosen(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = (*(name for name, _ in self.conventions.parts), *_OPTIONS)
        return {name: inputs[name] for name in names if inputs.get(name) is not None}

    def _run(
        self, params: Any, key: Any, inputs: dict[str, Any], calls: Any = None, *, is_value: bool
    ) -> tuple[Any, dict[str, Any]]:
        # Within the compiled function this costs nothing.
        key = key if calls is None else jax.random.fold_in(key, calls)
        call = self.conventions.call(inputs)
        taken = None if key is None or "taken_actions" not in inputs else call.sequences(inputs["taken_actions"])
        options = {**call.options, "deterministic": key is None, "taken_actions": taken}
        actions, log_prob, found = self.policy.act(params, key, call.observations, **options)
        outputs, actions = call.outputs(found), call.flat(actions)
        states = {"rnn": call.states(found["carry"])} if "carry" in found else {}
        if self.deterministic:
            return actions, states
        value = {"value": call.flat(found["value"])[..., None]} if "value" in found else None
        if is_value:
            return with_value(value, self.policy)["value"], states
        entropy = self.policy.distribution(outputs).entropy("none")
        outputs["stddev"] = jnp.exp(jnp.broadcast_to(entropy, actions.shape) - _UNIT_ENTROPY)
        log_prob = call.flat(log_prob)
        outputs["log_prob"] = log_prob if log_prob.ndim == actions.ndim else log_prob[..., None]
        return actions, {**outputs, **states, **(value or {})}

    def _result(self, actions: Any, outputs: dict[str, Any]) -> tuple[Any, ...]:
        outputs = {name: value for name, value in outputs.items() if name != "value"}
        if self.conventions.version == "1.4.3":
            return actions, outputs.pop("log_prob", None), outputs
        return actions, outputs


def _folded(key: jax.Array, leaves: list[Any]) -> jax.Array:
    """Returns a key that depends on the bits of floating-point arrays."""
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            words = jax.lax.bitcast_convert_type(jnp.asarray(jax.lax.stop_gradient(leaf), jnp.float32), jnp.uint32)
            key = jax.random.fold_in(key, jnp.sum(words, dtype=jnp.uint32))
    return key


def _remade(made_with: tuple[Any, ...], params: Any, calls: int, training: bool) -> Any:
    policy, key, *options = made_with
    model = model_class()(policy, key, params, *options)
    model._calls, model.training = calls, training
    return model


@functools.cache
def model_class() -> type:
    """Returns the class, with skrl's own as its second base; skrl is imported with the first model."""
    from skrl.models.jax import Model  # type: ignore[import-not-found]

    # Flax would write a constructor for a class without one of its own.
    return type("JaxModel", (Methods, Model), {"__module__": __name__, "__init__": Methods.__init__})
