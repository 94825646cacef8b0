"""Each text of docs/troubleshooting.md is raised by the code that stands in its place in the list below."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax import envs, networks, spaces
from gaussjax.cli import main as cli
from gaussjax.training import ppo

PAGE = (Path(__file__).resolve().parent.parent / "docs/troubleshooting.md").read_text(encoding="utf-8")
TEXTS = [" ".join(text.split()) for text in re.findall(r"^```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)]

KEY, OBSERVATIONS = jax.random.key(1), np.zeros((5, 3), np.float32)
BOX, SWINGS = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-2.0, 2.0, (1,))
MLP = networks.MLP((8,))
POLICY = gaussjax.gaussian(MLP, 3, BOX)


class Mine(nn.Module):
    """A network whose fields make each of the mistakes."""

    outputs: int = 2
    results: int = 3
    norm: bool = False

    @nn.compact
    def __call__(self, observations):
        mean = nn.Dense(self.outputs)(observations)
        mean = nn.BatchNorm(use_running_average=False)(mean) if self.norm else mean
        return (mean, self.param("log_std", nn.initializers.zeros, (2,)), {})[: self.results]


class Diverging(gymnasium.Env):
    """An environment whose third step returns NaN."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(3, np.nan if self.time == 3 else 0.0, np.float32), 0.0, False, False, {}


def params(policy=POLICY):
    return policy.init(jax.random.key(0))


def act(network):
    policy = gaussjax.gaussian(network, 3, BOX)
    policy.act(params(policy), KEY, OBSERVATIONS)


def jitted(function, *arguments, **options):
    jax.jit(function, **options)(*arguments)


def command(line):
    """Raises the line that a command prints on standard error."""
    cli.main(line.split())


def process(code, missing=(), **variables):
    """Raises the last line that Python prints on standard error, without the missing packages."""
    start = f"""import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition('.')[0] in {missing!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Missing())
"""
    environment = {**{name: value for name, value in os.environ.items() if name != "DISPLAY"}, **variables}
    ran = subprocess.run([sys.executable, "-c", start + code], env=environment, capture_output=True, text=True)
    raise RuntimeError(ran.stderr.splitlines()[-1].removeprefix("ModuleNotFoundError: "))


def train(num_envs=2, policy=None, environment="Pendulum-v1", update=False):
    environments = envs.make_vector(environment, 2)
    try:
        loop = ppo.make(environments, ppo.Config(num_envs=num_envs, num_steps=16, batch_size=16), policy)
        loop.step(loop.init(KEY))
    finally:
        environments.close()


def swinging(network, **options):
    return gaussjax.gaussian(network, 3, SWINGS, **options)


def saved(name, policy=POLICY, end=None, change=lambda payload: payload):
    """Writes the file of a policy whose bytes are changed, and loads it."""
    gaussjax.save(name, policy, params(policy))
    payload = bytearray(Path(name).read_bytes())
    Path(name).write_bytes(change(payload)[:end])
    gaussjax.load(name)


def flipped(payload):
    payload[-1] ^= 1
    return payload


def doubled():
    gaussjax.save("double.safetensors", POLICY, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params()))
    gaussjax.load("double.safetensors")


def torch_file():
    torch.save({"a": torch.zeros(2)}, "agent.pt")
    gaussjax.load("agent.pt")


def branching():
    def step(state, action):
        return envs.Step(state, state if state.sum() > 0 else -state, 0.0, False, False)

    faults = envs.check(envs.Environment(lambda key: (jnp.zeros(2), jnp.zeros(2)), step, BOX, BOX))
    raise ValueError(faults[0])


def nan_parameters():
    gaussjax.save("bad.safetensors", POLICY, jax.tree.map(lambda leaf: leaf * np.nan, params()))


def recurrent(**options):
    policy = gaussjax.gaussian(networks.GRU(hidden_size=8, sizes=()), 3, BOX)
    options = {name: make(policy) for name, make in options.items()}
    policy.act(params(policy), KEY, OBSERVATIONS, **options)


def undrawn():
    half_cheetah = gaussjax.gaussian(MLP, 17, spaces.Box(-1.0, 1.0, (6,)))
    gaussjax.save("policy.safetensors", half_cheetah, params(half_cheetah))
    line = "evaluate policy.safetensors --environment HalfCheetah-v5 --episodes 1 --max-steps 2 --gif episode.gif"
    process(f"from gaussjax.cli import main\nmain.main({line.split()})", MUJOCO_GL="glfw")


SLOW: list[Callable[[], object]] = []


def slow(raises):
    SLOW.append(raises)
    return raises


