"""The readable part of a model of Stable-Baselines3: spaces and options as JSON and text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaussjax import spaces
from gaussjax.core import untrusted
from gaussjax.core.text import quoted
from gaussjax.interop.converted import MOST_ENTRIES, fault

_SAVE = "Save the whole model with model.save of Stable-Baselines3."
# Extractors whose function the reader knows. A subclass or a class without arrays may compute anything.
_EXTRACTORS = tuple(
    f"<class 'stable_baselines3.common.torch_layers.{name}'>"
    for name in ("CombinedExtractor", "FlattenExtractor", "NatureCNN")
)
# Types of policy_kwargs whose entries Stable-Baselines3 writes in the JSON.
_DICTS = ("<class 'dict'>", "<class 'collections.OrderedDict'>", "<class 'collections.defaultdict'>")
# The longest text of a space that is parsed, and most parts of a space.
_LONGEST, _MOST_PARTS = 1_000_000, 1000
_ENTRY = re.compile(r"'([^'\\]*)': (\w+)\(([^()]*(?:\([\d, ]*\)[^()]*)?)\)(?:, )?")


def read_data(path: Path, entry: bytes) -> dict[str, Any]:
    """Returns the JSON of the entry `data` of a model."""
    text = entry.decode()
    untrusted.refuse_swollen(text)
    data = json.loads(text)
    untrusted.refuse_large(data, MOST_ENTRIES)
    if not isinstance(data, dict) or not isinstance(data.get("policy_class"), dict):
        raise fault(path, "a dict with the entry policy_class", quoted(data), _SAVE)
    return data


def module(data: Mapping[str, Any]) -> str:
    """Returns the module of the policy's class, such as `stable_baselines3.common.policies`."""
    return str(data["policy_class"].get("__module__"))


def option(data: Mapping[str, Any], name: str, default: Any) -> Any:
    """Returns an option of `policy_kwargs`: JSON, or a text such as "True", "-0.5" or "<class 'torch…ReLU'>"."""
    options = data.get("policy_kwargs")
    value = options.get(name, default) if isinstance(options, dict) else default
    if isinstance(value, str) and not isinstance(default, str):
        plain = {"True": True, "False": False, "None": None}
        value = plain[value] if value in plain else float(value)
    return default if value is None else value


