"""Options of the commands that read one file, and the annotation of their fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from gaussjax.cli.errors import usage_errors
from gaussjax.training.algorithm import check_exploration, check_options

EVALUATION_SEED = 10_000


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


def named_values(words: Sequence[str], what: str = "environment_options") -> dict[str, Any]:
    """Converts words NAME=VALUE to a dict; a value is a number, true, false, null, a list in brackets or text.

    Example:
        >>> named_values(["max_steps=500", "backend=spring"])
        {'max_steps': 500, 'backend': 'spring'}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ValueError(f"{what}: expected NAME=VALUE, each name once, got {word[:100]!r}.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@dataclasses.dataclass(frozen=True)
class Play:
    """Options of the commands that run a policy in its environment."""

    file: Annotated[Path, Hint("POLICY")]
    """Policy file, written by train or by gaussjax.save; or the folder of a training."""
    environment: Annotated[str | None, Hint(default="the environment of the training")] = None
    """Name of an environment as for train, such as Pendulum-v1."""
    environment_options: Annotated[tuple[str, ...], Hint(default="limit, backend, wrappers of the training")] = ()
    """Options of the environment, as for train."""
    episodes: int = 20
    """Number of episodes."""
    seed: int = EVALUATION_SEED
    """Random seed of the first episode; the seed of each further episode is larger by 1."""
    max_steps: int = 10_000
    """Longest episode in environment steps, for environments whose episodes do not end."""
    timeout: float = 300.0
    """Longest time for one step of all environments, in seconds."""
    stochastic: bool = False
    """Sample the actions; they are deterministic by default."""
    exploration: Literal["white", "held", "colored"] = "white"
    """Noise of sampled actions, as for train."""
    hold: int | None = None
    """Steps for which held noise stays the same, as for train."""
    beta: float | None = None
    """Exponent of colored noise, as for train."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("episodes", "max_steps", "hold"), ("timeout",))
            check_exploration(self)
            for name in ("exploration", "hold", "beta"):
                if not self.stochastic and getattr(self, name) not in ("white", None):
                    raise ValueError(f"{name}: expected none for deterministic actions. Add --stochastic to sample.")
            named_values(self.environment_options)
            if not 0 <= self.seed < 2**63:
                raise ValueError(f"seed: expected a number from 0 to 2**63 - 1, got {self.seed}.")


@dataclasses.dataclass(frozen=True)
class Evaluate(Play):
    """Measure the returns of a policy in its environment.

    Examples:
        gaussjax evaluate runs/pendulum
        gaussjax evaluate runs/pendulum --episodes 1 --gif episode.gif
        gaussjax evaluate runs/pendulum --stochastic --hold 8
    """

    gif: Path | None = None
    """New GIF file with a recording of the first episode."""


@dataclasses.dataclass(frozen=True)
class Record(Play):
    """Record episodes of a policy as a dataset for train bc.

    Examples:
        gaussjax record runs/pendulum --episodes 100 --out recorded.npz
        gaussjax record runs/pendulum --stochastic --minari pendulum/expert-v0
        gaussjax record --uniform Pendulum-v1 --out random.hdf5
    """

    file: Annotated[Path | None, Hint("POLICY")] = None
    """Policy file, written by train or by gaussjax.save; or the folder of a training."""
    seed: int = 3 * EVALUATION_SEED
    """Random seed of the first episode, which is none of an evaluation; each further seed is larger by 1."""
    out: Path | None = None
    """New file to write; its suffix .npz, .hdf5 or .h5 is its format."""
    minari: str | None = None
    """Name of a new dataset in Minari's local store, such as pendulum/expert-v0, in place of a file."""
    uniform: str | None = None
    """Name of an environment in which actions are uniform in the Box, in place of those of a policy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with usage_errors(ValueError):
            if (self.file is None) == (self.uniform is None):
                raise ValueError("file: expected a policy, or an environment with --uniform. Name one of them.")
            if (self.out is None) == (self.minari is None):
                raise ValueError("out: expected a new file, or the name of a dataset with --minari. Name one of them.")
            if self.out is not None and self.out.suffix.lower() not in (".npz", ".hdf5", ".h5"):
                raise ValueError(f"out: expected a name that ends in .npz, .hdf5 or .h5, got {self.out}.")
            if self.uniform is not None and (self.stochastic or self.environment is not None):
                raise ValueError("uniform: expected no --stochastic and no --environment. Leave them out.")
