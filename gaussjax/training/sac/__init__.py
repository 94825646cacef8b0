"""Soft actor-critic, on Gymnasium environments and wholly compiled on JAX ones."""

from __future__ import annotations

from typing import Any

from gaussjax import envs
from gaussjax.policy import Policy
from gaussjax.training.algorithm import refuse_wide
from gaussjax.training.metrics import Metrics as Metrics
from gaussjax.training.sac.compiled import make_compiled
from gaussjax.training.sac.config import Algorithm as Algorithm
from gaussjax.training.sac.config import Config as Config
from gaussjax.training.sac.config import Learner as Learner
from gaussjax.training.sac.config import State as State
from gaussjax.training.sac.config import Transition as Transition
from gaussjax.training.sac.config import make_policy as make_policy
from gaussjax.training.sac.host import make_host


def make(environments: Any, config: Config, policy: Policy | None = None) -> Algorithm:
    """SAC bound to its environments.

    Args:
        environments: A Gymnasium vector environment made by `gaussjax.envs.make_vector`,
            `config.num_envs` of them, or a `gaussjax.envs.Environment`, of which as many copies
            run inside the compiled step.
        config: The options.
        policy: A squashed policy of yours, made with `keepdims=False`; None makes `make_policy`'s.

    Returns:
        `init` and `step`. On an `Environment` both are pure and compiled: `jax.vmap` and
        `jax.lax.scan` them. On a vector environment a step uses up the state that it is given.

    Raises:
        ValueError: The number of environments is not the config's, or a bound of the actions is open; or
            the policy was made with `keepdims=True`.

    Example:
        >>> import jax
        >>> environments = envs.make_vector("Pendulum-v1", 2)
        >>> config = Config(num_envs=2, num_steps=8, batch_size=4, learning_starts=8, hidden_sizes=(8,))
        >>> algorithm = make(environments, config)
        >>> state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
        >>> state.steps
        16
        >>> environments.close()

    Source:
        Haarnoja et al. 2018, soft actor-critic algorithms and applications (arXiv:1812.05905).
    """
    if policy is not None:
        refuse_wide(policy)
    if isinstance(environments, envs.Environment):
        policy = policy or make_policy(environments.observation_space, environments.action_space, config)
        return make_compiled(environments, config, policy)
    spaces = environments.single_observation_space, environments.single_action_space
    return make_host(environments, config, policy or make_policy(*spaces, config))
