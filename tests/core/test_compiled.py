"""Bare calls ask XLA for what is fastest on a CPU; within another program its own options hold."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.core import compiled

# XLA writes down the options that each of these programs had.
WIDTHS = """
import jax, jax.numpy as jnp, gaussjax
from gaussjax.core import compiled

def bare(x): return jnp.exp(x)
compute = compiled.compiled(bare)
def nested(x): return 2 * compute(x)
jax.jit(nested)(jnp.ones(8))
compute(jnp.ones(8))
policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, 2)
policy.act(policy.init(jax.random.key(0)), jax.random.key(1), jnp.ones((4, 3)))
"""
# And which kernels it made.
PRODUCTS = """
import jax, jax.numpy as jnp, gaussjax
from gaussjax.core import compiled

x = jnp.ones((8, 16))
for rows, name in (((8191,), "few"), ((8192,), "many"), ((2, 8192), "deep"), ((8192,), "own")):
    def named(x, y): return y @ x
    named.__name__ = name
    compute = compiled.compiled(named)
    y = jnp.ones((*rows, 8))
    jax.vmap(compute, in_axes=(None, 0))(x, y[None]) if name == "own" else compute(x, y)
"""


def compile_elsewhere(program, flags):
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    # A program from the cache is not compiled, and so not written down.
    environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


@pytest.fixture
def fresh():
    compiled._taken.cache_clear()
    yield
    compiled._taken.cache_clear()


def widths(folder, flags):
    compile_elsewhere(WIDTHS, f"--xla_dump_to={folder} {flags}")
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


def test_products_of_many_rows_alone_are_made_in_pieces(tmp_path):
    compile_elsewhere(PRODUCTS, f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text")
    whole = {}
    for name in ("few", "many", "deep", "own"):
        (file,) = tmp_path.glob(f"*.jit_{name}.cpu_after_optimizations.txt")
        whole[name] = "ynn_fusion" in file.read_text()
    assert not whole["many"]
    assert whole["few"] == whole["deep"] == whole["own"]


@pytest.mark.parametrize("option", ["_WIDE", "_IN_PIECES"])
def test_a_jax_without_the_option_computes_all_the_same(monkeypatch, fresh, option):
    monkeypatch.setattr(compiled, option, ("xla_cpu_no_such_option", "1"))
    compute = compiled.compiled(jnp.exp)
    assert not compiled._taken("xla_cpu_no_such_option", "1")
    assert compute(jnp.zeros(3)).tolist() == [1.0, 1.0, 1.0]
    assert compute(jnp.zeros((8192, 1))).sum() == 8192.0


def test_a_traced_call_without_traced_arguments_is_part_of_the_program():
    compute, x = compiled.compiled(jnp.square), np.arange(3.0, dtype=np.float32)
    assert jax.jit(lambda: compute(x))().tolist() == [0.0, 1.0, 4.0]


def test_calls_that_come_first_while_something_is_traced_are_not_bare(fresh):
    compiled._no_trace.cache_clear()
    compute = compiled.compiled(jnp.square)
    assert jax.jit(compute)(jnp.float32(3)) == 9.0
    assert jax.vmap(compute)(jnp.ones(2)).tolist() == [1.0, 1.0]
    assert jax.grad(compute)(3.0) == 6.0
    assert compute(3.0) == 9.0


def test_another_thread_makes_bare_calls_of_the_same_program():
    traces = []

    def count(x):
        traces.append(x)
        return x + 1

    compute, results = compiled.compiled(count), []
    thread = threading.Thread(target=lambda: results.append(compute(jnp.float32(1))))
    thread.start()
    thread.join()
    assert results[0] == compute(jnp.float32(1)) == 2.0
    assert len(traces) == 1


def test_static_arguments_are_those_of_jit():
    compute = compiled.compiled(lambda x, power: x**power, static_argnames=("power",))
    assert compute(jnp.float32(3), power=2) == 9.0
