"""What every policy promises, whatever its kind: each row of `tests.policies.TABLE` passes all of this."""

import copy
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import gaussjax
from tests import policies

OWN_OUTPUTS = {"mean_actions", "log_std", "raw_actions"}
KEY = jax.random.key(7)


@pytest.fixture(params=policies.TABLE)
def name(request):
    return request.param


@pytest.fixture
def policy(name):
    return policies.make(name)[0]


@pytest.fixture
def params(name):
    return policies.make(name)[1]


def act(policy, params, key, observations, batch_shape=(), **options):
    """One step from the zero state, which for most networks is no state at all."""
    return policy.act(params, key, observations, carry=policy.initial_carry(batch_shape), **options)


def evaluate(policy, params, observations, result, batch_shape=()):
    """Scores of the actions that `act` returned."""
    scored = policies.scoring(policy, result)
    return policy.evaluate(params, observations, **scored, carry=policy.initial_carry(batch_shape))


def assert_close(got, expected, tolerance=3e-6):
    chex.assert_trees_all_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.dear
def test_init_is_a_pure_function_of_the_key_and_needs_no_observations(policy, params):
    chex.assert_trees_all_equal(policy.init(jax.random.key(0)), params)
    chex.assert_trees_all_equal(policy.init(jax.random.key(0), policies.observations(policy, (4,))), params)
    other = policy.init(jax.random.key(1))
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True))


@pytest.mark.dear
def test_spec_is_hashable_json_and_rebuilds_the_same_numbers(policy, params):
    description = policy.spec.to_dict()
    text = json.dumps(description, allow_nan=False)
    network = policy.spec.network if description["network"]["type"] == "custom" else None
    rebuilt = gaussjax.from_spec(json.loads(text), network)
    assert rebuilt.spec == policy.spec
    assert hash(rebuilt.spec) == hash(policy.spec)
    assert rebuilt.spec.to_dict() == description
    observations = policies.observations(policy, (4,))
    chex.assert_trees_all_equal(rebuilt.init(jax.random.key(0)), params)
    chex.assert_trees_all_equal(*(act(each, params, KEY, observations, (4,)) for each in (rebuilt, policy)))
    assert gaussjax.from_spec(policy.spec).spec == policy.spec


@pytest.mark.dear
@pytest.mark.parametrize("batch_shape", [(), (0,), (4,), (3, 4)], ids=str)
def test_results_have_the_leading_dimensions_of_the_observations(policy, params, batch_shape):
    observations, carry = policies.observations(policy, batch_shape), policy.initial_carry(batch_shape)

    @jax.jit
    def everything(params, observations, carry):
        result = policy.act(params, KEY, observations, carry=carry)
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
    observations, noise = policies.observations(policy, (3, 4)), policies.noise(policy, (3, 4))
    whole = act(policy, params, None, observations, (3, 4), noise=noise)
    flat = jax.tree.map(lambda x: x.reshape(12, *x.shape[2:]), (observations, noise))
    rows = act(policy, params, None, flat[0], (12,), noise=flat[1])
    assert_close(jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[1:]), rows[:2]), whole[:2])
    for i, j in ((0, 0), (2, 3)):
        one = act(policy, params, None, jax.tree.map(lambda x, at=(i, j): x[at], observations), noise=noise[i, j])
        assert_close(one[:2], jax.tree.map(lambda x, at=(i, j): x[at], whole[:2]))


@pytest.mark.dear
def test_bfloat16_gives_float32_densities(policy, params):
    observations = policies.as_type(policies.observations(policy, (4,)), jnp.bfloat16)

    @jax.jit
    def everything(low, observations):
        result = act(policy, low, KEY, observations, (4,))
        scored = evaluate(policy, low, observations, policies.as_type(result, jnp.bfloat16), (4,))
        return result, scored, policy.entropy(low, observations, carry=policy.initial_carry((4,)))

    result, scored, entropy = everything(policies.as_type(params, jnp.bfloat16), observations)
    assert {leaf.dtype for leaf in (*result[:2], *scored[:2], entropy)} == {np.dtype(np.float32)}
    chex.assert_tree_all_finite((result[:2], scored[:2], entropy))


@pytest.mark.dear
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64], ids=["bfloat16", "float32", "float64"])
def test_with_x64_only_float64_inputs_give_float64(policy, params, dtype):
    observations = policies.as_type(policies.observations(policy, (4,)), dtype)
    cast = policies.as_type(params, dtype)
    expected = {np.dtype(np.float64 if dtype == jnp.float64 else np.float32)}

    def both():
        result = act(policy, cast, KEY, observations, (4,))
        return result, evaluate(policy, cast, observations, result, (4,))

    result, scored = jax.eval_shape(both)
    assert {leaf.dtype for leaf in (*result[:2], *scored[:2])} == expected
    assert {result.outputs[output].dtype for output in OWN_OUTPUTS} == expected


