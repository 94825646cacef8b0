"""Options of the commands that read one file, and the annotation of their fields."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from gaussjax.cli.errors import usage_errors
from gaussjax.training.algorithm import check_options


class Hint(NamedTuple):
    """Annotation of a field for its help.

    Attributes:
        argument: Name of an argument that is no option, or an empty text.
        default: Text in place of the default None.
    """

    argument: str = ""
    default: str = ""


@dataclasses.dataclass(frozen=True)
class Info:
    """Show the content of a policy file or a checkpoint.

    Examples:
        gaussjax info runs/pendulum
        gaussjax info runs/pendulum/best.safetensors
        gaussjax info runs/pendulum/checkpoint.safetensors
    """

    file: Annotated[Path, Hint("FILE")]
    """Policy file or checkpoint; or the folder of a training."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a policy as a program for machines without gaussjax.

    Examples:
        gaussjax export runs/pendulum --format numpy
        gaussjax export runs/pendulum/best.safetensors --format onnx --out robot.onnx
        gaussjax export runs/pendulum --format stablehlo --stochastic --force
    """

    file: Annotated[Path, Hint("POLICY")]
    """Policy file, written by train or by gaussjax.save; or the folder of a training."""
    format: Literal["stablehlo", "onnx", "numpy"]
    """Format of the program; numpy writes an .npz file and numpy_act.py, which runs it with Python 3.10 or newer and
    NumPy."""
    out: Annotated[Path | None, Hint(default="the name of the policy file with the suffix of the format")] = None
    """File to write."""
    stochastic: bool = False
    """Sample the actions; the program then takes a key (stablehlo) or noise (onnx, numpy) as an input."""
    force: bool = False
    """Replace an existing file."""


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert a policy of another library to a policy file.

    Examples:
        gaussjax convert model_1500.pt --from rsl_rl --out policy.safetensors
        gaussjax convert robot.zip --from sb3 --options statistics=vecnormalize.pkl
        gaussjax convert checkpoints/000098304000 --from brax
    """

    file: Annotated[Path, Hint("CHECKPOINT")]
    """Checkpoint of the library; for brax also the folder of a step. Nothing in it is executed."""
    from_: Literal["rsl_rl", "sb3", "brax", "cleanrl"]
    """Library that wrote the checkpoint; sb3 reads SBX too."""
    out: Annotated[Path | None, Hint(default="the name of the checkpoint with the suffix .safetensors")] = None
    """File to write."""
    options: tuple[str, ...] = ()
    """Settings that the checkpoint does not hold, as NAME=VALUE: the arguments of gaussjax.interop.rsl_rl.read and its
    like, such as activation=tanh action_space=[-1,1] clip_actions=100."""
    force: bool = False
    """Replace an existing file."""


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue a training from its last checkpoint.

    Examples:
        gaussjax resume runs/pendulum
        gaussjax resume runs/reach --environment myrobot:Reach-v0
        gaussjax resume runs/pendulum --total-steps 1e6
    """

    folder: Annotated[Path, Hint("FOLDER")]
    """Folder of the results, made by train."""
    distributed: str | None = None
    """Train on many devices, as for train ppo; each process reads the folder."""
    environment: str | None = None
    """Name of the environment; required for a name with a module to import, such as my_module:MyEnv-v0."""
    total_steps: Annotated[int | None, Hint(default="the total of the run")] = None
    """Train up to this number of steps, or of epochs for bc; PPO anneals its step size to 0 at the new total."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("total_steps",), ())
