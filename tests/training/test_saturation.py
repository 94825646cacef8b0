import jax.numpy as jnp
import numpy as np

import gaussjax
from gaussjax.training.algorithm import saturation

NETWORK = gaussjax.networks.MLP((4,))


def test_clipped_gaussian_is_at_a_bound_on_it_and_outside_of_it():
    box = gaussjax.spaces.Box((-1.0, -np.inf), (1.0, 3.0), (2,))
    policy = gaussjax.gaussian(NETWORK, 3, box, clip_actions=True)
    samples = jnp.array([[-1.0, -9.0], [0.999, 3.0], [5.0, 2.9], [0.0, 4.0]])
    clipped = jnp.clip(samples, jnp.array([[-1.0, -jnp.inf]]), jnp.array([[1.0, 3.0]]))
    # The first and the third of the first component, the second and the last of the other one.
    assert saturation(policy, samples) == saturation(policy, clipped) == 0.5


def test_squashed_gaussian_is_at_a_bound_within_one_percent_of_the_half_width():
    policy = gaussjax.squashed_gaussian(NETWORK, 3, gaussjax.spaces.Box(0.0, 4.0, (1,)))
    # The half width is 2, so within 0.02 of 0 and of 4.
    assert saturation(policy, jnp.array([[0.019], [0.021], [3.979], [3.981]])) == 0.5