@pytest.mark.dear
def test_deterministic_and_random_results_have_one_structure(policy, params):
    observations = policies.observations(policy, (4,))

    @jax.jit
    def either(deterministic, key):
        return jax.lax.cond(
            deterministic,
            lambda: act(policy, params, key, observations, (4,), deterministic=True),
            lambda: act(policy, params, key, observations, (4,)),
        )

    assert_close(either(True, KEY), act(policy, params, None, observations, (4,), deterministic=True))
    assert_close(either(False, KEY), act(policy, params, KEY, observations, (4,)))


@pytest.mark.dear
def test_inputs_are_never_mutated(policy, params):
    inputs = {
        "params": jax.tree.map(np.array, params),
        "observations": policies.observations(policy, (4,)),
        "noise": policies.noise(policy, (4,)),
        "raw_actions": np.zeros((4, policies.size(policy)), np.float32),
    }
    before = copy.deepcopy(inputs)
    params, observations, noise, raw_actions = inputs.values()
    result = act(policy, params, None, observations, (4,), noise=noise)
    result.outputs["mine"] = result.outputs.pop("mean_actions")
    policy.evaluate(params, observations, raw_actions=raw_actions, carry=policy.initial_carry((4,)))
    policy.init(jax.random.key(0), observations)
    chex.assert_trees_all_equal(inputs, before)


@pytest.mark.dear
def test_repeated_calls_compile_nothing(policy, params, traces):
    def call(seed):
        key, observations = jax.random.key(seed), policies.observations(policy, (4,), seed)
        carry, noise = policy.initial_carry((4,)), policies.noise(policy, (4,), seed)
        start = traces()
        result = policy.act(params, key, observations, carry=carry)
        policy.act(params, None, observations, carry=carry, noise=noise)
        policy.act(params, None, observations, carry=carry, deterministic=True)
        policy.evaluate(params, observations, **policies.scoring(policy, result), carry=carry)
        policy.entropy(params, observations, carry=carry)
        policy.log_std(params, observations, carry=carry)
        policy.apply(params, observations, carry=carry)
        return traces() - start

    call(0)
    assert [call(seed) for seed in (1, 2, 3)] == [0, 0, 0]


@pytest.mark.dear
def test_a_callers_jit_holds_one_copy_and_leaks_nothing(policy, params):
    observations = policies.observations(policy, (4,))
    fresh = gaussjax.from_spec(policy.spec)
    with jax.checking_leaks():
        inside = jax.jit(lambda key: act(fresh, params, key, observations, (4,)))(KEY)
    assert_close(inside, act(policy, params, KEY, observations, (4,)))


@pytest.mark.dear
def test_act_consumes_its_key(policy, params):
    observations = policies.observations(policy, (4,))
    with jax.debug_key_reuse(True):
        key = jax.random.key(11)
        act(policy, params, key, observations, (4,), deterministic=True)
        act(policy, params, key, observations, (4,))
        with pytest.raises(jax.errors.KeyReuseError):
            act(policy, params, key, observations, (4,))


@pytest.mark.dear
def test_one_key_draws_one_noise_in_every_transformation(policy, params):
    params, keys = policies.only_noise(params), jax.random.split(KEY, 3)
    observations = policies.observations(policy, (4,))

    def draw(key):
        return act(policy, params, key, observations, (4,)).outputs["raw_actions"]

    one_by_one = np.stack([draw(key) for key in keys])
    np.testing.assert_array_equal(jax.jit(draw)(keys[0]), one_by_one[0])
    np.testing.assert_array_equal(jax.vmap(draw)(keys), one_by_one)
    np.testing.assert_array_equal(jax.lax.map(draw, keys), one_by_one)
    np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(keys), one_by_one)


@pytest.mark.dear
@pytest.mark.density
def test_padding_the_batch_does_not_change_the_noise(policy, params):
    params = policies.only_noise(params)
    draws = {
        batch: np.asarray(
            act(policy, params, KEY, policies.observations(policy, (batch,)), (batch,)).outputs["raw_actions"]
        )
        for batch in (4, 5, 16)
    }
    np.testing.assert_array_equal(draws[5][:4], draws[4])
    np.testing.assert_array_equal(draws[16][:4], draws[4])


