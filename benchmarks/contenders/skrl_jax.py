"""skrl's Gaussian model in JAX, uncompiled and with the forward pass that its agents compile."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from skrl.agents.jax.ppo import ppo
from skrl.models.jax import GaussianMixin, Model

from benchmarks import inputs
from benchmarks.contenders.with_jax import CLIP_RATIO, ENTROPY_COEFFICIENT, flax_params, hardware, norms
from benchmarks.worker import Built

__all__ = ["act", "evaluate", "hardware"]


class Policy(GaussianMixin, Model):
    """The policy model, as a user of skrl would write it."""

    hidden: tuple[int, ...] = inputs.HIDDEN

    def __init__(self, observation_space: Any, action_space: Any, hidden: tuple[int, ...], **kwargs: Any) -> None:
        self.hidden = tuple(hidden)
        Model.__init__(self, observation_space=observation_space, action_space=action_space, **kwargs)
        GaussianMixin.__init__(self)

    @nn.compact
    def __call__(self, given: dict[str, Any], role: str) -> tuple[jax.Array, dict[str, Any]]:
        x = given["observations"]
        for width in self.hidden:
            x = nn.elu(nn.Dense(width)(x))
        mean = nn.Dense(self.num_actions)(x)
        return mean, {"log_std": self.param("log_std", nn.initializers.zeros, (self.num_actions,))}


def make(hidden: tuple[int, ...]) -> Policy:
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (inputs.OBSERVATIONS,))
    policy = Policy(observation_space, gymnasium.spaces.Box(-1.0, 1.0, (inputs.ACTIONS,)), hidden)
    policy.init_state_dict(role="policy")
    params = flax_params(inputs.weights(tuple(hidden)))
    if jax.tree.structure(params) != jax.tree.structure(dict(policy.state_dict.params)):
        raise ValueError("skrl's parameters are no longer laid out as these")
    policy.state_dict = policy.state_dict.replace(params=params)
    return policy


def act(
    device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN, compiled: bool = False
) -> Built:
    policy, observations = make(hidden), inputs.observations(batch)
    if compiled:
        # skrl's agents compile only the forward pass of `act`.
        policy.apply = jax.jit(policy.apply, static_argnums=2)
    check = policy.act({"observations": observations}, role="policy")[1]["mean_actions"][0]
    if resident:
        held = jnp.asarray(observations)
        return Built(lambda: jax.block_until_ready(policy.act({"observations": held}, role="policy")), check)
    return Built(lambda: np.asarray(policy.act({"observations": observations}, role="policy")[0]), check)


def evaluate(device: str, batch: int) -> Built:
    """The compiled policy gradient that skrl's PPO calls for every minibatch."""
    policy = make(inputs.HIDDEN)
    policy.apply = jax.jit(policy.apply, static_argnums=2)
    observations, actions, log_prob, advantages = jax.tree.map(jnp.asarray, tuple(inputs.minibatch(batch)))

    def gradient() -> Any:
        given = {"observations": observations, "taken_actions": actions}
        model = (policy.act, policy.state_dict)
        loss = (CLIP_RATIO, policy.get_entropy, ENTROPY_COEFFICIENT)
        return ppo._update_policy(*model, given, log_prob, advantages, *loss)

    found = gradient()[0]["params"]
    check = norms([found[f"Dense_{i}"] for i in range(len(inputs.HIDDEN) + 1)], found["log_std"])
    return Built(lambda: jax.block_until_ready(gradient()), check)
