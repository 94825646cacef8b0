"""Making environments: Gymnasium by name, several at once, reset rules that lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium


def make_vector(environment: str, num_envs: int, **options: Any) -> gymnasium.vector.VectorEnv:
    """Copies of one Gymnasium environment that step together in this process.

    An episode that ends is reset within the same step, and its true last observation is in
    `info["final_obs"]`: nothing has to be masked, and truncated episodes can be bootstrapped.
    Observations that are not vectors (images, dicts, tuples, integers) are flattened.

    Args:
        environment: Registered name, such as "Pendulum-v1".
        num_envs: Number of copies.
        **options: For `gymnasium.make`.

    Raises:
        gymnasium.error.Error: There is no such environment, or a package for it is missing.

    Example:
        >>> environments = make_vector("Pendulum-v1", 4)
        >>> environments.num_envs, environments.single_action_space.shape
        (4, (1,))
        >>> environments.close()
    """
    import gymnasium

    def make() -> gymnasium.Env:
        made = gymnasium.make(environment, disable_env_checker=True, **options)
        space = made.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            made = gymnasium.wrappers.FlattenObservation(made)
        return made

    return gymnasium.vector.SyncVectorEnv([make] * num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
