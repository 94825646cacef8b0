"""The steps that all readers share: open a file, check its layers, and build the policy that they describe."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize, spaces
from gaussjax.core import untrusted
from gaussjax.core.choices import choose
from gaussjax.core.text import FileError, quoted, shortened
from gaussjax.core.trees import check_shapes
from gaussjax.files import Loaded
from gaussjax.networks import MLP, Graph
from gaussjax.policy import Policy

MOST_ENTRIES = 200_000
# A policy file has at most as many layers.
_MOST_LAYERS = 256
_SLACK = 32 * 2**20
# `normalize.apply` adds this number to the variance.
_EPSILON = 1e-8


class CheckpointError(FileError):
    """Raised if a file is damaged, would run code, or is not a checkpoint that the reader converts."""


class Layer(NamedTuple):
    """A dense layer in Flax's layout: kernel `(in, out)` and bias `(out,)`."""

    kernel: np.ndarray
    bias: np.ndarray

    def as_flax(self) -> dict[str, np.ndarray]:
        """Returns the parameters of a Flax dense layer."""
        return {"kernel": self.kernel, "bias": self.bias}


@contextlib.contextmanager
def opened(path: Path, library: str, repair: str) -> Iterator[tuple[BinaryIO, int]]:
    """Opens a regular file; errors while its content is read become a `CheckpointError` with the path and a repair."""
    with untrusted.opened(path, CheckpointError) as opened_file, parsed(path, library, repair):
        yield opened_file


@contextlib.contextmanager
def parsed(path: Path, library: str, repair: str) -> Iterator[None]:
    """Converts every error to a `CheckpointError` that names the file, the library and a repair."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: expected a checkpoint of {library} that holds arrays alone, got one that cannot be read: "
            f"{shortened(reason)}. {repair}"
        ) from error


def fault(path: Path, expected: str, got: str, repair: str) -> CheckpointError:
    """Returns the error for a file with another content than expected."""
    return CheckpointError(f"{path}: expected {expected}, got {got}. {repair}")


def floats(path: Path, arrays: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """Returns arrays of a file of `size` bytes as float32; raises CheckpointError for NaN, infinities and others."""
    known = {name for name, array in arrays.items() if isinstance(array, np.ndarray) and array.dtype.kind in "fiu"}
    wrong = [name for name in arrays if name not in known]
    if wrong:
        raise fault(path, "arrays of numbers alone", f"others for {quoted(wrong)}", "Save the model again.")
    # Arrays may share bytes, but copies of them do not.
    total = sum(4 * array.size for array in arrays.values())
    if total > 3 * size + _SLACK:
        raise fault(path, f"arrays of at most {3 * size + _SLACK:,} bytes", f"{total:,}", "Save the model again.")
    found = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    wrong = [name for name, array in found.items() if not np.isfinite(array).all()]
    if wrong:
        raise fault(path, "finite numbers", f"NaN or infinities in {quoted(wrong)}", "Use an earlier checkpoint.")
    return found


def torch_layer(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> Layer:
    """Returns the layer `name` of torch, whose weight has the shape (out, in)."""
    weight, bias = (arrays.get(f"{name}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        shapes = [None if part is None else part.shape for part in (weight, bias)]
        raise fault(path, f"a weight (out, in) and a bias (out,) of {name}", f"{shapes}", "Only dense layers are read.")
    return Layer(weight.T, bias)


def torch_layers(path: Path, arrays: Mapping[str, np.ndarray], prefix: str) -> list[Layer]:
    """Returns the layers `prefix0, prefix2, …` of a Sequential with one activation after each layer."""
    start = re.compile(rf"{re.escape(prefix)}(\d{{1,4}})\.")
    found = sorted({int(match[1]) for match in map(start.match, arrays) if match})
    if found != list(range(0, 2 * len(found), 2)):
        raise fault(
            path,
            f"the layers {prefix}0, {prefix}2, …, with one activation after each",
            f"{quoted([f'{prefix}{i}' for i in found])}",
            "Networks with further layers are not converted.",
        )
    return chain(path, [torch_layer(path, arrays, f"{prefix}{i}") for i in found], prefix)


def chain(path: Path, layers: list[Layer], name: str) -> list[Layer]:
    """Returns the layers; raises CheckpointError if the width of one is not the input width of the next."""
    if len(layers) > _MOST_LAYERS:
        raise fault(path, f"at most {_MOST_LAYERS} layers", f"{len(layers):,}", "Such a policy is not converted.")
    for before, after in itertools.pairwise(layers):
        if before.kernel.shape[1] != after.kernel.shape[0]:
            shapes = [layer.kernel.shape for layer in layers]
            raise fault(path, f"layers {name} that fit together", f"the kernels {shapes}", "Save the model again.")
    return layers


def refuse_unknown(path: Path, names: Sequence[str], known: str, reasons: Mapping[str, str], library: str) -> None:
    """Raises CheckpointError for names that the pattern `known` does not match; `reasons` explains some names."""
    unknown = [name for name in names if not re.fullmatch(known, name)]
    if not unknown:
        return
    why = next((text for start, text in reasons.items() for name in unknown if re.match(start, name)), None)
    raise fault(
        path,
        f"the arrays of a Gaussian policy of {library} for vectors",
        why or f"others too: {quoted(unknown)}",
        "Such a policy is not converted.",
    )


def box(action_space: Any, num_actions: int, path: Path) -> spaces.Box:
    """Returns the action space of an argument: a Box, a pair (low, high), or None for a Box without bounds."""
    if action_space is None:
        return spaces.Box(shape=(num_actions,))
    if isinstance(action_space, (list, tuple)):
        if len(action_space) != 2:
            raise ValueError(f"action_space: expected a Box or (low, high), got {quoted(action_space)}.")
        sides = [np.asarray(side, np.float64).reshape(-1) for side in action_space]
        shape = (max(num_actions if side.size == 1 else side.size for side in sides),)
        low, high = (np.broadcast_to(side, shape).tolist() for side in sides)
        action_space = spaces.Box(low, high, shape)
    found = spaces.action_box(action_space)
    if spaces.size(found) != num_actions:
        raise ValueError(
            f"action_space: expected a Box of the {num_actions} actions in {path}, got {spaces.size(found)}. Pass the "
            f"action space of the environment in which the policy was trained."
        )
    return found


def named_activation(name: Any, names: Mapping[str, str]) -> str:
    """Returns our name of a library's activation; raises ValueError for an unknown one."""
    return choose(names, name, "activation")


