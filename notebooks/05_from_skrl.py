# %% [markdown]
# # Coming from skrl
#
# In skrl you write a Gaussian policy as a class: a mixin, a base class, layers and a `compute`. In gaussjax you choose
# a network and its sizes. This notebook rebuilds the models of skrl's Gaussian examples, then reads their checkpoints.

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
import pickle
import tempfile

import flax.serialization
import jax
import matplotlib.pyplot as plt
import numpy as np
import torch

import gaussjax
import gaussjax.interop.skrl
import gaussjax.torch
from gaussjax.networks import episode_starts

# %% [markdown]
# ## The options of the mixin
#
# The options of `GaussianMixin` have the same names, defaults and meaning in gaussjax. Use the spaces of your
# environment.

# %%
observation_space = gaussjax.spaces.Box(shape=(3,))  # env.observation_space
action_space = gaussjax.spaces.Box(-1.0, 1.0, (2,))  # env.action_space
options = {
    "clip_actions": True,
    "clip_log_std": True,
    "min_log_std": -20,
    "max_log_std": 2,
    "reduction": "sum",
}

# %% [markdown]
# ## MLP
#
# The defaults of `MLP` are layers of 64 and 32 with ReLU, tanh on the mean, and a learnt `log_std` that starts at 0. In
# skrl you may write the layers as an `nn.Sequential` or one by one, in `setup` or compact; the policy is the same.

# %%
mlp = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), observation_space, action_space, **options)
params = mlp.init(jax.random.key(0))
observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
actions, log_prob, outputs = mlp.act(params, jax.random.key(1), observations)
print(actions.shape, log_prob.shape, outputs["mean_actions"].shape)

# %% [markdown]
# The same policy in torch draws the same actions.

# %%
mlp_torch = gaussjax.torch.gaussian(gaussjax.networks.MLP((64, 32)), observation_space, action_space, **options)
tensors = gaussjax.torch.to_torch(mlp.spec, params)
acted = mlp_torch.act(tensors, gaussjax.torch.key(1), torch.from_numpy(observations))
print(f"largest difference {np.abs(acted.actions.detach().numpy() - actions).max():.1e}")

# %% [markdown]
# ## CNN
#
# The defaults of `CNN` are three convolutions, then dense layers with ReLU and tanh. skrl's JAX example has a tanh on
# the mean, its torch example has none. The policy reshapes flattened images.

# %%
image_space = gaussjax.spaces.Box(shape=(64, 64, 3))
cnn_as_in_jax = gaussjax.gaussian(gaussjax.networks.CNN(), image_space, action_space, **options)
cnn_as_in_torch = gaussjax.gaussian(gaussjax.networks.CNN(output_activation=None), image_space, action_space, **options)
images = np.random.default_rng(0).random((2, 64 * 64 * 3), np.float32)
weights = cnn_as_in_jax.init(jax.random.key(0))  # an activation has no parameters, so both policies take these
for policy in (cnn_as_in_jax, cnn_as_in_torch):
    twin = gaussjax.torch.from_spec(policy.spec)
    tensors = gaussjax.torch.to_torch(policy.spec, weights)
    one = policy.act(weights, jax.random.key(1), images).outputs["mean_actions"]
    other = twin.act(tensors, gaussjax.torch.key(1), torch.from_numpy(images)).outputs["mean_actions"]
    print(one.shape, f"JAX and torch differ by {np.abs(other.detach().numpy() - one).max():.1e}")

# %% [markdown]
# ## RNN, GRU, LSTM
#
# The recurrent networks have one recurrent layer of 64, then layers of 64 and 32. `specification` of the network
# returns the content of skrl's `get_specification`. You seldom need it, because `initial_carry` makes the states.

# %%
recurrent = {
    kind.__name__: gaussjax.gaussian(kind(hidden_size=64, num_layers=1, sequence_length=10), 3, action_space, **options)
    for kind in (gaussjax.networks.RNN, gaussjax.networks.GRU, gaussjax.networks.LSTM)
}
for name, policy in recurrent.items():
    print(f"{name:4}", policy.spec.network.specification(num_envs=4))

# %% [markdown]
# **In the rollout** the recurrent states are the argument `carry` and the output `outputs["carry"]`, instead of
# `"rnn"`.

# %%
weights = {name: policy.init(jax.random.key(0)) for name, policy in recurrent.items()}
for name, policy in recurrent.items():
    step = policy.act(weights[name], jax.random.key(1), observations, carry=policy.initial_carry((4,)))
    print(f"{name:4}", step.actions.shape, jax.tree.map(np.shape, step.outputs["carry"]))

# %% [markdown]
# **In training** skrl passes flat samples, all steps of one sequence after another, and resets states where an episode
# terminated. gaussjax takes sequences with time first, and `resets`, which are true where an episode *starts*. A
# truncated episode ends too.

