"""Export of a policy as StableHLO."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.export

from gaussjax import normalize
from gaussjax.export.program import Program, make_program, write
from gaussjax.policy import Params, Policy

PLATFORMS = ("cpu", "cuda", "tpu")


def stablehlo(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Statistics | None = None,
    deterministic: bool = True,
) -> Program:
    """Writes a policy as StableHLO for `jax.export.deserialize`, on CPU, CUDA and TPU.

    The program has an open batch size and is compared with `policy.act` before it is written.

    Args:
        path: Path of the file; an older file is replaced.
        policy: The policy, whose `act` is exported.
        params: Its parameters; they become constants.
        normalizer: Observation statistics, applied within the program, or None.
        deterministic: False for a program that samples from its input `key`, the two words of a PRNG key.

    Returns:
        The exported program, with the names of its inputs.

    Raises:
        ValueError: The program's actions are not those of `policy.act`; nothing is written.
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
        import flatbuffers  # noqa: F401  jax.export writes with it.
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("stablehlo: needs flatbuffers: pip install 'gaussjax[export]'") from missing
    program = make_program(policy, params, normalizer, None if deterministic else "key")
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(program.function), platforms=PLATFORMS)(program.shapes(batch))
    payload = bytes(exported.serialize())
    write(Path(path), program, payload, jax.export.deserialize(bytearray(payload)).call)
    return program
