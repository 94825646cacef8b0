import json

import jax
import numpy as np
import pytest

import gaussjax
import gaussjax.torch
from gaussjax.networks import GRU, LSTM, MLP, ActorCritic, Graph, from_spec
from gaussjax.networks.description import to_dict
from gaussjax.networks.expressions import parse, write
from gaussjax.spaces import Box, Dict, Discrete, Tuple
from tests import policies

ACTIONS = Box(shape=(2,))
SPACE = Dict(
    (
        ("image", Box(0.0, 255.0, (12, 12, 3), "uint8")),
        ("gear", Discrete(3)),
        ("state", Box(shape=(5,))),
        ("pair", Tuple((Box(shape=(2,)), Box(shape=(4,))))),
    )
)
# PyYAML raises an error of another type for each.
BROKEN = ["a: [", "a: \x00", "!!timestamp a", "!!int ''", "!!bool a", "!!float a", "{[a]: 1}", "*a", "[" * 60]
# A list that is its own entry.
LOOP: list = []
LOOP.append(LOOP)
TEXT = """
nodes:
  - name: pixels
    input: observations["image"]
    layers: [{conv: {features: 4, kernel: 4, stride: 2}}, relu, {conv: {features: 4, padding: SAME}}, flatten]
  - name: body
    input: concatenate([pixels, observations["state"][0:3], observations["gear"], observations['pair'][1]])
    layers: [16, norm, 8]
    activations: [relu, tanh]
  - name: past
    input: body
    layers: [{lstm: {hidden_size: 8}}]
output: past + body
value: past
output_activation: null
std: state
"""


def sample(batch, seed=0):
    generator = np.random.default_rng(seed)

    def normal(n):
        return generator.normal(size=(*batch, n)).astype(np.float32)

    return {
        "image": generator.integers(0, 256, (*batch, 12, 12, 3)).astype(np.uint8),
        "gear": generator.integers(0, 3, batch, dtype=np.int32),
        "state": normal(5),
        "pair": (normal(2), normal(4)),
    }


def vector(*nodes, **options):
    return gaussjax.gaussian(Graph(nodes=list(nodes), **options), 6, ACTIONS)


def test_a_description_of_everything_steps_and_unrolls_alike():
    policy = gaussjax.gaussian(from_spec(TEXT), SPACE, ACTIONS)
    params = policies.random_params(policy)
    observations, resets = sample((7, 3)), np.random.default_rng(1).random((7, 3)) < 0.3
    carry = policy.initial_carry((3,))
    assert params["params"]["parts_body_0"]["kernel"].shape == (5 * 5 * 4 + 3 + 3 + 4, 16)

    def step(carry, inputs):
        distribution, outputs = policy.apply(params, inputs[0], carry=carry, resets=inputs[1])
        return outputs["carry"], (distribution.mean(), outputs["value"])

    _, (means, values) = jax.lax.scan(step, carry, (observations, resets))
    distribution, outputs = policy.apply(params, observations, carry=carry, resets=resets)
    np.testing.assert_allclose(distribution.mean(), means, atol=1e-6)
    np.testing.assert_allclose(outputs["value"], values, atol=1e-6)


def test_only_what_is_named_is_seen():
    policy = gaussjax.gaussian(from_spec(TEXT), SPACE, ACTIONS)
    params = policies.random_params(policy)
    observations, carry = sample((3,)), policy.initial_carry((3,))
    mean = policy.apply(params, observations, carry=carry)[0].mean()

    def moved(**changes):
        return np.max(np.abs(policy.apply(params, {**observations, **changes}, carry=carry)[0].mean() - mean)) > 1e-6

    state = observations["state"].copy()
    state[:, 3:] += 1.0
    assert not moved(state=state)
    assert not moved(pair=(observations["pair"][0] + 1, observations["pair"][1]))
    assert moved(state=observations["state"] + 1)
    assert moved(image=255 - observations["image"])
    assert moved(gear=(observations["gear"] + 1) % 3)


