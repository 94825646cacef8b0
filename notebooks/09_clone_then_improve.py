# %% [markdown]
# # Clone, then improve
#
# A policy that is cloned from a few recorded episodes of an expert is a good start for reinforcement learning. This
# notebook makes the recording itself: it trains a teacher, records a few of its episodes, clones it, and improves the
# clone with PPO.

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
import matplotlib.pyplot as plt
import numpy as np

import gaussjax
from gaussjax import data, envs, rollout, training
from gaussjax.training import bc, ppo

# %% [markdown]
# ## A teacher
#
# PPO trains three policies from scratch at once, with three seeds. The first one is the teacher. After each update,
# `training.evaluating` plays 50 episodes with deterministic actions.

# %%
SEEDS, UPDATES = 3, 30
pendulum = envs.make_functional("Pendulum-v1")
both = pendulum.observation_space, pendulum.action_space
config = ppo.Config(total_steps=UPDATES * 16 * 200, num_envs=16, num_steps=200, batch_size=320, gamma=0.95)


def trained(start=None):
    """The loop, the last states and the returns of three trainings, from scratch or from a policy."""
    loop = training.evaluating(ppo.make(pendulum, config, start), pendulum, every=1, episodes=50)

    @jax.jit
    @jax.vmap
    def run(key):
        return jax.lax.scan(lambda state, _: loop.step(state), loop.init(key), length=UPDATES)

    states, metrics = run(jax.random.split(jax.random.key(0), SEEDS))
    return loop, states, np.asarray(metrics["evaluation_return"])


loop, states, scratch = trained()
first = jax.tree.map(lambda leaf: leaf[0], states)
teacher = gaussjax.Loaded(loop.policy, first.params, first.observation_statistics, {})
print("returns after the last update:", scratch[:, -1].round())

# %% [markdown]
# ## A recording
#
# `rollout.record` plays whole episodes, and `data.read_dataset` checks them against the spaces. `read_dataset` also
# reads files, for example the ones that `gaussjax record` writes.

# %%
episodes = rollout.record(teacher.policy, teacher.params, pendulum, normalizer=teacher.normalizer, episodes=10, seed=1)
dataset = data.read_dataset(episodes, *both)
print(f"{len(episodes)} episodes, {len(dataset.actions)} steps")

# %% [markdown]
# ## A clone
#
# Two of the ten episodes are held out. After each epoch the clone is scored on them, and the best one is kept.

# %%
cloning = bc.Config(batch_size=64, validation_share=0.2, patience=15, total_epochs=60)
learner = bc.make(dataset, bc.make_policy(*both, cloning), cloning)
state = learner.init(jax.random.key(0))
fit = []
while int(state.steps) < cloning.total_epochs and not learner.done(state):
    state, metrics = learner.step(state)
    fit.append((metrics["mean_error"], metrics["validation_mean_error"]))
clone = gaussjax.Loaded(learner.policy, state.params, state.observation_statistics, {})


def worth(policy):
    """Mean return of 50 episodes with deterministic actions."""
    played = rollout.evaluate(*policy[:2], pendulum, normalizer=policy.normalizer, episodes=50, seed=9)
    return float(np.mean(played.returns))


print(f"epochs: {len(fit)}, the best one: {int(state.best.epoch)}")
print(f"mean return of the teacher {worth(teacher):.0f}, of the clone {worth(clone):.0f}")

# %% [markdown]
# The errors are in units of the action. The recording holds few of the states that the pendulum can be in, so a small
# error on it says little about the others.

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for values, label in zip(np.transpose(fit), ("training episodes", "held-out episodes"), strict=True):
    axis.plot(np.arange(1, len(fit) + 1), values, label=label)
axis.axvline(int(state.best.epoch), color="grey", linestyle="--", linewidth=0.8, label="best epoch")
axis.set(title="cloning", xlabel="epoch", ylabel="mean error of the torque in N m", yscale="log")
axis.legend()
plt.show()

# %% [markdown]
# The next picture has the torque of both policies for every state of the pendulum. The dots are the recorded states.
# Far from them the clone has to guess.

# %%
angles, speeds = np.meshgrid(np.linspace(-np.pi, np.pi, 121), np.linspace(-8.0, 8.0, 81))
grid = np.stack([np.cos(angles), np.sin(angles), speeds], -1).astype(np.float32)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.3), layout="constrained", sharex=True, sharey=True)
for axis, (name, policy) in zip(axes, {"teacher": teacher, "clone": clone}.items(), strict=True):
    torque = np.asarray(policy.act(grid).actions)[..., 0]
    image = axis.pcolormesh(np.degrees(angles), speeds, torque, cmap="coolwarm", vmin=-2.0, vmax=2.0, rasterized=True)
    axis.set(title=name, xlabel="angle in degrees, 0 is upright", xticks=range(-180, 181, 90))
cos, sin, speed = np.asarray(dataset.observations).T
axes[1].plot(np.degrees(np.arctan2(sin, cos)), speed, "k.", markersize=1.5, label="recorded")
axes[1].legend(loc="upper right")
axes[0].set_ylabel("speed in rad/s")
figure.colorbar(image, ax=axes, label="torque in N m")
plt.show()

# %% [markdown]
# ## Improve
#
# `ppo.make` takes the clone as its policy. The network gets a critic, and in the first three updates only the critic
# learns, so the actions stay those of the clone. The observation statistics of the clone never change.

# %%
_, _, improved = trained(clone)
BAR = -200.0


def needed(returns):
    """Thousand environment steps until the first evaluation at the bar or above."""
    reached = np.flatnonzero(returns >= BAR)
    return 3.2 * (reached[0] + 1) if reached.size else np.inf


assert np.ptp(improved[:, :3]) < 1e-3
for seed in range(SEEDS):
    print(
        f"seed {seed}: thousand steps to {BAR:.0f}: {needed(scratch[seed]):.1f} from scratch, "
        f"{needed(improved[seed]):.1f} from the clone; returns from the clone: lowest {improved[seed].min():.1f}, "
        f"last {improved[seed, -1]:.1f}"
    )

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
steps = 3.2 * np.arange(1, UPDATES + 1)
for axis in axes:
    for returns, label, color in ((scratch, "from scratch", "tab:blue"), (improved, "from the clone", "tab:orange")):
        axis.plot(steps, returns.mean(axis=0), color=color, label=label)
        axis.fill_between(steps, returns.min(axis=0), returns.max(axis=0), color=color, alpha=0.2, linewidth=0)
    axis.axhline(scratch[0, -1], color="black", linestyle="--", linewidth=0.8, label="teacher")
    axis.axhline(improved[0, 0], color="black", linestyle=":", linewidth=0.8, label="clone")
    axis.set(xlabel="thousand environment steps")
axes[0].set(title="mean and range of three seeds", ylabel="mean return of 50 episodes")
axes[1].set(title="the same, near the top", ylim=(-260.0, -110.0))
axes[0].legend(loc="lower right")
plt.show()

# %% [markdown]
# The clone begins with a return that a training from scratch reaches only late, and PPO improves it further. The steps
# of the teacher are not counted here, so cloning saves steps only if a recording exists already. For some updates PPO
# may be worse than the clone: see the lower edge of the range. Three seeds and one clone are few.

# %%
assert improved[:, -1].mean() > improved[0, 0]
assert max(needed(returns) for returns in improved) <= 0.5 * min(needed(returns) for returns in scratch)
