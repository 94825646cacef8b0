"""Evaluating: whole episodes of a policy that learns nothing from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gaussjax import envs, normalize
from gaussjax.policy import Params, Policy
from gaussjax.rollout.host import Episodes, Runner


def evaluate(
    policy: Policy,
    params: Params,
    environment: str,
    *,
    normalizer: normalize.Statistics | None = None,
    episodes: int = 20,
    seed: int = 0,
    deterministic: bool = True,
    max_steps: int | None = None,
    timeout: float | None = None,
    watch: Callable[[Any], None] | None = None,
) -> Episodes:
    """Returns and lengths of whole episodes, one in each of as many environments.

    Args:
        policy: The policy.
        params: Its parameters.
        environment: Gymnasium name.
        normalizer: Observation statistics of the training, if it had any.
        episodes: How many.
        seed: Of the environments: episode i starts from seed + i. Actions are drawn from it too.
        deterministic: Whether the policy takes its deterministic action.
        max_steps: Of an episode, which is cut there; None waits for its end, and some environments have none.
        timeout: Seconds that one step of all environments may take; None is no limit.
        watch: Called with the first environment, which can be rendered as `rgb_array`, after its reset and after
            each step of its episode but the last, which has reset it again.

    Returns:
        A return and a length for each episode, and how many were cut.

    Raises:
        FloatingPointError: An observation or a reward is NaN or infinite.
        EnvironmentStepError: An environment raised, tried to end the program, or hung.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> evaluate(policy, policy.init(jax.random.key(0)), "Pendulum-v1", episodes=2).lengths
        [200, 200]
    """
    options = {} if watch is None else {"render_mode": "rgb_array"}
    environments: Any = envs.make_vector(environment, episodes, **options)

    carry = policy.initial_carry((episodes,))
    recurrent = bool(jax.tree.leaves(carry))

    @jax.jit
    def choose(params: Params, key: jax.Array, observations: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        if normalizer is not None:
            observations = normalize.apply(normalizer, observations)
        # No resets: each environment is watched for its first episode only.
        memory = {"carry": carry} if recurrent else {}
        act = policy.act(params, key, observations, deterministic=deterministic, **memory)
        return act.actions, act.outputs.get("carry", ())

    runner = Runner(environments)
    runner.timeout = timeout
    returns, lengths, steps = np.zeros(episodes), np.zeros(episodes, int), 0
    running = np.ones(episodes, bool)
    try:
        observations = runner.reset(seed)
        key = jax.random.key(seed)
        while running.any() and (max_steps is None or steps < max_steps):
            if watch is not None and running[0]:
                watch(environments.envs[0])
            actions, carry = choose(params, jax.random.fold_in(key, steps), observations, carry)
            observations, rewards, terminated, truncated, _, _ = runner.step(np.asarray(actions))
            steps += 1
            returns[running] += rewards[running]
            lengths[running] += 1
            running &= ~(terminated | truncated)
    finally:
        environments.close()
    return Episodes(returns.tolist(), lengths.tolist(), int(running.sum()))
