# %% [markdown]
# # A first policy
#
# A Gaussian policy maps an observation to a normal distribution of actions. The network returns its centre (`mean`) and
# the logarithm of its width (`log_std`), and an action is a sample. In gaussjax such a policy is a record of pure
# functions. This notebook calls each of them, and plots what the options do.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import sys

SOURCE = "gaussjax[train] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import gaussjax

# %% [markdown]
# ## Make a policy
#
# A policy is made from a network, an observation space and an action space. The spaces are from Gymnasium, or from
# gaussjax, whose spaces need no Gymnasium.

# %%
observation_space = gaussjax.spaces.Box(shape=(3,))
action_space = gaussjax.spaces.Box(-1.0, 1.0, (2,))
network = gaussjax.networks.MLP((64, 32), activation="relu")
policy = gaussjax.gaussian(network, observation_space, action_space)
print(policy._fields)

# %% [markdown]
# ## Init
#
# The policy holds no parameters. `init` draws them from a key and returns them as a tree of arrays.

# %%
params = policy.init(jax.random.key(0))
jax.tree.map(jnp.shape, params)

# %% [markdown]
# ## Act
#
# `act` takes parameters, a key and observations. It returns the actions, their log-density and a dict of outputs.

# %%
observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
actions, log_prob, outputs = policy.act(params, jax.random.key(1), observations)
print(actions.shape, log_prob.shape, sorted(outputs))

# %% [markdown]
# All randomness comes from the key. The same key gives the same actions, so make a new key for each call, with
# `jax.random.split`.

# %%
again = policy.act(params, jax.random.key(1), observations).actions
other = policy.act(params, jax.random.key(2), observations).actions
print(bool((again == actions).all()), bool((other == actions).any()))

# %% [markdown]
# The deterministic action is the mean. You can also pass the noise yourself; `policy.noise` returns the noise of a key.

# %%
center = policy.act(params, None, observations, deterministic=True)
shifted = policy.act(params, None, observations, noise=np.ones((5, 2), np.float32))
print(bool((center.actions == outputs["mean_actions"]).all()))
print(shifted.actions - center.actions)  # one standard deviation, exp(0) = 1

noise = policy.noise(jax.random.key(1), (5,))
print(bool((policy.act(params, None, observations, noise=noise).actions == actions).all()))

# %% [markdown]
# Observations may have any leading dimensions: none, a batch, or time × batch.

# %%
for shape in [(3,), (5, 3), (7, 5, 3)]:
    print(shape, "→", policy.act(params, jax.random.key(1), np.zeros(shape, np.float32)).actions.shape)

# %% [markdown]
# ## Evaluate
#
# A training loop needs the log-density of earlier actions under the present parameters, and the entropy. `evaluate`
# computes both in one forward pass and samples nothing. `raw_actions` are the samples before any clip or squash.

# %%
log_prob, entropy, _ = policy.evaluate(params, observations, raw_actions=outputs["raw_actions"])
print(log_prob[:, 0], entropy[:, 0])

# %% [markdown]
# If the sample of an action is unknown, pass the action as `taken_actions`, the third argument: `evaluate(params,
# observations, actions)`. `apply` returns the distribution itself.

# %%
distribution, _ = policy.apply(params, observations)
print(type(distribution).__name__, distribution.mean().shape, distribution.stddev()[0], distribution.entropy().shape)

# %% [markdown]
# ## jit, grad, vmap
#
# Each function is compiled already. Inside your own `jit` it becomes part of your program, and `grad` differentiates
# it.


# %%
@jax.jit
def loss(params, observations, raw_actions, advantages):
    log_prob, entropy, _ = policy.evaluate(params, observations, raw_actions=raw_actions)
    return -(log_prob[:, 0] * advantages).mean() - 0.01 * entropy.mean()


gradients = jax.grad(loss)(params, observations, outputs["raw_actions"], jnp.ones(5))
gradients["params"]["head"]["log_std"]

# %% [markdown]
# `vmap` over parameters and keys makes a population: sixteen policies act in one call.

# %%
population = jax.vmap(policy.init)(jax.random.split(jax.random.key(2), 16))
keys = jax.random.split(jax.random.key(3), 16)
jax.vmap(policy.act, in_axes=(0, 0, None))(population, keys, observations).actions.shape

# %% [markdown]
# ## Before and after learning
#
# This policy learns to answer an observation x with sin(πx). The reward is minus the squared error of an action, and
# errors cost ten times more where x is positive. The update is a plain policy gradient with an entropy bonus. With
# `std="state"` the width depends on the observation, so the policy learns to be narrow where errors cost more.

# %%
learner = gaussjax.gaussian(
    gaussjax.networks.MLP((64, 32), activation="tanh", output_activation=None, std="state"),
    1,
    gaussjax.spaces.Box(-2.0, 2.0, (1,)),
    keepdims=False,
)
optimizer = optax.adam(3e-3)
x = jnp.linspace(-1.0, 1.0, 512)[:, None]
wanted = jnp.sin(jnp.pi * x)
price = jnp.where(x > 0.0, 10.0, 1.0)


