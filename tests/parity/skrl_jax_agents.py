"""Trains agents of skrl in JAX with its own models and with ours, from equal weights; run by skrl's own Python.

Usage: python skrl_jax_agents.py RESULTS.npz [AGENT …]
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import skrl_agents
from skrl import config
from skrl.agents.jax import a2c, ppo, sac
from skrl.memories.jax import RandomMemory
from skrl.models.jax import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.jax import RunningStandardScaler
from skrl.trainers.jax import SequentialTrainer
from skrl_agents import ACTED, BOTH, ONE, ROLLOUTS, SEEN, UPDATES, WIDTH

import gaussjax
from gaussjax.interop.skrl import in_jax, jax_model

SPACES = {"observation_space": SEEN, "state_space": None, "action_space": ACTED}


class Environment(skrl_agents.Environment):
    device, array = jax.devices("cpu")[0], staticmethod(jnp.asarray)


class Policy(GaussianMixin, Model):
    # Flax copies a module by its fields, which are the arguments of skrl's Model.
    def __init__(self, observation_space, state_space, action_space, device=None, **linen):
        spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
        Model.__init__(self, **spaces, device=device, **linen)
        GaussianMixin.__init__(self, clip_actions=True)

    @nn.compact
    def __call__(self, inputs, role):
        x = inputs["observations"]
        for _ in range(2):
            x = nn.elu(nn.Dense(WIDTH)(x))
        log_std = self.param("log_std", lambda _: jnp.full(2, -0.5))
        return nn.tanh(nn.Dense(2)(x)), {"log_std": log_std}


class Value(DeterministicMixin, Model):
    def __init__(self, observation_space, state_space, action_space, device=None, **linen):
        spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
        Model.__init__(self, **spaces, device=device, **linen)
        DeterministicMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs, role):
        x = inputs["observations"]
        x = jnp.concatenate([x, inputs["taken_actions"]], -1) if "critic" in role else x
        for _ in range(2):
            x = nn.elu(nn.Dense(WIDTH)(x))
        return nn.Dense(1)(x), {}


def tree(model):
    """The parameters of skrl's model under our names."""
    found = model.state_dict.params["params"]
    head = {"mean": found["Dense_2"], **({"log_std": found["log_std"]} if "log_std" in found else {})}
    return {"params": {"layers": {f"dense_{i}": found[f"Dense_{i}"] for i in range(2)}, "head": head}}


def ours(model, role):
    if role == "policy":
        network = gaussjax.networks.MLP((WIDTH, WIDTH), "elu", initial_log_std=-0.5)
        policy = gaussjax.gaussian(network, SEEN, ACTED, clip_actions=True)
        made = jax_model(policy, jax.random.key(0), params=tree(model), device="cpu")
        # skrl draws with its own key and counts from 1.
        made._key, made._calls = config.jax.key, 1
        return made
    policy = gaussjax.gaussian(gaussjax.networks.MLP((WIDTH, WIDTH), "elu"), BOTH if "critic" in role else SEEN, ONE)
    return jax_model(policy, jax.random.key(0), params=tree(model), deterministic=True, device="cpu")


def options(name):
    found = dict(skrl_agents.AGENTS[name][1])
    scaler = {"size": SEEN, "device": "cpu"}
    return {**found, "observation_preprocessor": RunningStandardScaler, "observation_preprocessor_kwargs": scaler}


AGENTS = {name: (agent, options(name)) for name, agent in (("PPO", ppo.PPO), ("A2C", a2c.A2C), ("SAC", sac.SAC))}
TOOLS = {"agents": AGENTS, "memory": RandomMemory, "trainer": SequentialTrainer, "environment": Environment}


def models(name, convert):
    config.jax.key = 0
    roles = ["policy", "value"]
    if name == "SAC":
        roles = ["policy", *(f"{target}critic_{i}" for i in (1, 2) for target in ("", "target_"))]
    found = {}
    for i, role in enumerate(roles):
        model = (Policy if role == "policy" else Value)(**SPACES, device="cpu")
        model.init_state_dict(role=role, key=jax.random.key(i))
        found[role] = convert(model, role)
    return found


def main(path, *chosen):
    # skrl's noise is a constant in the compiled update of SAC, and for the comparison ours is too.
    in_jax._folded = lambda key, _: key
    results = {}
    for name in chosen or AGENTS:
        steps = UPDATES + 8 if name == "SAC" else UPDATES * ROLLOUTS
        start = models(name, lambda model, _: tree(model))
        theirs, mine = (
            skrl_agents.trained(name, models(name, convert), steps, **TOOLS)
            for convert in (lambda model, _: model, ours)
        )
        for role, model in theirs.models.items():
            trees = tree(model), mine.models[role].state_dict.params, start[role]
            for (place, expected), (_, found), (_, first) in zip(
                *map(jax.tree_util.tree_leaves_with_path, trees), strict=False
            ):
                key = f"{name}/{role}/{jax.tree_util.keystr(place)}"
                results |= {f"{key}/skrl": expected, f"{key}/ours": found, f"{key}/start": first}
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
