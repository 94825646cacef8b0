"""The commands and their options: each class is one, each field an option."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from gaussjax.training import ppo

EVALUATION_SEED = 10_000


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a Gaussian policy on a Gymnasium environment."""

    environment: tyro.conf.Positional[str]
    """Gymnasium name, such as Pendulum-v1."""
    algorithm: Literal["ppo"] = "ppo"
    """How to train."""
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
    """Updates in a row with a NaN or infinite loss or gradient, after which the training ends."""
    timeout: float = 300.0
    """Seconds that one step of the environments may take."""
    config: tyro.conf.OmitArgPrefixes[ppo.Config] = dataclasses.field(default_factory=ppo.Config)
    """Options of the algorithm."""


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


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with a training that was interrupted."""

    folder: tyro.conf.Positional[Path]
    """Made by train; it has a checkpoint."""
    distributed: str | None = None
    """Train on many devices, as for train; each process has to reach the folder."""


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
