"""Conversions between a policy and skrl's models: flat inputs by name, lists of recurrent states, flat sequences."""

from __future__ import annotations

import importlib.metadata
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from gaussjax import spaces
from gaussjax.core.arrays import is_other, xp
from gaussjax.core.choices import choose
from gaussjax.core.compiled import count
from gaussjax.core.text import quoted
from gaussjax.networks.recurrent.networks import Recurrent
from gaussjax.policy import Policy, checks
from gaussjax.spaces.arrays import to_gymnasium

VERSIONS = ("1.4.3", "2.0.0", "2.1.1")
# Entries of skrl's inputs. A policy over a Dict with only such names gets these entries, any other the observations.
INPUTS = ("observations", "states", "taken_actions")
# Outputs of a policy that skrl's models do not have, or have in another form.
_LEFT_OUT = ("raw_actions", "carry", "value")


class Call(NamedTuple):
    """Arguments of one call of a policy, and functions that convert arrays to its shapes and back.

    Attributes:
        observations: Observations, nested like the policy's space.
        options: `carry` and `resets` of a recurrent policy.
        sequences: Function from a flat batch to the shape of the policy's batch.
        flat: Function from the policy's batch to a flat batch.
        states: Function from the carry after the call to skrl's list of states.
    """

    observations: Any
    options: dict[str, Any]
    sequences: Callable[[Any], Any]
    flat: Callable[[Any], Any]
    states: Callable[[Any], list[Any]]

    def outputs(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the outputs of a policy as those of a model: flat, without those that a model does not have."""
        kept = {name: value for name, value in found.items() if name not in _LEFT_OUT}
        return kept if self.flat is _same else jax.tree.map(self.flat, kept)


def _same(array: Any) -> Any:
    return array


class Conventions(NamedTuple):
    """Shapes and names of the models of one version of skrl, for one policy.

    Attributes:
        version: One of `VERSIONS`.
        parts: Names of the inputs that the policy gets, and their spaces.
        is_dict: Whether the policy gets them as a dict; otherwise there is one.
        template: Carry of one environment; `()` without a recurrent network.
        sizes: Shapes `(layers, num_envs, hidden)` of skrl's recurrent states.
        sequence_length: Length of training sequences.
        reads: Names of all inputs from which the network computes.
    """

    version: str
    parts: tuple[tuple[str, spaces.Space], ...]
    is_dict: bool
    template: Any
    sizes: tuple[tuple[int, int, int], ...]
    sequence_length: int
    reads: tuple[str, ...]

    def specification(self) -> dict[str, Any]:
        """Returns the result of `get_specification`, which is empty without a recurrent network."""
        if not self.sizes:
            return {}
        return {"rnn": {"sequence_length": self.sequence_length, "sizes": list(self.sizes)}}

    def observations(self, inputs: Mapping[str, Any]) -> Any:
        """Returns the observations of a policy from the inputs of a model."""
        parts = {}
        for name, space in self.parts:
            flat = inputs.get(name)
            if flat is None:
                given = sorted(name for name, value in inputs.items() if value is not None)
                raise ValueError(
                    f"inputs: expected arrays under {quoted([name for name, _ in self.parts])}, got {quoted(given)}. "
                    f"Make the policy over the spaces of the inputs that the agent has."
                )
            parts[name] = unflatten(space, flat)
        return parts if self.is_dict else parts[self.parts[0][0]]

    def call(self, inputs: Mapping[str, Any]) -> Call:
        """Converts the inputs of a model to the arguments of a policy.

        A recurrent model gets its states under "rnn". With "terminated" the batch consists of consecutive sequences,
        and the states are zeroed after steps that are terminated or truncated.
        """
        observations = self.observations(inputs)
        if not self.sizes:
            return Call(observations, {}, _same, _same, list)
        given = list(inputs.get("rnn") or ())
        shapes = [tuple(state.shape) for state in given]
        if len(given) != len(self.sizes) or any(
            len(shape) != 3 or shape[::2] != size[::2] for shape, size in zip(shapes, self.sizes, strict=True)
        ):
            expected = ", ".join(f"({layers}, N, {width})" for layers, _, width in self.sizes)
            raise ValueError(
                f"inputs['rnn']: expected a list of states of shape {expected}, got {shapes}. Begin with zeros."
            )
        # Agents that bootstrap at a truncation pass both flags, and the state ends with either.
        flags = [inputs[name] for name in ("terminated", "truncated") if inputs.get(name) is not None]
        length, steps = self.sequence_length if flags else 1, shapes[0][1]
        if steps % length:
            raise ValueError(
                f"inputs: expected consecutive sequences of {length} steps, got {steps} steps in all. Set "
                f"the network's sequence_length to a divisor of the agent's rollouts."
            )

        def sequences(array: Any) -> Any:
            array = array.reshape(-1, length, *array.shape[1:])
            return array.swapaxes(0, 1) if flags else array[:, 0]

        def flat(array: Any) -> Any:
            return array.swapaxes(0, 1).reshape(-1, *array.shape[2:]) if flags else array

        first = [state.reshape(state.shape[0], -1, length, state.shape[-1])[:, :, 0] for state in given]
        options = {"carry": _carry(self.template, iter(first))}
        if not flags:
            return Call(jax.tree.map(sequences, observations), options, sequences, flat, _states)
        ends = sequences(sum(flag.reshape(-1) != 0 for flag in flags) > 0)
        options["resets"] = xp.concatenate([xp.zeros_like(ends[:1]), ends[:-1]])

        def states(carry: Any) -> list[Any]:
            return [xp.where(ends[-1][None, :, None], xp.zeros_like(state), state) for state in _states(carry)]

        return Call(jax.tree.map(sequences, observations), options, sequences, flat, states)


def conventions(policy: Policy, version: str | None, num_envs: int | None) -> Conventions:
    """Returns the conventions of a version of skrl; None means the installed version."""
    checks.policy(policy)
    if version is None:
        installed = importlib.metadata.version("skrl")
        version = max((known for known in VERSIONS if _numbers(known) <= _numbers(installed)), default=VERSIONS[0])
    choose(dict.fromkeys(VERSIONS), version, "version")
    space, network = policy.spec.observation_space, policy.spec.network
    parts: tuple[tuple[str, spaces.Space], ...] = (("states" if version == "1.4.3" else "observations", space),)
    is_dict = isinstance(space, spaces.Dict) and {name for name, _ in space.items} <= {*INPUTS}
    if isinstance(space, spaces.Dict) and is_dict:
        parts = space.items
    template = jax.tree.map(np.asarray, policy.initial_carry())
    states = _states(template)
    if states and num_envs is None:
        raise ValueError(
            f"num_envs: expected the number of environments, because {type(network).__name__} is recurrent, got None. "
            f"Pass num_envs=env.num_envs."
        )
    environments = count(1 if num_envs is None else num_envs, "num_envs")
    sizes = tuple((state.shape[0], environments, math.prod(state.shape[1:])) for state in states)
    length = _sequence_length(network) if states else 1
    reads = (*(name for name, _ in parts), *(("rnn", "terminated", "truncated") if states else ()))
    return Conventions(version, parts, is_dict, template, sizes, length, reads)


def without_log_std(policy: Policy) -> Policy:
    """Returns the policy without trained parameters of log_std, which a deterministic model does not use.

    A mean in a Box without bounds gets no activation by default, because it is a value.
    """
    spec, network = policy.spec, policy.spec.network
    fields: dict[str, Any] = {"std": "fixed"} if hasattr(network, "std") else {}
    if (
        getattr(network, "output_activation", None) == "auto"
        and not np.isfinite(spaces.bounds(spec.action_space)).any()
    ):
        fields["output_activation"] = None
    network = network.clone(**fields) if fields else network
    factory: Any = policy.kind.factory
    return factory(network, spec.observation_space, spec.action_space, **dict(spec.options))


def refuse_unscored(policy: Policy) -> None:
    """Raises ValueError for a policy that cannot score the clipped actions that skrl's agents store."""
    if dict(policy.spec.options).get("clipped_log_prob") == "unclipped":
        raise ValueError(
            "policy: expected a policy that scores the actions of its environment, got clipped_log_prob='unclipped', "
            "which scores samples before the clip. Make it with 'density', as skrl does, or 'censored'."
        )


def with_value(result: Any, policy: Policy) -> Any:
    """Returns the result of the role "value"; raises ValueError if the network has no value."""
    if result is None:
        raise ValueError(
            f"role: expected 'policy', because {type(policy.spec.network).__name__} has no value, got 'value'. Use "
            f"networks.ActorCritic, or a model of its own with deterministic=True."
        )
    return result


def unflatten(space: spaces.Space, flat: Any) -> Any:
    """Converts rows in which skrl joins the entries of a space to an observation of that space.

    A discrete entry is one number in skrl's rows. Observations that are nested already are returned as they are.
    """
    if (isinstance(space, spaces.Box) and len(space.shape) == 1) or isinstance(flat, (Mapping, tuple, list)):
        return flat
    return _unflatten(space, flat)


def _unflatten(space: spaces.Space, flat: Any) -> Any:
    match space:
        case spaces.Box():
            return flat.reshape(*flat.shape[:-1], *space.shape)
        case spaces.Discrete():
            return _integers(flat[..., 0])
        case spaces.MultiDiscrete():
            return _integers(flat)
    # skrl sorts the names of a Dict.
    named = sorted(space.items) if isinstance(space, spaces.Dict) else list(enumerate(space.items))
    found, start = {}, 0
    for name, inner in named:
        width = _width(inner)
        found[name] = _unflatten(inner, flat[..., start : start + width])
        start += width
    return found if isinstance(space, spaces.Dict) else tuple(found.values())


def _integers(flat: Any) -> Any:
    # skrl's memories hold the numbers of discrete entries as floats.
    return xp.to_int32(flat) if is_other(flat) else flat.astype(np.int32)


def _width(space: spaces.Space) -> int:
    """Returns the number of columns that an entry has in skrl's rows."""
    match space:
        case spaces.Discrete():
            return 1
        case spaces.MultiDiscrete():
            return len(space.nvec)
        case spaces.Dict():
            return sum(_width(inner) for _, inner in space.items)
        case spaces.Tuple():
            return sum(map(_width, space.items))
    return spaces.size(space)


def described_spaces(
    policy: Policy, converted: Conventions, state_space: Any, device: Any, base: Any
) -> dict[str, Any]:
    """Returns the arguments of the constructor of skrl's model; that of 1.4.3 has no state space."""
    parts = dict(converted.parts)
    state_space = parts.get("states") if state_space is None else spaces.as_space(state_space)
    described = {
        "observation_space": parts.get("observations", policy.spec.observation_space),
        "state_space": state_space,
        "action_space": parts.get("taken_actions", policy.spec.action_space),
    }
    found = {name: None if space is None else to_gymnasium(space) for name, space in described.items()}
    return {
        name: value for name, value in {**found, "device": device}.items() if name in inspect.signature(base).parameters
    }


def _states(carry: Any) -> list[Any]:
    """Returns a carry as skrl's states: the layers of each recurrent part stacked in front."""
    if isinstance(carry, Mapping):
        return [state for name in sorted(carry) for state in _states(carry[name])]
    return [xp.stack(parts) for parts in zip(*map(jax.tree.leaves, carry), strict=True)]


def _carry(template: Any, states: Iterator[Any]) -> Any:
    """Returns skrl's states as a carry with the structure of the template."""
    if isinstance(template, Mapping):
        return {name: _carry(template[name], states) for name in sorted(template)}
    structure = jax.tree.structure(template[0])
    parts = [next(states) for _ in range(structure.num_leaves)]
    return tuple(jax.tree.unflatten(structure, [part[i] for part in parts]) for i in range(len(template)))


def _sequence_length(network: Any) -> int:
    """Returns the length that a network or a part of it names, or the default of gaussjax's networks."""
    parts = network, getattr(network, "actor", None), getattr(network, "critic", None)
    lengths = [getattr(part, "sequence_length", None) for part in parts]
    return next((length for length in lengths if length), Recurrent.sequence_length)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
