"""Small datasets and trainings of cloning."""

import functools

import jax
import numpy as np

from gaussjax.data import Episodes
from gaussjax.spaces import Box
from gaussjax.training import bc

SMALL = {"batch_size": 8, "hidden_sizes": (8,)}


def recorded(count, episodes, features=2, actions=1, seed=0):
    """Rows of random numbers in episodes of equal length."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(count, features)).astype(np.float32)
    done = rng.uniform(-1.0, 1.0, (count, actions)).astype(np.float32)
    return Episodes(seen, done, np.arange(count) % (count // episodes) == 0)


def loop_of(dataset, *, space=None, weights=None, **options):
    config = bc.Config(**{**SMALL, **options})
    space = dataset.observations.shape[1] if space is None else space
    policy = bc.make_policy(space, Box(-1.0, 1.0, dataset.actions.shape[1:]), config)
    return bc.make(dataset, policy, config, weights=weights)


def trained(loop, epochs=3, seed=0):
    state = loop.init(jax.random.key(seed))
    for _ in range(epochs):
        state, metrics = loop.step(state)
    return state, metrics


def same(one, two, **tolerance):
    compare = functools.partial(np.testing.assert_allclose, **tolerance) if tolerance else np.testing.assert_array_equal
    jax.tree.map(compare, one, two)
