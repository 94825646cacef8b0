"""Conversion of models of Stable-Baselines3 and SBX; nothing in a model is executed."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gaussjax import networks, spaces
from gaussjax.core import untrusted
from gaussjax.core.text import quoted
from gaussjax.files import Loaded
from gaussjax.interop import archives, converted, pickles
from gaussjax.interop.converted import Layer, fault
from gaussjax.interop.sb3 import described
from gaussjax.interop.sb3 import statistics as vec_normalize
from gaussjax.policy import Policy
from gaussjax.policy.from_spec import gaussian, squashed_gaussian

_SB3, _SBX = "Stable-Baselines3", "SBX"
_REPAIR = "Pass the zip that model.save of Stable-Baselines3 wrote."
# Modules of policies: of PPO and A2C, and of SAC.
_ON_POLICY, _SAC = "stable_baselines3.common.policies", "stable_baselines3.sac.policies"
_ACTIVATIONS: Mapping[str, str] = {
    "CELU": "celu",
    "ELU": "elu",
    "GELU": "gelu_exact",
    "Hardtanh": "hard_tanh",
    "Identity": "identity",
    "LeakyReLU": "leaky_relu",
    "Mish": "mish",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}
# Names of jax.nn in the text of an actor of SBX.
_IN_JAX = ("celu", "elu", "gelu", "leaky_relu", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "tanh")
# Actors of SBX's PPO, and of its SAC and TQC in new and old releases.
_ACTORS = ("sbx.ppo.policies Actor", "sbx.common.policies SquashedGaussianActor", "sbx.sac.policies Actor")
# jax.jit around jax.custom_jvp around jax.jit is the deepest activation of JAX.
_MOST_WRAPPERS = 8
_LAYERS = r"\d{1,4}\.(weight|bias)"
_KNOWN = {
    _ON_POLICY: rf"mlp_extractor\.policy_net\.{_LAYERS}|action_net\.(weight|bias)|log_std",
    _SAC: rf"latent_pi\.{_LAYERS}|mu\.(0\.)?(weight|bias)|log_std(\.weight|\.bias)?",
}
_CNN = r"features_extractor\.(cnn\.[024]|linear\.0)\.(weight|bias)"
_REASONS = {
    r"(pi_)?features_extractor\.": "a features extractor other than flattening and NatureCNN",
    r"mlp_extractor\.shared_net": "a shared trunk of an old release (mlp_extractor.shared_net)",
    r"lstm|.*rnn": "a recurrent policy",
}
_STRIDES = (4, 2, 1)
_LONGEST_ACTOR = 100_000
# The numbers that gSDE adds to log_std where `use_expln` grows slowly, and to standard deviations in quadrature.
_EPSILON, _STD_FLOOR = 1e-6, 1e-3


def read(path: str | os.PathLike[str], *, statistics: Any = None, action_space: Any = None) -> Loaded:
    """Reads a model of Stable-Baselines3 (PPO, A2C, SAC; gSDE too) or of SBX (PPO, SAC) as a policy.

    PPO and A2C give a Gaussian policy whose actions are clipped to the Box and whose log-densities are of the action
    before the clip. SAC and `squash_output` give a squashed policy. The library scores `tanh(u)` in [-1, 1]; scores
    here are in units of the Box, lower by the sum of `log((high - low) / 2)`. A model with gSDE gives a network with
    `std="gsde"`. Observations that are images have their channels last here.

    Args:
        path: Path of the zip that `model.save` wrote.
        statistics: File of `VecNormalize.save`, or statistics of `gaussjax.normalize`, or None for observations that
            were not normalised. The model does not say so.
        action_space: A Box, or (low, high), in place of the one in the file, which holds 8 decimals of each bound, and
            none of more than 1000 actions.

    Returns:
        The policy, its parameters, the observation statistics and metadata.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, would run code, or holds another kind of policy.
        ValueError: An argument contradicts the shapes in the file, or the file needs an argument.

    Example:
        >>> import io, json, tempfile, torch, zipfile
        >>> space = {":type:": "<class 'gymnasium.spaces.box.Box'>", "dtype": "float32", "_shape": [1]}
        >>> data = {"policy_class": {"__module__": "stable_baselines3.common.policies"}, "observation_space": space}
        >>> data["action_space"] = {**space, "low": "[-2.]", "high": "[2.]"}
        >>> layer = {"action_net.weight": torch.ones(1, 1), "action_net.bias": torch.zeros(1)}
        >>> torch.save({**layer, "log_std": torch.zeros(1)}, buffer := io.BytesIO())
        >>> path = Path(tempfile.mkdtemp()) / "model.zip"
        >>> with zipfile.ZipFile(path, "w") as file:
        ...     file.writestr("data", json.dumps(data))
        ...     file.writestr("policy.pth", buffer.getvalue())
        >>> read(path).act(np.full(1, 3.0)).actions
        Array([2.], dtype=float32)
    """
    path = Path(path)
    with converted.opened(path, _SB3, _REPAIR) as (file, size):
        entries = archives.parts(file, size)
        if "data" not in entries and any(name.endswith("/data.pkl") for name in entries):
            raise fault(path, "the zip of model.save", "a file of torch, such as policy.save writes", _REPAIR)
        data = described.read_data(path, entries["data"])
        module = described.module(data)
        if module.startswith("sbx."):
            arrays = _sbx_arrays(path, data, size)
        elif module in _KNOWN:
            described.refuse_own_classes(path, data)
            arrays = archives.read_torch(entries["policy.pth"], len(entries["policy.pth"]))
            untrusted.refuse_large(arrays, converted.MOST_ENTRIES, untrusted.budget(size))
        else:
            names = "PPO, A2C or SAC, without classes of your own"
            raise fault(path, f"a policy of {names}", f"one of {quoted(module)}", "Such a policy is not converted.")
        bounds, observed = described.action_box(path, data), described.observation_space(path, data)
        arrays = converted.floats(path, pickles.expect(arrays, dict), size)
        convert = _sbx if module.startswith("sbx.") else _on_policy if module == _ON_POLICY else _sac
        parts = convert(path, data, arrays, observed)
    count = parts.params["head"]["mean"]["bias"].size
    if action_space is None and bounds is None:
        raise described.bounds_needed(path, count)
    box = converted.box(bounds if action_space is None else action_space, count, path)
    assumptions: dict[str, Any] = {"statistics": None if statistics is None else "given"}
    if action_space is not None or described.rounded(data):
        assumptions["action_space"] = box
    normalizer = vec_normalize.read(statistics, observed)
    library = _SBX if convert is _sbx else _SB3
    return converted.loaded(
        path, library, parts.make, parts.network, parts.params, observed, box, assumptions, normalizer, **parts.options
    )


class _Parts(NamedTuple):
    network: Any
    params: dict[str, Any]
    make: Callable[..., Policy]
    options: dict[str, Any]


# PPO scores the action before it is clipped, and limits no log_std.
_CLIPPED = {"clip_actions": True, "clipped_log_prob": "unclipped", "clip_log_std": False}


def _on_policy(path: Path, data: Mapping[str, Any], arrays: dict[str, np.ndarray], space: spaces.Space) -> _Parts:
    """Converts a policy of PPO or A2C."""
    own = {name: array for name, array in arrays.items() if not re.match(r"(mlp_extractor\.)?value_net\.|vf_", name)}
    if any(name.startswith("pi_features_extractor.") for name in own):
        own = {name: array for name, array in own.items() if not name.startswith("features_extractor.")}
    own = {name.removeprefix("pi_"): array for name, array in own.items()}
    converted.refuse_unknown(path, list(own), rf"{_KNOWN[_ON_POLICY]}|{_CNN}", _REASONS, _SB3)
    layers = converted.torch_layers(path, own, "mlp_extractor.policy_net.")
    mean = converted.torch_layer(path, own, "action_net")
    network, params = _network(path, data, own, space, layers, mean, own["log_std"], "tanh", None)
    if described.option(data, "squash_output", False):
        return _Parts(network, params, squashed_gaussian, {"clip_log_std": False})
    return _Parts(network, params, gaussian, dict(_CLIPPED))


def _sac(path: Path, data: Mapping[str, Any], arrays: dict[str, np.ndarray], space: spaces.Space) -> _Parts:
    """Converts the actor of SAC."""
    own = {name.removeprefix("actor."): array for name, array in arrays.items() if name.startswith("actor.")}
    converted.refuse_unknown(path, list(own), rf"{_KNOWN[_SAC]}|{_CNN}", _REASONS, _SB3)
    layers = converted.torch_layers(path, own, "latent_pi.")
    clipped = "mu.0.weight" in own
    mean = converted.torch_layer(path, own, "mu.0" if clipped else "mu")
    if "log_std" not in own:
        log_std = converted.torch_layer(path, own, "log_std")
        network, params = _network(path, data, own, space, layers, mean, log_std, "relu", None)
        return _Parts(network, params, squashed_gaussian, {})
    limit = float(described.option(data, "clip_mean", 2.0))
    limited = f"{limit!r} * hard_tanh({1.0 / limit!r} * mean)" if clipped else None
    network, params = _network(path, data, own, space, layers, mean, own["log_std"], "relu", limited)
    return _Parts(network, params, squashed_gaussian, {"clip_log_std": False})


def _network(
    path: Path,
    data: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    space: spaces.Space,
    layers: list[Layer],
    mean: Layer,
    log_std: Any,
    activation: str,
    output_activation: str | None,
) -> tuple[Any, dict[str, Any]]:
    """Returns the network of an actor and its parameters; `activation` is the library's default."""
    converted.chain(path, [*layers, mean], "of the actor")
    head: dict[str, Any] = {"output_activation": output_activation}
    if isinstance(log_std, np.ndarray) and log_std.ndim == 2:
        width, count = mean.kernel.shape
        if log_std.shape not in ((width, count), (width, 1)):
            raise fault(path, f"log_std of shape {(width, count)} for gSDE", str(log_std.shape), _REPAIR)
        # SAC learns the features of gSDE, and PPO does not.
        head |= {"std": "gsde", "std_floor": _STD_FLOOR, "learn_features": activation == "relu"}
        head |= {"full_std": log_std.shape == (width, count)}
        if described.option(data, "use_expln", False):
            head["std_activation"] = "expln"
            log_std = np.where(log_std > 0, log_std + np.float32(_EPSILON), log_std)
    activation = _activation(path, data, activation)
    network, params = converted.mlp(layers, activation, mean, log_std, **head)
    if "features_extractor.linear.0.weight" in arrays:
        return _cnn(path, data, arrays, space, network, params)
    _refuse_images(path, space)
    return network, params


