"""Export of a policy as StableHLO."""

from __future__ import annotations

import os
from pathlib import Path

import jax.export

from gaussjax import normalize
from gaussjax.export.program import Program, make_program, write
from gaussjax.policy import Params, Policy


def stablehlo(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Statistics | None = None,
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
    program = make_program(policy, params, normalizer, None if deterministic else "key")
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(program.function), platforms=("cpu", "cuda", "tpu"))(program.shapes(batch))
    payload = bytes(exported.serialize())
    write(Path(path), program, payload, jax.export.deserialize(bytearray(payload)).call)
    return program
