# %% [markdown]
# # A recurrent policy
#
# In some tasks the right action depends on earlier observations. A recurrent policy keeps a state from step to step. In
# gaussjax this state is called *carry*. It is an argument and a result of each call; no object stores it.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import sys

SOURCE = "gaussjax[train] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import gaussjax
from gaussjax.networks import episode_starts, to_sequences

# %% [markdown]
# ## One step at a time
#
# `RNN`, `GRU`, `LSTM` and `MinGRU` are used like other networks. `initial_carry` returns zeros for a batch of
# environments; `act` takes the carry and returns the next one in `outputs["carry"]`.

# %%
action_space = gaussjax.spaces.Box(-1.0, 1.0, (1,))
policy = gaussjax.gaussian(gaussjax.networks.GRU(hidden_size=16, sizes=(16,)), 2, action_space)
params = policy.init(jax.random.key(0))
carry = policy.initial_carry((4,))  # four environments
jax.tree.map(jnp.shape, carry)

# %%
observations = np.random.default_rng(0).normal(size=(20, 4, 2)).astype(np.float32)  # time, environments, features
means = []
for t in range(20):
    step = policy.act(params, None, observations[t], carry=carry, deterministic=True)
    carry = step.outputs["carry"]
    means.append(step.actions)
stepped = jnp.stack(means)
stepped.shape

# %% [markdown]
# ## A whole sequence at once
#
# Observations with one more leading axis than the carry are a sequence, time first. Single steps and a whole sequence
# give the same numbers up to rounding.

# %%
start = policy.initial_carry((4,))
unrolled = policy.act(params, None, observations, carry=start, deterministic=True)
print(f"largest difference of the actions: {abs(unrolled.actions - stepped).max():.1e}")
print(f"largest difference of the last carry: {abs(unrolled.outputs['carry'][0] - carry[0]).max():.1e}")

# %% [markdown]
# ## Resets
#
# The carry of one episode must not reach the next. `resets[t]` is true where observation t *starts* an episode; the
# carry is set to zero before that step. `episode_starts` computes resets from the flags of the environments.

# %%
terminated = np.zeros((20, 4), bool)
truncated = np.zeros((20, 4), bool)
terminated[6, 0] = True  # environment 0 ends at step 6
truncated[11, 1] = True  # environment 1 is truncated at step 11
resets = episode_starts(terminated, truncated)
[np.flatnonzero(resets[:, n]).tolist() for n in range(4)]

# %% [markdown]
# After a reset the policy acts as at the start of an episode: environment 0 starts a new episode at step 7.

# %%
with_resets = policy.act(params, None, observations, carry=start, resets=resets, deterministic=True).actions
begun = policy.act(params, None, observations[7:], carry=start, deterministic=True).actions
print("environment 0, as a new episode:", float(abs(with_resets[7:, 0] - begun[:, 0]).max()))
print("environment 2, no reset:        ", float(abs(with_resets[:, 2] - unrolled.actions[:, 2]).max()))

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(unrolled.actions[:, 0, 0], "--", color="grey", label="remembers everything")
axis.plot(with_resets[:, 0, 0], marker=".", label="reset before step 7")
axis.axvline(6.5, color="tab:red", linewidth=0.8, label="the episode ended")
axis.set(title="environment 0", xlabel="step", ylabel="deterministic action", xticks=range(0, 20, 2))
figure.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## A task that needs memory
#
# The first observation holds a cue, -1 or 1. Fifteen steps later the policy has to repeat the cue; the observations in
# between are zero.


# %%
DELAY, BATCH, UPDATES = 15, 64, 150


def episode(key):
    """Observations (the cue, and a flag for the question), the right answers, and that flag; time first."""
    cue = jnp.sign(jax.random.uniform(key, (BATCH,), minval=-1.0))
    cues = jnp.zeros((DELAY + 1, BATCH)).at[0].set(cue)
    asked = jnp.zeros((DELAY + 1, BATCH)).at[-1].set(1.0)
    answers = jnp.broadcast_to(cue, (DELAY + 1, BATCH))
    return jnp.stack([cues, asked], -1), answers[..., None], asked


# %% [markdown]
# The training maximises the likelihood of the right answer at the last step. `evaluate` takes whole sequences, and the
# gradient flows back through time.


# %%
def train(network):
    policy = gaussjax.gaussian(network, 2, action_space)
    optimizer = optax.adam(1e-2)
    # A network that is not recurrent has the empty carry (), and takes None.
    memory = {"carry": policy.initial_carry((BATCH,))} if policy.initial_carry() else {}

    def loss(params, key):
        observations, answers, asked = episode(key)
        log_prob = policy.evaluate(params, observations, answers, **memory).log_prob[..., 0]
        mean = policy.apply(params, observations, **memory)[1]["mean_actions"]
        error = jnp.sum(jnp.square(mean - answers)[..., 0] * asked) / BATCH
        return -jnp.sum(log_prob * asked) / BATCH, error

    def update(state, key):
        params, moments = state
        gradients, error = jax.grad(loss, has_aux=True)(params, key)
        changes, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, changes), moments), error

    @jax.jit
    def run(key):
        params = policy.init(key)
        return jax.lax.scan(update, (params, optimizer.init(params)), jax.random.split(key, UPDATES))[1]

    return run(jax.random.key(0))


errors = {
    "MLP, no memory": train(gaussjax.networks.MLP((16, 16))),
    "GRU": train(gaussjax.networks.GRU(hidden_size=16, sizes=(16,))),
}

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, error in errors.items():
    axis.plot(error, label=name)
axis.set(title=f"repeat a cue after {DELAY} steps", xlabel="update", ylabel="mean squared error", ylim=(0, 1.5))
axis.legend()
plt.show()

# %% [markdown]
# Without memory the best answer is 0, with an error of 1. For longer delays, set the number of steps that the units
# should remember at the start of the training: `GRU(memory_steps=100)`.

# %%
for name, error in errors.items():
    print(f"{name:15} {float(error[-1]):.4f}")
assert errors["GRU"][-1] < 0.1
assert errors["MLP, no memory"][-1] > 0.8

# %% [markdown]
# ## Training sequences from a rollout
#
# `to_sequences` cuts long rollouts into shorter sequences, and returns the carry before the first step of each. The
# second axis of the result numbers the sequences: shuffle it and split it into minibatches.

# %%
carries, carry = [], policy.initial_carry((4,))
for t in range(20):
    carry = jax.tree.map(lambda leaf, t=t: jnp.where(resets[t][:, None], 0.0, leaf), carry)
    carries.append(carry)
    carry = policy.act(params, None, observations[t], carry=carry, deterministic=True).outputs["carry"]
carries = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)

rollout = {"observations": observations, "resets": resets, "actions": with_resets}
sequences, first_carry = to_sequences(rollout, carries, sequence_length=5)
print({name: leaf.shape for name, leaf in sequences.items()}, first_carry[0].shape)

# %% [markdown]
# The cut sequences give the same actions as the whole rollout.

# %%
cut = policy.act(
    params, None, sequences["observations"], carry=first_carry, resets=sequences["resets"], deterministic=True
)
difference = float(abs(cut.actions - sequences["actions"]).max())
print(f"largest difference of the actions: {difference:.1e}")
assert difference < 1e-6

# %% [markdown]
# `gaussjax.training.ppo` trains such policies with `Config(network="gru")`.
