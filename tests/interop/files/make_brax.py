"""Makes the files of brax.zip: `python make_brax.py FOLDER`, then `python -m zipfile -c brax.zip FOLDER/*`.

Needs brax==0.14.2. With brax==0.10.5 it makes brax_old.pickle only, whose layout is another one. The .npz
has observations, brax's deterministic actions, samples before tanh, and their log-densities.
"""

import functools
import sys
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from brax.io import model
from brax.training.acme import running_statistics
from brax.training.agents.ppo import networks as ppo
from brax.training.agents.sac import networks as sac

OLD = metadata.version("brax") == "0.10.5"
WIDTH, NUM_ACTIONS = 4, 2
SMALL = {"policy_hidden_layer_sizes": (8, 6), "value_hidden_layer_sizes": (4,)}
NORMAL = {**SMALL, "distribution_type": "normal"}
NESTED = {"state": WIDTH, "privileged_state": 3}
# Maker of the networks, its options, the sizes of observations, and whether they are normalised.
CASES: dict = {
    "ppo": (ppo.make_ppo_networks, SMALL, WIDTH, True),
    "ppo_plain": (ppo.make_ppo_networks, {**SMALL, "activation": jax.nn.gelu}, WIDTH, False),
    "ppo_log": (ppo.make_ppo_networks, {**NORMAL, "noise_std_type": "log", "mean_clip_scale": 1.5}, WIDTH, True),
    "ppo_scalar": (ppo.make_ppo_networks, NORMAL, NESTED, True),
    "ppo_state": (
        ppo.make_ppo_networks,
        {**NORMAL, "noise_std_type": "log", "state_dependent_std": True},
        WIDTH,
        True,
    ),
    "sac": (sac.make_sac_networks, {"hidden_layer_sizes": (8, 6), "policy_network_layer_norm": True}, WIDTH, True),
}


if OLD:
    CASES = {"old": (ppo.make_ppo_networks, SMALL, WIDTH, True)}


def observed(sizes, count, key):
    if isinstance(sizes, dict):
        return {name: observed(size, count, key) for name, size in sizes.items()}
    scale = jnp.array([1.0, 5.0, 0.05, 1.0])[:sizes]
    return 0.5 + scale * jax.random.normal(key, (count, sizes))


def shifted(tree, key):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(one, leaf.shape) for leaf, one in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def save_folder(path, make, options, sizes, normalised, params):
    from brax.training.agents.ppo import checkpoint as ppo_checkpoint
    from brax.training.agents.sac import checkpoint as sac_checkpoint

    checkpoint = ppo_checkpoint if make is ppo.make_ppo_networks else sac_checkpoint
    config = checkpoint.network_config(sizes, NUM_ACTIONS, normalised, functools.partial(make, **options))
    checkpoint.save(path, 1000, params, config)


def main(folder):
    for name, (make, options, sizes, normalised) in CASES.items():
        keys = jax.random.split(jax.random.key(3), 6)
        preprocess = running_statistics.normalize if normalised else lambda x, _: x
        made = make(sizes, NUM_ACTIONS, preprocess_observations_fn=preprocess, **options)
        shapes = jax.tree.map(lambda size: jax.ShapeDtypeStruct((size,), jnp.float32), sizes)
        statistics = running_statistics.init_state(shapes)
        batch = observed(sizes, 64, keys[0])
        if isinstance(batch, dict):
            batch["state"] = batch["state"].at[:, 3].set(0.25)
        else:
            # An observation that never changes has brax's least standard deviation.
            batch = batch.at[:, 3].set(0.25)
        statistics = running_statistics.update(statistics, batch)
        policy = shifted(made.policy_network.init(keys[1]), keys[2])
        if name == "ppo_scalar":
            policy["params"]["std_param"]["value"] = jnp.array([0.3, 1.7])
        params = (statistics, policy)
        if hasattr(made, "value_network") and not OLD:
            params = (*params, made.value_network.init(keys[3]))
        observations = observed(sizes, 8, keys[4])
        if isinstance(observations, dict):
            observations["state"] = observations["state"].at[:, 3].set(0.25 + 1e-6 * jnp.arange(8))
        else:
            observations = observations.at[:, 3].set(0.25 + 1e-6 * jnp.arange(8))
        inference = (ppo if make is ppo.make_ppo_networks else sac).make_inference_fn(made)
        actions, _ = inference(params, deterministic=True)(observations, keys[5])
        logits = made.policy_network.apply(params[0], params[1], observations)
        distribution = made.parametric_action_distribution
        samples = distribution.sample_no_postprocessing(logits, keys[5])
        model.save_params(folder / f"brax_{name}.pickle", params)
        if not OLD:
            save_folder(folder / f"brax_{name}", make, options, sizes, normalised, params)
        state = observations["state"] if isinstance(observations, dict) else observations
        np.savez(
            folder / f"brax_{name}.npz",
            observations=np.asarray(state),
            actions=np.asarray(actions),
            samples=np.asarray(samples),
            log_prob=np.asarray(distribution.log_prob(logits, samples)),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
