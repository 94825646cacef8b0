# %% [markdown]
# # Noise for robots
#
# A policy explores by adding noise to its actions. Noise that is new at each step shakes a robot, and averages out
# before the robot has moved. `gaussjax.exploration` has noise that lasts. This notebook shows three kinds side by side,
# on the two-link arm of `Reacher-v5`.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import sys

SOURCE = "gaussjax[train,mujoco] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import io

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from PIL import Image as Picture
from PIL import ImageDraw

import gaussjax
from gaussjax import envs, exploration, rollout

# %% [markdown]
# ## Three sources of noise
#
# A source is a record of two pure functions. `init` makes a state, and `step` returns the next state and the noise for
# `act(noise=)`. The noise of every single step is standard normal, whatever the source.

# %%
ARMS, STEPS, HOLD = 16, 50, 8
environments = envs.make_vector("Reacher-v5", ARMS)
policy = gaussjax.gaussian(
    gaussjax.networks.MLP((16,), initial_log_std=-3.0, output_scale=0.01),
    environments.single_observation_space,
    environments.single_action_space,
    clip_actions=True,
    clipped_log_prob="unclipped",
)
params = policy.init(jax.random.key(0))
sources = {
    "white": exploration.white(policy),
    f"held for {HOLD} steps": exploration.held(policy, HOLD),
    "coloured, β = 1": exploration.colored(policy, beta=1.0),
}

# %% [markdown]
# `jax.lax.scan` draws the noise of many steps. There is no reset here, so the noise of an episode goes on for ever.


# %%
def drawn(source, steps, rows):
    resets = jnp.zeros((steps, rows), bool)
    keys = jax.random.split(jax.random.key(1), steps)
    start = source.init(jax.random.key(2), (rows,))
    return jax.lax.scan(lambda state, at: source.step(state, *at), start, (keys, resets))[1][..., 0]


noise = {name: np.asarray(drawn(source, 4096, 32)) for name, source in sources.items()}
for name, values in noise.items():
    print(f"{name:18} mean {values.mean():+.2f}, standard deviation {values.std():.2f}")

# %%
figure, axes = plt.subplots(3, 1, figsize=(7, 5), layout="constrained", sharex=True, sharey=True)
for axis, (name, values) in zip(axes, noise.items(), strict=True):
    axis.plot(values[:100, 0], drawstyle="steps-post", linewidth=1.2)
    axis.axhline(0.0, color="grey", linewidth=0.5)
    axis.set(title=name, ylabel="noise")
axes[-1].set_xlabel("step")
plt.show()

# %% [markdown]
# The power spectrum of white noise is flat. The spectrum of coloured noise falls as 1/f^β. The spectrum of held noise
# is flat up to the rate of its changes, and then falls.

# %%
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
frequencies = np.fft.rfftfreq(4096)[1:]
for name, values in noise.items():
    power = (np.abs(np.fft.rfft(values, axis=0)) ** 2).mean(axis=1)[1:] / len(values)
    axis.loglog(frequencies, power, label=name, linewidth=0.8)
axis.axvline(0.25, color="grey", linestyle="--", linewidth=0.8, label="half the Nyquist rate")
axis.set(title="power spectrum", xlabel="frequency in cycles per step", ylabel="power", ylim=(1e-2, 1e3))
axis.legend()
plt.show()

# %% [markdown]
# ## The arm
#
# The same policy, which has learnt nothing, moves sixteen arms with each source. `rollout.collect` steps the
# environments, and its `act` passes the noise. `resets` tells the source where an episode starts.


# %%
def played(source):
    runner, keys = rollout.Runner(environments), jax.random.split(jax.random.key(3), STEPS)
    state = source.init(jax.random.key(4), (ARMS,))

    @jax.jit
    def chosen(state, key, observations, resets):
        state, noise = source.step(state, key, resets)
        acted = policy.act(params, None, observations, noise=noise)
        return state, acted.actions, acted.outputs["raw_actions"]

    def act(t, observations, resets, carry):
        nonlocal state
        state, actions, raw_actions = chosen(state, keys[t], observations, resets)
        return actions, raw_actions, carry

    return rollout.collect(runner, act, runner.reset(seed=0), np.ones(ARMS, bool), (), STEPS)[0]


