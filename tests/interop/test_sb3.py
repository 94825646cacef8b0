"""Models of Stable-Baselines3 and SBX: images, spaces, and the refusal of classes that the reader does not know."""

import base64
import io
import json
import re
import zipfile

import numpy as np
import pytest
import torch

import gaussjax
from gaussjax.interop import sb3
from tests.interop import checkpoints


def rewritten(path, change, name="sb3_ppo.zip"):
    """Writes a copy of a model of SB3 after `change(data)` of its JSON; returns the copy's path."""
    source = checkpoints.folder("sb3") / name
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            payload = before.read(name)
            if name == "data":
                data = json.loads(payload)
                change(data)
                payload = json.dumps(data).encode()
            if payload:
                after.writestr(name, payload)
    return path


# Bounds of images as NumPy prints them.
PIXELS = {"low": "[[[0 0 0 ... 0 0 0]\n  ...\n  [0 0 0 ... 0 0 0]]]", "high": "[[[255 255 ... 255 255]\n  ...]]"}


def nature_cnn():
    conv = torch.nn.Sequential(
        *(torch.nn.Conv2d(2, 3, 8, 4), torch.nn.ReLU(), torch.nn.Conv2d(3, 4, 4, 2), torch.nn.ReLU()),
        *(torch.nn.Conv2d(4, 5, 3, 1), torch.nn.ReLU(), torch.nn.Flatten()),
    )
    return conv, torch.nn.Linear(5 * 1 * 2, 6), torch.nn.Linear(6, 2)


def with_cnn(path, change):
    """Writes a model of SB3 with NatureCNN after `change(data)` of its JSON; returns its path and layers."""
    torch.manual_seed(0)
    conv, linear, action = nature_cnn()
    state = {f"pi_features_extractor.cnn.{name}": tensor for name, tensor in conv.state_dict().items()}
    state |= {f"features_extractor.cnn.{name}": tensor + 1 for name, tensor in conv.state_dict().items()}
    state |= {f"pi_features_extractor.linear.0.{name}": tensor for name, tensor in linear.state_dict().items()}
    state |= {f"action_net.{name}": tensor for name, tensor in action.state_dict().items()}
    state |= {"log_std": torch.zeros(2), "value_net.weight": torch.zeros(1, 6)}
    rewritten(path, change)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(path) as before:
        entries = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, payload in {**entries, "policy.pth": buffer.getvalue()}.items():
            after.writestr(name, payload)
    return path, (conv, linear, action)


def test_a_cnn_of_sb3_sees_images_with_their_channels_last(tmp_path):
    def change(data):
        data["observation_space"] |= {"dtype": "uint8", "_shape": [2, 36, 44], **PIXELS}

    path, (conv, linear, action) = with_cnn(tmp_path / "model.zip", change)
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 36, 44), dtype=np.uint8)
    with torch.no_grad():
        expected = action(torch.relu(linear(conv(torch.as_tensor(images) / 255))))
    found = sb3.read(path).act(images.transpose(0, 2, 3, 1)).actions
    np.testing.assert_allclose(found, expected.clamp(torch.tensor([-2.0, -0.5]), torch.tensor([1.0, 1.5])), atol=1e-6)


def bounds(data):
    data["action_space"] |= {"low": "[-1. ... -1.]", "high": "[1. ... 1.]"}


UNFIT_SB3 = {
    "action_space: expected a Box of 2 actions, because": bounds,
    "expected a Box as action space": lambda data: data["action_space"].update({":type:": "<class 'x.Discrete'>"}),
    "got one of 'my.policies'": lambda data: data["policy_class"].update(__module__="my.policies"),
    "expected one of the activations": lambda data: data.update(policy_kwargs={"activation_fn": "<class 'my.Act'>"}),
    "images without NatureCNN": lambda data: data["observation_space"].update(
        dtype="uint8", _shape=[3, 1, 1], **PIXELS
    ),
    "got \"<class '__main__.SymLog'>\". Classes of your own": lambda data: data.update(
        policy_kwargs={":type:": "<class 'dict'>", "features_extractor_class": "<class '__main__.SymLog'>"}
    ),
    "got \"<class 'stable_baselines3.common.torch_layers.Own'>\"": lambda data: data.update(
        policy_kwargs={"features_extractor_class": "<class 'stable_baselines3.common.torch_layers.Own'>"}
    ),
    "expected a dict as policy_kwargs": lambda data: data.update(policy_kwargs={":type:": "<class 'mappingproxy'>"}),
    "got \"<class 'own.torch.nn.modules.activation.Tanh'>\"": lambda data: data.update(
        policy_kwargs={"activation_fn": "<class 'own.torch.nn.modules.activation.Tanh'>"}
    ),
    "expected observations of a Box, Discrete": lambda data: data["observation_space"].update(
        {":type:": "<class 'Text'>"}
    ),
}


