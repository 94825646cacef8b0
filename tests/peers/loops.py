"""Trains in the loops of other libraries, with their own policies and with the examples of docs/other_loops.md.

An example passes if its mean return closes half of the distance from the first to the last mean return of the
library's own policy. The table has the mean over the seeds in each fifth of a training, and the last fifth by seed. An
existing page keeps its rows of the loops that do not run.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import jax
import numpy as np
import yaml

PAGE = Path(__file__).resolve().parents[2] / "docs/other_loops.md"
_HEAD = """# Inside other loops

Mean return in each fifth of a training; `python -m tests.peers.loops` wrote this page. jax {jax}. Steps a second
include no compilation, except for brax, whose evaluations they include. The policies train one after the other, so the
speeds compare on an idle machine only.

| loop | environment | policy | seeds | mean returns | last fifth by seed | environment steps a second |
|---|---|---|---:|---|---|---:|
"""


def example(library: str) -> ModuleType:
    """The code below the library's heading on the page, as a module."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {library}\n")[2].partition("\n## ")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{library}_example.py"
        path.write_text("\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)), encoding="utf-8")
        spec: Any = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    return module


def timed(train: Callable[[Any], Any], keys: Sequence[Any], steps: int) -> tuple[list[Any], float]:
    """The result for each key, and the environment steps a second."""
    compiled = jax.jit(train).lower(keys[0]).compile()
    start = time.perf_counter()
    results = [jax.block_until_ready(compiled(key)) for key in keys]
    return results, steps * len(keys) / (time.perf_counter() - start)


def ended(returns: Any, ends: Any) -> list[float]:
    """Mean return of the episodes that ended in each fifth of a training; the first axis is time."""
    parts = zip(np.array_split(np.asarray(returns), 5), np.array_split(np.asarray(ends, bool), 5), strict=True)
    return [float(values[where].mean()) for values, where in parts]


def purejaxrl(
    learning_rate: float, ours: bool, keys: Sequence[Any], folder: Path
) -> tuple[list[list[float]], float, str]:
    sys.path.insert(0, str(folder / "purejaxrl/purejaxrl"))
    program = importlib.import_module("ppo_continuous_action")
    config = {"LR": learning_rate} | yaml.safe_load("""
        {NUM_ENVS: 64, NUM_STEPS: 32, TOTAL_TIMESTEPS: 120000, UPDATE_EPOCHS: 4, NUM_MINIBATCHES: 8,
        GAMMA: 0.99, GAE_LAMBDA: 0.95, CLIP_EPS: 0.2, ENT_COEF: 0.0, VF_COEF: 0.5, MAX_GRAD_NORM: 0.5,
        ACTIVATION: tanh, ENV_NAME: inverted_pendulum, ANNEAL_LR: false, NORMALIZE_ENV: true}
    """)
    actor_critic = example("purejaxrl").ActorCritic if ours else program.ActorCritic
    with mock.patch.object(program, "ActorCritic", actor_critic):
        results, speed = timed(program.make_train(config), keys, config["TOTAL_TIMESTEPS"])
    # A fifth may end without an end of an episode, so each copy counts with its last episode.
    last = [np.asarray(result["metrics"]["returned_episode_returns"]) for result in results]
    curves = [[float(part.mean()) for part in np.array_split(one, 5)] for one in last]
    return curves, speed, "brax inverted_pendulum"


def rejax(name: str, ours: bool, keys: Sequence[Any], _: Path) -> tuple[list[list[float]], float, str]:
    library = importlib.import_module("rejax")
    common = {"env": "Pendulum-v1", "max_grad_norm": 10.0, "gamma": 0.95}
    if name == "PPO":
        agent = library.PPO.create(
            **common, total_timesteps=200_000, eval_freq=40_000, num_envs=16, num_steps=128, num_epochs=10,
            num_minibatches=8, learning_rate=1e-3, ent_coef=0.0, normalize_observations=True, normalize_rewards=True,
        )  # fmt: skip
    else:
        agent = library.SAC.create(
            **common, total_timesteps=20_000, eval_freq=4_000, num_envs=4, num_epochs=4, learning_rate=1e-3,
            buffer_size=20_000, fill_buffer=1_000, batch_size=128, polyak=0.99,
        )  # fmt: skip
    page = example("rejax")
    if ours:
        agent = page.with_actor(agent, page.Actor if name == "PPO" else page.SquashedActor)
    results, speed = timed(lambda key: agent.train(key)[1][1], keys, agent.total_timesteps)
    # The first evaluation comes before any training.
    return [np.asarray(result).mean(1)[1:].tolist() for result in results], speed, "gymnax Pendulum-v1"


def stoix(ours: bool, keys: Sequence[Any], folder: Path) -> tuple[list[list[float]], float, str]:
    sys.path.insert(0, str(folder / "Stoix"))
    import gymnax
    import stoa
    from omegaconf import OmegaConf
    from stoa.core_wrappers.vmap import VmapWrapper
    from stoa.core_wrappers.wrapper import AddRNGKey
    from stoa.env_adapters.gymnax import GymnaxToStoa
    from stoa.utility_wrappers.extras_transforms import NoExtrasWrapper

    # Logging and the other environments, with requirements of their own.
    for name in ("logger", "make_env", "env_factory", "checkpointing"):
        sys.modules.setdefault(f"stoix.utils.{name}", mock.MagicMock())
    program = importlib.import_module("stoix.systems.ppo.anakin.ff_ppo_continuous")
    example("Stoix")
    head = "Stoix_example.SquashedHead" if ours else "stoix.networks.heads.NormalAffineTanhDistributionHead"
    steps, envs, updates = 64, 32, 100
    changed = OmegaConf.create(f"""
        system: {{rollout_length: {steps}, epochs: 10, num_minibatches: 8, gamma: 0.95, reward_scale: 0.1,
          actor_lr: 1.0e-3, critic_lr: 1.0e-3, ent_coef: 0.0, decay_learning_rates: false}}
        torso: {{_target_: stoix.networks.torso.MLPTorso, layer_sizes: [64, 64], activation: tanh}}
        network:
          actor_network: {{pre_torso: "${{torso}}", action_head: {{_target_: {head}}}}}
          critic_network: {{pre_torso: "${{torso}}", critic_head: {{_target_: stoix.networks.heads.ScalarCriticHead}}}}
        arch: {{num_envs: {envs}, total_num_envs: {envs}, update_batch_size: 1, num_updates: {updates},
          num_updates_per_eval: {updates}}}
        logger: {{checkpointing: {{load_model: false}}}}
    """)
    defaults = OmegaConf.load(folder / "Stoix/stoix/configs/system/ppo/ff_ppo.yaml")
    config = OmegaConf.merge({"system": defaults}, changed)
    environment = AddRNGKey(NoExtrasWrapper(GymnaxToStoa(*gymnax.make("Pendulum-v1"))))
    environment = stoa.AutoResetWrapper(stoa.RecordEpisodeMetrics(environment), next_obs_in_extras=True)
    environment = VmapWrapper(environment)
    curves, seconds = [], 0.0
    for key in keys:
        learn, _, state = program.learner_setup(environment, jax.random.split(key, 3), config)
        compiled = learn.lower(state).compile()
        start = time.perf_counter()
        metrics = jax.block_until_ready(compiled(state)).episode_metrics
        seconds += time.perf_counter() - start
        # Axes of devices and of batches, each of length 1, surround the updates.
        rows = {name: np.asarray(metric).reshape(updates, -1) for name, metric in metrics.items()}
        curves.append(ended(rows["episode_return"], rows["is_terminal_step"]))
    return curves, steps * envs * updates * len(keys) / seconds, "gymnax Pendulum-v1"


def brax(ours: bool, keys: Sequence[Any], _: Path) -> tuple[list[list[float]], float, str]:
    page = example("brax")
    envs, ppo = (importlib.import_module(f"brax.{name}") for name in ("envs", "training.agents.ppo.train"))
    options = {"network_factory": page.squashed_networks} if ours else {}
    curves, seconds, steps = [], 0.0, 150_000
    for key in keys:
        returns: list[float] = []
        start = time.perf_counter()
        ppo.train(
            envs.get_environment("inverted_pendulum", backend="generalized"), num_timesteps=steps, num_evals=6,
            episode_length=200, num_envs=64, num_eval_envs=64, unroll_length=16, batch_size=64, num_minibatches=8,
            num_updates_per_batch=4, learning_rate=1e-3, discounting=0.97, entropy_cost=1e-3, reward_scaling=0.1,
            normalize_observations=True, seed=int(jax.random.bits(key) % 1000), **options,
            progress_fn=lambda _, metrics, row=returns: row.append(float(metrics["eval/episode_reward"])),
        )  # fmt: skip
        seconds += time.perf_counter() - start
        curves.append(returns[1:])
    return curves, steps * len(keys) / seconds, "brax inverted_pendulum"


LOOPS = {
    "purejaxrl, learning rate 3e-4": partial(purejaxrl, 3e-4),
    "purejaxrl, learning rate 1e-3": partial(purejaxrl, 1e-3),
    "rejax PPO": partial(rejax, "PPO"),
    "rejax SAC": partial(rejax, "SAC"),
    "Stoix": stoix,
    "brax": brax,
}


def _rows(page: Path | None) -> dict[tuple[str, str], str]:
    """The rows of an existing page, by loop and policy."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True) if page and page.exists() else []
    cells = [(line.split(" | "), line) for line in lines if line.startswith("| ")]
    return {(found[0].removeprefix("| "), found[2]): line for found, line in cells}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the checkouts purejaxrl and Stoix")
    parser.add_argument("--only", nargs="*", choices=LOOPS, default=list(LOOPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    keys = list(jax.random.split(jax.random.PRNGKey(0), chosen.seeds))
    rows, failed = _rows(chosen.out), []
    for name in chosen.only:
        means = {}
        for policy in ("own", "gaussjax"):
            curves, speed, environment = LOOPS[name](policy == "gaussjax", keys, chosen.folder)
            means[policy] = np.mean(curves, 0)
            returns, last = (
                ", ".join(f"{value:.0f}" for value in row) for row in (means[policy], np.array(curves)[:, -1])
            )
            cells = name, environment, policy, f"{len(keys)}", returns, last, f"{speed:,.0f}"
            rows[name, policy] = f"| {' | '.join(cells)} |\n"
            print(rows[name, policy], end="", flush=True)
            if chosen.out:
                known = [rows[loop, who] for loop in LOOPS for who in ("own", "gaussjax") if (loop, who) in rows]
                chosen.out.write_text(_HEAD.format(jax=jax.__version__) + "".join(known), encoding="utf-8")
        # Written so that NaN fails.
        if not means["gaussjax"][-1] >= (means["own"][0] + means["own"][-1]) / 2:
            failed.append(name)
    print(f"not learnt: {failed}" if failed else "all learnt")
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())
