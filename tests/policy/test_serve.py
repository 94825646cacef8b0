"""A served policy acts as the policy does."""

import collections
import io
import pickle

import jax
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax import normalize
from tests import policies

BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.common
@pytest.mark.parametrize("name", ["gaussian", "squashed", "truncated", "multivariate"])
def test_served_actions_are_those_of_act(name) -> None:
    policy, params = policies.make(name)
    statistics = normalize.update(normalize.init((3,)), 3.0 * OBSERVATIONS + 1.0)
    for normalizer in (None, statistics):
        seen = OBSERVATIONS if normalizer is None else normalize.apply(normalizer, OBSERVATIONS)
        act = gaussjax.serve(policy, params, normalizer)
        for key in (None, jax.random.key(1)):
            expected = policy.act(params, key, seen, deterministic=key is None).actions
            np.testing.assert_allclose(act(OBSERVATIONS, key), expected, rtol=1e-6, atol=1e-7)


def test_later_changes_of_the_parameters_have_no_effect() -> None:
    policy = policies.build("gaussian")
    params = jax.tree.map(np.array, policies.random_params(policy))
    tensors = gaussjax.torch.to_torch(policy.spec, params)
    twin = gaussjax.torch.serve(gaussjax.torch.from_spec(policy.spec), tensors)
    acts = (gaussjax.serve(policy, params), lambda seen: twin(torch.tensor(seen)))
    before = [np.asarray(act(OBSERVATIONS)) for act in acts]
    jax.tree.map(lambda leaf: leaf.fill_(5.0) if torch.is_tensor(leaf) else leaf.fill(5.0), (params, tensors))
    for act, expected in zip(acts, before, strict=True):
        # Another number of rows is another program.
        np.testing.assert_allclose(act(OBSERVATIONS[:3]), expected[:3], rtol=1e-6)


def test_a_recurrent_policy_is_refused() -> None:
    policy = gaussjax.gaussian(gaussjax.networks.GRU(hidden_size=4, sizes=(4,)), 3, BOX)
    with pytest.raises(ValueError, match=r"policy: expected a network that is not recurrent"):
        gaussjax.serve(policy, policies.random_params(policy))


@pytest.mark.parametrize("keys", [("state",), ("state", "mode")])
@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_critic_and_its_observations_are_not_needed(keys, shared) -> None:
    space = gaussjax.spaces.Dict(
        (("state", gaussjax.spaces.Box(shape=(3,))), ("mode", gaussjax.spaces.Discrete(2)), ("all", BOX))
    )
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,)), shared=shared, actor_keys=keys)
    policy = gaussjax.gaussian(network, space, BOX)
    params = policies.random_params(policy)
    whole = {"state": OBSERVATIONS, "mode": np.array([0, 1, 1, 0, 1]), "all": np.zeros((5, 2), np.float32)}
    expected = policy.act(params, None, whole, deterministic=True).actions
    act = gaussjax.serve(policy, params)
    seen = whole["state"] if len(keys) == 1 else {key: whole[key] for key in keys}
    for given in (whole, seen):
        np.testing.assert_allclose(act(given), expected, rtol=1e-6, atol=1e-7)
    alone, params = gaussjax.networks.actor(policy, params)
    assert "value" not in alone.act(params, None, seen, deterministic=True).outputs


