"""Export of a policy as ONNX."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.export
import numpy as np
from jax.extend.core import jaxpr_as_fun

from gaussjax import normalize
from gaussjax.export.program import Program, make_program, write
from gaussjax.policy import Params, Policy


def onnx(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Statistics | None = None,
    deterministic: bool = True,
) -> Program:
    """Writes a policy as an ONNX file.

    Args:
        path: Path of the file, which is replaced.
        policy: Policy whose `act` is exported, for any batch size.
        params: Parameters of the policy; they become constants.
        normalizer: Observation statistics that the program applies, or None.
        deterministic: False for a program with an input `noise` of standard normal numbers.

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
    program = make_program(policy, params, normalizer, None if deterministic else "noise")
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
