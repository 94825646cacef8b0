"""Policies of rsl_rl, with which Isaac Lab and mjlab train, as gaussjax policies.

Nothing in a file is executed::

    loaded = gaussjax.interop.rsl_rl.read("model_1500.pt", activation="elu")
    actions = loaded.act(observations).actions
    gaussjax.save("policy.safetensors", loaded.policy, loaded.params, normalizer=loaded.normalizer)
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gaussjax import spaces
from gaussjax.core import untrusted
from gaussjax.core.choices import choose
from gaussjax.core.compiled import check_number
from gaussjax.core.text import quoted
from gaussjax.files import Loaded
from gaussjax.interop import archives, converted
from gaussjax.interop.converted import CheckpointError as CheckpointError
from gaussjax.interop.converted import Layer, fault
from gaussjax.networks import GRU, LSTM
from gaussjax.policy.from_spec import gaussian

_LIBRARY = "rsl_rl"
_REPAIR = "Pass a file model_*.pt that the runner of rsl_rl saved."
# rsl_rl's names of activations, and ours.
ACTIVATIONS: Mapping[str, str] = {
    "elu": "elu",
    "selu": "selu",
    "relu": "relu",
    "crelu": "celu",
    "lrelu": "leaky_relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "gelu": "gelu_exact",
    "swish": "silu",
    "mish": "mish",
    "identity": "identity",
}
# Number that rsl_rl adds to the standard deviation of observations.
_ADDED = 0.01
_KNOWN = (
    r"mlp\.\d{1,4}\.(weight|bias)|std|log_std|distribution\.(log_)?std_param|obs_normalizer\.(_mean|_var|_std|count)"
    r"|rnn\.rnn\.(weight|bias)_(ih|hh)_l\d{1,3}"
)
_REASONS = {
    r"cnns?\.|actor_cnns?\.": "one that sees images (cnns)",
    r"student|teacher": "a distillation (student and teacher)",
}
_GATES = {4: LSTM, 3: GRU}


def read(
    path: str | os.PathLike[str],
    *,
    activation: str = "elu",
    action_space: Any = None,
    clip_actions: float | None = None,
    std_range: tuple[float, float] | None = None,
    state_dependent_std: str | None = None,
    observation_groups: Mapping[str, int] | None = None,
) -> Loaded:
    """Reads a checkpoint of rsl_rl 2 to 5 as a policy; recurrent actors (LSTM and GRU) too.

    The observation statistics become the normalizer. The deterministic action is the mean, as in rsl_rl. Values that
    the file does not hold are arguments with rsl_rl's defaults; `metadata["assumptions"]` lists them. The file
    `params/agent.yaml` of Isaac Lab and mjlab, beside the checkpoint, names them.

    Args:
        path: Path of a file such as `model_1500.pt`.
        activation: rsl_rl's name of the activation: elu, selu, relu, crelu, lrelu, tanh, sigmoid, softplus, gelu,
            swish, mish or identity.
        action_space: A Box, or (low, high), which does not change the actions. None is a Box without bounds.
        clip_actions: Bound c of a wrapper that clips actions to [-c, c], or None.
        std_range: Limits of the standard deviation. None means rsl_rl's default, which is (1e-6, 1e6) in release 5 and
            no limits before.
        state_dependent_std: "scalar" or "log" if the last layer returns means, and then standard deviations or their
            logarithms. The file does not say so.
        observation_groups: Width of each group of observations by name, in the order of the training, for observations
            in a dict. None expects one vector, the groups concatenated in this order.

    Returns:
        The policy, its parameters, the observation statistics and metadata.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, would run code, or holds another kind of policy, such as one for images.
        ValueError: An argument contradicts the shapes in the file, or the file needs an argument.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "model_0.pt"
        >>> actor = {"mlp.0.weight": torch.ones(2, 3), "mlp.0.bias": torch.zeros(2), "std": torch.ones(2)}
        >>> torch.save({"actor_state_dict": actor}, path)
        >>> read(path, activation="relu").act(np.ones(3)).actions
        Array([3., 3.], dtype=float32)
    """
    path = Path(path)
    name = converted.named_activation(activation, ACTIVATIONS)
    with converted.opened(path, _LIBRARY, _REPAIR) as (file, size):
        content = archives.read_torch(file, size)
        untrusted.refuse_large(content, converted.MOST_ENTRIES, untrusted.budget(size))
        found = _actor(path, content)
        converted.refuse_unknown(path, list(found), _KNOWN, _REASONS, _LIBRARY)
        count = float(np.asarray(found.pop("obs_normalizer.count", 0), np.float64).reshape(()))
        arrays = converted.floats(path, found, size)
        layers = converted.torch_layers(path, arrays, "mlp.")
    if not layers:
        raise fault(path, "the layers mlp.0, mlp.2, … or actor.0, actor.2, …", f"{quoted(list(arrays))}", _REPAIR)
    *hidden, last = layers
    # Release 5 clips the standard deviation. Releases 4 and 5 look alike if it depends on the observation.
    clips = "actor_state_dict" in content and not {"std", "log_std"} & set(found)
    low, high = _range(std_range if std_range is not None else (1e-6, 1e6) if clips else (0.0, math.inf))
    mean, log_std, head = _output(path, arrays, last, state_dependent_std, low, high)
    width = (hidden[0] if hidden else mean).kernel.shape[0]
    assumptions: dict[str, Any] = {"activation": activation, "action_space": action_space, "clip_actions": clip_actions}
    if (low, high) != (0.0, math.inf):
        assumptions["std_range"] = (low, high)
        # Limits that float32 holds; the network's initial standard deviation has to lie between them.
        sides = {"min_log_std": math.log(low) if low else -87.0, "max_log_std": min(math.log(high), 88.0)}
        options: dict[str, Any] = {"clip_log_std": True, **sides}
        first = min(max(0.0, sides["min_log_std"]), sides["max_log_std"])
        head["initial_log_std"] = math.exp(first) if head.get("std_activation") == "std" else first
    else:
        options = {"clip_log_std": False}
    if state_dependent_std is not None:
        assumptions["state_dependent_std"] = state_dependent_std
    network, params = converted.mlp(hidden, name, mean, log_std, **head)
    if any(key.startswith("rnn.") for key in arrays):
        width, network, params["memory"] = _recurrent(path, arrays, network, width)
    if clip_actions is not None:
        check_number(clip_actions, "clip_actions", "above 0", lambda number: 0.0 < number < math.inf)
        if action_space is not None:
            raise ValueError("clip_actions: expected None with action_space, got both. It is a Box of ±clip_actions.")
        action_space = (-clip_actions, clip_actions)
        options |= {"clip_actions": True, "clipped_log_prob": "unclipped"}
    space, split = _observations(path, observation_groups, width)
    assumptions["observation_groups"] = None if observation_groups is None else dict(observation_groups)
    return converted.loaded(
        path,
        _LIBRARY,
        gaussian,
        network,
        params,
        space,
        converted.box(action_space, mean.kernel.shape[1], path),
        assumptions,
        split(_statistics(path, arrays, count, width)),
        **options,
    )


def _actor(path: Path, content: Any) -> dict[str, Any]:
    """Returns the arrays of the actor under the names of release 5, but for the standard deviation."""
    if not isinstance(content, dict):
        raise fault(path, "a dict of state_dicts", type(content).__name__, _REPAIR)
    if any("student" in str(key) or "teacher" in str(key) for key in content):
        raise fault(path, "a policy of PPO", "a distillation (student and teacher)", "Such a policy is not converted.")
    state = content.get("actor_state_dict", content.get("model_state_dict"))
    if not isinstance(state, dict):
        known = "actor_state_dict or model_state_dict"
        raise fault(path, f"the entry {known}", quoted([str(key) for key in content]), _REPAIR)
    names = {str(name): array for name, array in state.items()}
    if "actor_state_dict" in content:
        return names
    if any(name.startswith(("student", "teacher")) for name in names):
        raise fault(path, "a policy of PPO", "a distillation (student and teacher)", "Such a policy is not converted.")
    names = {name: array for name, array in names.items() if not re.match(r"critic|memory_c|actor_critic", name)}
    ours = (("actor_obs_normalizer.", "obs_normalizer."), ("memory_a.rnn.", "rnn.rnn."), ("actor.", "mlp."))
    found = {}
    for name, array in names.items():
        start, own = next((pair for pair in ours if name.startswith(pair[0])), ("", ""))
        found[own + name[len(start) :]] = array
    statistics = content.get("obs_norm_state_dict") or {}
    return found | {f"obs_normalizer.{name}": array for name, array in dict(statistics).items()}


def _range(limits: Any) -> tuple[float, float]:
    if not isinstance(limits, (tuple, list)) or len(limits) != 2:
        raise ValueError(f"std_range: expected (lowest, highest), got {quoted(limits)}.")
    low, high = (float(side) for side in limits)
    if not 0.0 <= low < high:
        raise ValueError(f"std_range: expected 0 <= lowest < highest, got {quoted(limits)}. It is no logarithm.")
    return low, high


def _output(
    path: Path, arrays: Mapping[str, np.ndarray], last: Layer, form: str | None, low: float, high: float
) -> tuple[Layer, Any, dict[str, Any]]:
    """Returns the layer of the mean, the layer or the array of log_std, and options of the head."""
    keys = [key for key in arrays if re.fullmatch(r"std|log_std|distribution\.(log_)?std_param", key)]
    rows = last.kernel.shape[1]
    if keys:
        if form is not None:
            raise ValueError(f"state_dependent_std: expected None, because {path} holds {keys[0]}, got {form!r}.")
        std = arrays[keys[0]].reshape(-1)
        if len(keys) > 1 or std.shape != (rows,):
            raise fault(path, f"one standard deviation for each of {rows} actions", f"{keys} {std.shape}", _REPAIR)
        return last, std if "log_std" in keys[0] else converted.positive_std(path, std, low, high), {}
    if form is None:
        raise ValueError(
            f"state_dependent_std: expected 'scalar' or 'log', because {path} holds neither std nor log_std, got None. "
            f"Its last layer has {rows} rows: means and standard deviations of {rows / 2:g} actions. A deterministic "
            f"model and a Beta policy look alike; they are not converted."
        )
    if form == "beta":
        raise ValueError("state_dependent_std: expected 'scalar' or 'log', got 'beta'. A Beta policy is not converted.")
    choose(dict.fromkeys(("scalar", "log")), form, "state_dependent_std")
    if rows % 2:
        raise ValueError(
            f"state_dependent_std: expected a last layer with as many means as standard deviations, got {rows} rows in "
            f"{path}. Leave it out; a policy without a standard deviation is not converted."
        )
    half = rows // 2
    mean, log_std = (Layer(last.kernel[:, part], last.bias[part]) for part in (slice(half), slice(half, rows)))
    return mean, log_std, {"std_activation": "std"} if form == "scalar" else {}


def _recurrent(
    path: Path, arrays: Mapping[str, np.ndarray], network: Any, width: int
) -> tuple[int, Any, dict[str, Any]]:
    """Returns the width of observations, the recurrent network with the layers of `network`, and its cells."""
    numbers = sorted({int(name.rpartition("_l")[2]) for name in arrays if name.startswith("rnn.")})
    cells, first, gates, size, below = {}, 0, 0, 0, 0
    if numbers != list(range(len(numbers))):
        raise fault(path, "consecutive recurrent layers", f"{numbers}", _REPAIR)
    for number in numbers:
        names = [f"rnn.rnn.{name}_l{number}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        shapes: list[Any] = [arrays[name].shape if name in arrays else () for name in names]
        hidden = shapes[1][1] if len(shapes[1]) == 2 else 0
        if number == 0:
            first, gates = (shapes[0][1], shapes[1][0] // max(hidden, 1)) if len(shapes[0]) == 2 else (0, 0)
            below, size = first, hidden
        rows = gates * size
        if gates not in _GATES or shapes != [(rows, below), (rows, size), (rows,), (rows,)]:
            raise fault(path, "layers of an LSTM or a GRU", f"{dict(zip(names, shapes, strict=True))}", _REPAIR)
        kernel_input, kernel_hidden, *biases = (arrays[name] for name in names)
        turned = kernel_input.T, kernel_hidden.T, *biases
        parts = ("kernel_input", "kernel_hidden", "bias_input", "bias_hidden")
        cells[f"layer_{number}"] = dict(zip(parts, turned, strict=True))
        below = size
    if below != width:
        raise fault(path, "recurrent layers as wide as the MLP's inputs", f"{below} and {width}", _REPAIR)
    fields = ("activation", "std", "std_activation", "output_activation", "initial_log_std", "sizes")
    options = {field: getattr(network, field) for field in fields}
    return first, _GATES[gates](hidden_size=size, num_layers=len(numbers), **options), cells


def _statistics(path: Path, arrays: Mapping[str, np.ndarray], count: float, width: int) -> Any:
    if "obs_normalizer._mean" not in arrays:
        return None
    mean, std = (arrays.get(f"obs_normalizer.{name}", np.zeros(0)).reshape(-1) for name in ("_mean", "_std"))
    if mean.shape != (width,) or std.shape != (width,) or (std < 0).any():
        raise fault(path, f"statistics of {width} observations", f"shapes {mean.shape} and {std.shape}", _REPAIR)
    return converted.statistics(mean, std.astype(np.float64) + _ADDED, count)[0]


def _observations(path: Path, groups: Any, width: int) -> tuple[spaces.Space, Any]:
    """Returns the observation space, and a function that splits statistics of vectors like the space."""
    if groups is None:
        return spaces.Box(shape=(width,)), lambda statistics: statistics
    if not isinstance(groups, Mapping) or not all(type(n) is int and n > 0 for n in groups.values()):
        raise ValueError(f"observation_groups: expected widths by name, as in {{'policy': 48}}, got {quoted(groups)}.")
    if sum(groups.values()) != width:
        raise ValueError(
            f"observation_groups: expected widths whose sum is {width}, the input width in {path}, got "
            f"{quoted(groups)} with the sum {sum(groups.values())}."
        )
    ends = np.cumsum(list(groups.values())).tolist()
    starts = dict(zip(groups, zip([0, *ends], ends, strict=False), strict=True))

    def split(statistics: Any) -> Any:
        if statistics is None:
            return None
        axes = {"mean": 0, "m2": 0, "mean_rest": 1, "m2_rest": 1}
        parts = statistics._asdict()
        return {
            name: type(statistics)(*(part[(..., slice(*cut))] if key in axes else part for key, part in parts.items()))
            for name, cut in starts.items()
        }

    return spaces.Dict(tuple((name, spaces.Box(shape=(n,))) for name, n in groups.items())), split