# %%
flat = np.random.default_rng(1).normal(size=(4 * 10, 3)).astype(np.float32)
terminated = np.random.default_rng(2).random(4 * 10) < 0.1


def time_first(samples):
    return samples.reshape(4, 10, *samples.shape[1:]).swapaxes(0, 1)


resets = episode_starts(time_first(terminated), time_first(np.zeros(40, bool)))
taken = np.zeros((10, 4, 2), np.float32)
scored = {}
for name, policy in recurrent.items():
    carry = policy.initial_carry((4,))
    scored[name] = policy.evaluate(weights[name], time_first(flat), taken, carry=carry, resets=resets).log_prob
    print(f"{name:4}", scored[name].shape)

# %% [markdown]
# The policies in torch take the same arguments.

# %%
for name, policy in recurrent.items():
    twin = gaussjax.torch.from_spec(policy.spec)
    tensors = gaussjax.torch.to_torch(policy.spec, weights[name])
    memory = {"carry": twin.initial_carry((4,)), "resets": torch.from_numpy(np.array(resets))}
    sequence = torch.from_numpy(time_first(flat).copy())
    other = twin.evaluate(tensors, sequence, torch.from_numpy(taken), **memory).log_prob
    difference = np.abs(other.detach().numpy() - scored[name]).max()
    print(f"{name:4} JAX and torch differ by {difference:.1e} nats")
    assert difference < 1e-5

# %% [markdown]
# ## The methods
#
# The example in skrl's reference has 60 observations, 8 actions and ELU layers without an activation on the mean.

# %%
network = gaussjax.networks.MLP((32, 32), activation="elu", output_activation=None)
policy = gaussjax.gaussian(network, 60, gaussjax.spaces.Box(-1.0, 1.0, (8,)))
params = policy.init(jax.random.key(0))
states = np.zeros((4096, 60), np.float32)

actions, log_prob, outputs = policy.act(params, jax.random.key(1), states)  # act({"states": states})
print("act         ", actions.shape, log_prob.shape, outputs["mean_actions"].shape)
scored = policy.evaluate(params, states, actions)  # act({"states": …, "taken_actions": …})
log_prob, entropy, _ = scored
print("evaluate    ", log_prob.shape, entropy.shape)
print("entropy     ", policy.entropy(params, states).shape)  # get_entropy()
print("log_std     ", policy.log_std(params, states).shape)  # get_log_std()
distribution, _ = policy.apply(params, states)  # distribution()
print("distribution", distribution.mean().shape, distribution.stddev().shape)

# %% [markdown]
# Two habits change. The policy does not remember the last `act`, so `entropy` and `log_std` take parameters and
# observations. The key is an argument: split off a new one for each call.
#
# If you stay with skrl's own agents, neither habit changes: `gaussjax.interop.skrl.torch_model` and `jax_model` make
# models for them. The page "Coming from skrl" has the five lines for skrl's example on Pendulum-v1.

# %% [markdown]
# ## A torch checkpoint
#
# A `.pt` file holds arrays under the names that you gave to layers, and nothing else. This cell uses plain torch to
# write the file that skrl would write for the MLP above.

# %%
folder = pathlib.Path(tempfile.mkdtemp())
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Linear(3, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 32),
    torch.nn.ReLU(),
    torch.nn.Linear(32, 2),
    torch.nn.Tanh(),
)
state_dict = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
state_dict["log_std_parameter"] = torch.tensor([-1.5, -0.75])
scaler = {
    "running_mean": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64),
    "running_variance": torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64),
    "current_count": torch.tensor(1000.0, dtype=torch.float64),
}
torch.save({"policy": state_dict, "observation_preprocessor": scaler}, folder / "agent_1000.pt")

# %% [markdown]
# `read` makes a policy from such a file, and `arrays` returns its arrays. Neither runs anything in the file.

# %%
modules = gaussjax.interop.skrl.arrays(folder / "agent_1000.pt")
{name: array.shape for name, array in modules["policy"].items()}

# %% [markdown]
# `params` takes the arrays and a table from skrl's names to gaussjax's. (`read` needs no table here, because the layers
# are in the same order as in the policy.) The policy then acts like the torch model.

# %%
params = gaussjax.interop.skrl.params(
    mlp.spec,
    modules["policy"],
    {
        "net.0": "layers.dense_0",
        "net.2": "layers.dense_1",
        "net.4": "head.mean",
        "log_std_parameter": "head.log_std",
    },
)
found = mlp.act(params, None, observations, deterministic=True)
expected = net(torch.from_numpy(observations)).detach().numpy()
print(f"largest difference {np.abs(found.actions - expected).max():.1e}, log_std {found.outputs['log_std'][0]}")
assert np.abs(found.actions - expected).max() < 1e-6

# %% [markdown]
# The picture varies the first observation and leaves the others at 0. The mean of the policy lies on the curve of the
# torch model, and the width is the standard deviation from the checkpoint.