def test_a_graph_of_dense_layers_is_the_mlp():
    graph = vector({"name": "body", "layers": [8, 4], "activations": "relu"}, output_activation="tanh")
    mlp = gaussjax.gaussian(MLP((8, 4)), 6, ACTIONS)
    params = policies.random_params(mlp)["params"]
    renamed = {"parts_body_0": params["layers"]["dense_0"], "parts_body_2": params["layers"]["dense_1"]}
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    got = graph.apply({"params": {**renamed, "head": params["head"]}}, x)[0]
    np.testing.assert_array_equal(got.mean(), mlp.apply({"params": params}, x)[0].mean())


def test_a_graph_can_be_the_shared_trunk_of_an_actor_critic():
    graph = Graph(nodes=[{"name": "a", "layers": [8, "relu"]}, {"name": "b", "input": "a", "layers": [{"gru": 4}]}])
    policy = gaussjax.gaussian(ActorCritic(graph, shared=True), 6, ACTIONS)
    params = policies.random_params(policy)
    carry = policy.initial_carry((5,))
    outputs = jax.eval_shape(lambda: policy.apply(params, np.ones((5, 6), np.float32), carry=carry))[1]
    assert outputs["value"].shape == (5,)
    assert outputs["carry"]["actor"]["b_0"][0].shape == (5, 4)


@pytest.mark.parametrize(
    "network",
    [
        from_spec(TEXT),
        ActorCritic(GRU(hidden_size=4), sizes=(3,), critic=LSTM(num_layers=2), actor_keys=("state",)),
        ActorCritic(from_spec(TEXT), critic_keys=("state", "gear")),
    ],
    ids=["graph", "recurrent", "graph-in-actor-critic"],
)
def test_descriptions_survive_json(network):
    policy = gaussjax.gaussian(network, SPACE, ACTIONS)
    text = json.dumps(policy.spec.to_dict(), allow_nan=False)
    again = gaussjax.from_spec(json.loads(text))
    assert again.spec == policy.spec
    assert hash(again.spec) == hash(policy.spec)
    assert json.dumps(again.spec.to_dict()) == text


def test_every_activation_and_layer_can_be_described():
    layers = [8, *gaussjax.networks.ACTIVATIONS, "norm", "flatten", {"linear": 8}, {"rnn": 4}, {"rnn_relu": 4}]
    policy = vector({"name": "all", "layers": [*layers, {"gru": 4}, {"lstm": 4}, {"mingru": 4}]})
    carry = policy.initial_carry((2,))
    mean = policy.apply(policies.random_params(policy), np.ones((2, 6), np.float32), carry=carry)[0].mean()
    assert np.all(np.isfinite(mean))


@pytest.mark.parametrize(
    "text",
    [
        "observations",
        "a['key'][0]['other'][:, 1:-2, ::2]",
        "concatenate([a, b + a * b, concatenate([a])])",
        '(a + b) * observations["x y"]',
        "2 * tanh(a * 0.5) + softplus(-1e-3 * b) * relu(3 * (4 * a))",
        "0.5 + tanh(a + -2.0) * (b + 1)",
    ],
)
def test_expressions_survive_writing(text):
    tree = parse(text, ("observations", "a", "b"), "input")
    assert parse(write(tree), ("observations", "a", "b"), "input") == tree


NO_EXPRESSIONS = (
    "__import__('os').system('true')|observations.__class__|(lambda: a)()|[a for a in a]|concatenate(a)|"
    "open('x')|a[b]|a[0.5:]|a - b|2 + 3|2 * 3|7|True * a|1e999 * a|-1e999 * a|1j * a|'2' * a|tanh|tanh()|"
    "tanh(2)|tanh(a, b)|tanh(x=a)|jnp.tanh(a)|a if a else b|f'{a}'|a; b|"
)


