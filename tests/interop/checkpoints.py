"""Checkpoints that the libraries themselves wrote, with the libraries' own numbers; `files/` has the programs."""

import functools
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

import gaussjax
from gaussjax.interop import brax, rsl_rl, sb3

FILES = Path(__file__).with_name("files")
READ = {"rsl_rl": rsl_rl.read, "sb3": sb3.read, "brax": brax.read}


class Case(NamedTuple):
    """A checkpoint and the arguments of its reader.

    Attributes:
        library: A key of `READ`.
        name: Name of the file in the library's zip.
        options: Arguments of the reader; a text that begins with "@" is the name of another file in the zip.
        quick: True for the rows of `make test`.
    """

    library: str
    name: str
    options: Mapping[str, Any] = MappingProxyType({})
    quick: bool = False


_MISH = {"activation": "mish", "state_dependent_std": "scalar"}
_NORMAL: dict[str, Any] = {"normalize_observations": True}
CASES = (
    Case("rsl_rl", "rsl_rl_5.5.1_elu.pt", quick=True),
    Case("rsl_rl", "rsl_rl_5.5.1_log.pt", {"activation": "gelu"}),
    Case("rsl_rl", "rsl_rl_5.5.1_lstm.pt", quick=True),
    Case("rsl_rl", "rsl_rl_5.5.1_gru.pt", {"activation": "tanh"}),
    Case("rsl_rl", "rsl_rl_5.5.1_state.pt", _MISH, quick=True),
    Case("rsl_rl", "rsl_rl_5.5.1_state_log.pt", {"activation": "crelu", "state_dependent_std": "log"}),
    *(Case("rsl_rl", f"rsl_rl_{release}_elu.pt") for release in ("4.0.1", "3.3.0", "2.3.3")),
    *(Case("rsl_rl", f"rsl_rl_{release}_lstm.pt") for release in ("4.0.1", "3.3.0", "2.3.3")),
    *(Case("rsl_rl", f"rsl_rl_{release}_log.pt", {"activation": "gelu"}) for release in ("4.0.1", "3.3.0")),
    *(Case("rsl_rl", f"rsl_rl_{release}_state.pt", _MISH) for release in ("4.0.1", "3.3.0")),
    *(Case("rsl_rl", f"rsl_rl_{release}_gru.pt", {"activation": "tanh"}) for release in ("4.0.1", "3.3.0")),
    Case("rsl_rl", "rsl_rl_2.3.3_gru.pt", {"activation": "tanh"}, quick=True),
    Case("sb3", "sb3_ppo.zip"),
    Case("sb3", "sb3_ppo_relu.zip", quick=True),
    Case("sb3", "sb3_ppo_shallow.zip"),
    Case("sb3", "sb3_ppo_dict.zip", quick=True),
    Case("sb3", "sb3_a2c.zip"),
    Case("sb3", "sb3_normalised.zip", {"statistics": "@sb3_normalised.pkl"}, quick=True),
    Case("sb3", "sb3_ppo_gsde.zip"),
    Case("sb3", "sb3_ppo_gsde_squashed.zip", quick=True),
    Case("sb3", "sb3_sac.zip", quick=True),
    Case("sb3", "sb3_sac_gsde.zip"),
    Case("sb3", "sb3_sac_gsde_unclipped.zip"),
    Case("sb3", "sbx_ppo.zip"),
    Case("sb3", "sbx_sac.zip", quick=True),
    Case("brax", "brax_ppo.pickle", _NORMAL),
    Case("brax", "brax_ppo_plain.pickle", {"normalize_observations": False, "activation": "gelu"}),
    Case("brax", "brax_ppo_log.pickle", {**_NORMAL, "mean_clip_scale": 1.5}, quick=True),
    Case("brax", "brax_ppo_scalar.pickle", _NORMAL),
    Case("brax", "brax_ppo_state.pickle", {**_NORMAL, "noise_std_type": "log"}),
    Case("brax", "brax_sac.pickle", {**_NORMAL, "activation": "relu"}, quick=True),
    Case("brax", "brax_old.pickle", {**_NORMAL, "activation": "swish"}),
    *(Case("brax", f"brax_{name}/000000001000") for name in ("ppo_plain", "ppo_log", "ppo_scalar", "ppo_state", "sac")),
    Case("brax", "brax_ppo/000000001000", quick=True),
)


@functools.cache
def folder(library: str) -> Path:
    """Returns a folder with the files of a library."""
    place = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(FILES / f"{library}.zip") as archive:
        archive.extractall(place)
    return place


@functools.cache
def read(library: str, name: str) -> gaussjax.Loaded:
    """Reads the checkpoint of a row."""
    case = next(case for case in CASES if (case.library, case.name) == (library, name))
    place = folder(library)
    options = {
        key: place / value[1:] if isinstance(value, str) and value.startswith("@") else value
        for key, value in case.options.items()
    }
    return READ[library](place / name, **options)


class Numbers(NamedTuple):
    """The library's own numbers.

    Attributes:
        observations: Observations, in steps `(T, N, …)` for a recurrent policy.
        actions: Deterministic actions.
        samples: Actions before clipping or tanh.
        log_prob: Log-densities of the samples in units of the Box.
    """

    observations: Any
    actions: np.ndarray
    samples: np.ndarray
    log_prob: np.ndarray


def numbers(library: str, name: str, loaded: gaussjax.Loaded) -> Numbers:
    """Returns the library's numbers for a row; log-densities are converted from SB3's units."""
    place = folder(library)
    stem = name.partition("/")[0]
    stem = stem if name != stem else name.rpartition(".")[0]
    with np.load(place / f"{stem}.npz") as file:
        found = {key: file[key] for key in file.files}
    if library == "rsl_rl" and not jax.tree.leaves(loaded.initial_carry()):
        # Steps of a policy without memory are one batch.
        found = {key: part.reshape(-1, *part.shape[2:]) for key, part in found.items()}
    others = {"actions", "samples", "log_prob", "squashed"}
    observations = (
        found["observations"] if "observations" in found else {k: v for k, v in found.items() if k not in others}
    )
    log_prob = found["log_prob"].astype(np.float64)
    if library == "sb3" and loaded.policy.kind.name == "squashed_gaussian":
        low, high = gaussjax.spaces.bounds(loaded.policy.spec.action_space)
        log_prob = log_prob - np.log((high - low) / 2).sum()
        if name.startswith("sb3"):
            # SB3 adds 1e-6 to the derivative of tanh.
            slope = 1 - np.square(np.tanh(found["samples"].astype(np.float64)))
            log_prob = log_prob + np.log((slope + 1e-6) / slope).sum(-1)
    return Numbers(observations, found["actions"], found["samples"], log_prob)


def play(act: Any, carry: Any, numbers: Numbers) -> np.ndarray:
    """Calls `act(observations, samples, carry) -> (results, carry)` for each step of a recurrent policy, or once."""
    if not jax.tree.leaves(carry):
        return np.asarray(act(numbers.observations, numbers.samples, None)[0])
    results = []
    for observed, sample in zip(numbers.observations, numbers.samples, strict=True):
        result, carry = act(observed, sample, carry)
        results.append(np.asarray(result))
    return np.stack(results)
