"""What every policy promises, whatever its kind: each row of `tests.policies.TABLE` passes all of this."""

import copy
import functools
import json
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import gaussjax
from tests import policies

OWN_OUTPUTS = {"mean_actions", "log_std", "raw_actions"}
SEED = 7


@pytest.fixture(params=policies.TABLE)
def name(request):
    return request.param


@pytest.fixture
def policy(name):
    return policies.make(name)[0]


@pytest.fixture
def params(name):
    return policies.make(name)[1]


@pytest.fixture
def observations(policy):
    return policies.observations(policy, (4,))


@pytest.fixture
def answers(name):
    """The results of all functions for a batch of four, from one compiled program."""
    return _answers(name)


@functools.cache
def _answers(name):
    policy, params = policies.make(name)

    @jax.jit
    def everything(params, observations, carry):
        result = policy.act(params, jax.random.key(SEED), observations, carry=carry)
        scoring, raw_actions = policies.scoring(policy, result), {"raw_actions": result.outputs["raw_actions"]}
        distribution, applied = policy.apply(params, observations, carry=carry)
        scored, of_raw = (
            policy.evaluate(params, observations, **actions, carry=carry) for actions in (scoring, raw_actions)
        )
        found = {"act": result, "evaluate": scored, "apply": (distribution, applied), "evaluate raw": of_raw}
        found["deterministic"] = policy.act(params, None, observations, carry=carry, deterministic=True)
        if "taken_actions" in scoring:
            found["act taken"] = policy.act(params, jax.random.key(SEED), observations, **scoring, carry=carry)
            found["density"] = distribution.log_prob(result.actions)
        for function in ("entropy", "log_std"):
            found[function] = getattr(policy, function)(params, observations, carry=carry)
        return {**found, "distributions": [policy.distribution(each.outputs) for each in (result, scored)]}

    return everything(params, policies.observations(policy, (4,)), policy.initial_carry((4,)))


def act(policy, params, key, observations, batch_shape=(), **options):
    """One step from the zero state, which for most networks is no state at all."""
    return policy.act(params, key, observations, carry=policy.initial_carry(batch_shape), **options)


def evaluate(policy, params, observations, result, batch_shape=()):
    """Scores of the actions that `act` returned."""
    scored = policies.scoring(policy, result)
    return policy.evaluate(params, observations, **scored, carry=policy.initial_carry(batch_shape))


def assert_close(got, expected, tolerance=3e-6):
    chex.assert_trees_all_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.common
def test_init_is_a_pure_function_of_the_key_and_needs_no_observations(policy, params, observations):
    first, again, other = (policy.init(jax.random.key(seed)) for seed in (0, 0, 1))
    chex.assert_trees_all_equal(again, first)
    chex.assert_trees_all_equal_shapes_and_dtypes(first, params)
    same = jax.jit(lambda legacy: [policy.init(legacy), policy.init(jax.random.wrap_key_data(legacy), observations)])
    chex.assert_trees_all_equal(*same(jax.random.PRNGKey(0)), first)
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))


def test_a_policy_is_a_value_that_hashes_pickles_and_is_rebuilt_from_json(name, policy):
    description = policy.spec.to_dict()
    text = json.dumps(description, allow_nan=False)
    custom = description["network"]["type"] == "custom"
    rebuilt = gaussjax.from_spec(json.loads(text), policy.spec.network if custom else None)
    assert rebuilt == policy == gaussjax.from_spec(policy.spec)
    assert hash(rebuilt) == hash(policy)
    assert rebuilt.spec.to_dict() == description
    if not custom:
        case = policies.TABLE[name]
        assert pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy) == policy
        assert policy != case.factory(case.network, case.observation_space, case.action_space, max_log_std=1.5)


@pytest.mark.dear
@pytest.mark.parametrize("batch_shape", [(), (0,), (3, 4)], ids=str)
def test_results_have_the_leading_dimensions_of_the_observations(policy, params, batch_shape):
    observations, carry = policies.observations(policy, batch_shape), policy.initial_carry(batch_shape)

    @jax.jit
    def everything(params, observations, carry):
        result = policy.act(params, jax.random.key(SEED), observations, carry=carry)
        scored = policy.evaluate(params, observations, **policies.scoring(policy, result), carry=carry)
        each = [function(params, observations, carry=carry) for function in (policy.entropy, policy.log_std)]
        return result, scored, each

    # An empty batch is run, for no other test has one; of the others the shapes are enough.
    run = everything if batch_shape == (0,) else functools.partial(jax.eval_shape, everything)
    result, scored, each = run(params, observations, carry)
    per_dimension = (*batch_shape, policies.size(policy))
    assert result.actions.shape == per_dimension
    assert result.log_prob.shape == (*batch_shape, 1)
    assert result.outputs.keys() >= OWN_OUTPUTS
    assert {result.outputs[output].shape for output in OWN_OUTPUTS} == {per_dimension}
    assert scored.log_prob.shape == scored.entropy.shape == (*batch_shape, 1)
    assert {leaf.shape for leaf in each} == {per_dimension}
    types = {leaf.dtype for leaf in (*result[:2], *scored[:2], *(result.outputs[output] for output in OWN_OUTPUTS))}
    assert types == {np.dtype(np.float32)}