@pytest.mark.dear
@pytest.mark.density
def test_typed_and_legacy_keys_draw_the_same(policy, params):
    params, observations = policies.only_noise(params), policies.observations(policy, (4,))
    legacy = act(policy, params, jax.random.PRNGKey(7), observations, (4,)).outputs["raw_actions"]
    np.testing.assert_array_equal(legacy, act(policy, params, KEY, observations, (4,)).outputs["raw_actions"])
    chex.assert_trees_all_equal(policy.init(jax.random.PRNGKey(3)), policy.init(jax.random.key(3)))


@pytest.mark.dear
def test_different_keys_rows_and_dimensions_draw_differently(policy, params):
    observations = policies.observations(policy, (4,))
    keys = jax.random.split(KEY, 3)
    draws = jax.vmap(lambda key: act(policy, policies.only_noise(params), key, observations, (4,)))(keys)
    raw_actions = np.asarray(draws.outputs["raw_actions"])
    assert np.unique(raw_actions).size == raw_actions.size


@pytest.mark.dear
@pytest.mark.density
def test_given_noise_takes_the_place_of_the_draw(policy, params):
    observations = policies.observations(policy, (4,))
    noise = jax.random.normal(KEY, (4, policies.size(policy)))
    given = act(policy, params, None, observations, (4,), noise=noise)
    assert_close(given, act(policy, params, KEY, observations, (4,)))
    centre = act(policy, params, None, observations, (4,), deterministic=True).outputs["raw_actions"]
    mirrored = act(policy, params, None, observations, (4,), noise=-noise)
    assert_close(given.outputs["raw_actions"] - centre, centre - mirrored.outputs["raw_actions"])


@pytest.mark.dear
def test_the_deterministic_action_knows_no_key(policy, params):
    observations = policies.observations(policy, (4,))
    without = act(policy, params, None, observations, (4,), deterministic=True)
    chex.assert_trees_all_equal(act(policy, params, KEY, observations, (4,), deterministic=True), without)
    silent = np.zeros((4, policies.size(policy)), np.float32)
    assert_close(act(policy, params, None, observations, (4,), noise=silent), without)


@pytest.mark.dear
def test_vmap_over_stacked_params_is_a_loop_over_policies(policy):
    members = [policy.init(jax.random.key(seed)) for seed in range(3)]
    observations, keys = policies.observations(policy, (4,)), jax.random.split(KEY, 3)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
    together = jax.vmap(lambda params, key: act(policy, params, key, observations, (4,)))(stacked, keys)
    for i, member in enumerate(members):
        alone = act(policy, member, keys[i], observations, (4,))
        assert_close(jax.tree.map(lambda x, i=i: np.asarray(x)[i], together), alone)
    assert_close(
        jax.vmap(policy.init)(jax.vmap(jax.random.key)(np.arange(3))), stacked
    )  # the parameters can be made that way too


@pytest.mark.dear
def test_scan_is_a_loop_over_steps(policy, params):
    keys = jax.random.split(KEY, 3)
    observations = policies.observations(policy, (3, 4))

    def step(carry, inputs):
        result = policy.act(params, *inputs, carry=carry)
        return result.outputs.get("carry", carry), result[:2]

    carry, scanned = jax.lax.scan(step, policy.initial_carry((4,)), (keys, observations))
    state, steps = policy.initial_carry((4,)), []
    for t, key in enumerate(keys):
        state, result = step(state, (key, jax.tree.map(lambda x, t=t: x[t], observations)))
        steps.append(result)
    assert_close(scanned, jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps))
    assert_close(carry, state)


@pytest.mark.dear
@pytest.mark.density
def test_distributions_cross_every_boundary(policy, params):
    observations = policies.observations(policy, (3, 4))
    actions = act(policy, params, KEY, observations, (3, 4)).actions
    distribution, _ = policy.apply(params, observations, carry=policy.initial_carry((3, 4)))
    expected = distribution.log_prob(actions)

    def one_step(observations):
        return policy.apply(params, observations, carry=policy.initial_carry((4,)))[0]

    mapped = jax.vmap(one_step)(observations)
    _, scanned = jax.lax.scan(lambda _, x: (None, one_step(x)), None, observations)
    assert_close(jax.jit(lambda d, a: d.log_prob(a))(distribution, actions), expected, 2e-5)
    assert_close(jax.vmap(lambda d, a: d.log_prob(a))(mapped, actions), expected, 2e-5)
    assert_close(jax.vmap(lambda d, a: d.log_prob(a))(scanned, actions), expected, 2e-5)