@pytest.mark.parametrize(
    "text",
    [*NO_EXPRESSIONS.split("|"), "(" * 400 + "a" + ")" * 400, "a" + "+a" * 600, "-" * 900 + "a", 7],
)
def test_nothing_else_is_an_expression(text):
    with pytest.raises(ValueError, match="input: expected"):
        parse(text, ("observations", "a", "b"), "input")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"type": "LTSM"}, r"network type: .*Did you mean 'LSTM'"),
        ({"type": "GRU", "hiden_size": 4}, r"field of GRU: .*Did you mean 'hidden_size'"),
        ({"type": "custom", "name": "Mine"}, "'Mine' is not one of gaussjax's own networks"),
        ({"type": "ActorCritic", "actor": {"type": "MLP", "norms": None}}, r"field of MLP: .*Did you mean 'norm'"),
        ({"type": "ActorCritic"}, r"ActorCritic: expected the fields \['actor'\]"),
        ({"nodes": [{"name": "a", "layers": ["rleu"]}]}, r"node 'a': layer: .*Did you mean 'relu'"),
        ({"nodes": [{"name": "a", "layers": [{"liner": 4}]}]}, r"node 'a': layer: .*Did you mean 'linear'"),
        ({"nodes": [{"name": "a", "layers": [{"conv": {"featurs": 4}}]}]}, r"Did you mean 'features'"),
        ({"nodes": [{"name": "a", "layers": [{"conv": {"kernel": 4}}]}]}, r"conv: expected the option 'features'"),
        ({"nodes": [{"name": "a", "layers": [{"linear": -4}]}]}, r"features: expected a positive integer, got -4"),
        ({"nodes": [{"name": "a", "layers": [4], "activations": "tahn"}]}, r"activation: .*Did you mean 'tanh'"),
        ({"nodes": [{"name": "a", "layers": [4], "activations": []}]}, r"one for each of the 1 linear"),
        ({"nodes": [{"name": "a", "inputs": "observations"}]}, r"field of a node: .*Did you mean 'input'"),
        ({"nodes": [{"name": "a", "input": "observation"}]}, r"input: .*Did you mean 'observations'"),
        ({"nodes": [{"name": "a", "input": "b"}, {"name": "b"}]}, r"node 'a': input: expected one of .* got 'b'"),
        ({"nodes": [{"name": "a"}, {"name": "a"}]}, r"expected an unused identifier as name, got 'a'"),
        ({"nodes": [{"name": "a"}], "output": "aa"}, r"output: .*Did you mean 'a'"),
        ({"nodes": [{"name": "a", "input": "2 * tahn(observations)"}]}, r"node 'a': input: .*Did you mean 'tanh'"),
        ({"nodes": []}, "nodes: expected a list of nodes"),
        ({"type": "MLP", "sizes": LOOP}, "at most 10,000 entries that are nested at most 50 deep"),
        ({"type": "MLP", "sizes": [8] * 300}, "network: expected at most 256 layers, got 303"),
        ({"type": "LSTM", "num_layers": 10**9}, "network: expected at most 256 layers, got 1,000,000,005"),
        ({"type": "GRU", "num_layers": float("inf")}, "network: expected at most 256 layers, got inf"),
        ({"nodes": [{"name": "a", "layers": [{"gru": {"hidden_size": 1, "num_layers": 300}}]}]}, "at most 256 layers"),
        ({"nodes": [{"name": f"n{i}", "input": "+".join(["observations"] * 9)} for i in range(200)]}, "most 20,000"),
        ({"nodes": [{"name": "a"}, {"name": "ａ"}]}, "expected an unused identifier as name, got 'ａ'"),
        ("a: " + "x" * 200_000, "expected YAML of at most 100,000 characters, got 200,003"),
        ("type: &a [*a]", "at most 10,000 entries"),
        ("{type: MLP, <<: {sizes: [8], sizees: [4]}}", "Did you mean 'sizes'"),
        *((text, "expected YAML of plain data") for text in BROKEN),
        ("!!python/object/apply:os.system ['true']", "expected YAML of plain data"),
        ("just a text", "expected a dict with the key 'type' or 'nodes'"),
    ],
)
def test_faults_in_a_description_are_named_with_the_nearest_word(described, message):
    with pytest.raises(ValueError, match=message):
        from_spec(described)


