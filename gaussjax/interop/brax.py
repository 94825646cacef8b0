"""Policies of brax, with which MuJoCo Playground trains, as gaussjax policies.

Nothing in a file is executed::

    loaded = gaussjax.interop.brax.read("checkpoints/000098304000")
    loaded = gaussjax.interop.brax.read("params.pickle", normalize_observations=True)
    actions = loaded.act(observations).actions
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gaussjax import spaces
from gaussjax.core import untrusted
from gaussjax.core.compiled import check_number, flag
from gaussjax.core.text import quoted, shortened
from gaussjax.files import Loaded
from gaussjax.interop import converted, pickles
from gaussjax.interop.converted import CheckpointError as CheckpointError
from gaussjax.interop.converted import Layer, fault
from gaussjax.policy.from_spec import gaussian, squashed_gaussian

_LIBRARY = "brax"
_REPAIR = "Pass a file of brax.io.model.save_params, or the folder of one step that the trainer saved."
_CONFIGS = ("ppo_network_config.json", "sac_network_config.json")
# brax's names of activations, and ours; gelu is the tanh approximation.
ACTIVATIONS: Mapping[str, str] = {
    **{name: name for name in ("celu", "elu", "gelu", "hard_tanh", "leaky_relu", "mish", "relu", "relu6", "selu")},
    **{name: name for name in ("sigmoid", "silu", "softplus", "tanh")},
    "linear": "identity",
    "soft_sign": "softsign",
    "swish": "silu",
}
_ALLOWED = (
    *pickles.ARRAYS,
    "brax.training.acme.running_statistics RunningStatisticsState",
    "brax.training.acme.running_statistics NormalizationMode",
    "brax.training.types UInt64",
)
_LAYERS = r"(hidden_\d{1,4}\.(kernel|bias)|LayerNorm_\d{1,4}\.(scale|bias))"
_KNOWN = rf"{_LAYERS}|MLP_0\.{_LAYERS}|Dense_[01]\.(kernel|bias)|std_logparam\.log_value|std_param\.value"
_REASONS = {r".*(CNN|Conv|Vision)": "one that sees images", r"SN": "one with spectral normalisation"}
_LONGEST_CONFIG = 1_000_000
# Seconds that the process which reads a folder may take, bytes that its threads take, and most folders in the folder.
_SECONDS, _ITSELF, _MOST_FOLDERS = 60, 64 * 2**20, 20_000


def read(
    path: str | os.PathLike[str],
    *,
    normalize_observations: bool | None = None,
    activation: str | None = None,
    action_space: Any = None,
    noise_std_type: str | None = None,
    mean_clip_scale: float | None = None,
    observation_key: str | None = None,
) -> Loaded:
    """Reads the policy of brax's PPO or SAC: a pickle of `save_params`, or the folder of a step.

    Actions of the distribution tanh_normal lie in [-1, 1]; those of normal are not clipped. For observations in a dict
    the policy takes the vector of one key. The folder has a JSON file with the settings below; a pickle does not, so
    they are arguments with brax's defaults, and `metadata["assumptions"]` lists them.

    Args:
        path: Path of a pickle, or of a folder such as `000098304000`.
        normalize_observations: Whether the policy normalises observations. brax saves statistics in both cases, so a
            pickle needs this argument.
        activation: brax's name of the activation. None means swish, PPO's default; a pickle of two parts needs this
            argument, because SAC's default is relu.
        action_space: A Box, or (low, high). A policy of tanh_normal is scaled to it, and its default is [-1, 1].
        noise_std_type: "log" if a network computes the logarithm of the standard deviation, with the distribution
            normal. brax's "scalar" may be negative, and such a policy is not converted.
        mean_clip_scale: Limit c of the mean `c m / (1 + |m|)` of the distribution normal, or None.
        observation_key: Key of the policy's observations, if they are a dict; None means state.

    Returns:
        The policy, its parameters, the observation statistics and metadata.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, would run code, or holds another kind of policy, such as one for images.
        ValueError: A needed argument is missing, or an argument contradicts the file.

    Example:
        >>> import pickle, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "params.pickle"
        >>> statistics = {"mean": np.ones(3, np.float32), "std": np.full(3, 2.0, np.float32)}
        >>> layer = {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
        >>> _ = path.write_bytes(pickle.dumps((statistics, {"params": {"hidden_0": layer}}, {})))
        >>> read(path, normalize_observations=True).act(np.ones(3)).actions
        Array([0.], dtype=float32)
    """
    path = Path(path)
    if normalize_observations is not None:
        flag(normalize_observations, "normalize_observations")
    if mean_clip_scale is not None:
        check_number(mean_clip_scale, "mean_clip_scale", "above 0", lambda number: number > 0.0)
    if path.is_dir():
        content, config, size = _folder(path)
    else:
        with converted.opened(path, _LIBRARY, _REPAIR) as (file, size):
            content, config = pickles.unpickle(file.read(), _ALLOWED), {}
            untrusted.refuse_large(content, converted.MOST_ENTRIES, untrusted.budget(size))
    if not isinstance(content, (tuple, list)) or len(content) not in (2, 3):
        raise fault(path, "statistics, a policy and perhaps a value", type(content).__name__, _REPAIR)
    settings = _Settings(path, config)
    key = settings.get("policy_obs_key", "observation_key", observation_key, "state")
    normalises = settings.get("normalize_observations", "normalize_observations", normalize_observations)
    if normalises is None:
        raise ValueError(
            f"normalize_observations: expected True or False, because {path} does not say so, got None. brax saves "
            f"statistics in both cases; it is an option of the trainer, which is False by default."
        )
    chosen = settings.get("activation", "activation", activation, "swish" if len(content) == 3 else None)
    if chosen is None:
        raise ValueError(
            f"activation: expected a name, because {path} holds two parts, as SAC and old releases of PPO save, got "
            f"None. The default of brax is relu for SAC and swish for PPO."
        )
    name = converted.named_activation(chosen, ACTIVATIONS)
    with converted.parsed(path, _LIBRARY, _REPAIR):
        arrays = converted.floats(path, _arrays(content[1]), size)
        converted.refuse_unknown(path, list(arrays), _KNOWN, _REASONS, _LIBRARY)
        squashed = "hidden_0.kernel" in arrays
        hidden, norms = _layers(path, arrays, "" if squashed else "MLP_0.")
        if squashed:
            unused = {"noise_std_type": noise_std_type, "mean_clip_scale": mean_clip_scale}
            for argument, value in unused.items():
                if value is not None:
                    raise CheckpointError(
                        f"{argument}: expected None, because {path} holds the distribution tanh_normal, got {value!r}."
                    )
            mean, log_std = _halves(path, hidden.pop())
            head: dict[str, Any] = {"std_activation": "0.001 + softplus(std)"}
        else:
            mean, log_std, head = _normal(path, arrays, settings, noise_std_type, mean_clip_scale)
        converted.chain(path, [*hidden, mean], "of the policy")
        if norms is not None and len(norms) != len(hidden):
            raise fault(path, "a layer norm for each hidden layer", f"{len(norms)} for {len(hidden)}", _REPAIR)
        width = (hidden[0] if hidden else mean).kernel.shape[0]
        normalizer = None
        if flag(normalises, "normalize_observations"):
            one_vector = not isinstance(_fields(content[0])["mean"], dict)
            if one_vector and observation_key is not None:
                raise CheckpointError(
                    f"observation_key: expected None, because {path} has statistics of one vector, got "
                    f"{observation_key!r}."
                )
            normalizer, factors = _statistics(path, _fields(content[0]), str(key), width)
            if (factors != 1).any():
                # Statistics divide by 1e-4 or more; the first layer does the rest.
                first = hidden[0] if hidden else mean
                first = first._replace(kernel=first.kernel * factors[:, None])
                hidden, mean = ([first, *hidden[1:]], mean) if hidden else (hidden, first)
        network, params = converted.mlp(hidden, name, mean, log_std, norms=norms, **head)
    count = mean.kernel.shape[1]
    if squashed and action_space is None:
        action_space = (-1.0, 1.0)
    settings.assumptions["action_space"] = action_space
    box = converted.box(action_space, count, path)
    make = squashed_gaussian if squashed else gaussian
    space = spaces.Box(shape=(width,))
    options = {"clip_log_std": False}
    return converted.loaded(
        path, _LIBRARY, make, network, params, space, box, settings.assumptions, normalizer, **options
    )


class _Settings:
    """Settings from the JSON of a folder, or from arguments; `assumptions` collects those that the file lacks."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        options = config.get("network_factory_kwargs")
        self.path, self.known = path, {**config, **(options if isinstance(options, dict) else {})}
        self.assumptions: dict[str, Any] = {}

    def get(self, name: str, argument: str, value: Any, default: Any = None) -> Any:
        """Returns a setting; raises ValueError if an argument contradicts the file."""
        if name not in self.known:
            self.assumptions[argument] = default if value is None else value
            return self.assumptions[argument]
        if value is not None and value != self.known[name]:
            raise ValueError(
                f"{argument}: expected {quoted(self.known[name])}, which the JSON in {self.path} says, got {value!r}. "
                f"Leave it out."
            )
        return self.known[name]


def _folder(path: Path) -> tuple[Any, dict[str, Any], int]:
    """Returns the parts of a checkpoint of Orbax, its settings and its size in bytes."""
    file = next((path / name for name in _CONFIGS if (path / name).is_file()), None)
    if file is None:
        steps = sorted(inner.name for inner in path.iterdir() if any((inner / name).is_file() for name in _CONFIGS))
        hint = f"Name the folder of a step: {quoted(steps)}." if steps else _REPAIR
        raise fault(path, f"a folder with {' or '.join(_CONFIGS)}", "one without", hint)
    with converted.opened(file, _LIBRARY, _REPAIR) as (opened, size):
        if size > _LONGEST_CONFIG:
            raise ValueError(f"a file of {size:,} bytes")
        text = opened.read().decode()
        untrusted.refuse_swollen(text)
        config = pickles.expect(json.loads(text), dict)
    with converted.parsed(path, _LIBRARY, _REPAIR):
        arrays, size = _orbax(path)
        tree = unflatten_dict({tuple(name.split(".")): array for name, array in arrays.items()})
        return [tree[str(i)] for i in range(len(tree))], config, size


def _orbax(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """Returns the arrays of a folder by name, and its bytes; another process with limited memory reads the arrays."""
    size = 0
    for count, (folder, folders, names) in enumerate(os.walk(path)):
        inside = [os.lstat(os.path.join(folder, name)) for name in (*folders, *names)]
        if count > _MOST_FOLDERS or not all(stat.S_ISREG(one.st_mode) or stat.S_ISDIR(one.st_mode) for one in inside):
            raise ValueError("a folder with links, devices, FIFOs or too many folders")
        size += sum(one.st_size for one in inside if stat.S_ISREG(one.st_mode))
    program = Path(__file__).with_name("tensorstore_arrays.py")
    command = [sys.executable, str(program), str(path.resolve()), str(untrusted.budget(size) - _ITSELF)]
    finished = subprocess.run(  # noqa: S603 - the program is this package's own
        command, capture_output=True, timeout=_SECONDS, check=False
    )
    if finished.returncode:
        lines = finished.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {finished.returncode}"]
        raise ValueError(f"arrays that tensorstore cannot read: {shortened(lines[-1])}")
    with np.load(BytesIO(finished.stdout), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}, size


def _arrays(tree: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of a policy by names such as `hidden_0.kernel`."""
    inside = pickles.expect(pickles.expect(tree, dict)["params"], dict)
    return {str(name): pickles.array(value) for name, value in flatten_dict(inside, sep=".").items()}


def _fields(statistics: Any) -> dict[str, Any]:
    found = statistics.state if isinstance(statistics, pickles.Record) else statistics
    if not isinstance(found, dict) or not {"mean", "std"} <= set(found):
        raise ValueError("no running statistics with mean and std")
    return found


def _layers(path: Path, arrays: Mapping[str, Any], start: str) -> tuple[list[Layer], list[dict[str, Any]] | None]:
    """Returns the layers `hidden_0, …` and the layer norms behind them, or None without norms."""

    def numbered(name: str, *parts: str) -> list[list[np.ndarray]]:
        found = {int(n) for n in re.findall(rf"(?m)^{re.escape(start)}{name}_(\d{{1,4}})\.", "\n".join(arrays))}
        return [[arrays[f"{start}{name}_{i}.{part}"] for part in parts] for i in range(len(found))]

    layers = [Layer(*pair) for pair in numbered("hidden", "kernel", "bias")]
    if any(layer.kernel.ndim != 2 or layer.bias.shape != layer.kernel.shape[1:] for layer in layers):
        raise ValueError("kernels that are no matrices")
    norms = [{"scale": scale, "bias": bias} for scale, bias in numbered("LayerNorm", "scale", "bias")]
    return converted.chain(path, layers, f"{start}hidden"), norms or None


def _halves(path: Path, last: Layer) -> tuple[Layer, Layer]:
    """Splits the last layer of tanh_normal into the mean and the number under softplus."""
    rows = last.kernel.shape[1]
    if rows % 2:
        raise fault(path, "a last layer with as many means as scales", f"{rows} outputs", _REPAIR)
    half = rows // 2
    return Layer(last.kernel[:, :half], last.bias[:half]), Layer(last.kernel[:, half:], last.bias[half:])


def _normal(
    path: Path, arrays: Mapping[str, np.ndarray], settings: _Settings, form: str | None, scale: float | None
) -> tuple[Layer, Any, dict[str, Any]]:
    """Returns the layer of the mean, log_std and options of the head, for the distribution normal."""
    mean = Layer(arrays["Dense_0.kernel"], arrays["Dense_0.bias"])
    scale = settings.get("mean_clip_scale", "mean_clip_scale", scale)
    head: dict[str, Any] = {}
    if scale is not None:
        head["output_activation"] = f"{float(scale)!r} * softsign(mean)"
    if "std_logparam.log_value" in arrays:
        return mean, arrays["std_logparam.log_value"].reshape(-1), head
    if "std_param.value" in arrays:
        return mean, converted.positive_std(path, arrays["std_param.value"].reshape(-1), 0.0, np.inf), head
    form = settings.get("noise_std_type", "noise_std_type", form, "scalar")
    if form != "log":
        raise CheckpointError(
            f"noise_std_type: expected 'log' for the standard deviation of {path}, which depends on the observation, "
            f"got {form!r}. With brax's 'scalar' it may be negative, and the policy is not converted."
        )
    return mean, Layer(arrays["Dense_1.kernel"], arrays["Dense_1.bias"]), head


def _statistics(path: Path, fields: Mapping[str, Any], key: str, width: int) -> tuple[Any, np.ndarray]:
    """Returns the statistics of the policy's observations, and factors for the first kernel."""
    mean, std = (fields[name] for name in ("mean", "std"))
    if isinstance(mean, dict):
        if key not in mean:
            raise CheckpointError(f"observation_key: expected one of {quoted(sorted(mean))} in {path}, got {key!r}.")
        mean, std = mean[key], std[key]
    mean, std = (pickles.array(part).reshape(-1) for part in (mean, std))
    if mean.shape != (width,) or std.shape != (width,) or not (std > 0).all() or not np.isfinite(mean).all():
        raise CheckpointError(
            f"observation_key: expected statistics of the {width} inputs of the policy in {path}, got {mean.shape} and "
            f"{std.shape} for {key!r}."
        )
    count = fields.get("count")
    count = count.state if isinstance(count, pickles.Record) and isinstance(count.state, dict) else count
    if isinstance(count, dict):
        high, low = (float(pickles.array(count[part])) for part in ("hi", "lo"))
        total = high * 2.0**32 + low
    else:
        total = 1.0 if count is None else float(pickles.array(count).reshape(()))
    return converted.statistics(mean, std, total)
