"""A policy for machines without gaussjax: as StableHLO, ONNX, or a list of NumPy operations.

Every exported program takes and returns named arrays with an open batch size first, and is compared
with `policy.act` on random inputs before it is written.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from gaussjax import normalize, spaces
from gaussjax.core import atomic_file
from gaussjax.export import numpy as numpy_program
from gaussjax.export import numpy_act
from gaussjax.policy import Params, Policy

PLATFORMS = ("cpu", "cuda", "tpu")
# Largest difference to policy.act, in units of 1 + |value|, that a verified program may show.
TOLERANCE = 1e-4
_BATCHES = (1, 3, 64)


class Program(NamedTuple):
    """What is exported.

    Attributes:
        function: From a dict of arrays to a dict of arrays: `actions`, and for a network with memory
            the new carry, `next_carry_0`, `next_carry_1`, ….
        inputs: Name, shape of one row and type: `observations`, or `observations_NAME` for each part of
            a space of several; for stochastic actions `key` or `noise`, for a memory `carry_0`, … and `resets`.
        outputs: Their names.
        shared: Names of the inputs that have no batch axis.
    """

    function: Callable[[dict[str, Any]], dict[str, Any]]
    inputs: dict[str, tuple[tuple[int, ...], Any]]
    outputs: tuple[str, ...]
    shared: tuple[str, ...]

    def shapes(self, batch: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """The inputs for a batch size, which may be symbolic."""
        return {
            name: jax.ShapeDtypeStruct(shape if name in self.shared else (batch, *shape), dtype)
            for name, (shape, dtype) in self.inputs.items()
        }


def export(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    format: str,
    normalizer: normalize.Statistics | None = None,
    deterministic: bool = True,
) -> Program:
    """Writes the policy, its parameters and its observation statistics as one program.

    Args:
        path: Of the file; an older one is replaced.
        policy: Whose `act` is exported.
        params: Its parameters; they become constants.
        format: "stablehlo" (for `jax.export.deserialize`, on CPU, CUDA and TPU), "onnx" (needs the
            extra `onnx`) or "numpy" (an .npz, and beside it `numpy_act.py`, which reads it).
        normalizer: Observation statistics, applied within the program.
        deterministic: False lets the program sample: from `key`, the two words of a PRNG key, in
            StableHLO; from `noise`, standard normal numbers of the caller's, in the others.

    Returns:
        The program that was written, with the names of its inputs.

    Raises:
        ValueError: The program does not give the actions of `policy.act`; nothing is written.
        NotImplementedError: The network uses an operation that the format does not have.

    Example:
        >>> import gaussjax, jax, pathlib, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "policy.npz"
        >>> _ = export(path, policy, policy.init(jax.random.key(0)), format="numpy")
        >>> act = numpy_act.load(path)
        >>> act(observations=np.zeros((5, 3)))["actions"].shape
        (5, 1)
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {sorted(FORMATS)}, got {format!r}.")
    path = Path(path)
    draws = None if deterministic else "key" if format == "stablehlo" else "noise"
    program = make_program(policy, params, normalizer, draws)
    payload, run = FORMATS[format](program)
    _verify(path, program, run)
    atomic_file.write(path, payload)
    if format == "numpy":
        shutil.copyfile(numpy_act.__file__, path.parent / "numpy_act.py")
    return program


