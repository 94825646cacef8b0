# %% [markdown]
# # Start here
#
# In five minutes you make a policy, train it to swing up a pendulum, save it and load it. Each step is a few lines,
# which the [other notebooks](01_first_policy.ipynb) explain.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import sys

SOURCE = "gaussjax[train] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import pathlib
import tempfile

import jax
import matplotlib.pyplot as plt
import numpy as np

import gaussjax
from gaussjax import envs, rollout
from gaussjax.training import ppo

# %% [markdown]
# ## Act
#
# A policy needs a network and the two spaces of the environment. This pendulum has three observations and one torque.
# `init` makes the parameters, and `act` samples actions; all randomness comes from keys.

# %%
pendulum = envs.make_functional("Pendulum-v1")
network = gaussjax.networks.MLP((64, 32), activation="relu")
policy = gaussjax.gaussian(network, pendulum.observation_space, pendulum.action_space)
params = policy.init(jax.random.key(0))
observations = np.zeros((4, 3), np.float32)  # four observations at once
actions, log_prob, outputs = policy.act(params, jax.random.key(1), observations)
print(actions.shape, log_prob.shape)

# %% [markdown]
# ## Train
#
# PPO makes a policy of its own, with a critic that predicts returns. `step` collects experience and updates the policy
# once. The forty updates take seconds.

# %%
UPDATES = 40
config = ppo.Config(total_steps=UPDATES * 16 * 200, num_envs=16, num_steps=200, batch_size=320, gamma=0.95)
loop = ppo.make(pendulum, config)
step = jax.jit(loop.step)
state = untrained = loop.init(jax.random.key(0))
steps, returns = [], []
for _ in range(UPDATES):
    state, metrics = step(state)
    steps.append(int(metrics["step"]))
    returns.append(float(metrics["episode_return"]))

# %% [markdown]
# ## Look
#
# `serve` makes one function from a policy, its parameters and its observation statistics. It returns deterministic
# actions. The plots show the learning curve, and one episode before and after the training.


# %%
def play(state):
    """The angles of one episode in degrees, where 0 is upright."""
    act = gaussjax.serve(loop.policy, state.params, state.observation_statistics)
    place, observation = jax.jit(pendulum.reset)(jax.random.key(5))
    step, angles = jax.jit(pendulum.step), []
    for _ in range(200):
        angles.append(np.degrees(np.arctan2(observation[1], observation[0])))
        place, observation, *_ = step(place, act(observation))
    return angles


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
left.plot(np.array(steps) / 1000, returns)
left.set(title="training", xlabel="thousand environment steps", ylabel="mean return of episodes")
right.plot(play(untrained), ".", markersize=4, label="before")
right.plot(play(state), ".", markersize=4, label="after")
right.set(title="one episode", xlabel="step", ylabel="angle in degrees, 0 is upright")
right.set(yticks=range(-180, 181, 90), ylim=(-190, 290))
right.legend(loc="upper center", ncols=2, title="training")
plt.show()

# %% [markdown]
# ## Save and load
#
# One file holds the policy, its parameters and its observation statistics, but no code. The loaded policy acts at once:
# it normalises observations as the training did, and without a key it does not sample. Here a pole swings through its
# lowest point, and the policy pushes it on with almost the full torque of 2 N m.

# %%
path = pathlib.Path(tempfile.mkdtemp()) / "pendulum.safetensors"
gaussjax.save(path, loop.policy, state.params, normalizer=state.observation_statistics)
loaded = gaussjax.load(path)
swinging = np.array([-1.0, 0.0, 3.0], np.float32)  # cosine and sine of the angle, and the speed
print("torque:", loaded.act(swinging).actions)

# %% [markdown]
# A hundred new episodes measure the loaded policy. The pendulum counts as solved here from a mean return of -200.

# %%
episodes = rollout.evaluate(loaded.policy, loaded.params, pendulum, normalizer=loaded.normalizer, episodes=100)
print(f"mean return of 100 episodes: {np.mean(episodes.returns):.1f}")
assert np.mean(episodes.returns) > -200

# %% [markdown]
# ## Next
#
# | you want to | notebook |
# |---|---|
# | know each function and option of a policy | [01_first_policy](01_first_policy.ipynb) |
# | write the training loop yourself | [02_training_loop](02_training_loop.ipynb) |
# | act from memory | [03_memory](03_memory.ipynb) |
# | run the policy in PyTorch | [04_torch_parity](04_torch_parity.ipynb) |
# | move from skrl | [05_from_skrl](05_from_skrl.ipynb) |
# | train many policies, or on many devices | [06_scaling](06_scaling.ipynb) |
# | see where others lose digits | [07_numerics](07_numerics.ipynb) |
# | explore with a robot | [08_exploration](08_exploration.ipynb) |
# | start from recorded episodes | [09_clone_then_improve](09_clone_then_improve.ipynb) |