def refuse_own_classes(path: Path, data: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a features extractor that is not one of Stable-Baselines3."""
    options = data.get("policy_kwargs") or {}
    kind = options.get(":type:", _DICTS[0]) if isinstance(options, dict) else type(options).__name__
    if kind not in _DICTS:
        raise fault(path, "a dict as policy_kwargs", quoted(kind), "Its options cannot be read.")
    extractor = options.get("features_extractor_class", _EXTRACTORS[0])
    if extractor not in _EXTRACTORS:
        raise fault(
            path,
            "the features extractor FlattenExtractor, CombinedExtractor or NatureCNN of Stable-Baselines3",
            quoted(extractor),
            "Classes of your own are not converted.",
        )


def action_box(path: Path, data: Mapping[str, Any]) -> spaces.Box | None:
    """Returns the action space; None if the file has no complete list of the bounds."""
    space = data.get("action_space")
    if not isinstance(space, dict) or "box.Box" not in str(space.get(":type:")):
        got = space.get(":type:") if isinstance(space, dict) else space
        raise fault(path, "a Box as action space", quoted(got), "Policies of discrete actions are not converted.")
    shape = _shape(path, space)
    sides = [_numbers(str(space.get(side)), math.prod(shape)) for side in ("low", "high")]
    return None if None in sides else spaces.Box(*sides, shape)  # type: ignore[arg-type]


def observation_space(path: Path, data: Mapping[str, Any]) -> spaces.Space:
    """Returns the observation space, without the bounds of a Box, which a policy does not use."""
    space = data.get("observation_space")
    if not isinstance(space, dict):
        raise fault(path, "an observation space", quoted(space), _SAVE)
    name = re.search(r"(\w+)'>$", str(space.get(":type:"))[-100:])
    match name[1] if name else "":
        case "Box":
            visible = [
                set(re.sub(r"[\[\].,]", " ", str(space.get(side))[:_LONGEST]).split()) for side in ("low", "high")
            ]
            return _box(_shape(path, space), str(space.get("dtype")), visible == [{"0"}, {"255"}])
        case "Discrete":
            return spaces.Discrete(int(space["n"]))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(tuple(_integers(str(space["nvec"]))))
        case "MultiBinary":
            return spaces.Box(shape=_shape(path, space))
        case "Dict":
            return _dict(path, str(space.get("spaces")))
    raise fault(
        path,
        "observations of a Box, Discrete, MultiDiscrete, MultiBinary or Dict",
        quoted(space.get(":type:")),
        "Others are not converted.",
    )


def _box(shape: tuple[int, ...], dtype: str, pixels: bool) -> spaces.Box:
    # Stable-Baselines3 divides the numbers of images by 255, and its images have the channels first. It flattens arrays
    # of uint8 with other bounds as they are.
    if dtype == "uint8" and len(shape) == 3 and pixels:
        channels, height, width = shape
        return spaces.Box(0, 255, (height, width, channels), "uint8")
    return spaces.Box(shape=shape)


def _dict(path: Path, text: str) -> spaces.Dict:
    """Parses a text such as `{'b': Box(-5.0, 5.0, (2, 2), float32), 'a': Discrete(3)}`, in its order."""
    items: list[tuple[str, spaces.Space]] = []
    position, inner = 0, text[1:-1]
    while position < len(inner) <= _LONGEST and len(items) < _MOST_PARTS:
        found = _ENTRY.match(inner, position)
        if found is None:
            break
        name, kind, arguments = found.groups()
        shape = re.search(r"\(([\d, ]*)\), (\w+)$", arguments)
        if kind == "Box" and shape is not None:
            pixels = arguments.startswith("0, 255, (")
            items.append((name, _box(tuple(_integers(shape[1])), shape[2], pixels)))
        elif kind == "Discrete":
            items.append((name, spaces.Discrete(_integers(arguments)[0])))
        elif kind == "MultiDiscrete":
            items.append((name, spaces.MultiDiscrete(tuple(_integers(arguments)))))
        elif kind == "MultiBinary":
            items.append((name, spaces.Box(shape=tuple(_integers(arguments)))))
        else:
            break
        position = found.end()
    if not items or position < len(inner):
        known = "a Dict of Box, Discrete, MultiDiscrete and MultiBinary"
        raise fault(path, known, quoted(text), "Others are not converted.")
    return spaces.Dict(tuple(items))


def _shape(path: Path, space: Mapping[str, Any]) -> tuple[int, ...]:
    shape = space.get("_shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise fault(path, "a space with a shape", quoted(shape), _SAVE)
    return tuple(shape)


def _numbers(text: str, count: int) -> list[float] | None:
    """Parses a printed array of NumPy; None if it is cut, or printed in another way."""
    words = re.sub(r"[\[\],]", " ", text[:_LONGEST]).split()
    if len(words) != count:
        return None
    try:
        return [float(word) for word in words]
    except ValueError:  # NumPy cuts a long array with "...".
        return None


def _integers(text: str) -> list[int]:
    found = [int(word) for word in re.findall(r"\d{1,9}", text[:_LONGEST])]
    if len(found) > _MOST_PARTS:
        raise ValueError(f"a space of more than {_MOST_PARTS:,} parts")
    return found


def bounds_needed(path: Path, count: int) -> ValueError:
    """Returns the error for an action space whose bounds the file does not hold."""
    return ValueError(
        f"action_space: expected a Box of {count} actions, because {path} does not hold all bounds, got None. Pass the "
        f"action space of the environment in which the policy was trained."
    )


def rounded(data: Mapping[str, Any]) -> bool:
    """Returns True if a bound of the action space may have more than the 8 decimals that NumPy prints."""
    return any(re.search(r"\.\d{8}", str(data["action_space"].get(side))) for side in ("low", "high"))