@pytest.mark.dear
@pytest.mark.usefixtures("x64")
def test_gradients_equal_finite_differences(name, policy, params):
    modes = ("fwd", "rev")
    params = policies.as_type(params, jnp.float64)
    observations = policies.as_type(policies.observations(policy, (3,)), jnp.float64)
    noise = jnp.asarray(policies.noise(policy, (3,)), jnp.float64)
    carry = policies.as_type(policy.initial_carry((3,)), jnp.float64)
    scored = policies.scoring(policy, policy.act(params, None, observations, noise=noise, carry=carry))

    @jax.jit
    def scores(params):
        return policy.evaluate(params, observations, **scored, carry=carry)[:2]

    @jax.jit
    def sample(params, noise):
        return policy.act(params, None, observations, noise=noise, carry=carry)[:2]

    check_grads(scores, (params,), order=1, modes=modes, eps=1e-6, atol=1e-6, rtol=1e-6)
    check_grads(sample, (params, noise), order=1, modes=modes, eps=1e-6, atol=1e-6, rtol=1e-6)


@pytest.mark.dear
def test_gradients_are_finite_bare_and_compiled(policy, params):
    observations = policies.observations(policy, (4,))

    def loss(params):
        result = act(policy, params, KEY, observations, (4,))
        scored = evaluate(policy, params, observations, jax.lax.stop_gradient(result), (4,))
        return jnp.sum(result.actions) + jnp.sum(result.log_prob) + jnp.sum(scored.log_prob) + jnp.sum(scored.entropy)

    gradient = jax.grad(loss)(params)
    chex.assert_tree_all_finite(gradient)
    assert_close(jax.jit(jax.grad(loss))(params), gradient, 2e-5)


def test_the_log_prob_of_an_action_is_that_of_evaluate(name, policy, params):
    observations = policies.observations(policy, (4,))
    result = act(policy, params, KEY, observations, (4,))
    scored = evaluate(policy, params, observations, result, (4,))
    assert_close(result.log_prob, scored.log_prob, 2e-5)
    raw, carry = result.outputs["raw_actions"], policy.initial_carry((4,))
    assert_close(policy.evaluate(params, observations, raw_actions=raw, carry=carry).log_prob, result.log_prob, 2e-5)
    if "taken_actions" in policies.scoring(policy, result):
        taken = act(policy, params, KEY, observations, (4,), taken_actions=result.actions)
        assert_close(taken.log_prob, scored.log_prob)
        assert_close(taken.actions, result.actions)


def test_outputs_of_all_functions_agree(policy, params):
    observations, carry = policies.observations(policy, (4,)), policy.initial_carry((4,))
    result = policy.act(params, KEY, observations, carry=carry)
    scored = policy.evaluate(params, observations, **policies.scoring(policy, result), carry=carry)
    distribution, applied = policy.apply(params, observations, carry=carry)
    without_sample = {output: value for output, value in result.outputs.items() if output != "raw_actions"}
    assert_close(scored.outputs, without_sample)
    assert_close(applied, without_sample)
    for outputs in (result.outputs, scored.outputs):
        assert_close(policy.distribution(outputs), distribution)
    assert_close(policy.log_std(params, observations, carry=carry), applied["log_std"])


@pytest.mark.dear
@pytest.mark.density
def test_reductions_are_of_the_terms_of_the_dimensions(name, policy, params):
    reduce = {"sum": np.sum, "mean": np.mean, "prod": np.prod}
    reductions = policies.TABLE[name].reductions
    if "none" not in reductions:
        pytest.skip("this kind has no terms of single dimensions")
    observations = policies.observations(policy, (4,))
    actions = act(policy, params, KEY, observations, (4,))
    terms = evaluate(policies.make(name, reduction="none")[0], params, observations, actions, (4,))
    assert terms.log_prob.shape == terms.entropy.shape == (4, policies.size(policy))
    for reduction in reductions:
        if reduction == "none":
            continue
        reduced = evaluate(policies.make(name, reduction=reduction)[0], params, observations, actions, (4,))
        expected = [reduce[reduction](np.asarray(terms[i]), axis=-1, keepdims=True) for i in (0, 1)]
        assert_close([reduced.log_prob, reduced.entropy], expected, 2e-5)


@pytest.mark.dear
@pytest.mark.density
def test_without_keepdims_the_reduced_axis_is_gone(name, policy, params):
    flat = policies.make(name, keepdims=False)[0]
    observations = policies.observations(policy, (4,))
    kept, dropped = (act(each, params, KEY, observations, (4,)) for each in (policy, flat))
    assert_close(dropped.log_prob, jnp.squeeze(kept.log_prob, -1))
    kept, dropped = (evaluate(each, params, observations, kept, (4,)) for each in (policy, flat))
    assert_close([dropped.log_prob, dropped.entropy], [jnp.squeeze(x, -1) for x in (kept.log_prob, kept.entropy)])