@pytest.mark.dear
def test_leading_dimensions_do_not_change_the_numbers(policy, params):
    inputs = policies.observations(policy, (3, 4)), policies.noise(policy, (3, 4))

    @jax.jit
    def both(inputs):
        flat = jax.tree.map(lambda x: x.reshape(12, *x.shape[2:]), inputs)
        one = jax.tree.map(lambda x: x[2, 3], inputs)
        batches = ((3, 4), inputs), ((12,), flat), ((), one)
        return [act(policy, params, None, seen, shape, noise=noise)[:2] for shape, (seen, noise) in batches]

    whole, rows, one = both(inputs)
    assert_close(jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[1:]), rows), whole)
    assert_close(one, jax.tree.map(lambda x: x[2, 3], jax.device_get(whole)))


@pytest.mark.dear
def test_bfloat16_gives_float32_densities(policy, params, observations):
    @jax.jit
    def everything(low, observations):
        result = act(policy, low, jax.random.key(SEED), observations, (4,))
        scored = evaluate(policy, low, observations, policies.as_type(result, jnp.bfloat16), (4,))
        return result, scored, policy.entropy(low, observations, carry=policy.initial_carry((4,)))

    result, scored, entropy = everything(*policies.as_type((params, observations), jnp.bfloat16))
    assert {leaf.dtype for leaf in (*result[:2], *scored[:2], entropy)} == {np.dtype(np.float32)}
    chex.assert_tree_all_finite((result[:2], scored[:2], entropy))


@pytest.mark.dear
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64], ids=["bfloat16", "float32", "float64"])
def test_with_x64_only_float64_inputs_give_float64(policy, params, observations, dtype):
    cast, observations = policies.as_type((params, observations), dtype)
    expected = {np.dtype(np.float64 if dtype == jnp.float64 else np.float32)}

    def both():
        result = act(policy, cast, jax.random.key(SEED), observations, (4,))
        return result, evaluate(policy, cast, observations, result, (4,))

    result, scored = jax.eval_shape(both)
    assert {leaf.dtype for leaf in (*result[:2], *scored[:2])} == expected
    assert {result.outputs[output].dtype for output in OWN_OUTPUTS} == expected


@pytest.mark.dear
def test_deterministic_and_random_results_have_one_structure(policy, params, observations):
    def either(deterministic, key):
        return jax.lax.cond(
            deterministic,
            lambda: act(policy, params, key, observations, (4,), deterministic=True),
            lambda: act(policy, params, key, observations, (4,)),
        )

    jax.eval_shape(either, True, jax.random.key(SEED))


@pytest.mark.dear
def test_inputs_are_never_mutated(policy, params, observations):
    inputs = {
        "params": jax.tree.map(np.array, params),
        "observations": observations,
        "noise": policies.noise(policy, (4,)),
        "raw_actions": np.zeros((4, policies.size(policy)), np.float32),
    }
    before = copy.deepcopy(inputs)
    params, observations, noise, raw_actions = inputs.values()
    result = act(policy, params, None, observations, (4,), noise=noise)
    result.outputs["mine"] = result.outputs.pop("mean_actions")
    policy.evaluate(params, observations, raw_actions=raw_actions, carry=policy.initial_carry((4,)))
    jax.eval_shape(policy.init, jax.random.key(0), observations)
    chex.assert_trees_all_equal(inputs, before)


@pytest.mark.without("jax_disable_jit")
@pytest.mark.dear
def test_repeated_calls_compile_nothing_and_give_the_numbers_of_one_program(policy, params, answers, traces):
    def call(seed):
        key, observations = jax.random.key(7 + seed), policies.observations(policy, (4,), seed)
        carry, noise = policy.initial_carry((4,)), policies.noise(policy, (4,), seed)
        start = traces()
        found = {"act": policy.act(params, key, observations, carry=carry)}
        policy.act(params, None, observations, carry=carry, noise=noise)
        found["deterministic"] = policy.act(params, None, observations, carry=carry, deterministic=True)
        scoring = policies.scoring(policy, found["act"])
        found["evaluate"] = policy.evaluate(params, observations, **scoring, carry=carry)
        for function in ("entropy", "log_std", "apply"):
            found[function] = getattr(policy, function)(params, observations, carry=carry)
        return traces() - start, found

    found = call(0)[1]
    assert [call(seed)[0] for seed in (1, 2, 3)] == [0, 0, 0]
    assert_close(found, {function: answers[function] for function in found})


