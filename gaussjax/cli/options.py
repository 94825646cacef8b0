"""The commands and their options: each class is one, each field an option."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from gaussjax.cli.errors import UsageError
from gaussjax.training import bc, ppo, sac
from gaussjax.training.algorithm import check_options

EVALUATION_SEED = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a Gaussian policy on a Gymnasium environment.

    The options of the algorithm are those of PPO unless --algorithm says otherwise: `gaussjax train --algorithm sac
    --help` shows those of SAC, `gaussjax train --algorithm bc --help` those of behavioural cloning.
    """

    environment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENVIRONMENT")]
    """Gymnasium name, such as Pendulum-v1."""
    algorithm: Literal["ppo", "sac", "bc"] = "ppo"
    """How to train: proximal policy optimisation, soft actor-critic, behavioural cloning."""
    seed: int = 0
    """Of everything that is drawn."""
    backend: Literal["gymnasium", "jax"] = "gymnasium"
    """Where environments run: on the host, or compiled with the training (Pendulum-v1)."""
    distributed: str | None = None
    """Train on many devices: local, auto, or COORDINATOR:PORT,PROCESSES,INDEX in each process."""
    out: Path | None = None
    """Folder for the results; it must not exist. Default: runs/ENVIRONMENT-ALGORITHM-seedN."""
    evaluation_episodes: int = 20
    """Episodes of the final, deterministic evaluation."""
    checkpoint_every: int = 20
    """Updates between two checkpoints, from which resume goes on; 0 writes none."""
    max_skipped: int = 10
    """Updates in a row with a NaN or infinite loss, gradient or transition, after which the training ends."""
    timeout: float = 300.0
    """Seconds that one step of the environments may take."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the metrics for TensorBoard too, into the folder of the results."""
    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the metrics to Weights & Biases too; WANDB_MODE=offline keeps them in the folder of the results."""

    def __post_init__(self) -> None:
        check_options(self, ("evaluation_episodes", "max_skipped"), ("timeout",))
        if self.checkpoint_every < 0:
            raise ValueError(f"checkpoint_every: expected 0 or more, got {self.checkpoint_every}.")
        if not 0 <= self.seed < 2**32:
            # JAX's keys are made of the lower 32 bits, and environments take no negative ones.
            raise ValueError(f"seed: expected a number from 0 to 2**32 - 1, got {self.seed}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPPO(Train):
    """Train with PPO."""

    config: tyro.conf.OmitArgPrefixes[ppo.Config] = dataclasses.field(default_factory=ppo.Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSAC(Train):
    """Train with SAC."""

    checkpoint_every: int = 100
    """Updates between two checkpoints, from which resume goes on; 0 writes none. Each holds the replay buffer."""
    config: tyro.conf.OmitArgPrefixes[sac.Config] = dataclasses.field(default_factory=sac.Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBC(Train):
    """Train by behavioural cloning."""

    dataset: Path
    """An .npz file with observations and actions, or a .csv file with columns observation_0, …, action_0, …."""
    config: tyro.conf.OmitArgPrefixes[bc.Config] = dataclasses.field(default_factory=bc.Config)


TRAIN = {"ppo": TrainPPO, "sac": TrainSAC, "bc": TrainBC}
CONFIGS = {"ppo": ppo.Config, "sac": sac.Config, "bc": bc.Config}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a policy file with its deterministic action."""

    file: tyro.conf.Positional[Path]
    """Written by train, or by gaussjax.save."""
    environment: str | None = None
    """Gymnasium name; the one it was trained on if left out."""
    episodes: int = 20
    """How many to run."""
    seed: int = EVALUATION_SEED
    """Of the first episode's environment; the next ones count up."""
    max_steps: int = 10_000
    """Of an episode, which is cut there; some environments have no end."""
    timeout: float = 300.0
    """Seconds that one step of the environments may take."""
    gif: Path | None = None
    """File for the first episode as an animated picture."""

    def __post_init__(self) -> None:
        check_options(self, ("episodes", "max_steps"), ("timeout",))
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}.")


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a training that was interrupted."""

    folder: tyro.conf.Positional[Path]
    """Made by train; it has a checkpoint."""
    distributed: str | None = None
    """Train on many devices, as for train; each process has to reach the folder."""
    environment: str | None = None
    """Only for a name such as my_module:MyEnv-v0, which imports a module: say it again, as you trust it."""


@dataclasses.dataclass(frozen=True)
class Info:
    """Show what a policy file or a checkpoint holds."""

    file: tyro.conf.Positional[Path]
    """Written by train, or by gaussjax.save."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a policy file as a program for machines without gaussjax."""

    file: tyro.conf.Positional[Path]
    """Written by train, or by gaussjax.save."""
    format: Literal["stablehlo", "onnx", "numpy"]
    """What to write; numpy is an .npz file with numpy_act.py beside it, which reads it."""
    out: Path | None = None
    """File to write. Default: beside the policy file, with the suffix of the format."""
    stochastic: bool = False
    """Let the program sample: from a key (stablehlo) or from noise that it is given."""


def known(arguments: Sequence[str]) -> Any:
    """The type of a command line, in which train has the options of the algorithm that it names.

    Raises:
        UsageError: An option is one of another algorithm.
    """
    name = _algorithm(arguments)
    if arguments and arguments[0] == "train":
        own = _options(name)
        for flag in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
            option = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
            others = [other for other in TRAIN if option in _options(other)]
            if others and option not in own:
                shown = ", ".join(f"--{option.replace('_', '-')}" for option in own)
                raise UsageError(f"{flag}: an option of {' and '.join(others)}, not of {name}, which has {shown}.")
    train = Annotated[TRAIN[name], tyro.conf.subcommand("train", description=inspect.getdoc(Train))]
    return train | Evaluate | Resume | Info | Export


def _algorithm(arguments: Sequence[str]) -> str:
    """What --algorithm says last; ppo where it says nothing that there is, which the parser then refuses."""
    said = "ppo"
    for i, argument in enumerate(arguments):
        if argument.startswith("--algorithm="):
            said = argument.partition("=")[2]
        elif argument == "--algorithm" and i + 1 < len(arguments):
            said = arguments[i + 1]
    return said if said in TRAIN else "ppo"


def _options(algorithm: str) -> list[str]:
    """The options that an algorithm has beside those of every training."""
    both = {field.name for field in dataclasses.fields(Train)} | {"config"}
    of_command = [field.name for field in dataclasses.fields(TRAIN[algorithm]) if field.name not in both]
    return of_command + [field.name for field in dataclasses.fields(CONFIGS[algorithm])]