def positive_std(path: Path, std: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns the logarithm of standard deviations after a clip; raises CheckpointError for one of 0 or less."""
    std = np.clip(std.astype(np.float64), low, high)
    if not (std > 0).all():
        raise fault(path, "standard deviations above 0", f"{quoted(std.tolist())}", "Use an earlier checkpoint.")
    return np.log(std).astype(np.float32)


def statistics(mean: Any, std: Any, count: float, clip: float = np.inf) -> tuple[normalize.Statistics, np.ndarray]:
    """Returns statistics that compute `(x - mean) / std`, and factors for the rows of the first kernel.

    Statistics divide by the root of a variance and 1e-8. The factors are 1 unless a standard deviation is below 1e-4.
    """
    mean, std = (np.asarray(part, np.float64).reshape(-1) for part in (mean, std))
    variance, factors = variances(std)
    # Without observations the variance would count as 1.
    count = max(float(count), 1.0)
    parts = normalize.Statistics(np.float64(count), mean, variance * count, clip)
    return jax.tree.map(jnp.asarray, parts), factors.astype(np.float32)


def variances(std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns variances with which statistics divide by `std`, and the factors that are left below 1e-4."""
    variance = np.maximum(std**2 - _EPSILON, 0.0)
    return variance, np.where(std**2 < _EPSILON, np.sqrt(variance + _EPSILON) / std, 1.0)


def mlp(
    layers: list[Layer],
    activation: str | tuple[str, ...],
    mean: Layer,
    log_std: Layer | np.ndarray,
    *,
    norms: list[dict[str, np.ndarray]] | None = None,
    **head: Any,
) -> tuple[Any, dict[str, Any]]:
    """Returns a network of dense layers and its parameters.

    Args:
        layers: Hidden layers, each followed by the activation.
        activation: Name of the activation, or one for each layer.
        mean: Output layer of the mean.
        log_std: Array of log_std, or the output layer of a log_std that depends on the observation.
        norms: Scale and bias of a layer norm after each activation, or None.
        **head: Options of the network's head.
    """
    widths = tuple(layer.kernel.shape[1] for layer in layers)
    head |= {"std": "state" if isinstance(log_std, Layer) else "parameter", "output_activation": None} | head
    outputs = {"mean": mean.as_flax(), "log_std": log_std.as_flax() if isinstance(log_std, Layer) else log_std}
    if norms is None:
        params = {"layers": {f"dense_{i}": layer.as_flax() for i, layer in enumerate(layers)}, "head": outputs}
        if not layers:
            del params["layers"]
        return MLP(widths, activation, **head), params
    nodes: list[Any] = ["flatten"]
    params = {"head": outputs}
    for i, (width, layer) in enumerate(zip(widths, layers, strict=True)):
        params[f"parts_body_{len(nodes)}"] = layer.as_flax()
        nodes += [width, activation if isinstance(activation, str) else activation[i]]
        params[f"parts_body_{len(nodes)}"] = norms[i]
        nodes.append("norm")
    return Graph([{"name": "body", "layers": nodes}], **head), params


def loaded(
    path: Path,
    library: str,
    make: Callable[..., Policy],
    network: Any,
    params: dict[str, Any],
    observation_space: Any,
    action_space: spaces.Box,
    assumptions: Mapping[str, Any],
    normalizer: normalize.Normalizer = None,
    **options: Any,
) -> Loaded:
    """Builds the policy and checks its parameters.

    Args:
        path: Path of the file, for errors.
        library: Name of the library.
        make: `gaussjax.gaussian` or `gaussjax.squashed_gaussian`.
        network: Network of the policy.
        params: Its parameters.
        observation_space: Observation space.
        action_space: Action space.
        assumptions: Settings that the file does not hold, by the names of the reader's arguments.
        normalizer: Observation statistics, or None.
        **options: Options of `make`.
    """
    try:
        policy = make(network, observation_space, action_space, **options)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    tree = {"params": jax.tree.map(jnp.asarray, params)}
    with parsed(path, library, "Save the model again."):
        check_shapes(tree, jax.eval_shape(policy.init, jax.random.key(0)), "params", "They do not fit together")
    data = (type(None), bool, int, float, str, tuple, list, dict)
    plain = {name: value if isinstance(value, data) else quoted(value) for name, value in assumptions.items()}
    metadata = {"library": library, "file": path.name, "assumptions": plain}
    return Loaded(policy, tree, normalizer, metadata)
