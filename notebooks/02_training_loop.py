# %% [markdown]
# # A training loop of your own
#
# gaussjax has PPO and SAC, but a policy also fits into your own training loop. This notebook writes PPO around a
# policy: rollout, advantages and all epochs of the update are in **one** `jax.jit`. The policy learns to swing up a
# pendulum.

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
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs

# %% [markdown]
# ## The environment
#
# Gymnasium also has `Pendulum-v1` as pure functions, so the environment becomes part of the compiled program. `reset`
# and `step` describe one environment; `vmap` makes many copies.

# %%
environment = envs.from_functional(PendulumFunctional(), max_steps=200)
state, observation = environment.reset(jax.random.key(0))
observation, environment.action_space

# %% [markdown]
# ## The policy
#
# An `ActorCritic` returns a value in `outputs["value"]`. Actions are clipped for the environment, and their samples are
# scored before the clip, which keeps PPO's ratio right at the bounds.

# %%
actor = gaussjax.networks.MLP(
    (64, 64), activation="tanh", output_activation=None, initializer="orthogonal", scale=2**0.5, output_scale=0.01
)
policy = gaussjax.gaussian(
    gaussjax.networks.ActorCritic(actor, sizes=(64, 64)),
    environment.observation_space,
    environment.action_space,
    clip_actions=True,
    clipped_log_prob="unclipped",
    keepdims=False,
)

# %% [markdown]
# ## PPO
#
# `rollout` collects experience, `advantages` computes generalised advantages, `loss` is PPO's loss, and `train` scans
# over updates. An episode of the pendulum never *terminates*. It is *truncated* after 200 steps, and the value of the
# last observation replaces the rewards that would follow.

# %%
NUM_ENVS, NUM_STEPS, UPDATES, EPOCHS, MINIBATCHES = 16, 128, 100, 10, 8
DISCOUNT, TRACE, CLIP = 0.95, 0.9, 0.2
optimizer = optax.chain(
    optax.clip_by_global_norm(0.5),
    optax.adam(optax.linear_schedule(1e-3, 0.0, UPDATES * EPOCHS * MINIBATCHES)),
)


def scaled(observations):  # the speed, at most 8, is divided by 8
    return observations * jnp.array([1.0, 1.0, 0.125])


def rollout(params, key, standing):
    def step(standing, key):
        states, observations, returns = standing
        act_key, reset_key = jax.random.split(key)
        actions, log_prob, outputs = policy.act(params, act_key, scaled(observations))
        stepped = jax.vmap(environment.step)(states, actions)
        returns, done = returns + stepped.reward, stepped.terminated | stepped.truncated
        next_value = policy.apply(params, scaled(stepped.observation))[1]["value"]
        row = {
            "observations": scaled(observations),
            "raw_actions": outputs["raw_actions"],
            "log_prob": log_prob,
            "values": outputs["value"],
            "next_values": jnp.where(stepped.terminated, 0.0, next_value),
            "rewards": 0.1 * stepped.reward,
            "done": done,
        }
        fresh = jax.vmap(environment.reset)(jax.random.split(reset_key, NUM_ENVS))
        states, observations = jax.tree.map(
            lambda new, old: jax.vmap(jnp.where)(done, new, old), fresh, (stepped.state, stepped.observation)
        )
        finished = jnp.where(done, returns, jnp.nan)
        return (states, observations, jnp.where(done, 0.0, returns)), (row, finished)

    return jax.lax.scan(step, standing, jax.random.split(key, NUM_STEPS))


def advantages(rows):
    def back(later, row):
        error = row["rewards"] + DISCOUNT * row["next_values"] - row["values"]
        now = error + jnp.where(row["done"], 0.0, DISCOUNT * TRACE) * later
        return now, now

    return jax.lax.scan(back, jnp.zeros(NUM_ENVS), rows, reverse=True)[1]


def loss(params, batch):
    log_prob, _, outputs = policy.evaluate(params, batch["observations"], raw_actions=batch["raw_actions"])
    advantage = (batch["advantages"] - batch["advantages"].mean()) / (batch["advantages"].std() + 1e-8)
    ratio = jnp.exp(log_prob - batch["log_prob"])
    surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
    return -surrogate.mean() + 0.5 * jnp.square(outputs["value"] - batch["targets"]).mean()