@pytest.mark.common
def test_a_callers_jit_holds_one_copy_and_leaks_nothing(policy, params, observations, answers):
    fresh = gaussjax.from_spec(policy.spec)
    with jax.checking_leaks():
        inside = jax.jit(lambda key: act(fresh, params, key, observations, (4,)))(jax.random.key(SEED))
    assert_close(inside, answers["act"])


@pytest.mark.common
def test_act_consumes_its_key(policy, params, observations):
    with jax.debug_key_reuse(True):
        key = jax.random.key(11)
        act(policy, params, key, observations, (4,), deterministic=True)
        act(policy, params, key, observations, (4,))
        with pytest.raises(jax.errors.KeyReuseError):
            act(policy, params, key, observations, (4,))


def assert_same_noise(policy, found, expected):
    """Compares raw actions of mean 0 and deviation 1, which are noise; truncated ones are functions of it."""
    tolerance = 1e-6 if policy.spec.kind == "truncated_gaussian" else 0.0
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0.1 * tolerance)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.common
def test_each_key_draws_its_own_noise_and_the_same_in_every_transformation(policy, params, observations):
    params, keys = policies.only_noise(params), jax.random.split(jax.random.key(SEED), 3)

    def draw(key):
        return act(policy, params, key, observations, (4,)).outputs["raw_actions"]

    one_by_one = np.stack([draw(key) for key in keys])
    assert np.unique(one_by_one).size == one_by_one.size, "keys, rows and dimensions draw differently"
    assert_same_noise(policy, jax.jit(draw)(keys[0]), one_by_one[0])
    assert_same_noise(policy, jax.vmap(draw)(keys), one_by_one)
    assert_same_noise(policy, jax.lax.map(draw, keys), one_by_one)
    assert_same_noise(policy, jax.jit(jax.vmap(draw))(keys), one_by_one)
    assert_same_noise(policy, draw(jax.random.key_data(keys[0])), one_by_one[0])


@pytest.mark.common
def test_padding_the_batch_does_not_change_the_noise(policy, params):
    params = policies.only_noise(params)
    draws = {
        batch: np.asarray(
            act(policy, params, jax.random.key(SEED), policies.observations(policy, (batch,)), (batch,)).outputs[
                "raw_actions"
            ]
        )
        for batch in (4, 5, 16)
    }
    assert_same_noise(policy, draws[5][:4], draws[4])
    assert_same_noise(policy, draws[16][:4], draws[4])


@pytest.mark.dear
@pytest.mark.density
def test_given_noise_takes_the_place_of_the_draw(policy, params, observations, answers):
    noise = np.asarray(jax.random.normal(jax.random.key(SEED), (4, policies.size(policy)), np.float32))
    given = act(policy, params, None, observations, (4,), noise=noise)
    assert_close(given, answers["act"])
    centre = act(policy, params, None, observations, (4,), deterministic=True).outputs["raw_actions"]
    mirrored = act(policy, params, None, observations, (4,), noise=-noise)
    if policy.spec.kind == "truncated_gaussian":
        one = answers["apply"][0]
        assert_close(one.cdf(given.actions), 1.0 - one.cdf(mirrored.actions))
    else:
        assert_close(given.outputs["raw_actions"] - centre, centre - mirrored.outputs["raw_actions"])


@pytest.mark.dear
@pytest.mark.density
def test_the_deterministic_action_knows_no_key(policy, params, observations, answers):
    without = act(policy, params, None, observations, (4,), deterministic=True)
    chex.assert_trees_all_equal(
        act(policy, params, jax.random.key(SEED), observations, (4,), deterministic=True), without
    )
    silent = np.zeros((4, policies.size(policy)), np.float32)
    middle = act(policy, params, None, observations, (4,), noise=silent)
    if policy.spec.kind == "truncated_gaussian":
        assert_close((without.actions, middle.actions), (answers["apply"][0].mode(), answers["apply"][0].median()))
    else:
        assert_close(middle, without)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.dear
def test_vmap_over_stacked_params_is_a_loop_over_policies(policy, observations):
    members = [policies.random_params(policy, seed) for seed in range(3)]
    keys = jax.random.split(jax.random.key(SEED), 3)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    together = jax.vmap(lambda params, key: act(policy, params, key, observations, (4,)))(stacked, keys)
    for i, member in enumerate(members):
        alone = act(policy, member, keys[i], observations, (4,))
        assert_close(jax.tree.map(lambda x, i=i: np.asarray(x)[i], together), alone)


