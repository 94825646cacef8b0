"""gaussjax policies as models of skrl, which its agents take in place of classes with its mixins."""

from __future__ import annotations

import importlib.util
from typing import Any

from gaussjax.core.compiled import flag
from gaussjax.interop.skrl.conventions import Conventions, conventions, refuse_unscored, without_log_std
from gaussjax.policy import Policy, checks


def torch_model(
    policy: Policy,
    *,
    params: Any = None,
    deterministic: bool = False,
    num_envs: int | None = None,
    state_space: Any = None,
    version: str | None = None,
    device: Any = None,
) -> Any:
    """Makes a model of skrl in PyTorch from a policy; agents take it as "policy", "value", "critic_1" and so on.

    The model is a `torch.nn.Module` with parameters of its own, which start as `params` or are drawn from torch's
    generator. Dense layers and convolutions start as torch's own, because those of skrl's models do. A network with an
    `initializer`, `scale` or `output_scale` of its own starts as these say, and `params=policy.init(key)` gives the
    policy's start. The noise is that of torch's generator too, in the order in which skrl's own models draw it, so
    equal seeds give equal trainings.

    A policy over a Dict of skrl's names "observations", "states" and "taken_actions" gets these inputs of the model;
    any other policy gets the observations. Rows in which skrl joins the entries of a space are separated again. A
    network with a value, such as `ActorCritic`, is both "policy" and "value": both roles share one forward pass.

    Args:
        policy: A policy in torch or JAX, of any kind. It must score the actions that an environment gets, so
            `clipped_log_prob="unclipped"` is refused.
        params: Parameters to start from, of the policy in torch or in JAX.
        deterministic: Whether the model returns the policy's deterministic action for every role, as a critic or a
            value does: make it with `gaussjax.gaussian(network, observation_space, gaussjax.spaces.Box(shape=(1,)))`
            and `output_activation=None`. A log_std that is trained is left out.
        num_envs: Number of environments, for the specification of a recurrent model.
        state_space: Space of skrl's states, if the policy does not get them.
        version: Version of skrl whose shapes and names the model has: "1.4.3", "2.0.0" or "2.1.1". By default the
            installed version. Entropy is `(N, 1)` in 2.1.1, else `(N, act)`.
        device: Device of the parameters, as in skrl.

    Returns:
        A `skrl.models.torch.Model`.

    Raises:
        ImportError: skrl is not installed.
        ValueError: The version is unknown, the number of environments is missing, or the policy does not score the
            actions of its environment.
        TypeError: The network has no counterpart in torch.

    Example:
        >>> import importlib.util, gaussjax, torch
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 64)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
        >>> if importlib.util.find_spec("skrl"):  # the extra package
        ...     model = torch_model(policy)
        ...     actions, outputs = model.act({"observations": torch.zeros(5, 3)}, role="policy")
        ...     entropy = model.get_entropy(role="policy")
    """
    from gaussjax.interop.skrl import in_torch

    policy, converted = _prepared(policy, deterministic, version, num_envs)
    return in_torch.model_class()(policy, params, deterministic, converted, state_space, device)


def jax_model(
    policy: Policy,
    key: Any,
    *,
    params: Any = None,
    deterministic: bool = False,
    num_envs: int | None = None,
    state_space: Any = None,
    version: str | None = None,
    device: Any = None,
) -> Any:
    """Makes a model of skrl in JAX from a policy; agents take it as "policy", "value", "critic_1" and so on.

    The model is a Flax module whose `state_dict` holds the parameters. `init_state_dict` keeps them unless it gets a
    key of its own. A call outside of `jit` runs one compiled function. The noise follows from the key; within the
    caller's `jit` it follows from the observations too, so that it is not the same in every call of that program.

    Names of inputs, separated rows and networks with a value are as in `torch_model`.

    Args:
        policy: A policy in JAX, of any kind. `clipped_log_prob="unclipped"` is refused, as in `torch_model`.
        key: PRNG key of the parameters and the noise, consumed. Give each model a key of its own.
        params: Parameters to start from; by default the key draws them.
        deterministic: As in `torch_model`.
        num_envs: As in `torch_model`.
        state_space: As in `torch_model`.
        version: As in `torch_model`.
        device: Device of the parameters, as in skrl.

    Returns:
        A `skrl.models.jax.Model`.

    Raises:
        ImportError: skrl is not installed.
        ValueError: The version is unknown, the number of environments is missing, or the policy does not score the
            actions of its environment.
        TypeError: The key is not one PRNG key.

    Example:
        >>> import importlib.util, gaussjax, jax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 64)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
        >>> if importlib.util.find_spec("skrl"):  # the extra package
        ...     model = jax_model(policy, jax.random.key(0))
        ...     actions, outputs = model.act({"observations": jax.numpy.zeros((5, 3))}, role="policy")
        ...     entropy = model.get_entropy(outputs["stddev"], role="policy")
    """
    from gaussjax.interop.skrl import in_jax

    checks.key(key)
    policy, converted = _prepared(policy, deterministic, version, num_envs)
    return in_jax.model_class()(policy, key, params, deterministic, converted, state_space, device)


def _prepared(
    policy: Policy, deterministic: bool, version: str | None, num_envs: int | None
) -> tuple[Policy, Conventions]:
    if importlib.util.find_spec("skrl") is None:
        raise ImportError("skrl: expected an installed package, got none. Install it with pip install skrl.")
    converted = conventions(policy, version, num_envs)
    if flag(deterministic, "deterministic"):
        return without_log_std(policy), converted
    refuse_unscored(policy)
    return policy, converted