def update(carry, key):
    params, moments, standing = carry
    rollout_key, shuffle_key = jax.random.split(key)
    standing, (rows, finished) = rollout(params, rollout_key, standing)
    rows["advantages"] = advantages(rows)
    rows["targets"] = rows["advantages"] + rows["values"]
    samples = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)

    def gradient_step(carry, chosen):
        params, moments = carry
        gradients = jax.grad(loss)(params, jax.tree.map(lambda leaf: leaf[chosen], samples))
        changes, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, changes), moments), None

    orders = jax.vmap(lambda key: jax.random.permutation(key, NUM_ENVS * NUM_STEPS))(
        jax.random.split(shuffle_key, EPOCHS)
    )
    (params, moments), _ = jax.lax.scan(gradient_step, (params, moments), orders.reshape(EPOCHS * MINIBATCHES, -1))
    return (params, moments, standing), jnp.nanmean(finished)


@jax.jit
def train(key):
    init_key, reset_key, key = jax.random.split(key, 3)
    params = policy.init(init_key)
    states, observations = jax.vmap(environment.reset)(jax.random.split(reset_key, NUM_ENVS))
    carry = params, optimizer.init(params), (states, observations, jnp.zeros(NUM_ENVS))
    (params, _, _), curve = jax.lax.scan(update, carry, jax.random.split(key, UPDATES))
    return params, curve


# %% [markdown]
# ## Train
#
# One call runs the whole training.

# %%
params, curve = jax.block_until_ready(train(jax.random.key(0)))
steps = NUM_ENVS * NUM_STEPS * np.arange(1, UPDATES + 1)
print(f"{steps[-1]:,} environment steps")

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
seen = np.isfinite(curve)  # an update of 128 steps may contain no end of an episode
axis.plot(steps[seen] / 1000, np.asarray(curve)[seen], marker=".", label="episodes that ended in an update")
axis.axhline(-200.0, color="grey", linestyle="--", label="solved: -200")
axis.set(xlabel="thousand environment steps", ylabel="mean return", title="PPO on the pendulum")
axis.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## Evaluate
#
# The policy plays a hundred new episodes with deterministic actions.


# %%
@jax.jit
def evaluate(params, key):
    def step(standing, _):
        states, observations = standing
        actions = policy.act(params, None, scaled(observations), deterministic=True).actions
        stepped = jax.vmap(environment.step)(states, actions)
        return (stepped.state, stepped.observation), (stepped.reward, stepped.observation, actions[:, 0])

    standing = jax.vmap(environment.reset)(jax.random.split(key, 100))
    return jax.lax.scan(step, standing, length=200)[1]


rewards, observations, torques = evaluate(params, jax.random.key(1))
returns = rewards.sum(0)
print(f"mean return of 100 episodes: {returns.mean():.1f}")
assert returns.mean() >= -200

# %% [markdown]
# In three of those episodes the policy brings the pole upright, close to 0 degrees, and holds it there with a small
# torque. An angle that passes 180 degrees goes on at -180.

# %%
angles = np.degrees(np.arctan2(observations[..., 1], observations[..., 0]))
figure, axes = plt.subplots(2, 1, figsize=(7, 4.4), sharex=True, layout="constrained")
for episode in range(3):
    axes[0].plot(angles[:, episode], ".", markersize=4, label=f"episode {episode + 1}")
    axes[1].plot(torques[:, episode])
axes[0].set(title="deterministic actions", ylabel="angle in degrees", yticks=[-180, -90, 0, 90, 180])
axes[0].legend(loc="upper right")
axes[1].set(xlabel="step", ylabel="torque in N m")
plt.show()

# %% [markdown]
# ## Save the policy
#
# One file holds the parameters and the description of the policy. It contains no code.

# %%
import pathlib
import tempfile

path = pathlib.Path(tempfile.mkdtemp()) / "pendulum.safetensors"
gaussjax.save(path, policy, params)
loaded = gaussjax.load(path)
found = loaded.act(scaled(observations)).actions  # deterministic without a key
expected = policy.act(params, None, scaled(observations), deterministic=True).actions
print(f"largest difference of {found.size:,} actions: {abs(found - expected).max():.1e}")

# %% [markdown]
# `gaussjax.training.ppo` is the same algorithm with running normalisation, adaptive step sizes and recurrent networks.
# `gaussjax train ppo` runs it on any environment, with checkpoints.
