"""Running a policy in Gymnasium environments: collecting experience, and evaluating."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from gaussjax import environment_state, envs, normalize
from gaussjax.environment_faults import EnvironmentStepError as EnvironmentStepError
from gaussjax.environment_faults import guarded
from gaussjax.policy import Params, Policy

if TYPE_CHECKING:
    import gymnasium
    from jaxtyping import Bool, Float


class Rollout(NamedTuple):
    """Time-major experience of `N` environments over `T` steps, as arrays of NumPy or of JAX.

    Attributes:
        observations: What the policy saw, `(T, N, F)`.
        raw_actions: What it sampled, before any clip or squash, `(T, N, A)`.
        actions: What the environments were given, flat, `(T, N, A)`.
        rewards: `(T, N)`.
        terminated: The episode ended at this step: no value follows.
        truncated: The episode was cut at this step: a value follows, that of its last observation.
        next_observations: What followed, `(T, N, F)`: at the end of an episode its true last
            observation, not the first of the next.
    """

    observations: Float[Any, "time envs features"]
    raw_actions: Float[Any, "time envs act"]
    actions: Float[Any, "time envs act"]
    rewards: Float[Any, "time envs"]
    terminated: Bool[Any, "time envs"]
    truncated: Bool[Any, "time envs"]
    next_observations: Float[Any, "time envs features"]
    resets: Bool[Any, "time envs"]
    carries: Any


class Episodes(NamedTuple):
    """Finished episodes.

    Attributes:
        returns: Sum of the rewards of each.
        lengths: Environment steps of each.
    """

    returns: list[float]
    lengths: list[int]


class Runner:
    """Steps a vector environment and keeps account of its episodes.

    The environments are Python objects with a state of their own, so this is the one place
    that is not a pure function.
    """

    def __init__(self, environments: gymnasium.vector.VectorEnv):
        _refuse_other_autoreset(environments)
        self.environments = environments
        self.timeout: float | None = None
        """Seconds that one step of all environments may take; None is no limit."""
        self._action_shape = environments.action_space.shape
        self._action_dtype = environments.action_space.dtype
        self._returns = np.zeros(environments.num_envs)
        self._lengths = np.zeros(environments.num_envs, np.int64)
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        """Starts all environments anew and returns their first observations, `(N, F)`."""
        observations, _ = self.environments.reset(seed=seed)
        self._returns[:], self._lengths[:], self._steps = 0.0, 0, 0
        return self._checked(np.array(observations, np.float32), "reset")

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Episodes]:
        """One step of every environment.

        Args:
            actions: Flat actions, `(N, A)`.

        Returns:
            The observations to act on next, rewards, terminated, truncated, the observations that
            ended this step, and the episodes that finished.

        Raises:
            FloatingPointError: An observation or a reward is NaN or infinite.
            EnvironmentStepError: An environment raised, tried to end the program, or hung.
        """
        actions = np.asarray(actions, self._action_dtype).reshape(self._action_shape)
        self._steps += 1
        with guarded(self.environments, self._steps, self.timeout):
            observations, rewards, terminated, truncated, info = self.environments.step(actions)
        observations = self._checked(np.array(observations, np.float32), f"step {self._steps}")
        self._checked(rewards, f"step {self._steps}", "reward")
        last = observations
        self._returns += rewards
        self._lengths += 1
        done = terminated | truncated
        episodes = Episodes([], [])
        if done.any():
            last = observations.copy()
            for i in np.flatnonzero(done):
                last[i] = info["final_obs"][i]
                episodes.returns.append(float(self._returns[i]))
                episodes.lengths.append(int(self._lengths[i]))
            self._checked(last, f"step {self._steps}")
            self._returns[done], self._lengths[done] = 0.0, 0
        return observations, rewards, terminated, truncated, last, episodes

    def capture(self) -> dict[str, Any]:
        """Where the environments stand and the account of their episodes, as plain data.

        Raises:
            environment_state.UnsavableError: gaussjax does not know how to read these environments.
        """
        account = {"returns": self._returns.tolist(), "lengths": self._lengths.tolist(), "steps": self._steps}
        return {**account, "environments": environment_state.capture(self.environments)}

    def restore(self, captured: dict[str, Any]) -> None:
        """Puts all back as `capture` found it."""
        environment_state.restore(self.environments, captured["environments"])
        self._returns[:], self._lengths[:] = captured["returns"], captured["lengths"]
        self._steps = captured["steps"]

    def _checked(self, values: np.ndarray, when: str, what: str = "observation") -> np.ndarray:
        if not np.isfinite(values).all():
            finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            index = int(np.flatnonzero(~finite)[0])
            raise FloatingPointError(
                f"environment {index}: expected a finite {what} at {when}, got {values[index]} "
                f"({int((~finite).sum())} of {len(values)} environments). The environment has diverged; "
                f"check its actions, rewards and time step."
            )
        return values


def collect(
    runner: Runner,
    act: Callable[[int, np.ndarray, np.ndarray, Any], tuple[Any, Any, Any]],
    observations: np.ndarray,
    resets: np.ndarray,
    carry: Any,
    num_steps: int,
) -> tuple[Rollout, tuple[np.ndarray, np.ndarray, Any], Episodes]:
    """Runs a policy for some steps.

    Args:
        runner: The environments.
        act: `(t, observations, resets, carry) -> (actions, raw_actions, carry)`, called once a step.
        observations: Where the environments stand, `(N, F)`.
        resets: Which of them start an episode, `(N,)`.
        carry: Of the policy's memory, or `()`.
        num_steps: Steps of each environment.

    Returns:
        The experience; observations, resets and carry to go on from; and the finished episodes.
    """
    columns: list[list[np.ndarray]] = [[] for _ in Rollout._fields[:-1]]
    carries = [carry]
    finished = Episodes([], [])
    for t in range(num_steps):
        actions, raw_actions, carry = act(t, observations, resets, carry)
        after = runner.step(np.asarray(actions))
        next_observations, rewards, terminated, truncated, last, episodes = after
        row = (
            observations,
            np.asarray(raw_actions),
            np.asarray(actions),
            rewards.astype(np.float32),
            terminated,
            truncated,
            last,
            resets,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        carries.append(carry)
        finished.returns.extend(episodes.returns)
        finished.lengths.extend(episodes.lengths)
        observations, resets = next_observations, terminated | truncated
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *carries)
    experience = Rollout(*[np.stack(column) for column in columns], carries=stacked)
    return experience, (observations, resets, carry), finished


def evaluate(
    policy: Policy,
    params: Params,
    environment: str,
    *,
    normalizer: normalize.Statistics | None = None,
    episodes: int = 20,
    seed: int = 0,
    deterministic: bool = True,
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
        watch: Called with the first environment, which can be rendered as `rgb_array`, after its reset and after
            each step of its episode but the last, which has reset it again.
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
    returns, lengths = [0.0] * episodes, [0] * episodes
    running = np.ones(episodes, bool)
    totals, steps = np.zeros(episodes), 0
    try:
        observations = runner.reset(seed)
        key = jax.random.key(seed)
        while running.any():
            if watch is not None and running[0]:
                watch(environments.envs[0])
            actions, carry = choose(params, jax.random.fold_in(key, steps), observations, carry)
            observations, rewards, terminated, truncated, _, _ = runner.step(np.asarray(actions))
            steps += 1
            totals += rewards
            for i in np.flatnonzero(running & (terminated | truncated)):
                returns[i], lengths[i], running[i] = float(totals[i]), steps, False
    finally:
        environments.close()
    return Episodes(returns, lengths)


def _refuse_other_autoreset(environments: gymnasium.vector.VectorEnv) -> None:
    mode = environments.metadata.get("autoreset_mode")
    if getattr(mode, "name", mode) != "SAME_STEP":
        raise ValueError(
            f"environments: expected the autoreset mode SAME_STEP, got {mode}. Make them with "
            f"gaussjax.envs.make_vector, or pass autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP."
        )