SMALL = "--num-envs 4 --num-steps 16 --batch-size 32 --num-epochs 1"
DICT = spaces.Dict((("a", spaces.Box(shape=(2,))), ("b", spaces.Box(shape=(1,)))))
KEPT: list = []
# The texts of the page in their order, as functions that raise them.
RAISES = [
    # Packages and files that are missing
    slow(lambda: process("import gaussjax.cli.main", ("imageio", "matplotlib", "PIL"))),
    slow(lambda: process("import gaussjax.torch", ("torch",))),
    slow(lambda: process("from gaussjax.cli import main\nmain.main(['train', 'ppo', 'HalfCheetah-v5'])", ("mujoco",))),
    lambda: envs.make("brax:ant"),
    lambda: command("train ppo Pendulum-v1 --wandb"),
    slow(undrawn),
    lambda: command("train ppo Pendulm-v1"),
    lambda: command("train ppo myrobot:Reach"),
    # The command line
    lambda: command("train ppo Pendulum-v1 --lr 1e-3"),
    lambda: (Path("runs/a").mkdir(parents=True), command("train ppo Pendulum-v1 --out runs")),
    lambda: (Path("notes.txt").touch(), command("train ppo Pendulum-v1 --out notes.txt/run")),
    lambda: (saved("policy.safetensors"), command("evaluate policy.safetensors")),
    lambda: command("resume ."),
    # Shapes
    lambda: POLICY.act(params(), KEY, np.zeros((4, 5), np.float32)),
    lambda: gaussjax.gaussian(MLP, DICT, BOX).act(params(), KEY, OBSERVATIONS),
    lambda: POLICY.evaluate(params(), OBSERVATIONS, np.zeros((1, 2), np.float32)),
    lambda: POLICY.evaluate(params(), OBSERVATIONS),
    lambda: POLICY.act(params(gaussjax.gaussian(networks.MLP((16,)), 3, BOX)), KEY, OBSERVATIONS),
    lambda: recurrent(),
    lambda: train(policy=gaussjax.gaussian(networks.ActorCritic(MLP), 3, BOX)),
    lambda: ppo.make(envs.make_vector("Pendulum-v1", 4), ppo.Config(num_envs=8)),
    lambda: ppo.Config(num_envs=4, num_steps=64, batch_size=100),
    # Keys and dtypes
    lambda: POLICY.act(params(), 0, OBSERVATIONS),
    lambda: POLICY.act(params(), OBSERVATIONS, KEY),
    lambda: POLICY.act(params(), KEY, torch.zeros(5, 3)),
    lambda: recurrent(carry=lambda policy: policy.initial_carry((5,)), resets=lambda policy: np.zeros(5, np.float32)),
    doubled,
    # Bounds and spaces
    lambda: gaussjax.gaussian(MLP, 3, gymnasium.spaces.Discrete(2)),
    lambda: gaussjax.squashed_gaussian(MLP, 3, spaces.Box(shape=(2,))),
    lambda: train(policy=swinging(networks.ActorCritic(MLP), clip_actions=True)),
    lambda: gaussjax.gaussian(networks.MLP((8,), initial_log_std=5.0), 3, BOX),
    # Networks of your own
    lambda: act(Mine(results=2)),
    lambda: act(Mine(outputs=3)),
    lambda: act(Mine),
    lambda: MLP.init(KEY, OBSERVATIONS),
    lambda: act(networks.MLP(64)),
    lambda: train(policy=swinging(MLP)),
    lambda: act(Mine(norm=True)),
    # Traced values
    branching,
    lambda: jitted(lambda observations: 1 if observations.sum() > 0 else 0, OBSERVATIONS),
    lambda: jitted(lambda observations: np.asarray(POLICY.act(params(), KEY, observations).actions), OBSERVATIONS),
    lambda: jitted(lambda flag: POLICY.act(params(), KEY, OBSERVATIONS, deterministic=flag), True),
    lambda: jitted(lambda low: gaussjax.gaussian(MLP, 3, spaces.Box(low, 1.0, (2,))).init(KEY), 0.0),
    lambda: jitted(lambda policy: policy.init(KEY), POLICY),
    lambda: (jitted(lambda x: KEPT.append(x + 1.0), 1.0), KEPT[-1] + 1.0),
    # NaN
    lambda: gaussjax.strict(POLICY).act(params(), KEY, np.array([0.0, np.nan, 0.0], np.float32)),
    lambda: train(environment=Diverging),
    slow(lambda: command(f"train ppo Pendulum-v1 --learning-rate 1e30 {SMALL} --out runs")),
    nan_parameters,
    # Files
    lambda: saved("damaged.safetensors", change=flipped),
    lambda: saved("short.safetensors", end=500),
    torch_file,
    lambda: saved("mine.safetensors", gaussjax.gaussian(Mine(), 3, BOX)),
]


@pytest.mark.without(
    "jax_enable_x64", "jax_debug_nans", "jax_debug_key_reuse", "jax_check_tracer_leaks", "jax_disable_jit"
)
@pytest.mark.parametrize(
    ("text", "raises"),
    [
        pytest.param(text, raises, marks=pytest.mark.slow if raises in SLOW else (), id=text[:40])
        for text, raises in zip(TEXTS, RAISES, strict=True)
    ],
)
def test_the_text_on_the_page_is_the_real_one(text, raises, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises((Exception, SystemExit)) as raised:
        raises()
    found = capfd.readouterr().err.splitlines()[-1] if raised.type is SystemExit else str(raised.value)
    # Where the shell has another pip, the text names that of this Python.
    found = found.replace(f"{sys.executable} -m pip", "pip")
    assert re.fullmatch(re.escape(text).replace("…", ".*"), " ".join(found.split())), found