def update(state, key):
    params, moments = state
    actions, _, outputs = learner.act(params, key, x)
    rewards = -(price * jnp.square(actions - wanted))[:, 0]

    def surrogate(params):
        log_prob, entropy, _ = learner.evaluate(params, x, raw_actions=outputs["raw_actions"])
        return -(log_prob * (rewards - rewards.mean())).mean() - 0.2 * entropy.mean()

    changes, moments = optimizer.update(jax.grad(surrogate)(params), moments)
    return (optax.apply_updates(params, changes), moments), rewards.mean()


before = learner.init(jax.random.key(0))
run = jax.jit(lambda state, keys: jax.lax.scan(update, state, keys))
(after, _), rewards = run((before, optimizer.init(before)), jax.random.split(jax.random.key(5), 500))
print(f"mean reward: first update {rewards[0]:.2f}, last update {rewards[-1]:.2f}")
assert rewards[-1] > -0.5

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, layout="constrained")
for axis, tree, title in zip(axes, (before, after), ("before learning", "after 500 updates"), strict=True):
    acted = learner.act(tree, jax.random.key(6), x)
    center = acted.outputs["mean_actions"][:, 0]
    width = jnp.exp(acted.outputs["log_std"][:, 0])
    axis.plot(x[::4, 0], acted.actions[::4, 0], ".", color="grey", markersize=3, label="actions")
    axis.fill_between(x[:, 0], center - width, center + width, alpha=0.3, label="mean ± width")
    axis.plot(x[:, 0], center, label="mean")
    axis.plot(x[:, 0], wanted[:, 0], "--", color="black", label="sin(πx)")
    axis.set(title=title, xlabel="observation x")
axes[0].set_ylabel("action")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# ## The options
#
# The following plots need a freely chosen mean and width. Any Flax module that returns `(mean, log_std, dict)` is a
# network, so the next cell defines one that ignores its observations.


# %%
class Chosen(nn.Module):
    num_actions: int | None = None  # gaussjax fills it in from the action space

    @nn.compact
    def __call__(self, observations):
        mean = self.param("mean", nn.initializers.zeros, (self.num_actions,))
        log_std = self.param("log_std", nn.initializers.zeros, (self.num_actions,))
        return jnp.broadcast_to(mean, (*observations.shape[:-1], self.num_actions)), log_std, {}


def chosen(mean, log_std):
    return {"params": {"mean": jnp.atleast_1d(mean), "log_std": jnp.atleast_1d(log_std)}}


LINE = gaussjax.spaces.Box(-1.0, 1.0, (1,))
NOTHING = np.zeros((20_000, 1), np.float32)  # 20,000 equal observations
KEY = jax.random.key(4)


def draw(policy, mean, log_std):
    return np.asarray(policy.act(chosen(mean, log_std), KEY, NOTHING).actions[:, 0])


# %% [markdown]
# ### `log_std`, `min_log_std`, `max_log_std`
#
# `log_std` is the natural logarithm of the width, clipped to [-20, 2] by default. With `min_log_std=-1` the width is at
# least exp(-1) = 0.37 for every parameter, so the curves of -2 and -1 coincide in the right plot.

# %%
grid = jnp.linspace(-3.0, 3.0, 301)[:, None]
free = gaussjax.gaussian(Chosen(), 1, LINE)
bounded = gaussjax.gaussian(Chosen(), 1, LINE, min_log_std=-1.0)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, layout="constrained")
for axis, drawn, title in zip(axes, (free, bounded), ("min_log_std=-20 (default)", "min_log_std=-1"), strict=True):
    for log_std, style in ((-2.0, "-"), (-1.0, "--"), (0.0, ":")):
        distribution, _ = drawn.apply(chosen(0.0, log_std), jnp.zeros(1))
        axis.plot(grid[:, 0], jnp.exp(distribution.log_prob(grid)), style, linewidth=2, label=f"{log_std:g}")
    axis.set(title=title, xlabel="action")
axes[0].set_ylabel("density")
axes[1].legend(title="log_std parameter")
plt.show()

# %% [markdown]
# ### `clip_actions` and `clip_mean_actions`
#
# The Box is [-1, 1], the mean 0.8 and the width 0.5. Clipped actions accumulate at the bound; their bar is cut off
# here. `clip_mean_actions` clips the mean from 1.5 to 1 *before* sampling, so actions may still lie outside the Box.

# %%
clipped = gaussjax.gaussian(Chosen(), 1, LINE, clip_actions=True)
clipped_mean = gaussjax.gaussian(Chosen(), 1, LINE, clip_mean_actions=True)
panels = [
    (draw(free, 0.8, -0.7), "no clip\nmean 0.8"),
    (draw(clipped, 0.8, -0.7), "clip_actions\nmean 0.8"),
    (draw(clipped_mean, 1.5, -0.7), "clip_mean_actions\nmean 1.5"),
]
figure, axes = plt.subplots(1, 3, figsize=(7, 3.2), sharey=True, layout="constrained")
for axis, (sample, title) in zip(axes, panels, strict=True):
    axis.axvspan(-1.0, 1.0, color="tab:green", alpha=0.15, label="the Box")
    axis.hist(sample, bins=np.linspace(-1.5, 3.0, 46), label="actions")
    axis.set(title=title, xlabel="action", xticks=[-1, 0, 1, 2], ylim=(0, 2400))