def test_names_are_normalised_as_python_normalises_them_in_expressions():
    network = from_spec({"nodes": [{"name": "ｂｏｄｙ", "layers": [4]}, {"name": "ﬁn", "input": "ｂｏｄｙ + body"}]})
    assert [node.name for node in network.nodes] == ["body", "fin"]
    assert from_spec(to_dict(network)) == network


def test_anchors_and_merge_keys_of_yaml_are_read():
    layers = "{name: a, layers: &wide [8, relu]}, {name: b, layers: *wide}, {<<: {input: a}, name: c, layers: *wide}"
    nodes = from_spec(f"nodes: [{layers}]").nodes
    assert [node.to_dict()["layers"] for node in nodes] == 3 * [[{"linear": {"features": 8}}, "relu"]]
    assert nodes[2].input == ("name", "a")


def test_numbers_and_activations_of_an_expression_are_those_of_torch_and_survive_json():
    options = {"output": "a * 0.5 + sigmoid(a)", "value": "tanh(a) + 0.25", "output_activation": "2 * tanh(mean) + 1"}
    policy = vector({"name": "a", "input": "-0.1 * softsign(observations[1:4])", "layers": [2]}, **options)
    params = policies.random_params(policy)
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    outputs = policy.apply(params, x)[1]
    layers = params["params"]

    def dense(features, layer):
        return features @ layer["kernel"] + layer["bias"]

    a = dense(-0.1 * (x / (1 + np.abs(x)))[:, 1:4], layers["parts_a_0"])
    mean = dense(0.5 * a + 1 / (1 + np.exp(-a)), layers["head"]["mean"])
    np.testing.assert_allclose(outputs["mean_actions"], 2 * np.tanh(mean) + 1, atol=1e-6)
    np.testing.assert_allclose(outputs["value"], dense(np.tanh(a) + 0.25, layers["value_layer"])[:, 0], atol=1e-6)

    again = gaussjax.from_spec(json.loads(json.dumps(policy.spec.to_dict())))
    assert again.spec == policy.spec
    assert np.array_equal(again.apply(params, x)[1]["mean_actions"], outputs["mean_actions"])
    twin = gaussjax.torch.from_spec(again.spec)
    found = twin.apply(gaussjax.torch.to_torch(policy.spec, params), x)[1]
    for name in ("mean_actions", "value"):
        np.testing.assert_allclose(found[name].detach(), outputs[name], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 * tahn(mean)", "output_activation: .*Did you mean 'tanh'"),
        ("2 * tanh(maen)", "output_activation: .*Did you mean 'mean'"),
        ("mean + mean", r"expected numbers and activations as in 2 \* tanh\(mean\), got 'mean \+ mean'"),
        ("mean[0:1]", "expected numbers and activations"),
        (2, "output_activation: expected a text"),
    ],
)
def test_what_bends_the_mean_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        gaussjax.gaussian(MLP((4,), output_activation=text), 6, ACTIONS).init(jax.random.key(0))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"input": "observations['image']", "layers": [4]},
            r"linear: expected elements with 1 axes, got \(12, 12, 3\)",
        ),
        ({"input": "observations['state']", "layers": [{"conv": 4}]}, "conv: expected elements with 3 axes"),
        ({"input": "observations['imgae']"}, "Did you mean 'image'"),
        ({"input": "observations['state']['x']"}, "expected a Dict or Tuple space with 'x'"),
        ({"input": "observations['pair'][2]"}, "expected a Dict or Tuple space with 2"),
        ({"input": "concatenate([observations['image'], observations['state']])"}, "parts with equally many axes"),
        ({"input": "observations['state'] + observations['pair'][1]"}, r"\+: expected the same shape"),
        ({"input": "observations['state'][:, 0:1]"}, "at most 1 slices"),
        (
            {"input": "observations['image']", "layers": [{"conv": {"features": 4, "kernel": 13}}]},
            "at least its kernel",
        ),
    ],
)
def test_what_does_not_fit_the_space_is_refused_by_its_node(node, message):
    policy = gaussjax.gaussian(from_spec({"nodes": [{"name": "a", **node}]}), SPACE, ACTIONS)
    with pytest.raises(ValueError, match=f"node 'a': .*{message}"):
        policy.init(jax.random.key(0))
