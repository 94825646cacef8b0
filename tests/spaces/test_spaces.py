"""Spaces against Gymnasium's own, through JSON and back, and what they refuse."""

import json
import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from gymnasium import spaces as gym

import gaussjax.torch
from gaussjax import spaces
from gaussjax.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple, as_space, from_dict
from gaussjax.spaces.arrays import to_gymnasium

INF = float("inf")

# A Gymnasium space and what gaussjax makes of it.
SPACES = {
    "vector": (gym.Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (3,))),
    "matrix": (gym.Box(0.0, 2.0, (2, 3), np.float64), Box(0.0, 2.0, (2, 3), "float64")),
    "scalar": (gym.Box(0.0, 1.0, ()), Box(0.0, 1.0, ())),
    "image": (gym.Box(0, 255, (4, 4, 3), np.uint8), Box(0.0, 255.0, (4, 4, 3), "uint8")),
    "half open": (
        gym.Box(np.array([-np.inf, 0.0], np.float32), np.array([0.5, np.inf], np.float32)),
        Box((-INF, 0.0), (0.5, INF), (2,)),
    ),
    "open": (gym.Box(-np.inf, np.inf, (2,)), Box(shape=(2,))),
    "discrete": (gym.Discrete(4), Discrete(4)),
    "discrete from -1": (gym.Discrete(3, start=-1), Discrete(3, -1)),
    "binary": (gym.MultiBinary(3), Box(0.0, 1.0, (3,), "int8")),
    "binary matrix": (gym.MultiBinary((2, 3)), Box(0.0, 1.0, (2, 3), "int8")),
    "multi": (gym.MultiDiscrete([2, 3, 4]), MultiDiscrete((2, 3, 4))),
    "dict": (
        gym.Dict({"z": gym.Discrete(2), "a": gym.Box(-1.0, 1.0, (2,))}),
        Dict((("a", Box(-1.0, 1.0, (2,))), ("z", Discrete(2)))),
    ),
    "tuple": (
        gym.Tuple((gym.MultiDiscrete([2, 2]), gym.Box(0.0, 1.0, (2, 2)))),
        Tuple((MultiDiscrete((2, 2)), Box(0.0, 1.0, (2, 2)))),
    ),
    "nested": (
        gym.Dict(
            {
                "arm": gym.Tuple((gym.Box(-1.0, 1.0, (3,)), gym.Discrete(3, start=2))),
                "eyes": gym.Dict({"left": gym.Box(0, 255, (2, 2), np.uint8), "right": gym.MultiDiscrete([3, 2])}),
            }
        ),
        Dict(
            (
                ("arm", Tuple((Box(-1.0, 1.0, (3,)), Discrete(3, 2)))),
                ("eyes", Dict((("left", Box(0.0, 255.0, (2, 2), "uint8")), ("right", MultiDiscrete((3, 2)))))),
            )
        ),
    ),
}


@pytest.fixture(params=SPACES)
def pair(request):
    theirs, ours = SPACES[request.param]
    theirs.seed(0)
    return theirs, ours


def stack(samples):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[_plain(sample) for sample in samples])


def _plain(sample):
    """A sample of Gymnasium with integers as NumPy's 32 bits, which is what JAX holds."""
    return jax.tree.map(lambda x: np.asarray(x, np.int32 if np.asarray(x).dtype == np.int64 else None), sample)


def test_a_gymnasium_space_is_read_by_its_attributes(pair):
    theirs, ours = pair
    assert as_space(theirs) == ours
    assert as_space(ours) == ours
    assert hash(as_space(theirs)) == hash(ours)
    assert spaces.size(ours) == gymnasium.spaces.flatdim(theirs)
    assert from_dict(json.loads(json.dumps(spaces.to_dict(ours), allow_nan=False))) == ours


