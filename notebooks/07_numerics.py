# %% [markdown]
# # Where float32 loses digits
#
# A log-density is a few additions and an exponential. Formulas that are equal on paper still differ in float32: some
# are wrong by whole nats, some are infinite, some have NaN gradients. This notebook compares every number with mpmath
# at 50 digits. distrax represents the usual formulas.

# %%
# On Colab only: upload a zip of the repository (`git archive --prefix=gaussjax/ -o gaussjax.zip HEAD` makes one).
# SOURCE names it, and may also name a wheel, or the address of a git repository as git+https://….
import sys

SOURCE = "gaussjax[train] @ file:///content/gaussjax.zip"
if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE, "mpmath"], check=True)

# %%
import warnings

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import mpmath
import numpy as np

from gaussjax.distributions import DiagGaussian, MultivariateGaussian, TanhGaussian
from gaussjax.distributions.special import tanh_log_det

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # distrax loads TensorFlow Probability, which uses what JAX has deprecated
    import distrax

mpmath.mp.dps = 50
ROUNDING = 2.0**-24  # of float32


def exactly(function, *arrays):
    """A function of mpmath numbers, applied to the exact values of float32 arrays."""
    rows = zip(*(np.asarray(array, np.float64).ravel() for array in arrays), strict=True)
    return [function(*(mpmath.mpf(float(x)) for x in row)) for row in rows]


def errors(found, exact):
    """Absolute errors; infinity where the result is not finite."""
    found = np.asarray(found, np.float64).ravel()
    return np.array(
        [float(abs(mpmath.mpf(f) - e)) if np.isfinite(f) else np.inf for f, e in zip(found, exact, strict=True)]
    )


# %% [markdown]
# ## The volume of tanh
#
# A squashed policy subtracts log(1 - tanh²(u)) from the log-density of u. This plot shows the relative error of four
# formulas for it.

# %%
u = jnp.logspace(-3, 1.4, 300)
ways = {
    "log(1 - a²)": jax.jit(lambda u: jnp.log(1 - jnp.tanh(u) ** 2)),
    "log(1 - a² + 1e-6)": jax.jit(lambda u: jnp.log(1 - jnp.tanh(u) ** 2 + 1e-6)),
    "distrax.Tanh": jax.jit(distrax.Tanh().forward_log_det_jacobian),
    "gaussjax": jax.jit(tanh_log_det),
}
volume = exactly(lambda u: -2 * mpmath.log(mpmath.cosh(u)), u)
size = np.array([float(abs(v)) for v in volume])
relative = {name: errors(way(u), volume) / size for name, way in ways.items()}

# %%
figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, error in relative.items():
    finite = np.isfinite(error)
    axis.loglog(u[finite], np.maximum(error[finite], 1e-9), label=f"{name}, {np.sum(~finite)} infinite")
axis.axhline(ROUNDING, color="grey", linestyle="--", linewidth=0.8, label="one rounding of float32")
axis.set(title="log(1 - tanh²(u)) in float32", xlabel="u, before tanh", ylabel="relative error")
figure.legend(loc="outside lower center", ncols=2)
plt.show()

# %%
for name, error in relative.items():
    print(f"{name:20} worst {error.max() / ROUNDING:8.3g} roundings")
assert relative["gaussjax"].max() < 10 * ROUNDING

# %% [markdown]
# ## Actions at the bound
#
# In float32, tanh(u) rounds to 1 from about u = 9 on, and in some compiled programs earlier. Replay buffers therefore
# hold actions exactly at the bound. The usual formula inverts tanh, and its log-density and gradient are infinite
# there.

# %%
raw = jnp.linspace(-12.0, 12.0, 97)[:, None]
taken = jnp.asarray(np.tanh(np.asarray(raw, np.float64)), jnp.float32)


def by_distrax(mean, log_std, actions):
    normal = distrax.Normal(mean, jnp.exp(log_std))
    return distrax.Transformed(normal, distrax.Tanh()).log_prob(actions)


def by_gaussjax(mean, log_std, actions):
    return TanhGaussian(mean, log_std, -1.0, 1.0).log_prob(actions, "none")


