"""Bare calls use a CPU's widest vectors; within another program its own options hold."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax import compiling

# What XLA writes down of every program it compiles: the options it had.
PROGRAM = """
import jax, jax.numpy as jnp, gaussjax
from gaussjax import compiling

def bare(x): return jnp.exp(x)
compute = compiling.compiled(bare)
def nested(x): return 2 * compute(x)
jax.jit(nested)(jnp.ones(8))
compute(jnp.ones(8))
policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, 2)
policy.act(policy.init(jax.random.key(0)), jax.random.key(1), jnp.ones((4, 3)))
"""


@pytest.fixture
def fresh():
    compiling._takes_width.cache_clear()
    yield
    compiling._takes_width.cache_clear()


def widths(folder, flags):
    environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={folder} {flags}", "JAX_PLATFORMS": "cpu"}
    # A program from the cache is not compiled, and so not written down.
    environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=120)
    found = {}
    for name in ("bare", "nested", "act"):
        (file,) = folder.glob(f"*.jit_{name}.debug_options")
        lines = [line for line in file.read_text().splitlines() if "xla_cpu_prefer_vector_width" in line]
        found[name] = int(lines[0].split(":")[1]) if lines else "XLA's own"
    return found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", {"bare": 512, "act": 512, "nested": "XLA's own"}),
        ("--xla_cpu_prefer_vector_width=128", {"bare": 128, "act": 128, "nested": 128}),
    ],
    ids=["nothing said", "said in XLA_FLAGS"],
)
def test_bare_calls_alone_ask_for_wide_vectors(tmp_path, flags, expected):
    assert widths(tmp_path, flags) == expected


def test_a_jax_without_the_option_computes_all_the_same(monkeypatch, fresh):
    monkeypatch.setattr(compiling, "_WIDTH", "xla_cpu_no_such_option")
    compute = compiling.compiled(jnp.exp)
    assert not compiling._takes_width()
    assert compute(jnp.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_a_traced_call_without_traced_arguments_is_part_of_the_program():
    compute, x = compiling.compiled(jnp.square), np.arange(3.0, dtype=np.float32)
    assert jax.jit(lambda: compute(x))().tolist() == [0.0, 1.0, 4.0]


def test_calls_that_come_first_while_something_is_traced_are_not_bare(fresh):
    compiling._no_trace.cache_clear()
    compute = compiling.compiled(jnp.square)
    assert jax.jit(compute)(jnp.float32(3)) == 9.0
    assert jax.vmap(compute)(jnp.ones(2)).tolist() == [1.0, 1.0]
    assert jax.grad(compute)(3.0) == 6.0
    assert compute(3.0) == 9.0


def test_another_thread_makes_bare_calls_of_the_same_program():
    traces = []

    def count(x):
        traces.append(x)
        return x + 1

    compute, results = compiling.compiled(count), []
    thread = threading.Thread(target=lambda: results.append(compute(jnp.float32(1))))
    thread.start()
    thread.join()
    assert results[0] == compute(jnp.float32(1)) == 2.0
    assert len(traces) == 1


def test_static_arguments_are_those_of_jit():
    compute = compiling.compiled(lambda x, power: x**power, static_argnames=("power",))
    assert compute(jnp.float32(3), power=2) == 9.0