def _refuse_images(path: Path, space: spaces.Space) -> None:
    """Raises CheckpointError for images that a network flattens, because their channels come first there."""
    parts = [part for _, part in space.items] if isinstance(space, spaces.Dict) else [space]
    if any(isinstance(part, spaces.Box) and part.dtype == "uint8" for part in parts):
        raise fault(path, "vectors, or images with NatureCNN", "images without NatureCNN", "They are not converted.")


def _cnn(
    path: Path,
    data: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    space: spaces.Space,
    network: Any,
    params: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """Returns NatureCNN before the dense layers of `network`, for images with their channels last."""
    kernels = [arrays[f"features_extractor.cnn.{i}.weight"] for i in (0, 2, 4)]
    linear = converted.torch_layer(path, arrays, "features_extractor.linear.0")
    sizes = [kernel.shape[-1] for kernel in kernels]
    images = isinstance(space, spaces.Box) and space.dtype == "uint8" and len(space.shape) == 3
    if not images or any(kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] for kernel in kernels):
        raise fault(path, "NatureCNN for images of dtype uint8", "others", "Such a policy is not converted.")
    height, width = space.shape[:2]  # type: ignore[union-attr]
    for size, stride in zip(sizes, _STRIDES, strict=True):
        height, width = (height - size) // stride + 1, (width - size) // stride + 1
    # torch flattens images in the order channel, height, width; Flax in the order height, width, channel.
    blocks = linear.kernel.reshape(-1, height, width, linear.kernel.shape[1]).transpose(1, 2, 0, 3)
    first = Layer(blocks.reshape(linear.kernel.shape), linear.bias)
    hidden = params.pop("layers", {})
    params["layers"] = {"dense_0": first.as_flax()}
    params["layers"] |= {f"dense_{i + 1}": hidden[f"dense_{i}"] for i in range(len(hidden))}
    for i, kernel in enumerate(kernels):
        bias = arrays[f"features_extractor.cnn.{2 * i}.bias"]
        params[f"convolutions_{i}"] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
    names = ("std", "output_activation", "std_activation", "full_std", "learn_features", "std_floor")
    fields = {name: getattr(network, name) for name in names}
    made = networks.CNN(
        channels=tuple(kernel.shape[0] for kernel in kernels),
        kernels=tuple(sizes),
        strides=_STRIDES,
        sizes=(linear.kernel.shape[1], *network.sizes),
        activation=("relu", *([network.activation] * len(network.sizes))),
        scale_pixels=None if described.option(data, "normalize_images", True) else False,
        **fields,
    )
    return made, params


