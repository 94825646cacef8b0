"""brax's own PPO, on environments of brax and of MuJoCo Playground."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from brax.training.agents.ppo import networks, train

from benchmarks import settings
from benchmarks.contenders import stepwise
from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built
from tests.peers.loops import example

__all__ = ["curve", "hardware", "inside", "training"]

if not hasattr(jax, "device_put_replicated"):
    # brax 0.14.2 calls this function, which newer versions of JAX have no more.
    def _replicated(tree: Any, devices: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)

    jax.device_put_replicated = _replicated  # pyright: ignore[reportAttributeAccessIssue]


def training(device: str, of: str, contender: str) -> Built:
    """Rollouts and updates between two reports of a training that does not end."""
    found = settings.arguments(of, contender)
    del found["config"]["num_timesteps"]
    calls = 10**5
    each = settings.CASES[of].calls * settings.CASES[of].update_steps
    found["config"] |= {"num_resets_per_eval": min(found["config"].get("num_resets_per_eval", 0), 1)}
    return stepwise.running(_train(found, num_timesteps=each * calls, num_evals=calls + 1, run_evals=False))


def curve(of: str, contender: str, seed: int) -> Iterator[tuple[int, list[float]]]:
    """The mean return at equally many updates between two points."""
    case = settings.CASES[of]
    more = {"num_evals": case.points + 1, "num_eval_envs": case.episodes, "deterministic_eval": True, "seed": seed}
    for step, metrics in stepwise.parts(_train(settings.arguments(of, contender), **more)):
        yield int(step), [float(metrics["eval/episode_reward"])]


def inside(device: str, part: str, ours: bool) -> Built:
    """One update with its rollout, with brax's default networks or with the policy of the page about other loops."""
    found = settings.arguments("reacher", "brax-training")
    del found["config"]["num_timesteps"]
    calls = 10**5
    more = {"num_timesteps": settings.CASES["reacher"].update_steps * calls, "num_evals": calls + 1, "run_evals": False}
    factory = example("brax").squashed_networks if ours else networks.make_ppo_networks
    return stepwise.running(_train(found, factory, **more))


def _train(
    found: dict[str, Any], factory: Callable[..., Any] | None = None, **more: Any
) -> Callable[[Callable[..., None]], Any]:
    (package, _, name), options, config = found["environment"].partition(":"), found["options"], found["config"]
    hidden = config.pop("hidden_sizes")
    config |= {"action_repeat": options.pop("action_repeat", 1), "max_devices_per_host": 1, **more}

    def networks_of(*arguments: Any, **named: Any) -> Any:
        sizes = {"policy_hidden_layer_sizes": hidden, "value_hidden_layer_sizes": hidden}
        return networks.make_ppo_networks(*arguments, **sizes, **named)

    if package == "brax":
        from brax import envs

        made, config["episode_length"] = envs.get_environment(name, **options), 1000
    else:
        from mujoco_playground import registry, wrapper

        made = registry.load(name, config_overrides={"impl": "jax", **options})
        config |= {"episode_length": int(registry.get_default_config(name).episode_length)}
        config |= {"wrap_env_fn": wrapper.wrap_for_brax_training}
    return lambda report: train.train(made, progress_fn=report, network_factory=factory or networks_of, **config)
