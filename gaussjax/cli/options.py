"""The commands as dataclasses: each field is an option, and the docstring of the field is its help text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg, subcommand

from gaussjax.cli.errors import usage_errors
from gaussjax.core.choices import choose
from gaussjax.training import bc, ppo, sac
from gaussjax.training.algorithm import check_options

EVALUATION_SEED = 10_000

# tyro adds no prefix to the options of a nested dataclass whose name is empty.
_UNNAMED = arg(name="")
_File = Annotated[Positional[Path], arg(metavar="FILE", help="Policy file, written by train or by gaussjax.save.")]


def _default(text: str) -> Any:
    """Annotation that makes the help show `text` in place of the default None."""
    return arg(help_behavior_hint=f"(default: {text})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Options that all algorithms share."""

    algorithm: ClassVar[str]

    environment: Annotated[Positional[str], arg(metavar="ENVIRONMENT")]
    """Gymnasium name, such as Pendulum-v1."""
    seed: int = 0
    """Random seed for training."""
    backend: Literal["gymnasium", "jax"] = "gymnasium"
    """Run environments on the host (gymnasium), or compile them with the training (jax, for Pendulum-v1 only)."""
    out: Annotated[Path | None, _default("runs/ENVIRONMENT-ALGORITHM-seedN")] = None
    """New folder for the results."""
    evaluation_episodes: int = 20
    """Number of episodes of the final evaluation with deterministic actions."""
    checkpoint_every: int = 20
    """Number of updates between two checkpoints for resume; 0 writes none."""
    max_skipped: int = 10
    """Stop after this number of consecutive updates with a NaN or infinite loss, gradient or transition."""
    timeout: float = 300.0
    """Longest time for one step of all environments, in seconds."""
    tensorboard: FlagCreatePairsOff[bool] = False
    """Write the metrics for TensorBoard too, in the folder of the results."""
    wandb: FlagCreatePairsOff[bool] = False
    """Write the metrics to Weights & Biases too; WANDB_MODE=offline keeps them in the folder of the results."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("evaluation_episodes", "max_skipped"), ("timeout",))
            if self.checkpoint_every < 0:
                raise ValueError(f"checkpoint_every: expected 0 or more, got {self.checkpoint_every}.")
            if not 0 <= self.seed < 2**32:
                # jax.random.key uses 32 bits of a seed, and environments refuse a negative one.
                raise ValueError(f"seed: expected a number from 0 to 2**32 - 1, got {self.seed}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPPO(Train):
    """Train a policy with proximal policy optimisation (PPO)."""

    algorithm = "ppo"

    distributed: str | None = None
    """Train on many devices: local, auto, or COORDINATOR:PORT,PROCESSES,INDEX in each process."""
    config: Annotated[ppo.Config, _UNNAMED] = dataclasses.field(default_factory=ppo.Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSAC(Train):
    """Train a policy with soft actor-critic (SAC)."""

    algorithm = "sac"

    checkpoint_every: int = 100
    """Number of updates between two checkpoints for resume; 0 writes none. Each holds the replay buffer."""
    config: Annotated[sac.Config, _UNNAMED] = dataclasses.field(default_factory=sac.Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBC(Train):
    """Train a policy by behavioural cloning (BC) of recorded actions."""

    algorithm = "bc"

    dataset: Path
    """An .npz file with observations and actions, or a .csv file with columns observation_0, …, action_0, …."""
    config: Annotated[bc.Config, _UNNAMED] = dataclasses.field(default_factory=bc.Config)


TRAIN: dict[str, Any] = {"ppo": TrainPPO, "sac": TrainSAC, "bc": TrainBC}
_CONFIGS: dict[str, Any] = {"ppo": ppo.Config, "sac": sac.Config, "bc": bc.Config}
# Fields of the commands that `to_dict` does not save.
_NOT_SAVED = ("out", "distributed", "config")
# Types of saved options that no other check looks at.
_TYPES = {"environment": str, "backend": str, "dataset": str, "tensorboard": bool, "wandb": bool}
# Options that a resumed training shares with its checkpoint.
FIXED = (
    *("algorithm", "environment", "backend", "num_envs", "network", "recurrent_size", "hidden_sizes"),
    *("buffer_size", "num_critics", "normalize_observations"),
)


def to_dict(command: Any) -> dict[str, Any]:
    """Options of a training command as a JSON-able dict, to be saved in the folder of its results."""
    saved = {name: value for name, value in vars(command).items() if name not in _NOT_SAVED}
    if "dataset" in saved:
        saved["dataset"] = str(command.dataset.resolve())
    return {"algorithm": command.algorithm, **saved, **dataclasses.asdict(command.config)}


def from_dict(saved: Mapping[str, Any]) -> Any:
    """Training command with the options that `to_dict` saved, and defaults for missing ones; a wrong one raises."""
    for name, kind in _TYPES.items():
        if not isinstance(saved.get(name, kind()), kind):
            raise TypeError(f"{name}: expected {kind.__name__}, got {saved[name]!r}")
    algorithm = saved.get("algorithm")
    kind, config = (choose(table, algorithm, "algorithm") for table in (TRAIN, _CONFIGS))
    choose(dict.fromkeys(("gymnasium", "jax")), saved.get("backend", "gymnasium"), "backend")

    def fields(cls: Any) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(cls)} - {*_NOT_SAVED}
        found = {name: saved[name] for name in names & {*saved}}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}

    found = fields(kind)
    if "dataset" in found:
        found["dataset"] = Path(found["dataset"])
    return kind(**found, config=config(**fields(config)))


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Run a policy file in its environment with deterministic actions."""

    file: _File
    environment: Annotated[str | None, _default("the environment of the training")] = None
    """Gymnasium name, such as Pendulum-v1."""
    episodes: int = 20
    """Number of episodes."""
    seed: int = EVALUATION_SEED
    """Random seed of the first episode; the seed of each further episode is larger by 1."""
    max_steps: int = 10_000
    """Longest episode in environment steps, for environments whose episodes do not end."""
    timeout: float = 300.0
    """Longest time for one step of all environments, in seconds."""
    gif: Path | None = None
    """New GIF file with a recording of the first episode."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("episodes", "max_steps"), ("timeout",))
            if self.seed < 0:
                raise ValueError(f"seed: expected 0 or more, got {self.seed}.")


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue a training from its last checkpoint."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder of the results, made by train."""
    distributed: str | None = None
    """Train on many devices, as for train ppo; each process reads the folder."""
    environment: str | None = None
    """Name of the environment; required for a name with a module to import, such as my_module:MyEnv-v0."""
    total_steps: Annotated[int | None, _default("the total of the run")] = None
    """Train up to this number of steps, or of epochs for bc; PPO anneals its step size to 0 at the new total."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("total_steps",), ())


@dataclasses.dataclass(frozen=True)
class Info:
    """Show the contents of a policy file or a checkpoint."""

    file: _File


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a policy file as a program for machines without gaussjax."""

    file: _File
    format: Literal["stablehlo", "onnx", "numpy"]
    """Format of the program; numpy writes an .npz file and numpy_act.py, which runs it."""
    out: Annotated[Path | None, _default("the name of the policy file with the suffix of the format")] = None
    """File to write."""
    stochastic: bool = False
    """Sample the actions; the program then takes a key (stablehlo) or noise (onnx, numpy) as an input."""


_Algorithm = (
    Annotated[TrainPPO, subcommand("ppo")]
    | Annotated[TrainSAC, subcommand("sac")]
    | Annotated[TrainBC, subcommand("bc")]
)
Command: Any = (
    Annotated[_Algorithm, subcommand("train", description="Train a policy on a Gymnasium environment.")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Info, subcommand("info")]
    | Annotated[Export, subcommand("export")]
)
