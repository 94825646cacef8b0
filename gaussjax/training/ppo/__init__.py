"""Proximal policy optimisation on Gymnasium environments, and fully compiled on JAX environments."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh

from gaussjax import envs
from gaussjax.policy import Policy
from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.algorithm import policy_for
from gaussjax.training.ppo.compiled import make_compiled
from gaussjax.training.ppo.config import Config as Config
from gaussjax.training.ppo.config import Hyperparameters as Hyperparameters
from gaussjax.training.ppo.config import State as State
from gaussjax.training.ppo.config import make_policy as make_policy
from gaussjax.training.ppo.host import make_host


def make(environments: Any, config: Config, policy: Policy | None = None, *, mesh: Mesh | None = None) -> Algorithm:
    """A training loop of PPO on environments.

    Args:
        environments: A Gymnasium vector environment with `config.num_envs` copies, made by
            `gaussjax.envs.make_vector`; or a `gaussjax.envs.Environment`, which is vmapped.
        config: The options.
        policy: A policy whose network returns `outputs["value"]`, by default the policy from `make_policy`.
        mesh: Devices of one or several processes, from `gaussjax.training.mesh()`. Environments and minibatches
            are sharded over the mesh; the result equals the result of one device up to the order of sums. Each
            of several processes passes its share of the vector environments.

    Returns:
        A loop. On an `Environment`, `init` and `step` are pure and compiled, so `jax.vmap` and `jax.lax.scan`
        apply. To start from other parameters use `loop.init(key)._replace(params=params)`.

    Raises:
        ValueError: The number of environments differs from `config.num_envs` or is not a multiple of the number of
            devices; or the policy does not sum its log-densities, scores clipped actions with the wrong density, or
            is recurrent with sequences that do not divide the experience.

    Example:
        >>> import jax
        >>> environments = envs.make_vector("Pendulum-v1", 4)
        >>> loop = make(environments, Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=1))
        >>> state, metrics = loop.step(loop.init(jax.random.key(0)))
        >>> state.steps
        64
        >>> environments.close()

    Source:
        Schulman et al. 2017, proximal policy optimization algorithms (arXiv:1707.06347).
    """
    policy = policy_for(environments, config, policy, make_policy)
    options = dict(policy.spec.options)
    if options.get("clip_actions") and options.get("clipped_log_prob") == "density":
        raise ValueError(
            'policy: expected clipped_log_prob="unclipped" or "censored" of a policy that clips its actions, got '
            '"density". The density at the bound is not the probability of a clipped action, so the gradient would '
            'be biased. Make the policy with clipped_log_prob="unclipped".'
        )
    rows, name = config.batch_size, "batch_size"
    if jax.tree.leaves(jax.eval_shape(policy.initial_carry)):
        config.check_sequences()
        rows, name = rows // config.sequence_length, "batch_size / sequence_length"
    mesh = parallel.checked(mesh, {"num_envs": config.num_envs, name: rows})
    make_loop = make_compiled if isinstance(environments, envs.Environment) else make_host
    return make_loop(environments, config, policy, mesh)
