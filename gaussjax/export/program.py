"""Programs: policies as functions of named arrays, which all formats share, and their export as StableHLO and ONNX."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo as dialect

from gaussjax import networks, normalize, spaces
from gaussjax.core import atomic_file
from gaussjax.core.compiled import flag
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.policy import Params, Policy

# Largest allowed difference between an exported program and policy.act, in units of 1 + |value|.
TOLERANCE = 1e-4


class Program(NamedTuple):
    """One step of a policy as a function of named arrays.

    Attributes:
        function: `(dict of input arrays) -> dict of output arrays`.
        inputs: Shape of one row and dtype by name: `observations`, or `observations_NAME` for each part of a Dict or
            Tuple space; `carry_0`, … and `resets` of a recurrent network; `key`, or `noise` of the shape
            `policy.noise_shape`, of a stochastic program.
        outputs: Names of the outputs: `actions`, and `next_carry_0`, … of a recurrent network.
        shared: Names of the inputs without batch axis.
    """

    function: Callable[[dict[str, Any]], dict[str, Any]]
    inputs: dict[str, tuple[tuple[int, ...], Any]]
    outputs: tuple[str, ...]
    shared: tuple[str, ...]

    def shapes(self, batch: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of each input for a batch size, which may be symbolic."""
        return {
            name: jax.ShapeDtypeStruct(shape if name in self.shared else (batch, *shape), dtype)
            for name, (shape, dtype) in self.inputs.items()
        }


def make_program(policy: Policy, params: Params, normalizer: normalize.Normalizer, source: str | None) -> Program:
    """Makes a program of a policy's `act`; `source` names the input for sampling: "key", "noise" or None."""
    normalizer = networks.actor_observations(policy.spec.network)(normalizer)
    policy, params = networks.actor(policy, params)
    normalizer = statistics_for(policy, normalizer)
    space = policy.spec.observation_space
    found, structure = jax.tree_util.tree_flatten_with_path(spaces.zeros(space))
    parts = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in found]
    if len(set(parts)) < len(parts):
        raise ValueError(f"policy: expected parts of the observation with different names, got {parts}.")
    names = ["observations"] if len(found) == 1 else [f"observations_{part}" for part in parts]
    inputs: dict[str, Any] = {name: (leaf.shape, leaf.dtype) for name, (_, leaf) in zip(names, found, strict=True)}
    carry, carry_structure = jax.tree.flatten(jax.eval_shape(policy.initial_carry))
    carries = [f"carry_{i}" for i in range(len(carry))]
    inputs |= {name: (leaf.shape, leaf.dtype) for name, leaf in zip(carries, carry, strict=True)}
    # An input and an output of ONNX cannot have the same name, so outputs of the carry start with "next_".
    outputs = ("actions", *(f"next_{name}" for name in carries))
    if carries:
        inputs["resets"] = ((), np.dtype(bool))
    if source == "key":
        inputs["key"] = ((2,), np.dtype(np.uint32))
    elif source == "noise":
        inputs["noise"] = (policy.noise_shape, np.dtype(np.float32))

    def function(arrays: dict[str, Any]) -> dict[str, Any]:
        observations = structure.unflatten([arrays[name] for name in names])
        if normalizer is not None:
            observations = normalize.apply(normalizer, observations)
        options = {"noise": arrays.get("noise"), "deterministic": source is None}
        if carries:
            options |= {"carry": carry_structure.unflatten([arrays[n] for n in carries]), "resets": arrays["resets"]}
        key = jax.random.wrap_key_data(arrays["key"], impl="threefry2x32") if source == "key" else None
        act = policy.act(params, key, observations, **options)
        return dict(zip(outputs, (act.actions, *jax.tree.leaves(act.outputs.get("carry", ()))), strict=True))

    return Program(function, inputs, outputs, ("key",))


def write(path: Path, program: Program, payload: bytes, run: Callable[[dict[str, Any]], Any]) -> None:
    """Writes an exported program if its results, computed by `run`, equal those of the policy on random inputs."""
    rng = np.random.default_rng(0)
    for batch in (1, 3, 64):
        arrays = {name: _random(rng, shape) for name, shape in program.shapes(batch).items()}
        expected, got = program.function(jax.tree.map(jnp.asarray, arrays)), run(arrays)
        for name in program.outputs:
            wanted, value = np.asarray(expected[name]), np.asarray(got[name])
            difference = np.max(np.abs(value - wanted) / (1.0 + np.abs(wanted)), initial=0.0)
            if value.shape != wanted.shape or not difference <= TOLERANCE:
                raise ValueError(
                    f"{path}: expected the {name} of policy.act, got a difference of {difference:.2g} for a batch of "
                    f"{batch}. Nothing was written; export in another format."
                )
    atomic_file.write(path, payload)