@pytest.mark.without("jax_enable_x64")
def test_flatten_equals_gymnasiums(pair):
    theirs, ours = pair
    samples = [theirs.sample() for _ in range(6)]
    expected = np.stack([gymnasium.spaces.flatten(theirs, sample) for sample in samples]).astype(np.float32)
    observations, batch_shape = spaces.cast(ours, stack(samples))
    assert batch_shape == (6,)
    np.testing.assert_array_equal(spaces.flatten(ours, observations), expected)
    one, none = spaces.cast(ours, _plain(samples[0]))
    assert none == ()
    np.testing.assert_array_equal(spaces.flatten(ours, one), expected[0])


# A nested space has all kinds of parts.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "nested" else pytest.mark.slow) for name in SPACES]
)
def test_flatten_is_the_same_under_jit_vmap_and_more_leading_dimensions(name):
    theirs, ours = SPACES[name]
    theirs.seed(0)
    batch = stack([theirs.sample() for _ in range(6)])

    def flat(observations):
        return spaces.flatten(ours, spaces.cast(ours, observations)[0])

    expected = flat(batch)
    np.testing.assert_array_equal(jax.jit(flat)(batch), expected)
    np.testing.assert_array_equal(jax.vmap(flat)(batch), expected)
    grid = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), batch)
    np.testing.assert_array_equal(flat(grid), expected.reshape(2, 3, -1))


