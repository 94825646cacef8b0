"""The command record, which writes episodes of a policy as a dataset."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from gaussjax import data, envs, rollout
from gaussjax.cli.errors import UsageError, usage_errors
from gaussjax.cli.options import Record, named_values
from gaussjax.cli.policy_file import made, opened, refuse_existing
from gaussjax.cli.progress import print_line, typed
from gaussjax.data import hdf5, minari
from gaussjax.training.algorithm import exploration_for


def record(command: Record) -> None:
    """Plays whole episodes, writes them, and prints the place, the mean return and the next command."""
    # All that can be refused is refused before the episodes, which may take hours.
    if command.out is not None:
        refuse_existing(command.out, None)
        if not command.out.parent.is_dir():
            raise UsageError(f"out: expected an existing folder, got {command.out.parent}. Make it first.")
    with _errors():
        if command.minari:
            minari.refuse_used(command.minari)
        elif command.out is not None and command.out.suffix.lower() != ".npz":
            hdf5.imported()
    if command.uniform:
        loaded, name, chosen = None, command.uniform, named_values(command.environment_options)
        environment = made(name, chosen, command)
    else:
        loaded, name, chosen, environment = opened(command)
    policy: Any = loaded.policy if loaded else None
    try:
        episodes = rollout.record(
            policy,
            loaded.params if loaded else None,
            environment,
            normalizer=loaded.normalizer if loaded else None,
            episodes=command.episodes,
            seed=command.seed,
            deterministic=not command.stochastic,
            exploration=exploration_for(command, policy, None) if loaded else None,
            max_steps=command.max_steps,
            timeout=command.timeout,
            environment_options=chosen,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"environment: {name} cannot be recorded: {error}") from error
    both = _spaces(environment, chosen)
    with _errors():
        if command.minari:
            minari.create(command.minari, episodes, *both, None if isinstance(environment, envs.Environment) else name)
        elif command.out is not None:
            data.write(command.out, data.read_dataset(episodes, *both))
    returns, steps = [each["rewards"].sum() for each in episodes], sum(len(each["rewards"]) for each in episodes)
    place = f"minari:{command.minari}" if command.minari else str(command.out)
    print_line(
        f"{place}: {len(episodes):,} episodes of {name}, {steps:,} steps, mean return {np.mean(returns):.1f} "
        f"({'uniform' if command.uniform else 'sampled' if command.stochastic else 'deterministic'} actions)"
    )
    options = ("--environment-options", *itertools.starmap(_word, chosen.items())) if chosen else ()
    print_line(f"next: {typed('train', 'bc', name, '--dataset', place, *options)}")


def _word(name: str, value: Any) -> str:
    """The word from which `named_values` makes this value again; text such as `2` needs quotes."""
    word = f"{name}={value}"
    return word if isinstance(value, str) and named_values([word])[name] == value else f"{name}={json.dumps(value)}"


def _spaces(environment: Any, chosen: dict[str, Any]) -> tuple[Any, Any]:
    if isinstance(environment, envs.Environment):
        return environment.observation_space, environment.action_space
    vector = envs.make(environment, num_envs=1, **chosen)
    with contextlib.closing(vector):
        return vector.single_observation_space, vector.single_action_space


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    with usage_errors(ValueError, OSError, ModuleNotFoundError):
        yield
