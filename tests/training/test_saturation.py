import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.training import ppo
from gaussjax.training.saturation import saturation
from tests.training import jax_probes, probes

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Gymnasium", "JAX"])
def test_ppo_reports_the_fraction_of_its_samples_outside_the_box(kind):
    deviation = 2.0
    config = ppo.Config(
        num_envs=8, num_steps=128, batch_size=1024, num_epochs=1, hidden_sizes=(4,), initial_log_std=math.log(deviation)
    )
    environments = jax_probes.counter(9) if kind == "JAX" else probes.vector(lambda: probes.Counter(9), 8)
    algorithm = ppo.make(environments, config)
    _, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    # The mean starts near 0, the Box is [-1, 1]: P(|z| >= 1/2) = 0.617, with a deviation of 0.015 over 1024 samples.
    assert abs(float(metrics["saturation"]) - math.erfc(0.5 / math.sqrt(2.0))) < 0.05
