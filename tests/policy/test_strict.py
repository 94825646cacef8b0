"""Strict policies look at values; plain policies do not, and pay nothing."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from tests import policies


def bad(width, value, at):
    array = np.zeros((4, width), np.float32)
    array[at] = value
    return array


def nan_params():
    params = jax.tree.map(np.array, policies.make("squashed")[1])
    params["params"]["head"]["log_std"][1] = np.nan
    return params


# A part of the error, and the call that it refuses.
VALUES = {
    "observations: expected finite numbers, got nan at [2, 1] (1 of": ("act", {"observations": bad(3, np.nan, (2, 1))}),
    "within the Box from [-1.0, 0.0] to [1.0, 3.0], got 3.5 at": ("evaluate", {"taken_actions": bad(2, 3.5, (1, 1))}),
    "observations: expected finite numbers, got inf at [0, 0] (3 of": ("apply", {"observations": bad(3, np.inf, 0)}),
    "noise: expected finite numbers, got nan at [0, 1]": ("act", {"noise": bad(2, np.nan, (0, 1))}),
    "expected finite numbers, got nan at [3, 1]": ("evaluate", {"taken_actions": bad(2, np.nan, (3, 1))}),
    "got -0.5 at [0, 1] (1 of 8 entries). This policy never": ("act", {"taken_actions": bad(2, -0.5, (0, 1))}),
    "got 4.0 at [0, 0] (8 of 8 entries)": ("evaluate", {"taken_actions": np.full((4, 2), 4)}),
    "got 5.0 at [1, 0] (1 of 8 entries)": ("evaluate", {"taken_actions": [[0, 1], [5, 1], [0, 1], [0, 1]]}),
    "params['params']['head']['log_std']: expected finite numbers, got nan at [1]": (
        "log_std",
        {"params": nan_params()},
    ),
}


def call(name, arguments, strict=False):
    policy, params = policies.make("squashed")
    policy = gaussjax.strict(policy) if strict else policy
    good = {"params": params, "observations": np.zeros((4, 3), np.float32)}
    if name == "act":
        good["key"] = jax.random.key(0)
    if name == "evaluate":
        good["taken_actions"] = np.zeros((4, 2), np.float32)
    return getattr(policy, name)(**{**good, **arguments})


@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize("says", VALUES)
def test_a_strict_policy_refuses_the_value(says):
    function, arguments = VALUES[says]
    call(function, arguments)
    with pytest.raises(ValueError, match=re.escape(says)):
        call(function, arguments, strict=True)


# In compiled programs all functions check their values alike: two rows are enough in a short run.
@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize(
    "says", [pytest.param(row, marks=pytest.mark.slow if i > 1 else ()) for i, row in enumerate(VALUES)]
)
@pytest.mark.parametrize("transform", [lambda f: jax.jit(f), lambda f: jax.vmap(f), lambda f: jax.jit(jax.vmap(f))])
def test_a_strict_policy_refuses_the_value_in_a_compiled_program(says, transform):
    function, arguments = VALUES[says]
    mapped = "vmap" in transform.__code__.co_names
    stacked = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)]), arguments) if mapped else arguments
    compiled = transform(lambda given: call(function, given, strict=True))

    def run():
        jax.block_until_ready(compiled(stacked))
        jax.effects_barrier()

    with pytest.raises(Exception, match=re.escape(says)):
        run()


SEEN = gaussjax.spaces.Dict(
    (
        ("gear", gaussjax.spaces.Discrete(5, start=2)),
        ("image", gaussjax.spaces.Box(0, 255, (2, 2), "uint8")),
        ("keys", gaussjax.spaces.Tuple((gaussjax.spaces.MultiDiscrete((2, 3)),))),
    )
)
ELEMENTS = {
    "gear": np.array([2, 6]),
    "image": np.zeros((2, 2, 2), np.uint8),
    "keys": (np.array([[1, 2], [0, 0]]),),
}


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        (
            "gear",
            np.array([7, 2]),
            "observations['gear']: expected elements of Discrete(n=5, start=2), from 2 to 6, got 7",
        ),
        ("gear", np.array([2, 1], np.uint8), "from 2 to 6, got 1.0 at [1] (1 of 2 entries)"),
        ("image", np.full((2, 2, 2), -0.5), "from 0 to 255, got -0.5 at [0, 0, 0] (8 of 8 entries)"),
        ("keys", (np.array([[1, 2], [0, 3]]),), "observations['keys'][0]: expected elements of MultiDiscrete("),
    ],
)
@pytest.mark.parametrize("library", ["jax", "torch"])
def test_a_strict_policy_refuses_observations_outside_of_discrete_spaces_and_images(part, value, says, library):
    module, key = (gaussjax, jax.random.key(0)) if library == "jax" else (gaussjax.torch, gaussjax.torch.key(0))
    policy = module.gaussian(gaussjax.networks.MLP((4,)), SEEN, gaussjax.spaces.Box(shape=(2,)))
    params, strict = policy.init(key), gaussjax.strict(policy)
    strict.apply(params, ELEMENTS)
    policy.apply(params, {**ELEMENTS, part: value})
    with pytest.raises(ValueError, match=re.escape(says)):
        strict.apply(params, {**ELEMENTS, part: value})


def test_the_attribute_jit_of_a_strict_function_validates_too():
    policy, params = policies.make("squashed")
    strict = gaussjax.strict(policy)

    def run(observations):
        strict.act.jit(params, None, observations, deterministic=True)
        jax.effects_barrier()

    run(np.zeros((4, 3), np.float32))
    with pytest.raises(Exception, match=re.escape("got nan at [2, 1]")):
        run(bad(3, np.nan, (2, 1)))


def test_values_at_the_edge_half_open_boxes_and_infinite_parameters_pass():
    call("evaluate", {"taken_actions": np.tile(np.float32([1.0, 3.0]), (4, 1))}, strict=True)
    far, observations = np.tile(np.float32([1e6, -1e6]), (4, 1)), np.zeros((4, 3), np.float32)
    for row in ("gaussian-clipped", "gaussian"):
        policy, params = policies.make(row)
        gaussjax.strict(policy).evaluate(params, observations, far)
    infinite = nan_params()
    infinite["params"]["head"]["log_std"][1] = np.inf
    call("log_std", {"params": infinite}, strict=True)


def test_strict_policies_of_torch_refuse_actions_beyond_the_box_too():
    policy = gaussjax.strict(gaussjax.torch.from_spec(policies.make("squashed")[0].spec))
    params = policy.init(gaussjax.torch.key(0))
    with pytest.raises(ValueError, match="expected actions within the Box"):
        policy.evaluate(params, np.zeros((4, 3), np.float32), bad(2, 3.5, (1, 1)))


def test_a_strict_policy_gives_the_same_results():
    jax.tree.map(np.testing.assert_array_equal, call("act", {}, strict=True), call("act", {}))


def test_a_plain_policy_adds_nothing_to_a_compiled_program():
    program = jax.make_jaxpr(lambda observations: call("act", {"observations": observations}))(jnp.zeros((4, 3)))
    assert not program.effects


def test_a_strict_policy_is_another_static_argument_and_pickles():
    policy = policies.make("squashed")[0]
    strict = gaussjax.strict(policy)
    assert strict != policy
    assert pickle.loads(pickle.dumps(strict)) == strict == gaussjax.strict(strict)
