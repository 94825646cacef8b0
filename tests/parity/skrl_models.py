"""Numbers, shapes and versions of our models beside skrl's mixins; run by skrl's Python."""

import itertools
import sys
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from skrl.models.jax import GaussianMixin as JaxMixin
from skrl.models.jax import Model as JaxModel
from skrl.models.torch import GaussianMixin as TorchMixin
from skrl.models.torch import Model as TorchModel
from skrl.models.torch import MultivariateGaussianMixin

import gaussjax
from gaussjax import networks
from tests.parity.skrl_beside import (
    BOX,
    FRAMEWORKS,
    LOG_STD,
    PARAMS,
    SEEN,
    TAKEN,
    WEIGHTS,
    X,
    array,
    close,
    linear,
    made,
    main,
    numbers,
)

BOUNDS = {
    "full": ((-0.5, -0.5), (0.5, 0.5)),
    "half": ((-0.5, -0.5), (np.inf, 0.5)),
    "none": ((-np.inf,) * 2, (np.inf,) * 2),
}
ROWS = list(itertools.product(BOUNDS, (False, True), ("sum", "mean", "prod", "none")))


class InTorch(TorchMixin, TorchModel):
    def __init__(self, actions, **options):
        TorchModel.__init__(self, observation_space=SEEN, action_space=actions, device="cpu")
        TorchMixin.__init__(self, **options)

    def compute(self, inputs, role):
        return inputs["observations"] @ torch.from_numpy(WEIGHTS), {"log_std": torch.from_numpy(LOG_STD)}


class InJax(JaxMixin, JaxModel):
    def __init__(self, observation_space, state_space, action_space, device=None, options=None, **linen):
        spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
        JaxModel.__init__(self, **spaces, device=device, **linen)
        JaxMixin.__init__(self, **options)

    def apply(self, params, inputs, role=""):
        return inputs["observations"] @ WEIGHTS, {"log_std": jnp.asarray(LOG_STD)}


@FRAMEWORKS
@pytest.mark.parametrize(("bounds", "clip", "reduction"), ROWS)
def test_values_shapes_reductions_and_clips_are_those_of_skrl(framework, bounds, clip, reduction):
    box = gymnasium.spaces.Box(*(np.array(side, np.float32) for side in BOUNDS[bounds]))
    options = {"clip_actions": clip, "clip_mean_actions": clip, "reduction": reduction}
    model = made(framework, linear(box, **options), params=PARAMS)
    if framework == "torch":
        torch.manual_seed(1)
        found = model.act({"observations": torch.from_numpy(X), "states": None}, role="policy")
        if bounds == "none" and clip:
            # skrl raises here; a clip that has nothing to clip is no error.
            free = made(framework, linear(box, reduction=reduction), params=PARAMS)
            torch.manual_seed(1)
            assert (found[0] == free.act({"observations": torch.from_numpy(X)})[0]).all()
            with pytest.raises(RuntimeError):
                InTorch(box, **options).act({"observations": torch.from_numpy(X)})
            return
        theirs = InTorch(box, **options)
        torch.manual_seed(1)
        expected = theirs.act({"observations": torch.from_numpy(X)}, role="policy")
        entropies = model.get_entropy(role="policy"), theirs.get_entropy(role="policy")
        shown, other = model.distribution(role="policy"), theirs.distribution(role="policy")
        for name in ("loc", "scale", "stddev", "mean"):
            close(getattr(shown, name), getattr(other, name))
        close(shown.entropy(), other.entropy())
        close(shown.log_prob(torch.from_numpy(TAKEN)), other.log_prob(torch.from_numpy(TAKEN)))
    else:
        theirs = InJax(SEEN, None, box, device="cpu", options=options)
        theirs.state_dict = SimpleNamespace(params={})
        model._key, model._calls = theirs._g_key, 1
        found = model.act({"observations": X, "states": None}, role="policy")
        expected = theirs.act({"observations": X}, role="policy")
        entropies = model.get_entropy(found[1]["stddev"], role="policy"), theirs.get_entropy(expected[1]["stddev"])
        # skrl gives one number where log_std is a parameter, and promises (N, 1).
        assert entropies[0].shape == (6, 1)
        entropies = entropies[0][0], entropies[1]
        close(found[1]["stddev"], np.broadcast_to(expected[1]["stddev"], (6, 2)))
    close(found[0], expected[0])
    close(*entropies)
    for name in ("log_prob", "mean_actions"):
        close(found[1][name], expected[1][name])
    close(found[1]["log_std"], np.broadcast_to(numbers(expected[1]["log_std"]), (6, 2)))
    inputs = {"observations": array(framework, X), "taken_actions": array(framework, TAKEN)}
    close(model.act(dict(inputs), role="policy")[1]["log_prob"], theirs.act(dict(inputs), role="policy")[1]["log_prob"])


@FRAMEWORKS
def test_the_conventions_of_three_versions(framework):
    found = {}
    for version in ("1.4.3", "2.0.0", "2.1.1"):
        model = made(framework, linear(), params=PARAMS, version=version)
        name = "states" if version == "1.4.3" else "observations"
        found[version] = model.act({name: array(framework, X)}, role="policy")
        stddev = [] if framework == "torch" else [found[version][-1]["stddev"]]
        entropy = model.get_entropy(*stddev, role="policy")
        assert tuple(entropy.shape) == ((6, 1) if version == "2.1.1" else (6, 2))
        np.testing.assert_allclose(numbers(entropy).sum(-1), np.log(2 * np.pi * np.e) + 1.5, rtol=1e-6)
    assert [len(result) for result in found.values()] == [3, 2, 2]
    assert tuple(found["1.4.3"][1].shape) == (6, 1)
    assert "log_prob" in found["2.0.0"][1]
    with pytest.raises(ValueError, match=r"version: expected one of .*got '2.1'"):
        made(framework, linear(), version="2.1")