@pytest.mark.parametrize(("error", "change"), UNFIT_SB3.items(), ids=UNFIT_SB3)
def test_models_of_sb3_that_do_not_fit_are_named(error, change, tmp_path):
    with pytest.raises(ValueError, match=re.escape(error)):
        sb3.read(rewritten(tmp_path / "model.zip", change))


def test_extractors_of_sb3_itself_are_read(tmp_path):
    extractor = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
    path = rewritten(tmp_path / "a.zip", lambda data: data["policy_kwargs"].update(features_extractor_class=extractor))
    expected = checkpoints.read("sb3", "sb3_ppo.zip")
    assert sb3.read(path).policy.spec == expected.policy.spec


# Error, and a change of the same length to the pickle of an actor of SBX.
OWN_SBX = {
    "expected an activation of jax.nn, got a function of 'own._src": (
        b"jax._src.numpy.ufuncs",
        b"own._src.numpy.ufuncs",
    ),
    "SquashedGaussianActor', 'sbx.sac.policies Actor'), got 'own.": (b"sbx.ppo.policies", b"own.ppo.policies"),
    "expected an actor without a features extractor": (b"N\x8c\x0cfeatures_dim", b"\x88\x8c\x0cfeatures_dim"),
}


@pytest.mark.parametrize(("error", "bytes_"), OWN_SBX.items(), ids=OWN_SBX)
def test_functions_and_classes_of_the_user_in_sbx_are_named(error, bytes_, tmp_path):
    def change(data):
        payload = base64.b64decode(data["policy"][":serialized:"])
        assert bytes_[0] in payload
        data["policy"][":serialized:"] = base64.b64encode(payload.replace(*bytes_)).decode()

    with pytest.raises(sb3.CheckpointError, match=re.escape(error)):
        sb3.read(rewritten(tmp_path / "model.zip", change, "sbx_ppo.zip"))


def test_sbx_refuses_images_because_its_networks_flatten_them_with_their_channels_first(tmp_path):
    def change(data):
        data["observation_space"] |= {"dtype": "uint8", "_shape": [3, 1, 1], **PIXELS}

    with pytest.raises(sb3.CheckpointError, match="images without NatureCNN"):
        sb3.read(rewritten(tmp_path / "model.zip", change, "sbx_ppo.zip"))


@pytest.mark.parametrize("nested", [False, True])
def test_arrays_of_uint8_that_are_no_images_keep_their_order_in_sb3(nested, tmp_path):
    box = {
        "dtype": "uint8",
        "_shape": [3, 1, 1],
        "low": "[[[0]]\n\n [[0]]\n\n [[0]]]",
        "high": "[[[9]]\n\n [[9]]\n\n [[9]]]",
    }
    text = {":type:": "<class 'gymnasium.spaces.dict.Dict'>", "spaces": "{'grid': Box(0, 9, (3, 1, 1), uint8)}"}
    path = rewritten(tmp_path / "a.zip", lambda data: data["observation_space"].update(text if nested else box))
    grids = np.random.default_rng(0).integers(0, 10, (5, 3, 1, 1), dtype=np.uint8)
    expected = checkpoints.read("sb3", "sb3_ppo.zip").act(grids.reshape(5, 3).astype(np.float32)).actions
    found = sb3.read(path).act({"grid": grids} if nested else grids).actions
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_cnn_of_sb3_without_the_bounds_of_images_is_refused(tmp_path):
    # SB3 divides only numbers with the bounds 0 and 255 by 255.
    def change(data):
        data["observation_space"] |= {"dtype": "uint8", "_shape": [2, 36, 44], **PIXELS, "high": "[[[9 ... 9]]]"}

    with pytest.raises(sb3.CheckpointError, match="expected NatureCNN for images of dtype uint8, got others"):
        sb3.read(with_cnn(tmp_path / "model.zip", change)[0])


def test_bounds_of_sb3_that_the_file_lacks_are_an_argument(tmp_path):
    loaded = sb3.read(rewritten(tmp_path / "model.zip", bounds), action_space=(-1.0, 1.0))
    assert loaded.policy.spec.action_space == gaussjax.spaces.Box(-1.0, 1.0, (2,))
    with pytest.raises(sb3.CheckpointError, match=r"policy\.save"):
        sb3.read(checkpoints.folder("sb3") / "sb3_policy.pth")
