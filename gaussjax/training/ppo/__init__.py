"""Proximal policy optimisation, on Gymnasium environments and wholly compiled on JAX ones."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh

from gaussjax import envs
from gaussjax.policy import Policy
from gaussjax.training.algorithm import refuse_wide
from gaussjax.training.metrics import Metrics as Metrics
from gaussjax.training.parallel import sharding
from gaussjax.training.ppo.compiled import make_compiled
from gaussjax.training.ppo.config import Algorithm as Algorithm
from gaussjax.training.ppo.config import Config as Config
from gaussjax.training.ppo.config import Hyperparameters as Hyperparameters
from gaussjax.training.ppo.config import State as State
from gaussjax.training.ppo.config import make_policy as make_policy
from gaussjax.training.ppo.host import make_host

_SAMPLES = {False: "batch_size", True: "batch_size / sequence_length"}


def make(environments: Any, config: Config, policy: Policy | None = None, *, mesh: Mesh | None = None) -> Algorithm:
    """PPO bound to its environments.

    Args:
        environments: A Gymnasium vector environment made by `gaussjax.envs.make_vector`,
            `config.num_envs` of them, or a `gaussjax.envs.Environment`, of which as many copies
            run inside the compiled step.
        config: The options.
        policy: A policy of yours whose network gives `outputs["value"]`, made with
            `keepdims=False`; None makes `make_policy`'s.
        mesh: Devices, of this process or of several, over which the environments and the
            samples of every minibatch are spread: `gaussjax.training.parallel.sharding.mesh()`. What is
            learnt is what one device learns, to the order of its sums. In each of several
            processes a vector environment has that process's share of the environments.

    Returns:
        `init` and `step`. On an `Environment` both are pure and compiled: `jax.vmap` and
        `jax.lax.scan` them. On a vector environment `step` steps the environments it was given. To begin
        with parameters of your own: `algorithm.init(key)._replace(params=params)`.

    Raises:
        ValueError: The number of environments is not the config's, or does not divide over the mesh; or
            the policy was made with `keepdims=True`, or has a memory whose sequences do not divide the
            experience.

    Example:
        >>> import jax
        >>> environments = envs.make_vector("Pendulum-v1", 4)
        >>> algorithm = make(environments, Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=1))
        >>> state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
        >>> state.steps
        64
        >>> environments.close()

    Source:
        Schulman et al. 2017, proximal policy optimization algorithms (arXiv:1707.06347).
    """
    compiled = isinstance(environments, envs.Environment)
    if policy is None and compiled:
        policy = make_policy(environments.observation_space, environments.action_space, config)
    elif policy is None:
        policy = make_policy(environments.single_observation_space, environments.single_action_space, config)
    refuse_wide(policy)
    recurrent = bool(jax.tree.leaves(jax.eval_shape(policy.initial_carry)))
    if recurrent:
        config.check_sequences()
    rows = config.batch_size // (config.sequence_length if recurrent else 1)
    mesh = sharding.checked(mesh, {"num_envs": config.num_envs, _SAMPLES[recurrent]: rows})
    return (make_compiled if compiled else make_host)(environments, config, policy, mesh)