def make_program(policy: Policy, params: Params, normalizer: normalize.Statistics | None, draws: str | None) -> Program:
    """One step of `policy.act` on named arrays.

    Args:
        policy: Whose `act` it is.
        params: Its parameters; they become constants.
        normalizer: Observation statistics, applied within, or None.
        draws: What it draws from: "key", "noise", or None for deterministic actions.

    Returns:
        The function, and the names, shapes and types of what it takes.

    Raises:
        ValueError: Two parts of the observation would have one name.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> program = make_program(policy, policy.init(jax.random.key(0)), None, "noise")
        >>> sorted(program.inputs), program.outputs
        (['noise', 'observations'], ('actions',))
    """
    space, num_actions = policy.spec.observation_space, spaces.size(policy.spec.action_space)
    found, structure = jax.tree_util.tree_flatten_with_path(spaces.zeros(space))
    # By the names of the space: an array has no other way to say which part it is.
    parts = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in found]
    if len(set(parts)) < len(parts):
        raise ValueError(f"policy: expected parts of the observation that are told apart by their names, got {parts}.")
    names = ["observations"] if len(found) == 1 else [f"observations_{part}" for part in parts]
    inputs: dict[str, Any] = {name: (leaf.shape, leaf.dtype) for name, (_, leaf) in zip(names, found, strict=True)}
    carry, memory = jax.tree.flatten(jax.eval_shape(policy.initial_carry))
    carries = [f"carry_{i}" for i in range(len(carry))]
    inputs |= {name: (leaf.shape, leaf.dtype) for name, leaf in zip(carries, carry, strict=True)}
    # ONNX wants every name once.
    results = ("actions", *(f"next_{name}" for name in carries))
    if carries:
        inputs["resets"] = ((), np.dtype(bool))
    if draws == "key":
        inputs["key"] = ((2,), np.dtype(np.uint32))
    elif draws == "noise":
        inputs["noise"] = ((num_actions,), np.dtype(np.float32))

    def function(arrays: dict[str, Any]) -> dict[str, Any]:
        observations = structure.unflatten([arrays[name] for name in names])
        if normalizer is not None:
            observations = normalize.apply(normalizer, observations)
        given: dict[str, Any] = {}
        if carries:
            given = {"carry": memory.unflatten([arrays[name] for name in carries]), "resets": arrays["resets"]}
        key = jax.random.wrap_key_data(arrays["key"], impl="threefry2x32") if draws == "key" else None
        act = policy.act(params, key, observations, noise=arrays.get("noise"), deterministic=draws is None, **given)
        following = jax.tree.leaves(act.outputs.get("carry", ()))
        return dict(zip(results, (act.actions, *following), strict=True))

    return Program(function, inputs, results, ("key",))


def _stablehlo(program: Program) -> tuple[bytes, Callable[..., Any]]:
    try:
        import flatbuffers  # noqa: F401  jax.export writes with it.
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("stablehlo: needs flatbuffers: pip install 'gaussjax[export]'") from missing
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(program.function), platforms=PLATFORMS)(program.shapes(batch))
    payload = bytes(exported.serialize())
    return payload, jax.export.deserialize(bytearray(payload)).call


def _numpy(program: Program) -> tuple[bytes, Callable[..., Any]]:
    (batch,) = jax.export.symbolic_shape("b")
    payload = numpy_program.build(program.function, program.shapes(batch), batch)
    act = numpy_act.load(io.BytesIO(payload))
    return payload, lambda arrays: act(**{name: np.asarray(array) for name, array in arrays.items()})


def _onnx(program: Program) -> tuple[bytes, Callable[..., Any]]:
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports]
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"onnx: needs {missing.name}: pip install 'gaussjax[onnx]'") from missing
    names = sorted(program.inputs)
    outputs = list(program.outputs)

    def positional(*arrays: Any) -> tuple[Any, ...]:
        given = program.function(dict(zip(names, arrays, strict=True)))
        return tuple(given[name] for name in outputs)

    (batch,) = jax.export.symbolic_shape("B")
    shapes = [program.shapes(batch)[name] for name in names]
    # jax2onnx replaces functions of JAX while it traces: ours are traced before.
    traced = jaxpr_as_fun(jax.make_jaxpr(positional)(*shapes))
    model = jax2onnx.to_onnx(traced, shapes, input_names=names, output_names=outputs)
    payload = model.SerializeToString()
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: np.asarray(array) for name, array in arrays.items()}
        return dict(zip(outputs, session.run(outputs, given), strict=True))

    return payload, run


FORMATS: Mapping[str, Callable[[Program], tuple[bytes, Callable[..., Any]]]] = {
    "numpy": _numpy,
    "onnx": _onnx,
    "stablehlo": _stablehlo,
}


def _verify(path: Path, program: Program, run: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for batch in _BATCHES:
        arrays = {name: _random(rng, shape) for name, shape in program.shapes(batch).items()}
        expected, got = program.function(jax.tree.map(jnp.asarray, arrays)), run(arrays)
        for name, value in expected.items():
            value, came = np.asarray(value), np.asarray(got[name])
            apart = np.max(np.abs(came - value) / (1.0 + np.abs(value)), initial=0.0)
            if came.shape != value.shape or not apart <= TOLERANCE:
                raise ValueError(
                    f"{path}: expected the {name} of policy.act, got others, apart by {apart:.2g} for a batch of "
                    f"{batch}. Nothing was written; export in another format."
                )


def _random(rng: np.random.Generator, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    if shape.dtype == bool:
        return rng.random(shape.shape) < 0.5
    if jnp.issubdtype(shape.dtype, jnp.integer):
        return rng.integers(0, 2, shape.shape).astype(shape.dtype)
    return rng.normal(size=shape.shape).astype(shape.dtype)
