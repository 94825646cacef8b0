"""Sizes that would end the process in C++ are refused with a repair."""

import jax
import jax.numpy as jnp
import pytest

import gaussjax
from gaussjax import networks, normalize, spaces
from gaussjax.training import replay
from tests import policies

KEY = jax.random.key(0)
BOX = spaces.Box(-1.0, 1.0, (2,))


def policy(network, observations=3, make=gaussjax.gaussian):
    return make(network, observations, BOX)


HUGE = {
    "LSTM": lambda: policy(networks.LSTM(hidden_size=10**9)).init(KEY),
    "RNN": lambda: policy(networks.RNN(hidden_size=2**62)),
    "layers of an LSTM": lambda: policy(networks.LSTM(num_layers=10**9)),
    "MLP": lambda: policy(networks.MLP((10**9, 10**9))).init(KEY),
    "squashed MLP": lambda: policy(networks.MLP((10**9, 10**9)), make=gaussjax.squashed_gaussian).init(KEY),
    "observations": lambda: policy(networks.MLP((8,)), 2**62).init(KEY),
    "abstract parameters": lambda: jax.eval_shape(policy(networks.MLP((10**9, 10**9))).init, KEY),
    "carry": lambda: policies.build("gaussian-lstm").initial_carry((2**62,)),
    "carry of two axes": lambda: policies.build("gaussian-gru").initial_carry((2**31, 2**31)),
    "carry of a network": lambda: networks.GRU().initial_carry((2**62,)),
    "noise": lambda: policies.build("gaussian").noise(KEY, (2**62,)),
    "statistics": lambda: normalize.init((2**62,)),
    "zeros": lambda: spaces.zeros(3, (2**62,)),
    "capacity": lambda: replay.init(jnp.zeros(()), 2**62),
    "rows": lambda: replay.init({"pixels": jax.ShapeDtypeStruct((2**20,), jnp.uint8)}, 2**30),
}


# Without compilation the first kernels fill the memory before the size of a later one is refused.
WHOLE = ("LSTM", "MLP", "squashed MLP")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.without("jax_disable_jit") if name in WHOLE else ()) for name in HUGE],
)
def test_sizes_beyond_what_jax_can_handle_are_refused(name):
    expected = r"^\w+: expected (an array of at most 2\*\*40 numbers|at most 1000|from 1 to 2\*\*30 rows), got .*"
    with pytest.raises(ValueError, match=expected) as caught:
        HUGE[name]()
    assert "\n" not in str(caught.value)