# %%
sweep = np.zeros((201, 3), np.float32)
sweep[:, 0] = np.linspace(-10.0, 10.0, 201)
theirs = net(torch.from_numpy(sweep)).detach().numpy()
ours = mlp.act(params, None, sweep, deterministic=True).outputs
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True, layout="constrained")
for i, axis in enumerate(axes):
    mean, width = ours["mean_actions"][:, i], np.exp(ours["log_std"][:, i])
    axis.fill_between(sweep[:, 0], mean - width, mean + width, alpha=0.2, label="gaussjax, mean ± width")
    axis.plot(sweep[:, 0], theirs[:, i], color="tab:orange", linewidth=5, alpha=0.5, label="torch model, mean")
    axis.plot(sweep[:, 0], mean, "--", label="gaussjax, mean")
    axis.set(title=f"action {i}", xlabel="first observation")
axes[0].set_ylabel("action")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# `statistics` converts a `RunningStandardScaler` for `gaussjax.normalize`, with skrl's clip of 5. In a file of skrl
# 1.4.3 the scaler is called `state_preprocessor`.

# %%
statistics = gaussjax.interop.skrl.statistics(modules["observation_preprocessor"])
gaussjax.normalize.apply(statistics, observations)

# %% [markdown]
# ## A recurrent checkpoint
#
# The arrays of an LSTM have torch's own names, so one line of the table is enough for all of them.

# %%
torch.manual_seed(1)
memory = torch.nn.LSTM(3, 64, batch_first=True)
layers = torch.nn.Sequential(
    torch.nn.Linear(64, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 32),
    torch.nn.ReLU(),
    torch.nn.Linear(32, 2),
    torch.nn.Tanh(),
)
state_dict = {f"lstm.{name}": tensor for name, tensor in memory.state_dict().items()}
state_dict |= {f"net.{name}": tensor for name, tensor in layers.state_dict().items()}
state_dict["log_std_parameter"] = torch.zeros(2)
torch.save(state_dict, folder / "lstm.pt")

# %%
lstm = recurrent["LSTM"]
params = gaussjax.interop.skrl.params(
    lstm.spec,
    gaussjax.interop.skrl.arrays(folder / "lstm.pt"),
    {
        "lstm": "memory",
        "net.0": "layers.dense_0",
        "net.2": "layers.dense_1",
        "net.4": "head.mean",
        "log_std_parameter": "head.log_std",
    },
)
outputs = lstm.apply(params, time_first(flat), carry=lstm.initial_carry((4,)))[1]
expected = layers(memory(torch.from_numpy(flat.reshape(4, 10, 3)))[0]).detach().numpy()
difference = np.abs(outputs["mean_actions"].swapaxes(0, 1) - expected).max()
print(f"largest difference of the mean actions {difference:.1e}")
assert difference < 1e-6

# %% [markdown]
# ## A JAX checkpoint
#
# skrl saves a JAX agent as Flax bytes inside a pickle. Unpickling can run any code, so `read` and `arrays` extract the
# bytes without unpickling, and refuse everything that is not data.

# %%
generator = np.random.default_rng(3)
theirs = {
    f"fc{i}": {
        "kernel": generator.normal(size=sizes).astype(np.float32) / np.float32(sizes[0] ** 0.5),
        "bias": np.zeros(sizes[1], np.float32),
    }
    for i, sizes in enumerate([(3, 64), (64, 32), (32, 2)], start=1)
}
theirs["log_std_parameter"] = np.zeros(2, np.float32)
data = flax.serialization.to_bytes({"params": theirs})
_ = (folder / "agent_1000.pickle").write_bytes(pickle.dumps({"policy": data}))

# %%
module = gaussjax.interop.skrl.arrays(folder / "agent_1000.pickle")["policy"]
names = {"fc1": "layers.dense_0", "fc2": "layers.dense_1", "fc3": "head.mean", "log_std_parameter": "head.log_std"}
params = gaussjax.interop.skrl.params(mlp.spec, module, names)

hidden = observations
for name in ("fc1", "fc2"):
    hidden = np.maximum(hidden @ theirs[name]["kernel"], 0.0)
expected = np.tanh(hidden @ theirs["fc3"]["kernel"])
found = mlp.act(params, None, observations, deterministic=True).actions
print(f"largest difference of the actions {np.abs(found - expected).max():.1e}")
assert np.abs(found - expected).max() < 1e-6

# %% [markdown]
# If layers are missing in the table, or shapes do not fit, the error names them.

# %%
try:
    gaussjax.interop.skrl.params(mlp.spec, module, {"fc1": "layers.dense_0"})
except ValueError as error:
    print(error)

# %% [markdown]
# From now on, keep the policy in a policy file, with its description and the statistics.

# %%
gaussjax.save(folder / "policy.safetensors", mlp, params, normalizer=statistics)
gaussjax.load(folder / "policy.safetensors").act(observations).actions
