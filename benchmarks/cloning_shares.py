"""Clones of trained policies: their share of the way from the return of an untrained policy to that of the teacher.

A teacher is a training of `benchmarks.learning`. Recordings, clones and results are kept in `.learning/`, and a clone
whose result exists with the same arguments is not trained again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from benchmarks import learning, machine, pixel_pendulum, report

RECORDED, EPISODES, SEEDS = 100, 50, (0, 1, 2)
_PIXELS = f"benchmarks.pixel_pendulum:{pixel_pendulum.NAME}"
_GAMMA, _FEATURES = 0.98, 300
_SMALL = ("--patience", "20", "--total-epochs", "100")


class Case(NamedTuple):
    """A clone, one row of the table.

    Attributes:
        title: Name in the table.
        teacher: Name of the teacher in `benchmarks.learning`.
        environment: Environment of the clone, which may see less than the teacher.
        arguments: Options of `gaussjax train bc`.
        least: Bar for the share, or None for a row to compare with.
        most: Bar that the share has to stay below, or None.
        mixed: Whether half of the episodes are from an untrained policy.
        weighted: Whether rows have weights by their advantages.
    """

    title: str
    teacher: str
    environment: str
    arguments: tuple[str, ...] = _SMALL
    least: float | None = None
    most: float | None = None
    mixed: bool = False
    weighted: bool = False


# The likelihood weighs the rows at rest, which the teacher repeats exactly, far above the rows of the swing.
_SQUARED = ("--loss", "mean_squared_error", *_SMALL)
# A policy with memory learns more slowly.
_LONG = ("--patience", "40", "--total-epochs", "200")
CASES = {
    "pendulum": Case("MLP", "pendulum-ppo", "Pendulum-v1", least=0.95),
    "halfcheetah": Case(
        "MLP", "halfcheetah-ppo", "HalfCheetah-v5", ("--hidden-sizes", "256", "256", *_SMALL), least=0.95
    ),
    "hidden-mlp": Case("MLP, velocity hidden", "pendulum-ppo", learning.HIDDEN, _SQUARED, most=0.6),
    "hidden-lstm": Case(
        "LSTM, velocity hidden", "pendulum-ppo", learning.HIDDEN, ("--network", "lstm", *_LONG), least=0.9
    ),
    "pixels": Case("CNN, three frames", "pendulum-ppo", _PIXELS, ("--network", "cnn", *_SQUARED), least=0.8),
    "mixed-plain": Case("MLP, half of the data untrained", "pendulum-ppo", "Pendulum-v1", mixed=True),
    "mixed-weighted": Case(
        "MLP, half of the data untrained, weights", "pendulum-ppo", "Pendulum-v1", mixed=True, weighted=True
    ),
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = list(CASES) if options.sizes is None else options.sizes.split(",")
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise SystemExit(f"--sizes: expected some of {', '.join(CASES)}, got {', '.join(unknown)}.")
    found = {name: [result(name, CASES[name], seed) for seed in SEEDS] for name in names}
    # Returns do not depend on other work on the machine.
    return {"shares": found, "share_of_cpu_used_by_others": None}


def result(name: str, case: Case, seed: int) -> dict[str, Any]:
    """Mean returns and share of a clone, which is trained unless the folder `.learning` has its result."""
    folder = Path(".learning") / f"clone-{name}-seed{seed}"
    asked, path = {**case._asdict(), "arguments": list(case.arguments), "seed": seed}, folder.with_suffix(".json")
    if path.exists():
        found = json.loads(path.read_text())
        if {key: found.get(key) for key in asked} == asked:
            return found
    if folder.exists():
        raise SystemExit(f"{folder}: an unfinished training. Remove the folder to train anew.")
    learning.result(case.teacher, learning.CASES[case.teacher], seed)
    teacher = Path(".learning") / f"{case.teacher}-seed{seed}" / "policy.safetensors"
    data = folder.with_suffix(".npz")
    columns: dict[str, Any] = _recorded(teacher, case, seed)
    np.savez(data, **columns)
    command = [sys.executable, "-m", "gaussjax.cli.main", "train", "bc", case.environment, "--seed", str(seed)]
    command += ["--dataset", str(data), "--evaluation-episodes", "1", *case.arguments, "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    data.unlink()
    outcome = {**asked, "revision": machine.describe()["revision"], **_returns(teacher, folder, case, seed)}
    path.write_text(json.dumps(outcome))
    return outcome


def _recorded(teacher: Path, case: Case, seed: int) -> dict[str, np.ndarray]:
    """Episodes of the teacher, which acts on the state, with the observations of the clone's environment."""
    import jax

    from gaussjax import files

    loaded = files.load(teacher)
    untrained = loaded.policy.init(jax.random.key(seed))
    module, _, name = case.environment.rpartition(":")
    if module:
        importlib.import_module(module)
    environment: Any = gymnasium.make(name)
    key, columns = jax.random.key(seed), {part: [] for part in ("observations", "actions", "rewards", "starts")}
    columns |= {"terminations": [], "truncations": []}
    low, high = environment.action_space.low, environment.action_space.high
    for episode in range(RECORDED):
        seen, _ = environment.reset(seed=1000 * seed + episode)
        ended, first = False, True
        while not ended:
            state = np.float32(environment.unwrapped._get_obs())
            if case.mixed and episode % 2:
                key, draw = jax.random.split(key)
                action = loaded.policy.act(untrained, draw, state).actions
            else:
                action = loaded.act(state).actions
            action = np.clip(np.asarray(action), low, high)
            following, reward, terminated, truncated, _ = environment.step(action)
            row = seen, action, reward, first, terminated, truncated
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            seen, first, ended = following, False, terminated or truncated
    environment.close()
    found = {part: np.array(values) for part, values in columns.items()}
    return {**found, "weights": _weights(found)} if case.weighted else found


