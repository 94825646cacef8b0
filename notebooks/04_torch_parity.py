# %% [markdown]
# # One seed, two frameworks
#
# `gaussjax.torch` has the same names, options and outputs as gaussjax, with parameters in a dict of tensors. It draws
# **the same random numbers** from the same key. You can train in JAX and deploy in PyTorch. This notebook compares the
# results of both, number by number.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import sys

SOURCE = "gaussjax[train,torch] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import pathlib
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np
import torch

import gaussjax
import gaussjax.torch

# %% [markdown]
# ## The same policy twice
#
# A policy's `spec` describes it completely, so `gaussjax.torch.from_spec` can build the same policy. `to_torch`
# converts the parameters.

# %%
action_space = gaussjax.spaces.Box(-1.0, 1.0, (2,))
policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), 3, action_space, clip_actions=True)
params = policy.init(jax.random.key(0))

twin = gaussjax.torch.from_spec(policy.spec)
tensors = gaussjax.torch.to_torch(policy.spec, params)
{name: tuple(tensor.shape) for name, tensor in tensors.items()}

# %% [markdown]
# ## Act and evaluate
#
# Both frameworks use the same key: `gaussjax.torch.key(1)` equals `jax.random.key(1)`.

# %%
observations = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
in_jax = policy.act(params, jax.random.key(1), observations)
in_torch = twin.act(tensors, gaussjax.torch.key(1), torch.from_numpy(observations))
print(in_jax.actions[:2])
print(in_torch.actions[:2].detach())


# %%
def largest_difference(one, other):
    return float(np.max(np.abs(np.asarray(one) - other.detach().numpy())))


scored = policy.evaluate(params, observations, in_jax.actions)
scored_in_torch = twin.evaluate(tensors, torch.from_numpy(observations), torch.from_numpy(np.array(in_jax.actions)))
pairs = {
    "actions": (in_jax.actions, in_torch.actions),
    "log_prob of act": (in_jax.log_prob, in_torch.log_prob),
    "log_prob of evaluate": (scored.log_prob, scored_in_torch.log_prob),
    "entropy": (scored.entropy, scored_in_torch.entropy),
}
for name, (one, other) in pairs.items():
    print(f"{name:22} differs by at most {largest_difference(one, other):.1e}")
    assert largest_difference(one, other) < 1e-4

# %% [markdown]
# ## The random numbers
#
# Bits and uniform numbers are JAX's exactly. Normal numbers agree to 4 units in the last place on a CPU.

# %%
key, twin_key, shape = jax.random.key(7), gaussjax.torch.key(7), (100_000,)
ours, theirs = np.asarray(jax.random.normal(key, shape)), gaussjax.torch.normal(twin_key, shape).numpy()
print("bits:   ", np.array_equal(jax.random.bits(key, shape), gaussjax.torch.random.bits(twin_key, shape)))
print("uniform:", np.array_equal(jax.random.uniform(key, shape), gaussjax.torch.random.uniform(twin_key, shape)))
apart = (theirs - ours) / np.spacing(np.abs(ours))
print(f"normal:  {np.mean(apart == 0):.1%} equal, at most {np.abs(apart).max():.0f} units in the last place apart")
assert np.abs(apart).max() <= 4

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
left.plot(ours[:300], theirs[:300], ".")
left.set(title="300 normal numbers", xlabel="JAX", ylabel="PyTorch", aspect="equal")
right.hist(apart, bins=np.arange(-4.25, 4.5, 0.5), log=True)
right.set(title="PyTorch minus JAX", xlabel="units in the last place", ylabel="number of 100,000", xticks=range(-4, 5))
plt.show()

# %% [markdown]
# Keys split in the same way, so a whole rollout draws the same numbers.

# %%
print(jax.random.key_data(jax.random.split(jax.random.key(3), 2)))
print(gaussjax.torch.split(gaussjax.torch.key(3), 2))

# %% [markdown]
# ## Gradients
#
# JAX and torch's autograd differentiate the same loss. `to_flax` converts torch's gradients to a tree with Flax's
# names.

# %%
gradients = jax.grad(lambda params: policy.evaluate(params, observations, in_jax.actions).log_prob.mean())(params)

for tensor in tensors.values():
    tensor.requires_grad_()
twin.evaluate(
    tensors, torch.from_numpy(observations), torch.from_numpy(np.array(in_jax.actions))
).log_prob.mean().backward()
in_flax = gaussjax.torch.to_flax(policy.spec, {name: tensor.grad for name, tensor in tensors.items()})
for path, leaf in jax.tree.leaves_with_path(
    jax.tree.map(lambda one, other: abs(one - other).max(), gradients, in_flax)
):
    print(f"{jax.tree_util.keystr(path, simple=True, separator='.'):30} differs by at most {leaf:.1e}")

# %% [markdown]
# ## Conversion of weights
#
# The conversion transposes kernels and reorders gates. It also permutes the first dense layer after convolutions, since
# torch flattens images channel by channel and JAX pixel by pixel. The round trip is exact.

# %%
networks = {
    "MLP": (gaussjax.networks.MLP((64, 32)), (3,)),
    "CNN": (
        gaussjax.networks.CNN(channels=(8, 8), kernels=(4, 3), strides=(2, 1), sizes=(32,), activation="relu"),
        (16, 16, 3),
    ),
    "GRU": (gaussjax.networks.GRU(hidden_size=16), (3,)),
    "LSTM": (gaussjax.networks.LSTM(hidden_size=16), (3,)),
}
for name, (network, shape) in networks.items():
    one = gaussjax.gaussian(network, shape, action_space)
    other = gaussjax.torch.from_spec(one.spec)
    weights = one.init(jax.random.key(0))
    moved = gaussjax.torch.to_torch(one.spec, weights)
    back = gaussjax.torch.to_flax(one.spec, moved)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), weights, back))

    batch = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    memory, other_memory = (
        ({"carry": which.initial_carry((4,))} if one.initial_carry() else {}) for which in (one, other)
    )
    acted = one.act(weights, jax.random.key(5), batch, **memory)
    acted_in_torch = other.act(moved, gaussjax.torch.key(5), torch.from_numpy(batch), **other_memory)
    difference = largest_difference(acted.actions, acted_in_torch.actions)
    print(f"{name:5} round trip exact; actions differ by {difference:.1e}")
    assert difference < 1e-5

# %% [markdown]
# ## One file for both
#
# Both frameworks read the same policy file.

# %%
path = pathlib.Path(tempfile.mkdtemp()) / "policy.safetensors"
gaussjax.save(path, policy, params)
loaded = gaussjax.torch.load(path)
found = loaded.act(torch.from_numpy(observations)).actions  # deterministic without a key
expected = gaussjax.load(path).act(observations).actions
print(f"largest difference of the actions: {largest_difference(expected, found):.1e}")

# %% [markdown]
# Your own `torch.nn.Module` works as well, if its `forward` returns `(mean, log_std, dict)`.


# %%
class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.log_std = torch.nn.Parameter(torch.zeros(2))

    def forward(self, observations):
        return self.layer(observations), self.log_std, {}


mine = gaussjax.torch.gaussian(Own(), 3, action_space)
my_params = mine.init(gaussjax.torch.key(0))
mine.act(my_params, gaussjax.torch.key(1), torch.zeros(5, 3)).actions.shape
