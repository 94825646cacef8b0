# %% [markdown]
# # From one device to many
#
# A compiled training is a function from state to state. `jax.vmap` of this function trains a population. With a mesh of
# eight devices the same program runs on sharded arrays. This notebook simulates eight devices on the CPU; on a machine
# with accelerators, remove the line that sets `XLA_FLAGS`.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import os
import sys

SOURCE = "gaussjax[train] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# Set the flag before JAX is imported.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

# %%
import dataclasses

import jax
import matplotlib.pyplot as plt
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gaussjax import envs, training
from gaussjax.training import ppo

print(len(jax.devices()), "devices")

# %% [markdown]
# ## One training
#
# The pendulum consists of JAX functions, so rollout, resets and update are one program.

# %%
pendulum = envs.make_functional("Pendulum-v1")
config = ppo.Config(
    num_envs=16, num_steps=200, batch_size=320, num_epochs=10, hidden_sizes=(32,), gamma=0.95, total_steps=40 * 3200
)
loop = ppo.make(pendulum, config)


def train(state, updates=40):
    return jax.lax.scan(lambda state, _: loop.step(state), state, None, length=updates)


# %% [markdown]
# ## A population
#
# `jax.vmap` over keys trains eight seeds in one program. Members may also have different `state.hyperparameters`. Here
# each member has its own step size, and one run shows which is best. The keys are sharded over the devices, so each
# device trains one member.

# %%
mesh = training.mesh()
keys = jax.device_put(jax.random.split(jax.random.key(2), 8), NamedSharding(mesh, PartitionSpec("envs")))
states = jax.jit(jax.vmap(loop.init))(keys)
rates = np.geomspace(1e-3, 1e-2, 8).astype(np.float32)
states = states._replace(
    hyperparameters=states.hyperparameters._replace(learning_rate=jax.device_put(rates, keys.sharding))
)
states, metrics = jax.jit(jax.vmap(train))(states)
metrics["episode_return"].shape, metrics["episode_return"].sharding.spec  # members, updates

# %%
returns = np.asarray(metrics["episode_return"])
steps = np.asarray(metrics["step"])
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), sharey=True, layout="constrained")
colors = plt.colormaps["viridis"](np.linspace(0.0, 0.9, 8))
for member in range(8):
    left.plot(steps[member] / 1000, returns[member], color=colors[member])
    right.plot(rates[member], returns[member, -10:].mean(), "o", color=colors[member])
for axis in (left, right):
    axis.axhline(-200.0, color="grey", linestyle="--", linewidth=0.8, label="solved: -200")
left.set(title="eight members of the population", xlabel="thousand environment steps", ylabel="mean return of episodes")
right.set(title="the last ten updates", xlabel="step size of Adam", xscale="log")
right.set_xticks([1e-3, 2e-3, 5e-3, 1e-2], ["0.001", "0.002", "0.005", "0.01"])
right.minorticks_off()
right.legend(loc="lower center")
plt.show()

# %% [markdown]
# Each colour is one member, in both pictures. The smallest steps need more updates than these forty; the larger ones
# solve the task. With another key the largest step size can get stuck, so a real search trains several seeds of each.

# %% [markdown]
# ## One training on eight devices
#
# `mesh=` shards the environments and the samples of every minibatch. Parameters, moments and statistics are replicated.
# The rollout needs no communication. The experience is gathered once in each update, so that the minibatches are the
# same as on one device, and gradients are summed over the devices. The result equals that of one device up to the order
# of sums.

# %%
shorter = dataclasses.replace(config, batch_size=640, num_epochs=4)
loop, many = ppo.make(pendulum, shorter), ppo.make(pendulum, shorter, mesh=mesh)
one_state, eight_state = loop.init(jax.random.key(1)), many.init(jax.random.key(1))
for _ in range(2):
    one_state, _ = loop.step(one_state)
    eight_state, _ = many.step(eight_state)
eight_state.environment.observations.sharding.spec, jax.tree.leaves(eight_state.params)[0].sharding.spec

# %%
jax.debug.visualize_array_sharding(eight_state.environment.observations, use_color=False)

# %%
differences = jax.tree.map(
    lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), one_state.params, eight_state.params
)
largest = max(jax.tree.leaves(differences))
print(f"largest difference of a parameter after two updates: {largest:.1e}")
assert largest < 1e-4

# %% [markdown]
# `num_envs` and `batch_size` have to be multiples of the number of devices. Other numbers raise an error before
# anything runs.

# %%
try:
    ppo.make(pendulum, ppo.Config(num_envs=12, num_steps=64, batch_size=96), mesh=mesh)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Several processes
#
# `training.mesh()` has the devices of all connected processes. On the command line, `--distributed` connects them, with
# the address of the first process, the number of processes and the index of each:
#
# ```
# gaussjax train ppo Pendulum-v1 --backend jax --out runs/two --distributed 10.0.0.1:1234,2,0    # on the first machine
# gaussjax train ppo Pendulum-v1 --backend jax --out runs/two --distributed 10.0.0.1:1234,2,1    # on the second
# ```
#
# `--distributed auto` asks the cluster (Slurm, Open MPI, Kubernetes, TPU pods), and `--distributed local` uses all
# devices of one process. Without `--backend jax`, each process steps its share of the Gymnasium environments. The first
# process writes the files. Ctrl-C in any process ends all processes after the same update.