def _activation(path: Path, data: Mapping[str, Any], default: str) -> str:
    text = described.option(data, "activation_fn", "")
    if not text:
        return default
    name = re.fullmatch(r"<class 'torch\.nn\.modules\.\w+\.(\w+)'>", str(text)[:300])
    if name is None or name[1] not in _ACTIVATIONS:
        raise fault(
            path, f"one of the activations {quoted(sorted(_ACTIVATIONS))}", quoted(text), "It is not converted."
        )
    return _ACTIVATIONS[name[1]]


def _sbx_arrays(path: Path, data: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """Returns the parameters of SBX's actor, from the records of the pickle of its policy."""
    text = data["policy"][":serialized:"]
    policy = pickles.expect(pickles.unpickle(base64.b64decode(text, validate=True), None), pickles.Record)
    _refuse_own_actors(path, policy.state["actor"])
    tree = pickles.expect(policy.state["actor_state"].state["params"]["params"], dict)
    untrusted.refuse_large(tree, converted.MOST_ENTRIES, untrusted.budget(size))
    found: dict[str, np.ndarray] = {}
    for name, part in tree.items():
        inside = {f"{name}.{key}": value for key, value in part.items()} if isinstance(part, dict) else {name: part}
        found |= {key: pickles.array(value) for key, value in inside.items()}
    return found


def _refuse_own_actors(path: Path, actor: Any) -> None:
    """Raises CheckpointError for an actor, a features extractor or an activation that SBX and JAX do not define."""
    actor = pickles.expect(actor, pickles.Record)
    fields = pickles.expect(actor.state, dict)
    repair = "Classes and functions of your own are not converted."
    if actor.function not in _ACTORS:
        raise fault(path, f"one of the actors {quoted(_ACTORS)}", quoted(_defined_in(actor.function)), repair)
    if (extractor := fields.get("features_extractor")) is not None:
        raise fault(path, "an actor without a features extractor", quoted(_defined_in(extractor)), repair)
    # The text of an actor has only the name of a function, which a function of the user may have too.
    if not (module := _defined_in(fields.get("activation_fn"))).startswith(("jax.", "flax.")):
        raise fault(path, "an activation of jax.nn", f"a function of {quoted(module)}", repair)


def _defined_in(value: Any) -> str:
    """Returns the module of a pickled class or function, or "" if the pickle does not say it."""
    for _ in range(_MOST_WRAPPERS):
        if isinstance(value, pickles.Global):
            return value.partition(" ")[0]
        if not isinstance(value, pickles.Record):
            break
        if value.function == "cloudpickle.cloudpickle _make_function":
            return str(dict(value.arguments[1]).get("__name__"))
        if value.function == "cloudpickle.cloudpickle _make_skeleton_class":
            return str(dict(value.arguments[3]).get("__module__"))
        # jax.jit and jax.custom_jvp keep the function that they wrap.
        wrapped = value.state if isinstance(value.state, dict) else {}
        value = wrapped.get("fun", wrapped.get("__wrapped__"))
    return ""


def _sbx(path: Path, data: Mapping[str, Any], arrays: dict[str, np.ndarray], space: spaces.Space) -> _Parts:
    """Converts an actor of SBX's PPO or SAC."""
    _refuse_images(path, space)
    converted.refuse_unknown(path, list(arrays), r"Dense_\d{1,4}\.(kernel|bias)|log_std", {}, _SBX)
    text = str(data["policy"].get("actor"))[:_LONGEST_ACTOR]
    fields = dict(re.findall(r"^ *(activation_fn|log_std_min|log_std_max) = (\S+)$", text, flags=re.MULTILINE))
    activation = fields.get("activation_fn", "")
    if activation not in _IN_JAX:
        raise fault(path, f"one of the activations {quoted(_IN_JAX)}", quoted(activation), "It is not converted.")
    count = sum(name.endswith(".kernel") for name in arrays)
    layers = [Layer(arrays[f"Dense_{i}.kernel"], arrays[f"Dense_{i}.bias"]) for i in range(count)]
    if "log_std" in arrays:
        converted.chain(path, layers, "of the actor")
        network, params = converted.mlp(layers[:-1], activation, layers[-1], arrays["log_std"])
        return _Parts(network, params, gaussian, dict(_CLIPPED))
    converted.chain(path, layers[:-1], "of the actor")
    network, params = converted.mlp(layers[:-2], activation, layers[-2], layers[-1])
    low, high = (float(fields.get(f"log_std_{side}", limit)) for side, limit in (("min", -20), ("max", 2)))
    return _Parts(network, params, squashed_gaussian, {"min_log_std": low, "max_log_std": high})