@pytest.mark.dear
def test_scan_is_a_loop_over_steps(policy, params):
    keys = jax.random.split(jax.random.key(SEED), 3)
    observations = policies.observations(policy, (3, 4))

    def step(carry, inputs):
        result = policy.act(params, *inputs, carry=carry)
        return result.outputs.get("carry", carry), result[:2]

    carry, scanned = jax.lax.scan(step, policy.initial_carry((4,)), (keys, observations))
    state, steps = policy.initial_carry((4,)), []
    for t, key in enumerate(keys):
        state, result = step(state, (key, jax.tree.map(lambda x, t=t: x[t], observations)))
        steps.append(result)
    assert_close(scanned, jax.tree.map(lambda *leaves: np.stack(leaves), *steps))
    assert_close(carry, state)


@pytest.mark.dear
@pytest.mark.density
@pytest.mark.usefixtures("x64")
def test_gradients_equal_finite_differences(policy, params):
    given = policies.observations(policy, (3,)), policies.noise(policy, (3,)), policy.initial_carry((3,))
    params, (observations, noise, carry) = policies.as_type((params, given), jnp.float64)
    taken = policies.scoring(policy, policy.act(params, None, observations, noise=noise, carry=carry))

    @jax.jit
    def both(params, noise):
        scores = policy.evaluate(params, observations, **taken, carry=carry)[:2]
        return scores, policy.act(params, None, observations, noise=noise, carry=carry)[:2]

    check_grads(both, (params, noise), order=1, modes=("fwd", "rev"), eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.common
def test_gradients_are_finite_bare_and_compiled(policy, params, observations):
    def loss(params):
        result = act(policy, params, jax.random.key(SEED), observations, (4,))
        scored = evaluate(policy, params, observations, jax.lax.stop_gradient(result), (4,))
        return jnp.sum(result.actions) + jnp.sum(result.log_prob) + jnp.sum(scored.log_prob) + jnp.sum(scored.entropy)

    gradient = jax.grad(loss)(params)
    chex.assert_tree_all_finite(gradient)
    assert_close(jax.jit(jax.grad(loss))(params), gradient, 2e-5)


def test_the_log_prob_of_an_action_is_that_of_evaluate(name, answers):
    result, scored = answers["act"], answers["evaluate"]
    assert_close(result.log_prob, scored.log_prob, 2e-5)
    assert_close(answers["evaluate raw"].log_prob, result.log_prob, 2e-5)
    if taken := answers.get("act taken"):
        assert_close(taken.log_prob, scored.log_prob)
        assert_close(taken.actions, result.actions)
        if "censored" not in name:
            np.testing.assert_array_equal(scored.log_prob[..., 0], answers["density"])


def test_outputs_of_all_functions_agree(answers):
    distribution, applied = answers["apply"]
    outputs = answers["act"].outputs
    without_sample = {output: value for output, value in outputs.items() if output != "raw_actions"}
    assert_close(answers["evaluate"].outputs, without_sample)
    assert_close(applied, without_sample)
    assert_close(answers["distributions"], [distribution, distribution])
    assert_close(answers["log_std"], applied["log_std"])


@pytest.mark.dear
@pytest.mark.density
def test_reductions_are_of_the_terms_of_the_dimensions(name, params, observations, answers):
    reduce = {"sum": np.sum, "mean": np.mean, "prod": np.prod}
    reductions = policies.TABLE[name].reductions
    if "none" not in reductions:
        pytest.skip("this kind has no terms of single dimensions")

    variants = {reduction: policies.build(name, reduction=reduction) for reduction in reductions}
    without = policies.build(name, keepdims=False)

    @jax.jit
    def everything(observations, result):
        scored = {name: evaluate(each, params, observations, result, (4,))[:2] for name, each in variants.items()}
        acted = act(without, params, jax.random.key(SEED), observations, (4,))
        return scored, (acted.log_prob, *evaluate(without, params, observations, result, (4,))[:2])

    found, flat = everything(observations, answers["act"])
    terms = found.pop("none")
    assert {leaf.shape for leaf in terms} == {answers["act"].actions.shape}
    for reduction, reduced in found.items():
        expected = [reduce[reduction](np.asarray(each), axis=-1, keepdims=True) for each in terms]
        assert_close(list(reduced), expected, 2e-5)
    kept = (answers["act"].log_prob, *answers["evaluate"][:2])
    assert_close(flat, tuple(np.squeeze(each, -1) for each in kept))
