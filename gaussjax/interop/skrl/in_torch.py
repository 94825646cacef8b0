"""The class of the models that skrl's agents in PyTorch get."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from jax.tree_util import tree_leaves
from torch import nn

from gaussjax import spaces
from gaussjax.core.arrays import inwards
from gaussjax.distributions.special import HALF_LOG_2PI
from gaussjax.interop.skrl.conventions import Conventions, described_spaces, with_value
from gaussjax.policy import Policy
from gaussjax.torch import convert, random
from gaussjax.torch.layers import Start
from gaussjax.torch.policy import Held, from_spec, own_kind

# The second base of the models is skrl's own class, which is imported with the first of them.
_Base: Any = object


class Methods(_Base):
    """A policy of gaussjax as a model of skrl. Its parameters are those of the policy's network."""

    def __init__(
        self, policy: Policy, params: Any, deterministic: bool, converted: Conventions, state_space: Any, device: Any
    ) -> None:
        super().__init__(**described_spaces(policy, converted, state_space, device, super().__init__))
        kind = own_kind(policy)
        self.policy = from_spec(policy.spec, kind=kind)
        self.conventions, self.deterministic = converted, deterministic
        self._compile()
        self._last: Any = None
        # The inputs and the result of the last forward pass with a value, and whether the network has one.
        self._shared: Any = None
        self._has_value = True
        network = policy.spec.network
        if isinstance(network, nn.Module):
            self.network = copy.deepcopy(network)
        else:
            self.network = convert.network(policy.spec, kind).to_empty(device="cpu")
        drawn = params is None
        if drawn:
            params = self.policy.init(random.key(int(torch.randint(2**31, ()))))
        elif not isinstance(params, Mapping) or set(params) == {"params"}:
            params = convert.to_torch(policy.spec, params, kind)
        self.network.load_state_dict(params, strict=not isinstance(network, nn.Module))
        if drawn and not isinstance(network, nn.Module) and _has_default_start(network):
            # A kernel or a bias of constants is the start of log_std or of a gate.
            for layer in self.network.modules():
                starts: Any = getattr(layer, "starts", {})
                constant = starts.get("weight") == Start() or starts.get("bias", Start()) != Start()
                if isinstance(layer, (nn.Linear, nn.Conv2d)) and not constant:
                    layer.reset_parameters()
        # An optimizer changes all parameters, so one of them tells; a tuple hides it from the module.
        self._marker = tuple(itertools.islice(self.network.parameters(), 1))
        self.to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the results of the last call, because tensors with a history cannot be copied."""
        return {**self.__dict__, "_act": None, "_plain": None, "_last": None, "_shared": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compile()

    def _compile(self) -> None:
        options, spec = dict(self.policy.spec.options), self.policy.spec
        # The parameters are the module's own, so they are neither converted nor compared with the policy's.
        self._act = inspect.unwrap(self.policy.act)
        plain = spec.kind == "gaussian" and options["clipped_log_prob"] == "density"
        self._plain = PlainGaussian(options, spec.action_space) if plain else None

    def init_state_dict(self, inputs: Any = None, *, role: str = "") -> None:
        """Moves the parameters to the model's device; they exist since the model was made."""
        self.to(self.device)

    def update_parameters(self, model: nn.Module, *, polyak: float = 1.0) -> None:
        """Sets the parameters to those of another model, or to `polyak` times those and the rest of its own."""
        self._shared = None
        super().update_parameters(model, polyak=polyak)

    def compute(self, inputs: Mapping[str, Any], role: str = "") -> tuple[Any, dict[str, Any]]:
        """Returns the mean and the outputs of the network, or the value and no outputs."""
        actions, outputs = self._run(inputs, role)
        return outputs.get("mean_actions", actions), outputs

    def act(self, inputs: Mapping[str, Any], role: str = "") -> tuple[Any, ...]:
        """Returns actions, or a value, and a dict of further outputs, in the form of the model's version."""
        actions, outputs = self._run(inputs, role)
        if self.conventions.version == "1.4.3":
            return actions, outputs.pop("log_prob", None), outputs
        return actions, outputs

    def _run(self, inputs: Mapping[str, Any], role: str) -> tuple[Any, dict[str, Any]]:
        is_value = role == "value" and not self.deterministic
        seen, key = self._seen(inputs) if self._has_value and not self.deterministic else (None, None)
        if is_value and self._shared is not None and key == self._shared[1]:
            (*_, result), self.__dict__["_shared"] = self._shared, None
            return result
        call, noise, taken = self.conventions.call(inputs), None, None
        if not self.deterministic and not is_value:
            rows = tree_leaves(inputs[self.conventions.parts[0][0]])[0]
            # skrl's models draw in every call; with the same draws an agent samples the same minibatches.
            noise = torch.randn(rows.shape[0], self.num_actions, device=rows.device)
            noise = call.sequences(noise)
            taken = inputs.get("taken_actions")
            taken = None if taken is None else call.sequences(taken)
        options = {**call.options, "deterministic": noise is None, "noise": noise, "taken_actions": taken}
        if self._plain is None:
            actions, log_prob, found = self._act(Held(self.network), None, call.observations, **options)
        else:
            actions, log_prob, found = self._plain(self.network, call.observations, **options)
        states = {"rnn": call.states(found["carry"])} if "carry" in found else {}
        if self.deterministic:
            return call.flat(actions), states
        value = (call.flat(found["value"]).unsqueeze(-1), states) if "value" in found else None
        if is_value:
            return with_value(value, self.policy)
        last, actions, log_prob = call.outputs(found), call.flat(actions), call.flat(log_prob)
        # A module takes 5 us to set an attribute, because it looks for parameters.
        shared = None if value is None else (seen, key, value)
        self.__dict__.update(_shared=shared, _has_value=value is not None, _last=last)
        log_prob = log_prob if log_prob.ndim == actions.ndim else log_prob.unsqueeze(-1)
        return actions, {**last, **states, "log_prob": log_prob}

    def _seen(self, inputs: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
        """Returns the tensors of a forward pass, and a key that changes with a tensor and with its numbers.

        The tensors have to be kept with the key, because a new tensor may get the address of one that is gone.
        """
        given = tree_leaves([inputs.get(name) for name in self.conventions.reads])
        tensors = [tensor for tensor in (*given, *self._marker) if isinstance(tensor, torch.Tensor)]
        return tensors, [torch.is_grad_enabled(), *map(id, tensors), *[tensor._version for tensor in tensors]]

    def get_entropy(self, role: str = "") -> torch.Tensor:
        """Returns the entropy of the last call's distribution in nats: `(N, 1)` in 2.1.1, else `(N, act)`."""
        if self._last is None:
            return torch.tensor(0.0, device=self.device)
        if self._plain is None:
            terms = self.policy.distribution(self._last).entropy("none")
        else:
            terms = self._last["log_std"] + (0.5 + HALF_LOG_2PI)
        return terms.sum(-1, keepdim=True) if self.conventions.version == "2.1.1" else terms

    def get_log_std(self, role: str = "") -> torch.Tensor:
        """Returns the clipped log_std of the last call, `(N, act)`; skrl has this method in 1.4.3."""
        return self._last["log_std"]

    def distribution(self, role: str = "") -> Any:
        """Returns the distribution of the last call, with the names of `torch.distributions`, or None before one."""
        return None if self._last is None else LastDistribution(self.policy.distribution(self._last))

    def get_specification(self) -> dict[str, Any]:
        """Returns the sizes of the recurrent states, in the form that skrl's agents read."""
        return self.conventions.specification()

    def init_weights(self, method_name: str = "orthogonal_", *args: Any, **options: Any) -> None:
        """Initializes the weights of all linear layers with a function of `torch.nn.init`."""
        self._init("weight", method_name, args, options)

    def init_biases(self, method_name: str = "constant_", *args: Any, **options: Any) -> None:
        """Initializes the biases of all linear layers with a function of `torch.nn.init`."""
        self._init("bias", method_name, args, options)

    def _init(self, name: str, method_name: str, args: Any, options: Any) -> None:
        self._shared = None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                getattr(nn.init, method_name)(getattr(layer, name), *args, **options)


def _has_default_start(network: Any) -> bool:
    """True if nobody chose how the network and its parts draw their parameters."""
    fields = ("initializer", "scale", "output_scale")
    parts = (getattr(network, name, None) for name in ("actor", "critic"))
    own = all(getattr(network, field, None) == getattr(type(network), field, None) for field in fields)
    return own and all(_has_default_start(part) for part in parts if part is not None)


class PlainGaussian:
    """`act` of `gaussjax.gaussian` in few operations, with the same numbers up to rounding.

    The functions of a policy take 3 times as long for the batch of a few environments, because they choose the library
    of each operation and score in a higher precision (torch 2.13, 2 cores).
    """

    def __init__(self, options: Mapping[str, Any], box: spaces.Box) -> None:
        self.options = options
        self.low, self.high = (torch.from_numpy(side).float() for side in inwards(*spaces.bounds(box), torch.float32))
        reductions = {"sum": torch.sum, "mean": torch.mean, "prod": torch.prod}
        # One dimension is its own sum, mean and product.
        self.reduce = reductions.get(options["reduction"]) if len(self.low) > 1 else None

    def clip(self, actions: torch.Tensor) -> torch.Tensor:
        """Clips actions to the Box."""
        if self.low.device != actions.device:
            self.low, self.high = self.low.to(actions.device), self.high.to(actions.device)
        return torch.clamp(actions, self.low, self.high)

    def __call__(
        self,
        network: nn.Module,
        observations: Any,
        *,
        deterministic: bool,
        noise: Any,
        taken_actions: Any,
        **state: Any,
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Returns what `policy.act` returns, without the raw actions."""
        if state:
            state.setdefault("resets", None)
        mean, log_std, found = network(observations, **state)
        # Under autocast the last layer returns a narrow dtype.
        mean = mean.float() if mean.dtype in (torch.float16, torch.bfloat16) else mean
        if self.options["clip_mean_actions"]:
            mean = self.clip(mean)
        if deterministic:
            return self.clip(mean) if self.options["clip_actions"] else mean, None, found
        if self.options["clip_log_std"]:
            log_std = torch.clamp(log_std, self.options["min_log_std"], self.options["max_log_std"])
        scale = log_std.exp()
        actions = torch.addcmul(mean, scale, noise)
        actions = self.clip(actions) if self.options["clip_actions"] else actions
        if taken_actions is not None or self.options["clip_actions"]:
            noise = ((actions if taken_actions is None else taken_actions) - mean) / scale
        terms = torch.addcmul(torch.rsub(log_std, -HALF_LOG_2PI), noise, noise, value=-0.5)
        log_prob = terms if self.reduce is None else self.reduce(terms, -1, keepdim=True)
        return actions, log_prob, {**found, "mean_actions": mean, "log_std": log_std.expand_as(mean)}


class LastDistribution:
    """A distribution with the properties and methods of `torch.distributions.Normal`, in units of the action.

    `loc` and `scale` are the mean and the standard deviation of the normal distribution before any squashing.
    """

    def __init__(self, distribution: Any) -> None:
        self._distribution, self.loc = distribution, distribution.loc

    @property
    def scale(self) -> torch.Tensor:
        """Standard deviation before any squashing, `(N, act)`."""
        return self._distribution.log_std.exp()

    @property
    def mean(self) -> torch.Tensor:
        """Expected action, `(N, act)`."""
        return self._distribution.mean()

    @property
    def stddev(self) -> torch.Tensor:
        """Standard deviation of the action, `(N, act)`."""
        return self._distribution.stddev()

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-density of each dimension in nats, `(N, act)`."""
        return self._distribution.log_prob(actions, "none")

    def entropy(self) -> torch.Tensor:
        """Entropy of each dimension in nats, `(N, act)`."""
        return self._distribution.entropy("none")

    def rsample(self) -> torch.Tensor:
        """Draws actions `(N, act)` from torch's generator, with gradients."""
        return self._distribution.from_noise(torch.randn_like(self.loc))

    def sample(self) -> torch.Tensor:
        """Draws actions `(N, act)` from torch's generator."""
        return self.rsample().detach()


@functools.cache
def model_class() -> type:
    """Returns the class, with skrl's own as its second base; skrl is imported with the first model."""
    from skrl.models.torch import Model  # type: ignore[import-not-found]

    return type("TorchModel", (Methods, Model), {"__module__": __name__, "__doc__": Methods.__doc__})


def __getattr__(name: str) -> Any:
    """Makes the class of the models on first use, so that pickle finds it by its name."""
    if name == "TorchModel":
        return model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