@pytest.mark.parametrize("batch_shape", [(), (2, 3)])
def test_zeros_are_elements(pair, batch_shape):
    _, ours = pair

    def flat():
        observations, found = spaces.cast(ours, spaces.zeros(ours, batch_shape))
        assert found == batch_shape
        return spaces.flatten(ours, observations)

    assert jax.eval_shape(flat).shape == (*batch_shape, spaces.size(ours))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_bounds_of_64_bits_are_rounded_inwards(dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    for low, high in [(least, most), (most // 2 - 1, most // 2 + 1), (least + 1, 2**53 + 1)]:
        low_float, high_float = spaces.bounds(gym.Box(low, high, (2,), dtype))
        assert low <= int(low_float[0]) <= int(high_float[0]) <= high
        # The nearest such numbers.
        assert int(np.floor(np.nextafter(low_float[0], -np.inf))) < low
        assert int(np.ceil(np.nextafter(high_float[0], np.inf))) > high
    corners = Box(np.array([2**53 + 1, -(2**53) - 1, 7]), np.array([2**53 + 3, 2**53 + 1, 8]), (3,))
    assert (corners.low, corners.high) == ((2.0**53 + 2, -(2.0**53), 7.0), (2.0**53 + 2, 2.0**53, 8.0))


def test_bounds_are_flat_and_infinite_where_the_box_is_open():
    low, high = spaces.bounds(SPACES["half open"][1])
    np.testing.assert_array_equal(low, [-np.inf, 0.0])
    np.testing.assert_array_equal(high, [0.5, np.inf])
    low, _ = spaces.bounds(Box(-1.0, 1.0, (2, 2)))
    np.testing.assert_array_equal(low, [-1.0] * 4)


def test_a_size_or_a_shape_is_an_open_box():
    assert as_space(3) == as_space(np.int64(3)) == as_space((3,)) == as_space([3]) == Box(shape=(3,))
    assert as_space((4, 4, 3)) == Box(shape=(4, 4, 3))


def test_arrays_given_for_bounds_become_plain_numbers():
    ours = as_space(Box(np.array([-1.0, -2.0], np.float32), [1.0, 1.0], [2], np.float32))
    assert ours == Box((-1.0, -2.0), 1.0, (2,))
    json.dumps(spaces.to_dict(ours))
    assert as_space(Box(np.array([[0.0, 1.0]]), 2.0, (1, 2))) == Box((0.0, 1.0), 2.0, (1, 2))


def test_a_box_of_several_axes_also_takes_flat_vectors():
    observations, batch_shape = spaces.cast(Box(shape=(2, 3)), np.arange(12.0).reshape(2, 6))
    assert batch_shape == (2,)
    np.testing.assert_array_equal(observations, np.arange(12.0).reshape(2, 2, 3))


def test_integers_in_a_box_become_float32():
    for dtype in (np.uint8, np.int32, np.bool_):
        assert spaces.cast(Box(shape=(2,)), np.ones((3, 2), dtype))[0].dtype == jnp.float32


# The class of an error and a pattern of its text: the call that raises it.
REFUSED = {
    "TypeError: an int or a shape, got True": lambda: as_space(True),
    "TypeError: an int or a shape, got None": lambda: as_space(None),
    "ValueError: expected sizes of zero or more, got the shape \\(-3,\\)": lambda: as_space(-3),
    "TypeError: got Text": lambda: as_space(gym.Text(3)),
    "TypeError: got Graph": lambda: as_space(gym.Graph(gym.Discrete(2), None)),
    "TypeError: got Sequence": lambda: as_space(gym.Sequence(gym.Discrete(2))),
    # The flat vector of a OneOf has the length 3, and the vector of a Tuple of its spaces the length 4.
    "TypeError: got OneOf": lambda: as_space(gym.OneOf((gym.Discrete(2), gym.Box(0, 1, (2,))))),
    "TypeError: a shape, got OneOf": lambda: spaces.size(gym.Tuple((gym.OneOf((gym.Discrete(2),)),))),
    "TypeError: start: expected an integer, got True": lambda: Discrete(2, True),
    "ValueError: start: expected values from -2\\*\\*31": lambda: Discrete(2, 2**31 - 1),
    "ValueError: got 5 values from -1099511627776 on": lambda: as_space(gym.Discrete(5, start=-(2**40))),
    "ValueError: names that differ, got \\['a', 'a'\\]": lambda: Dict((("a", Discrete(2)), ("a", Discrete(3)))),
    "ValueError: high: expected numbers from 0 to 255 in a Box of uint8, got 300": lambda: Box(0, 300, (2,), "uint8"),
    "ValueError: low: expected numbers from -128 to 127 in a Box of int8, got -129": lambda: Box(
        (0, -129), 1, (2,), np.int8
    ),
    "ValueError: got low \\[inf\\] .* A finite number has to lie between them": lambda: Box(INF, INF, (2,)),
    "TypeError: Pass the observation_space or the action_space of": lambda: as_space(gymnasium.make("Pendulum-v1")),
    "TypeError: real vectors; join the parts to one Box": lambda: spaces.action_box(gym.Dict(a=gym.Box(-1, 1, (2,)))),
    "TypeError: action_space: expected a Box, got MultiBinary": lambda: spaces.action_box(gym.MultiBinary(3)),
    "TypeError: box: expected a Box, got Discrete": lambda: spaces.bounds(gym.Discrete(3)),
    "TypeError: a shape, got Text": lambda: as_space(gym.Dict(a=gym.Text(3))),
    "TypeError: expected a MultiDiscrete that starts at 0": lambda: as_space(gym.MultiDiscrete([2, 2], start=[1, 0])),
    "TypeError: has one axis": lambda: as_space(gym.MultiDiscrete([[2, 2]])),
    "ValueError: expected low <= high, got low \\[1\\.\\] and high \\[-1\\.\\]": lambda: as_space(
        Tuple((Box(1.0, -1.0, (1,)),))
    ),
    "ValueError: expected low as one number or of shape \\(2,\\), got shape \\(3,\\)": lambda: as_space(
        Box((0.0, 0.0, 0.0), float("inf"), (2,))
    ),
    "ValueError: description made by to_dict, got {'shape'": lambda: from_dict({"shape": [3]}),
    "ValueError: description made by to_dict, got \\[1": lambda: from_dict([1, 2]),
    "ValueError: expected low as one number or of shape": lambda: from_dict(
        {"type": "Box", "shape": [2], "low": [0, 0, 0], "high": 1, "dtype": "float32"}
    ),
    "ValueError: description made by to_dict, got {'dtype'": lambda: from_dict(
        {"type": "Box", "shape": [2], "low": 0, "high": 1, "dtype": "float33"}
    ),
}


@pytest.mark.parametrize(("error", "call"), REFUSED.items(), ids=REFUSED)
def test_what_is_no_space_is_refused(error, call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert re.match(error.replace(": ", ": .*", 1), f"{caught.type.__name__}: {caught.value}", re.DOTALL)


def described(**changes):
    return {"type": "Box", "shape": [2], "low": "-inf", "high": "inf", "dtype": "float32", **changes}


HUGE = {
    "at most 10,000,000 numbers, got 1000000000000000000": described(shape=[10**6, 10**6, 10**6]),
    "at most 10,000,000 numbers, got 12000000": {"type": "Tuple", "items": [described(shape=[6 * 10**6])] * 2},
    "at most 32 axes, got 1,000": described(shape=[1] * 1000),
    "at most 1,000 spaces in one, got 1,443": {
        "type": "Dict",
        "items": [[str(i), {"type": "Tuple", "items": [described()] * 102}] for i in range(14)],
    },
}


@pytest.mark.parametrize("says", HUGE)
def test_a_description_of_a_huge_space_is_refused_before_an_array_of_its_size_is_made(says):
    with pytest.raises(ValueError, match=f"space: expected {says}"):
        from_dict(HUGE[says])
    assert spaces.size(Box(shape=(10**6, 10**6, 10**6))) == 10**18


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_one_hot_of_more_classes_than_the_type_has_numbers(dtype):
    flat = spaces.flatten(Discrete(300), jnp.array([5], dtype))
    np.testing.assert_array_equal(np.flatnonzero(flat), [5])


@pytest.mark.parametrize("arguments", [((3,), -1.0, 1.0), ((2,),), (2, -1.0, 1.0), ((64, 64, 3), 0, 255, "uint8")])
def test_the_shape_before_the_bounds_is_refused_with_gymnasiums_order(arguments):
    with pytest.raises(TypeError, match=r"Gymnasium's order: Box\(low, high, shape\)"):
        spaces.Box(*arguments)


def test_a_box_takes_the_arguments_of_gymnasiums():
    for arguments in (
        (-1.0, 1.0, (3,)),
        (-1.0, 1.0),
        (np.zeros(2, np.float32), np.ones(2, np.float32)),
        (0, 255, (4, 4), np.uint8),
    ):
        theirs, ours = gym.Box(*arguments), spaces.Box(*arguments)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype.name if len(arguments) > 3 else "float32")
        assert as_space(theirs) == spaces.Box(theirs.low, theirs.high, theirs.shape, theirs.dtype)


def test_every_function_takes_a_gymnasium_space(pair):
    theirs, ours = pair
    samples = stack([theirs.sample() for _ in range(4)])
    assert spaces.size(theirs) == spaces.size(ours)
    assert spaces.to_dict(theirs) == spaces.to_dict(ours)
    assert jax.tree.map(np.shape, spaces.zeros(theirs, (2,))) == jax.tree.map(np.shape, spaces.zeros(ours, (2,)))
    found, batch_shape = spaces.cast(theirs, samples)
    assert batch_shape == (4,)
    np.testing.assert_array_equal(spaces.flatten(theirs, found), spaces.flatten(ours, found))
    if isinstance(ours, Box):
        np.testing.assert_array_equal(spaces.bounds(theirs), spaces.bounds(ours))
    assert Tuple((theirs,)) == Tuple((ours,))


@pytest.mark.parametrize("library", [np.asarray, jnp.asarray, lambda x: jax.jit(lambda: jnp.asarray(x))()])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_integers_of_every_dtype_are_one_hot(dtype, library, x64):
    x = library(np.array([[3, 1], [0, 0], [7, 2]], dtype))
    # The last row starts with 7, which is no element.
    expected = [[0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(spaces.flatten(MultiDiscrete((4, 3)), x), expected)
    np.testing.assert_array_equal(spaces.flatten(Discrete(3, start=-2), x[1]), np.eye(3)[[2, 2]])


@pytest.mark.parametrize("number", [2**32 - 1, 2**32 + 1, 2**63, 2**64 - 1])
def test_an_integer_beyond_32_bits_is_no_element(number, x64):
    for library in (np.asarray, jnp.asarray, torch.tensor):
        assert not np.asarray(spaces.flatten(Discrete(4, start=-2), library(np.array([number], np.uint64)))).any()


def test_an_integer_that_is_no_element_becomes_zeros():
    assert not np.any(spaces.flatten(Discrete(5), jnp.array([7, -1])))
    assert not np.any(spaces.flatten(Discrete(5, start=2), jnp.array([1, 7])))


TRACED = {
    "Box": lambda x: Box(-x, x, (2,)),
    "Discrete": lambda x: Discrete(x),
    "MultiDiscrete": lambda x: MultiDiscrete((x, 2)),
    "shape": lambda x: Box(-1.0, 1.0, (x,)),
    "length": lambda x: spaces.as_space(x),
    "squashed": lambda x: gaussjax.distributions.TanhGaussian(jnp.zeros(2), jnp.zeros(2), -x, x),
    "censored": lambda x: gaussjax.distributions.CensoredGaussian(jnp.zeros(2), jnp.zeros(2), -x, x),
    "factory": lambda x: gaussjax.gaussian(gaussjax.networks.MLP(), 3, Box(-x, 1.0, (2,))),
}


@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_a_space_of_traced_numbers_is_refused_with_the_repair(make):
    def trace(x):
        make(x)
        return x

    with pytest.raises(
        TypeError, match=r"traced array in a .* outside of jit, or under jax.ensure_compile_time_eval\(\)"
    ):
        jax.jit(trace)(2)

    @jax.jit
    def made_in_jit():
        with jax.ensure_compile_time_eval():
            make(jnp.asarray(2))
        return 0

    if make is TRACED["Box"]:
        made_in_jit()


def test_pixels_stay_integers_and_other_integers_become_float32():
    images, matrix = Box(0, 255, (2, 2), "uint8"), np.ones((3, 2, 2), np.uint8)
    for library in (np.asarray, jnp.asarray):
        assert spaces.cast(images, library(matrix))[0].dtype == np.uint8
    assert spaces.cast(images, matrix.astype(bool))[0].dtype == np.float32
    assert spaces.zeros(images).dtype == np.uint8
    assert spaces.flatten(images, matrix).dtype == np.float32
    assert spaces.cast(Box(0, 255, (4,), "uint8"), matrix.reshape(3, 4))[0].dtype == np.float32


@pytest.mark.parametrize(
    "theirs",
    [
        gym.Box(-1.0, np.inf, (2, 3)),
        gym.Box(0, 255, (2,), np.uint8),
        gym.Box(-5, 2**63 - 1, (2,), np.int64),
        gym.Box(0, 2**64 - 1, (1,), np.uint64),
        gym.Dict(a=gym.Tuple((gym.Discrete(3, start=-1), gym.MultiDiscrete([2, 3]))), b=gym.Box(-1.0, 1.0)),
    ],
    ids=str,
)
def test_a_space_of_gymnasium_comes_back_unchanged(theirs):
    assert to_gymnasium(as_space(theirs)) == theirs


def test_integers_without_a_bound_reach_to_the_ends_of_their_dtype():
    assert to_gymnasium(Box(shape=(2,), dtype="uint8")) == gym.Box(0, 255, (2,), np.uint8)


def test_bounds_between_integers_are_rounded_inwards():
    assert to_gymnasium(Box(-1.5, 2.5, (2,), "int8")) == gym.Box(-1, 2, (2,), np.int8)
