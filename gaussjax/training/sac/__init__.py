"""Soft actor-critic on Gymnasium environments, and fully compiled on JAX environments."""

from __future__ import annotations

from typing import Any

from gaussjax import envs
from gaussjax.policy import Policy
from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.algorithm import policy_for
from gaussjax.training.sac.compiled import make_compiled
from gaussjax.training.sac.config import Config as Config
from gaussjax.training.sac.config import Learner as Learner
from gaussjax.training.sac.config import State as State
from gaussjax.training.sac.config import Transition as Transition
from gaussjax.training.sac.config import make_policy as make_policy
from gaussjax.training.sac.host import make_host


def make(environments: Any, config: Config, policy: Policy | None = None) -> Algorithm:
    """A training loop of SAC on environments.

    Args:
        environments: A Gymnasium vector environment with `config.num_envs` copies, made by
            `gaussjax.envs.make_vector`; or a `gaussjax.envs.Environment`, which is vmapped.
        config: The options.
        policy: A policy on a bounded Box, by default the policy from `make_policy`.

    Returns:
        A loop. On an `Environment`, `init` and `step` are pure and compiled, so `jax.vmap` and `jax.lax.scan`
        apply. On a vector environment, `step` donates the buffers of its state.

    Raises:
        ValueError: The number of environments differs from `config.num_envs`, a bound of the actions is
            infinite, or the policy does not sum its log-densities.

    Example:
        >>> import jax
        >>> environments = envs.make_vector("Pendulum-v1", 2)
        >>> config = Config(num_envs=2, num_steps=8, batch_size=4, learning_starts=8, hidden_sizes=(8,))
        >>> loop = make(environments, config)
        >>> state, metrics = loop.step(loop.init(jax.random.key(0)))
        >>> state.steps
        16
        >>> environments.close()

    Source:
        Haarnoja et al. 2018, soft actor-critic algorithms and applications (arXiv:1812.05905).
    """
    make_loop = make_compiled if isinstance(environments, envs.Environment) else make_host
    return make_loop(environments, config, policy_for(environments, config, policy, make_policy))
