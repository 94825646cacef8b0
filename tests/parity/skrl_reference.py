"""What skrl 2.1.1 computes, written to a file; run by its own Python, for importing it changes torch.

Usage: python skrl_reference.py RESULTS.npz
"""

import itertools
import sys

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import torch
from skrl.models.jax import GaussianMixin as JaxMixin
from skrl.models.jax import Model as JaxModel
from skrl.models.torch import GaussianMixin as TorchMixin
from skrl.models.torch import Model as TorchModel

BOUNDS = {
    "full": (np.full(2, -0.5), np.full(2, 0.5)),
    "half": (np.array([-0.5, -0.5]), np.array([np.inf, 0.5])),
    "none": (np.full(2, -np.inf), np.full(2, np.inf)),
}
LOG_STD = np.array([-0.5, 2.5], np.float32)
SPACE = gymnasium.spaces.Box(-np.inf, np.inf, (3,))


class InTorch(TorchMixin, TorchModel):
    def __init__(self, actions, weights, **options):
        TorchModel.__init__(self, observation_space=SPACE, state_space=None, action_space=actions, device="cpu")
        TorchMixin.__init__(self, **options)
        self.weights = torch.from_numpy(weights)

    def compute(self, inputs, role):
        return inputs["observations"] @ self.weights, {"log_std": torch.from_numpy(LOG_STD)}


class InJax(JaxMixin, JaxModel):
    # Flax copies a module by its fields, which are the arguments of skrl's Model.
    def __init__(
        self,
        observation_space,
        state_space,
        action_space,
        device=None,
        clip_actions=False,
        clip_mean_actions=False,
        reduction="sum",
        **linen,
    ):
        spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
        JaxModel.__init__(self, **spaces, device=device, **linen)
        JaxMixin.__init__(self, clip_actions=clip_actions, clip_mean_actions=clip_mean_actions, reduction=reduction)

    @nn.compact
    def __call__(self, inputs, role):
        weights = self.param("weights", nn.initializers.zeros_init(), (3, 2))
        return inputs["observations"] @ weights, {"log_std": jnp.asarray(LOG_STD)}


def main(path):
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(3, 2)).astype(np.float32)
    observations = generator.normal(size=(6, 3)).astype(np.float32)
    taken = generator.normal(size=(6, 2)).astype(np.float32)
    results = {"weights": weights, "observations": observations, "taken": taken, "log_std": LOG_STD}
    for bounds, clip, reduction in itertools.product(BOUNDS, (False, True), ("sum", "mean", "prod", "none")):
        low, high = (side.astype(np.float32) for side in BOUNDS[bounds])
        actions = gymnasium.spaces.Box(low, high)
        options = {"clip_actions": clip, "clip_mean_actions": clip, "reduction": reduction}
        for framework in ("torch", "jax"):
            name = f"{framework} {bounds} {clip} {reduction}"
            try:
                if framework == "torch":
                    model = InTorch(actions, weights, **options)
                    torch.manual_seed(0)
                    noise = torch.normal(torch.zeros(6, 2), torch.ones(6, 2)).numpy()
                    torch.manual_seed(0)
                    x = torch.from_numpy(observations)
                    acted, outputs = model.act({"observations": x})
                    entropy = model.get_entropy()
                    scored = model.act({"observations": x, "taken_actions": torch.from_numpy(taken)})[1]
                else:
                    model = InJax(SPACE, None, actions, **options)
                    model.init_state_dict(role="policy")
                    params = {"params": {"weights": jnp.asarray(weights)}}
                    acted, outputs = model.act({"observations": observations}, params=params)
                    subkey = jax.random.fold_in(model._g_key, model._g_i)
                    noise = np.asarray(jax.random.normal(subkey, (6, 2)))
                    entropy = model.get_entropy(outputs["stddev"])
                    inputs = {"observations": observations, "taken_actions": taken}
                    scored = model.act(inputs, params=params)[1]
            except Exception as error:
                results[f"{name} error"] = np.array(f"{type(error).__name__}: {error}")
                continue
            found = {"noise": noise, "actions": acted, "log_prob": outputs["log_prob"], "entropy": entropy}
            found |= {"mean": outputs["mean_actions"], "clipped": outputs["log_std"], "scored": scored["log_prob"]}
            results |= {f"{name} {key}": np.asarray(value) for key, value in found.items()}
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