experience = {name: played(source) for name, source in sources.items()}
environments.close()


def joints(observations):
    """Positions of the elbow and of the fingertip in metres, from the cosines and sines of the two angles."""
    first = np.arctan2(observations[..., 2], observations[..., 0])
    second = first + np.arctan2(observations[..., 3], observations[..., 1])
    elbow = 0.1 * np.stack([np.cos(first), np.sin(first)], -1)
    return elbow, elbow + 0.11 * np.stack([np.cos(second), np.sin(second)], -1)


# %% [markdown]
# With the same standard deviation of the torques, noise that lasts moves the fingertips further in an episode of 50
# steps.

# %%
figure, axes = plt.subplots(1, 3, figsize=(7, 3.1), layout="constrained", sharex=True, sharey=True)
for axis, (name, rows) in zip(axes, experience.items(), strict=True):
    tips = joints(rows.observations)[1]
    for arm in range(ARMS):
        axis.plot(*tips[:, arm].T, linewidth=0.8)
    axis.set(title=name, aspect="equal", xlabel="x in m")
axes[0].set_ylabel("y in m")
figure.suptitle(f"paths of {ARMS} fingertips")
plt.show()

# %% [markdown]
# `rollout.smoothness` measures the actions: their change per step, and the share of their variance at periods shorter
# than four steps. `gaussjax evaluate` prints the same two figures for a trained policy.

# %%
distance = {}
for name, rows in experience.items():
    measured = rollout.smoothness(rows.actions, [STEPS] * ARMS, policy.spec.action_space)
    tips = joints(rows.observations)[1]
    distance[name] = np.linalg.norm(tips - tips[:1], axis=-1).max(axis=0).mean()
    print(
        f"{name:18} change {measured.change:.3f} per step, fast share {measured.fast_share:.1%}, "
        f"largest distance of the fingertip from its start {distance[name]:.3f} m"
    )
changes = [
    rollout.smoothness(rows.actions, [STEPS] * ARMS, policy.spec.action_space).change for rows in experience.values()
]
assert changes[0] > 2.0 * max(changes[1:])
assert distance["white"] < min(value for name, value in distance.items() if name != "white")

# %% [markdown]
# One arm moves under each source. The grey dots are the earlier positions of its fingertip, and the circle is its
# reach.

# %%
SIZE, SCALE, ARM = 200, 420, 3


def picture(t):
    image = Picture.new("RGB", (3 * SIZE, SIZE + 20), "white")
    draw = ImageDraw.Draw(image)
    for column, (name, rows) in enumerate(experience.items()):
        elbow, tip = joints(rows.observations[: t + 1, ARM])
        middle = np.array([SIZE * (column + 0.5), 20 + SIZE / 2])
        place = [tuple(middle + SCALE * point * (1, -1)) for point in (np.zeros(2), elbow[-1], tip[-1])]
        reach = SCALE * 0.21
        draw.ellipse((*(middle - reach), *(middle + reach)), outline="lightgrey")
        for point in tip:
            x, y = middle + SCALE * point * (1, -1)
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill="lightgrey")
        draw.line(place, fill="black", width=5)
        draw.ellipse([place[-1][0] - 5, place[-1][1] - 5, place[-1][0] + 5, place[-1][1] + 5], fill="crimson")
        draw.text((SIZE * column + 8, 2), name.replace("β", "beta"), fill="black", font_size=15)
    return image.quantize(32, dither=Picture.Dither.NONE)


first, *others = [picture(t) for t in range(STEPS)]
moving = io.BytesIO()
first.save(moving, "PNG", save_all=True, append_images=others, duration=80, loop=0)
Image(moving.getvalue())

# %% [markdown]
# ## In a training
#
# `ppo.Config(hold=8)`, `sac.Config(exploration="colored")` and the options of the command line use the same sources.
# The page "Exploration" helps to choose one, and has measured trainings.
