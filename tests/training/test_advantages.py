import jax.numpy as jnp
import numpy as np

from gaussjax.training.advantages import generalized_advantages


def test_hand_computed_episode_with_a_truncation_and_a_termination():
    # discount 0.5, trace 0.5, so the trace of errors decays by 1/4. Step by step, from the end:
    #   t=3 terminated:      error = 4 + 0 - 1              = 3     advantage = 3
    #   t=2 goes on:         error = 3 + 0.5*1 - 2          = 1.5   advantage = 1.5 + 3/4 = 2.25
    #   t=1 truncated, its last observation is worth 6:
    #                        error = 2 + 0.5*6 - 1          = 4     advantage = 4 (the trace stops)
    #   t=0 goes on:         error = 1 + 0.5*1 - 0.5        = 1     advantage = 1 + 4/4 = 2
    advantages = generalized_advantages(
        jnp.array([1.0, 2.0, 3.0, 4.0]),
        jnp.array([0.5, 1.0, 2.0, 1.0]),
        jnp.array([1.0, 6.0, 1.0, 9.0]),
        jnp.array([False, False, False, True]),
        jnp.array([False, True, False, False]),
        gamma=0.5,
        gae_lambda=0.5,
    )
    np.testing.assert_allclose(advantages, [2.0, 4.0, 2.25, 3.0], rtol=1e-7)


def test_trace_one_gives_the_discounted_return_minus_the_value():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 20, 3)).astype(np.float32)
    terminated = rng.random((20, 3)) < 0.2
    terminated[-1] = True
    next_values = np.concatenate([values[1:], np.zeros((1, 3), np.float32)])
    expected, following = np.zeros_like(rewards), np.zeros(3)
    for t in reversed(range(20)):
        following = rewards[t] + 0.9 * np.where(terminated[t], 0.0, following)
        expected[t] = following - values[t]
    advantages = generalized_advantages(
        rewards, values, next_values, terminated, np.zeros_like(terminated), gamma=0.9, gae_lambda=1.0
    )
    np.testing.assert_allclose(advantages, expected, atol=2e-6)


def test_no_steps_have_no_advantages():
    steps, flags = jnp.zeros((0, 3)), jnp.zeros((0, 3), bool)
    assert generalized_advantages(steps, steps, steps, flags, flags, gamma=0.9, gae_lambda=0.9).shape == (0, 3)