at_bound = int((panels[1][0] == 1.0).sum())
axes[1].annotate(f"{at_bound:,}\nat the bound", (1.05, 2300), xytext=(1.2, 1850), fontsize="small")
axes[0].set_ylabel("number of 20,000")
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# ### `clipped_log_prob`
#
# A clipped action can be scored in three ways:
#
# - `"density"`: the normal density at the clipped value, as in skrl;
# - `"unclipped"`: the density of the sample before the clip, which PPO's ratio needs;
# - `"censored"`: the logarithm of the probability beyond the bound, which is the share of actions at the bound above.

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for choice, style in (("density", "-"), ("unclipped", "--"), ("censored", ":")):
    scored = gaussjax.gaussian(Chosen(), 1, LINE, clip_actions=True, clipped_log_prob=choice)
    acted = scored.act(chosen(0.8, -0.7), KEY, NOTHING[:2000])
    order = jnp.argsort(acted.outputs["raw_actions"][:, 0])
    raw, nats = acted.outputs["raw_actions"][order, 0], acted.log_prob[order, 0]
    axis.plot(raw, nats, style, label=choice)
axis.axvline(1.0, color="grey", linewidth=0.8, label="bound of the Box")
axis.set(xlabel="sample before the clip to [-1, 1]", ylabel="log_prob in nats", title="three ways to score it")
axis.legend(title="clipped_log_prob")
plt.show()

# %% [markdown]
# ### Squashed instead of clipped
#
# `squashed_gaussian` squashes the sample into the Box by tanh. Every action in the Box has a density, which SAC needs.
# The squashed mean is the *median* of the actions, not their mode: a wide distribution has two peaks.

# %%
squashed = gaussjax.squashed_gaussian(Chosen(), 1, LINE)
inside = jnp.linspace(-0.999, 0.999, 400)[:, None]
figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
for axis, (mean, log_std) in zip(axes, [(0.5, -0.7), (0.2, -0.1)], strict=True):
    distribution, _ = squashed.apply(chosen(mean, log_std), jnp.zeros(1))
    axis.hist(draw(squashed, mean, log_std), bins=60, density=True, alpha=0.4, label="20,000 actions")
    axis.plot(inside[:, 0], jnp.exp(distribution.log_prob(inside)), label="exp(log_prob)")
    axis.axvline(float(distribution.median()[0]), color="black", linestyle="--", label="median, deterministic action")
    axis.axvline(float(distribution.mode()[0]), color="tab:red", linestyle=":", label="mode")
    axis.set(title=f"mean {mean}, log_std {log_std}", xlabel="action", xticks=[-1, -0.5, 0, 0.5, 1], xlim=(-1, 1))
axes[0].set_ylabel("density")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# ### Correlated actions
#
# `multivariate_gaussian` learns the correlation of the dimensions. gaussjax's own networks return one number for each
# pair of actions, zero at first. This cell sets the number to 1.5.

# %%
SQUARE = gaussjax.spaces.Box(-1.0, 1.0, (2,))
joint = gaussjax.multivariate_gaussian(gaussjax.networks.MLP(()), 1, SQUARE)
joint_params = joint.init(KEY)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.8), sharex=True, sharey=True, layout="constrained")
for axis, value in zip(axes, (0.0, 1.5), strict=True):
    joint_params["params"]["head"]["off_diagonal"] = jnp.array([value])
    pairs = joint.act(joint_params, KEY, NOTHING[:2000]).actions
    axis.plot(pairs[:, 0], pairs[:, 1], ".", markersize=2, alpha=0.5)
    correlation = np.corrcoef(np.asarray(pairs).T)[0, 1]
    axis.set(title=f"off_diagonal {value}, correlation {correlation:.2f}", xlabel="first action", aspect="equal")
axes[0].set(ylabel="second action", xlim=(-6, 6), ylim=(-6, 6))
plt.show()

# %% [markdown]
# ### `reduction` and `keepdims`
#
# The log-densities of the dimensions are summed to the joint log-density, averaged, or left as they are.

# %%
for options in ({}, {"reduction": "mean"}, {"reduction": "none"}, {"keepdims": False}):
    shaped = gaussjax.gaussian(network, observation_space, action_space, **options)
    print(options, shaped.evaluate(params, observations, actions).log_prob.shape)

# %% [markdown]
# ## Errors
#
# An error says what was expected, what was found, and the repair. Here the key is a plain number.

# %%
try:
    policy.act(params, 0, observations)
except TypeError as error:
    print(error)

# %% [markdown]
# Next: [02_training_loop](02_training_loop.ipynb) trains a policy, [03_memory](03_memory.ipynb) makes it recurrent.