def stablehlo(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Normalizer = None,
    deterministic: bool = True,
) -> Program:
    """Writes a policy as StableHLO for CPU, CUDA and TPU, which `jax.export.deserialize` reads.

    Args:
        path: Path of the file, which is replaced.
        policy: Policy whose `act` is exported, for any batch size.
        params: Parameters of the policy; they become constants.
        normalizer: Observation statistics that the program applies, or None.
        deterministic: False for a program that samples with an input `key`, the two words of a PRNG key.

    Returns:
        The exported program with the names of its inputs and outputs.

    Raises:
        ValueError: The program and `policy.act` return different actions; nothing is written.
        ModuleNotFoundError: The extra `export` is not installed.

    Example:
        >>> import gaussjax, pathlib, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "policy.stablehlo"
        >>> stablehlo(path, policy, policy.init(jax.random.key(0))).outputs
        ('actions',)
        >>> exported = jax.export.deserialize(bytearray(path.read_bytes()))
        >>> exported.call({"observations": jax.numpy.zeros((5, 3))})["actions"].shape
        (5, 1)
    """
    try:
        import flatbuffers  # noqa: F401  jax.export needs flatbuffers.
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("stablehlo: needs flatbuffers: pip install 'gaussjax[export]'") from missing
    program = make_program(policy, params, normalizer, None if flag(deterministic, "deterministic") else "key")
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(program.function), platforms=("cpu", "cuda", "tpu"))(program.shapes(batch))
    payload = bytes(_without_locations(exported).serialize())
    write(Path(path), program, payload, jax.export.deserialize(bytearray(payload)).call)
    return program


def _without_locations(exported: jax.export.Exported) -> jax.export.Exported:
    """Returns a program without its source locations, which name files and functions of the user."""
    with ir.Context() as context:
        dialect.register_dialect(context)
        module = dialect.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        text = str(module.operation.get_asm(enable_debug_info=False))
    # JAX writes for readers that are up to four weeks old.
    version = dialect.get_version_from_compatibility_requirement(dialect.StablehloCompatibilityRequirement.WEEK_4)
    return dataclasses.replace(exported, mlir_module_serialized=dialect.serialize_portable_artifact_str(text, version))


def onnx(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Normalizer = None,
    deterministic: bool = True,
) -> Program:
    """Writes a policy as an ONNX file.

    Args:
        path: As for `stablehlo`.
        policy: As for `stablehlo`.
        params: As for `stablehlo`.
        normalizer: As for `stablehlo`.
        deterministic: False for a program with an input `noise` of standard normal numbers, `(batch, *noise_shape)`.

    Returns:
        The exported program with the names of its inputs and outputs.

    Raises:
        ValueError: The program and `policy.act` return different actions; nothing is written.
        ModuleNotFoundError: The extra `onnx` is not installed.

    Example:
        >>> import gaussjax, pathlib, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "policy.onnx"
        >>> try:
        ...     onnx(path, policy, policy.init(jax.random.key(0))).outputs
        ... except ModuleNotFoundError:  # Without the extra.
        ...     ("actions",)
        ('actions',)
    """
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports]
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"onnx: needs {missing.name}: pip install 'gaussjax[onnx]'") from missing
    program = make_program(policy, params, normalizer, None if flag(deterministic, "deterministic") else "noise")
    names, outputs = sorted(program.inputs), list(program.outputs)

    def positional(*arrays: Any) -> tuple[Any, ...]:
        results = program.function(dict(zip(names, arrays, strict=True)))
        return tuple(results[name] for name in outputs)

    (batch,) = jax.export.symbolic_shape("B")
    shapes = [program.shapes(batch)[name] for name in names]
    # JAX traces the program here, because jax2onnx would replace functions of JAX while it traces.
    traced = jaxpr_as_fun(jax.make_jaxpr(positional)(*shapes))
    payload = jax2onnx.to_onnx(traced, shapes, input_names=names, output_names=outputs).SerializeToString()
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {name: np.asarray(array) for name, array in arrays.items()}
        return dict(zip(outputs, session.run(outputs, inputs), strict=True))

    write(Path(path), program, payload, run)
    return program


def _random(rng: np.random.Generator, like: jax.ShapeDtypeStruct) -> np.ndarray:
    discrete = like.dtype == bool or jnp.issubdtype(like.dtype, jnp.integer)
    return (rng.integers(0, 2, like.shape) if discrete else rng.normal(size=like.shape)).astype(like.dtype)