def _weights(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Exponentials of twice the advantages, in units of their standard deviation.

    The value is linear in random Fourier features of the state. A quadratic value leaves so much of the state in the
    advantages that the rows of the teacher and of the untrained policy have nearly equal weights.
    """
    import jax.numpy as jnp

    from gaussjax.training.advantages import generalized_advantages

    seen = np.asarray(columns["observations"], np.float32)
    ends = columns["terminations"], columns["truncations"]
    rng, scaled = np.random.default_rng(0), (seen - seen.mean(axis=0)) / seen.std(axis=0)
    phases = rng.uniform(0.0, 2.0 * np.pi, _FEATURES)
    features = np.cos(scaled @ rng.normal(size=(seen.shape[1], _FEATURES)) + phases)

    def advantages(values: np.ndarray) -> np.ndarray:
        # A last step is followed by nothing, and the value there is 0.
        following = np.where(ends[0] | ends[1], 0.0, np.append(values[1:], 0.0))
        numbers = (jnp.asarray(x, jnp.float32) for x in (columns["rewards"], values, following))
        flags = map(jnp.asarray, ends)
        return np.asarray(generalized_advantages(*numbers, *flags, gamma=_GAMMA, gae_lambda=1.0))

    fitted = np.linalg.lstsq(features, advantages(np.zeros(len(seen))))[0]
    found = advantages(features @ fitted)
    return np.exp(np.minimum(2.0 * found / np.std(found), 3.0))


def _returns(teacher: Path, folder: Path, case: Case, seed: int) -> dict[str, Any]:
    """Mean returns over the same first states, and the share."""
    import jax

    from gaussjax import files, rollout
    from gaussjax.cli.options import EVALUATION_SEED

    trained, clone = files.load(teacher), files.load(folder / "policy.safetensors")
    untrained = clone.policy.init(jax.random.key(seed))
    teachers = learning.CASES[case.teacher].environment

    def mean(loaded: Any, params: Any, environment: str) -> float:
        options = {"normalizer": loaded.normalizer, "episodes": EPISODES, "seed": seed + EVALUATION_SEED}
        return float(np.mean(rollout.evaluate(loaded.policy, params, environment, **options).returns))

    found = {
        "teacher_return": mean(trained, trained.params, teachers),
        "clone_return": mean(clone, clone.params, case.environment),
        "untrained_return": mean(clone, untrained, case.environment),
    }
    way = found["teacher_return"] - found["untrained_return"]
    return {**found, "share": (found["clone_return"] - found["untrained_return"]) / way}


def markdown(results: dict[str, Any]) -> str:
    rows = []
    for name, runs in results["shares"].items():
        case, shares = CASES[name], [run["share"] for run in runs]
        bar = "none"
        if case.least is not None:
            bar = f"≥ {case.least} {'kept' if min(shares) >= case.least else '**missed**'}"
        if case.most is not None:
            bar = f"< {case.most} {'kept' if max(shares) < case.most else '**missed**'}"
        returns = (
            ", ".join(f"{run[part]:.0f}" for run in runs)
            for part in ("untrained_return", "clone_return", "teacher_return")
        )
        where = case.environment.rpartition(":")[2]
        rows.append([f"{case.title}, {where}", ", ".join(f"{share:.3f}" for share in shares), bar, *returns])
    heads = [f"clone of {RECORDED} episodes", "share, by seed", "bar", "untrained", "clone", "teacher"]
    return report.grid(heads, rows)