@FRAMEWORKS
@pytest.mark.parametrize("kind", ["squashed", "truncated", "multivariate", "censored", "state"])
def test_other_kinds_give_the_numbers_of_their_policies(framework, kind):
    network = networks.MLP((8,), std="state" if kind == "state" else "parameter", initial_log_std=-0.5)
    named = "squashed", "truncated", "multivariate"
    factory = {name: getattr(gaussjax, f"{name}_gaussian") for name in named}
    options = {"clip_actions": True, "clipped_log_prob": "censored"} if kind == "censored" else {}
    policy = factory.get(kind, gaussjax.gaussian)(network, SEEN, BOX, **options)
    params = jax.tree.map(lambda leaf: leaf + 0.1, policy.init(jax.random.key(1)))
    model = made(framework, policy, params=params)
    torch.manual_seed(2)
    actions, outputs = model.act({"observations": array(framework, X)}, role="policy")
    key = {"noise": torch.randn(6, 2, generator=torch.manual_seed(2)).numpy()} if framework == "torch" else {}
    expected = policy.act(params, None if key else jax.random.fold_in(model._key, 0), X, **key)
    close(actions, expected.actions)
    close(outputs["log_prob"], expected.log_prob)
    entropy = policy.entropy(params, X).sum(-1, keepdims=True)
    close(model.get_entropy(*([] if framework == "torch" else [outputs["stddev"]]), role="policy"), entropy)
    taken = np.clip(TAKEN, -0.4, 0.4)
    inputs = {"observations": array(framework, X), "taken_actions": array(framework, taken)}
    close(model.act(inputs, role="policy")[1]["log_prob"], policy.evaluate(params, X, taken).log_prob)
    if framework == "torch":
        close(model.distribution().stddev, policy.apply(params, X)[0].stddev())


def test_the_multivariate_model_starts_as_that_of_skrl():
    class Theirs(MultivariateGaussianMixin, TorchModel):
        def __init__(self):
            TorchModel.__init__(self, observation_space=SEEN, action_space=BOX, device="cpu")
            MultivariateGaussianMixin.__init__(self)

        compute = InTorch.compute

    policy = linear(factory=gaussjax.multivariate_gaussian)
    params = policy.init(jax.random.key(0))
    params["params"]["head"] |= PARAMS["params"]["head"]
    model, theirs, inputs = made("torch", policy, params=params), Theirs(), {"observations": torch.from_numpy(X)}
    results = []
    for one in (model, theirs):
        torch.manual_seed(3)
        results.append((*one.act(inputs), one.get_entropy()))
    close(results[0][0], results[1][0])
    close(results[0][1]["log_prob"], results[1][1]["log_prob"])
    close(results[0][2], results[1][2])


@FRAMEWORKS
def test_values_and_action_values_are_deterministic_models(framework):
    one = gaussjax.spaces.Box(shape=(1,))
    both = gymnasium.spaces.Dict({"observations": SEEN, "taken_actions": BOX})
    critic = made(framework, gaussjax.gaussian(networks.MLP((8,)), both, one), deterministic=True)
    inputs = {"observations": array(framework, X), "taken_actions": array(framework, TAKEN)}
    q, further = critic.act(inputs, role="critic_1")
    assert tuple(q.shape) == (6, 1)
    assert further == {}
    assert (
        abs(numbers(critic.act({**inputs, "taken_actions": 2 * inputs["taken_actions"]})[0]) - numbers(q)).max() > 1e-3
    )
    # No log_std is trained, and no tanh bounds a value.
    names = list(critic.state_dict()) if framework == "torch" else critic.state_dict.params["params"]["head"].keys()
    assert not any("log_std" in name for name in names)
    wide = made(framework, gaussjax.gaussian(networks.MLP(()), SEEN, one), deterministic=True)
    assert abs(numbers(wide.act({"observations": array(framework, 100 * X)}, role="value")[0])).max() > 1.0
    actor = made(framework, gaussjax.gaussian(networks.MLP((8,)), SEEN, BOX, clip_actions=True), deterministic=True)
    assert abs(numbers(actor.act({"observations": array(framework, 100 * X)}, role="policy")[0])).max() <= 0.5


@FRAMEWORKS
def test_policies_that_cannot_score_an_environments_actions_are_refused(framework):
    policy = linear(clip_actions=True, clipped_log_prob="unclipped")
    with pytest.raises(ValueError, match="policy: expected a policy that scores the actions of its environment"):
        made(framework, policy)
    with pytest.raises(TypeError, match=r"policy: expected a policy such as gaussjax.gaussian makes"):
        made(framework, networks.MLP())


def test_the_plain_gaussian_of_torch_is_the_policy():
    for box, options in (
        (BOX, {}),
        (BOX, {"clip_actions": True}),
        (BOX, {"clip_mean_actions": True, "clip_log_std": False, "reduction": "prod"}),
        (gymnasium.spaces.Box(-0.5, 0.5, (1,)), {"reduction": "mean"}),
    ):
        model = made("torch", linear(box, **options), params=PARAMS if box is BOX else None)
        assert model._plain is not None
        results = []
        for plain in (model._plain, None):
            model._plain = plain
            torch.manual_seed(5)
            found = model.act({"observations": torch.from_numpy(X).requires_grad_()}, role="policy")
            loss = found[1]["log_prob"].sum() + found[0].sum() + model.get_entropy().sum()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            results.append((found[0], found[1]["log_prob"], *gradients))
        for one, other in zip(*results, strict=True):
            close(one, other, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    main(__file__, *sys.argv[1:])