def broken(function, *arguments):
    """Counts of values, and of gradients by mean and log_std, that are not finite."""
    value = jax.jit(function)(*arguments)
    gradients = jax.jit(jax.grad(lambda *a: function(*a).sum(), argnums=(0, 1)))(*arguments)
    return [int((~jnp.isfinite(x)).sum()) for x in (value, *gradients)]


zeros = jnp.zeros_like(raw)
print("actions at ±1:", int((abs(taken) == 1).sum()), "of", taken.size)
print("not finite (value, gradient by mean, by log_std)")
print("  distrax ", broken(by_distrax, zeros, zeros, taken))
ours = broken(by_gaussjax, zeros, zeros, taken)
print("  gaussjax", ours)
assert ours == [0, 0, 0]

# %% [markdown]
# A finite score can still be wrong: all raw actions beyond 9 share the action at the bound. `act` returns the raw
# action in its outputs, and with it nothing has to be inverted.

# %%
squashed = TanhGaussian(zeros, zeros, -1.0, 1.0)
true = exactly(lambda u: -u * u / 2 - mpmath.log(2 * mpmath.pi) / 2 + 2 * mpmath.log(mpmath.cosh(u)), raw)
with_raw = errors(squashed.log_prob(taken, "none", raw_actions=raw), true)
without = errors(squashed.log_prob(taken, "none"), true)
print(f"worst error in nats: with raw_actions {with_raw.max():.1e}, from the action alone {without.max():.1f}")

# %% [markdown]
# ## A narrow policy
#
# Late in a training, policies are narrow. Then the sum `mean + std · noise` loses digits of the noise, and the
# log-density computed from this action is wrong. `act` of gaussjax computes it from the noise itself.

# %%
log_stds = jnp.linspace(-20.0, 0.0, 41)
noise = jax.random.normal(jax.random.key(0), (1000, 41))
distribution = DiagGaussian(jnp.ones(41), log_stds)
narrow_actions = distribution.from_noise(noise)
truth = -0.5 * np.asarray(noise, np.float64) ** 2 - np.asarray(log_stds, np.float64) - 0.5 * np.log(2 * np.pi)
recomputed = distrax.Normal(jnp.ones(41), jnp.exp(log_stds)).log_prob(narrow_actions)
from_action = np.abs(np.asarray(recomputed) - truth).mean(0)
from_noise = np.abs(np.asarray(distribution.noise_log_prob(noise, "none")) - truth).mean(0)

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.semilogy(log_stds, from_action, label="distrax, from the action")
axis.semilogy(log_stds, from_noise, label="gaussjax.act, from the noise")
axis.set(title="log_prob of a narrow policy with mean 1", xlabel="log_std", ylabel="mean error in nats")
axis.legend()
plt.show()

# %% [markdown]
# ## Extreme widths
#
# One wrong gradient step can move log_std far out of its usual range. A policy clips log_std. Without the clip, the
# gradients should at least stay finite, so that training can recover.

# %%
log_std = jnp.linspace(-60.0, 40.0, 101)[:, None]
wide = jnp.zeros_like(log_std)
action = 3.0 * jnp.exp(jnp.clip(log_std, -80.0, 80.0))
print("not finite (value, gradient by mean, by log_std) of", log_std.size)
print("  distrax ", broken(lambda m, s, a: distrax.Normal(m, jnp.exp(s)).log_prob(a), wide, log_std, action))
ours = broken(lambda m, s, a: DiagGaussian(m, s).log_prob(a, "none"), wide, log_std, action)
print("  gaussjax", ours)
assert ours == [0, 0, 0]

# %% [markdown]
# ## The divergence of two policies that almost agree
#
# Trust-region methods compare a policy with the policy of one step before. The KL divergence, which is never negative,
# is then a small difference of large terms.

# %%
shift = jnp.logspace(-6, 0, 200)
here, there = jnp.zeros(200), jnp.full(200, -1.0)
moved = there + shift


def divergence(log_std, other_log_std):
    d = log_std - other_log_std
    return mpmath.expm1(2 * d) / 2 - d