@pytest.mark.parametrize("torch", [False, True], ids=["jax", "torch"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["mlp", "gru"])
def test_a_loaded_policy_acts_with_its_normaliser(tmp_path, recurrent, torch) -> None:
    make = gaussjax.networks.GRU if recurrent else gaussjax.networks.MLP
    sizes = {"hidden_size": 4, "sizes": (4,)} if recurrent else {"sizes": (8,)}
    network = gaussjax.networks.ActorCritic(make(**sizes), critic=make(**sizes))
    policy = gaussjax.gaussian(network, 3, BOX)
    params = policies.random_params(policy)
    # The clip of a training is in its file, and bounds some of the observations.
    statistics = normalize.update(normalize.init((3,), clip=0.25), 3.0 * OBSERVATIONS + 1.0)
    file = tmp_path / "policy.safetensors"
    gaussjax.save(file, policy, params, normalizer=statistics)
    seen = normalize.apply(statistics, OBSERVATIONS, clip=0.25)
    assert np.any(np.abs(seen) == 0.25)
    memory = {"carry": policy.initial_carry((5,))} if recurrent else {}
    expected = policy.act(params, None, seen, deterministic=True, **memory)
    loaded = gaussjax.torch.load(file) if torch else gaussjax.load(file)
    for carry in [loaded.initial_carry((5,)), loaded.policy.initial_carry((5,))] if recurrent else [None]:
        found = loaded.act(OBSERVATIONS, carry=carry)
        np.testing.assert_allclose(np.asarray(found.actions), expected.actions, rtol=2e-6, atol=1e-6)
        assert "value" not in found.outputs
    if recurrent:
        again = loaded.act(OBSERVATIONS, carry=found.outputs["carry"], resets=np.ones(5, bool))
        np.testing.assert_allclose(np.asarray(again.actions), expected.actions, rtol=2e-6, atol=1e-6)
    else:
        served = (gaussjax.torch.serve if torch else gaussjax.serve)(*loaded[:3])
        np.testing.assert_allclose(np.asarray(served(OBSERVATIONS)), expected.actions, rtol=2e-6, atol=1e-6)
    noise = np.full((5, 2), 0.5, np.float32)
    moved = loaded.act(OBSERVATIONS, noise=noise, carry=loaded.initial_carry((5,)) if recurrent else None)
    by_hand = policy.act(params, None, seen, noise=noise, **memory)
    np.testing.assert_allclose(np.asarray(moved.actions), by_hand.actions, rtol=2e-6, atol=1e-6)
    key = (gaussjax.torch.key if torch else jax.random.key)(1)
    sampled = loaded.act(OBSERVATIONS, key, carry=loaded.initial_carry((5,)) if recurrent else None)
    assert np.abs(np.asarray(sampled.actions) - expected.actions).max() > 0.1


@pytest.mark.parametrize(
    ("dtype", "offset"), [("float64", 1e8), ("float64", -1.7e9), ("int64", 2**31), ("int64", 2**40), ("uint64", 2**31)]
)
@pytest.mark.parametrize("nested", [False, True])
def test_64_bit_observations_far_from_zero_keep_their_digits(dtype, offset, nested) -> None:
    space = gaussjax.spaces.Dict((("far", gaussjax.spaces.Box(shape=(3,))), ("near", BOX))) if nested else 3
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), space, BOX)
    params = policies.random_params(policy)
    generator = np.random.default_rng(0)
    far = (offset + 20.0 * generator.normal(size=(500, 3))).astype(dtype)
    near = generator.normal(size=(500, 2)).astype(np.float32)
    seen = {"far": far, "near": near} if nested else far
    statistics = normalize.update(normalize.init({"far": (3,), "near": (2,)} if nested else (3,)), seen)
    # The mean and the deviation of the observations in float64.
    centered = far.astype(np.float64) - (far - far[0]).astype(np.int64 if "int" in dtype else dtype).mean(0) - far[0]
    scaled = (centered / np.sqrt(centered.var(0) + 1e-8)).astype(np.float32)
    if nested:
        scaled = {"far": scaled, "near": np.asarray(normalize.apply(statistics["near"], near))}
    expected = policy.act(params, None, scaled, deterministic=True).actions
    act = gaussjax.serve(policy, params, statistics)
    np.testing.assert_allclose(act(seen), expected, atol=2e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(act))(seen), expected, atol=2e-6)
    file = io.BytesIO()
    gaussjax.save(file, policy, params, normalizer=statistics)
    file.seek(0)
    np.testing.assert_allclose(gaussjax.load(file).act(seen).actions, expected, atol=2e-6)


def test_each_part_of_64_bits_keeps_its_digits_in_every_kind_of_nesting() -> None:
    far, near = gaussjax.spaces.Box(shape=(3,)), gaussjax.spaces.Box(shape=())
    space = gaussjax.spaces.Dict((("both", gaussjax.spaces.Tuple((far, near))), ("far", far), ("mode", near)))
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), space, BOX)
    params = policies.random_params(policy)
    generator = np.random.default_rng(0)
    rows, scalars = 1e8 + generator.normal(size=(2, 50, 3)), generator.normal(size=(2, 50))
    seen = {"both": (rows[0], scalars[0]), "far": rows[1], "mode": scalars[1].astype(np.float32)}
    statistics = normalize.update(normalize.init({"both": ((3,), ()), "far": (3,), "mode": None}), seen)
    scaled = {**normalize.apply(statistics, seen), "mode": seen["mode"]}
    expected = policy.act(params, None, scaled, deterministic=True).actions
    act = gaussjax.serve(policy, params, statistics)
    for same in (
        seen,
        collections.OrderedDict(reversed(seen.items())),
        {**seen, "both": list(seen["both"])},
        {**seen, "mode": jax.numpy.asarray(seen["mode"])},
        {**seen, "both": (rows[0], jax.numpy.asarray(scalars[0]))},
    ):
        np.testing.assert_allclose(act(same), expected, atol=2e-6)


@pytest.mark.without("jax_disable_jit")
def test_observations_of_64_bits_compile_nothing_more() -> None:
    policy, params = policies.make("gaussian")
    act = gaussjax.serve(policy, params, normalize.update(normalize.init((3,)), OBSERVATIONS))
    expected = act(OBSERVATIONS)
    with jax.no_tracing():
        np.testing.assert_allclose(act(OBSERVATIONS.astype(np.float64)), expected, atol=1e-6)


@pytest.mark.without("jax_debug_nans")
def test_64_bit_observations_get_the_errors_of_32_bits() -> None:
    policy, params = policies.make("gaussian")
    act = gaussjax.serve(policy, params, normalize.update(normalize.init((3,)), OBSERVATIONS))
    for wrong in (
        lambda dtype: np.zeros((5, 2), dtype),
        lambda dtype: np.ma.masked_array(np.zeros((5, 3), dtype)),
        lambda dtype: np.zeros((5, 3), np.dtype(dtype).newbyteorder(">")),
        lambda dtype: {"x": np.zeros((5, 3), dtype)},
    ):
        texts = []
        for dtype in ("f4", "f8"):
            with pytest.raises((TypeError, ValueError)) as caught:
                act(wrong(dtype))
            texts.append(str(caught.value).replace("f8", "f4"))
        assert texts[0] == texts[1]
    assert np.isnan(act(np.array([np.nan, 0.0, 0.0]))).all()
    assert act(np.array([1e300, -1e300, 0.0])).shape == (2,)