exact = exactly(divergence, there, moved)
usual = distrax.Normal(here, jnp.exp(there)).kl_divergence(distrax.Normal(here, jnp.exp(moved)))
textbook = moved - there + 0.5 * jnp.exp(2 * there) / jnp.exp(2 * moved) - 0.5
ours = DiagGaussian(here[:, None], there[:, None]).kl_divergence(DiagGaussian(here[:, None], moved[:, None]))
size = np.array([float(e) for e in exact])

# %%
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, found in (("textbook", textbook), ("distrax", usual), ("gaussjax", ours)):
    error = np.maximum(errors(found, exact) / size, 1e-9)
    axis.loglog(shift, error, label=f"{name}, {int((found < 0).sum())} of 200 negative")
axis.axhline(1.0, color="grey", linestyle="--", linewidth=0.8, label="all digits lost")
axis.set(title="KL divergence of two policies", xlabel="difference of log_std", ylabel="relative error")
axis.legend()
plt.show()

# %% [markdown]
# ## Full covariance
#
# Strongly correlated actions have a covariance matrix that is hard to factorise in float32. gaussjax never forms the
# matrix: the network returns its factor, in which `off_diagonal` sets the correlations. (If an action is the small
# difference of large numbers, `log_prob` of gaussjax loses digits too. `act` uses the noise and loses none.)


# %%
def joint_density(*numbers):
    """Log-density of one row by substitution: three actions, their log_std and the factor's lower triangle."""
    actions, log_stds, below = numbers[:3], numbers[3:6], list(numbers[6:])
    noise, total = [], mpmath.mpf(0)
    for action, log_std in zip(actions, log_stds, strict=True):
        noise.append(action * mpmath.exp(-log_std) - sum(below.pop(0) * earlier for earlier in list(noise)))
        total -= noise[-1] ** 2 / 2 + log_std + mpmath.log(2 * mpmath.pi) / 2
    return total


ROWS = 100
zeros = jnp.zeros((ROWS, 3))
log_std = jax.random.uniform(jax.random.key(0), (ROWS, 3), minval=-10.0, maxval=1.0)
for strength in (1.0, 10.0, 100.0):
    off_diagonal = strength * jax.random.normal(jax.random.key(1), (ROWS, 3))
    factored = MultivariateGaussian(zeros, log_std, off_diagonal)
    actions = factored.sample(jax.random.key(2))
    true = exactly(joint_density, *np.concatenate([actions, log_std, off_diagonal], -1).T)
    size = np.array([float(abs(t)) for t in true])
    by_covariance = distrax.MultivariateNormalFullCovariance(zeros, factored.covariance())
    print(f"off_diagonal of about {strength:g}")
    for name, found in (("distrax", by_covariance.log_prob(actions)), ("gaussjax", factored.log_prob(actions))):
        relative = errors(found, true) / size
        worst = relative[np.isfinite(relative)].max(initial=0.0)
        print(
            f"  {name:8} {int(np.isinf(relative).sum()):3} of {ROWS} not finite, the others wrong by up to {worst:.0e}"
        )
    assert np.isfinite(relative).all()

# %% [markdown]
# ## The entropy of a squashed policy
#
# The entropy has no closed form. The usual estimate is minus the log-density of one sample, which is right on average
# but noisy. gaussjax uses a quadrature: it needs no key, has no noise and has a gradient.

# %%
one = TanhGaussian(jnp.zeros((1, 1)), jnp.zeros((1, 1)), -1.0, 1.0)
samples = -one.sample_and_log_prob(jax.random.key(0), (20_000,))[1]
print(f"one sample: {samples.mean():.3f} on average, standard deviation {samples.std():.2f}")


def integrand(u):
    return mpmath.exp(-u * u / 2) / mpmath.sqrt(2 * mpmath.pi) * -2 * mpmath.log(mpmath.cosh(u))


with mpmath.workdps(20):
    true = (1 + mpmath.log(2 * mpmath.pi)) / 2 + mpmath.quad(integrand, [-12, -4, 0, 4, 12])
print(f"gaussjax:   {float(one.entropy()[0]):.7f}, mpmath {mpmath.nstr(true, 8)}")
assert abs(float(one.entropy()[0]) - true) < 1e-5

# %% [markdown]
# The tests in `tests/numerics` compare these errors with fixed bars. The page "Numerics" explains the formulas.
