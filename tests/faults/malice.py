"""Malicious files. `marker` is a path that exists if a file executed code."""

import bz2
import functools
import gzip
import hashlib
import io
import itertools
import json
import lzma
import marshal
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import safetensors.numpy

import gaussjax
from gaussjax.files import container

POLICY = gaussjax.gaussian(gaussjax.networks.MLP((64, 64)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))


def filled(value: float) -> Any:
    """Parameters of the policy that are all equal to a value."""
    shapes = jax.eval_shape(POLICY.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), shapes)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path, how: Callable[..., Any] = os.system):
        self.marker, self.how = marker, how

    def __reduce__(self) -> Any:
        command = f"touch {self.marker}" if self.how is os.system else f"__import__('os').system('touch {self.marker}')"
        return self.how, (command,)


def zipped(names: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in names.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def arrays(save: Callable[..., None], **given: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **given)
    return buffer.getvalue()


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def signed(payload: bytes) -> bytes:
    """A file with the digest of its content in place of 64 zeros."""
    return payload.replace(b"0" * 64, hashlib.sha256(payload).hexdigest().encode(), 1)


def header(tensors: Mapping[str, Any], data: bytes = b"", described: Any = None) -> bytes:
    """A safetensors file with any table of tensors and a correct digest."""
    good = {"gaussjax": json.dumps(described or description({})), "sha256": "0" * 64}
    return signed(raw(json.dumps({"__metadata__": good, **tensors}, separators=(",", ":")).encode(), data))


def description(changes: Mapping[str, Any]) -> dict[str, Any]:
    policy = POLICY.spec.to_dict()
    return {"format": 1, "policy": {**policy, **changes}, "metadata": {}, "cast": [], "versions": {}}


def whole(path: Path, described: Any, names: Mapping[str, str] = {}) -> bytes:
    """An undamaged policy file with another description or other names."""
    gaussjax.save(path, POLICY, filled(1.0))
    tensors, _ = container.read(path)
    tensors = {names.get(name, name): array for name, array in tensors.items()}
    return signed(safetensors.numpy.save(tensors, {"gaussjax": json.dumps(described), "sha256": "0" * 64}))


@functools.cache
def named_arrays() -> dict[str, np.ndarray]:
    """The arrays of a file of POLICY by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(filled(1.0))
    return {f"params/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf for path, leaf in leaves}


def table(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """The table of float32 arrays for a header, and their bytes."""
    entries, data = {}, b""
    for name, array in arrays.items():
        entries[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    return entries, data


def network(**changes: Any) -> dict[str, Any]:
    return {**POLICY.spec.to_dict()["network"], **changes}


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + closing * depth


def files(marker: Path, path: Path) -> dict[str, bytes]:
    """All malicious files by name; `path` is a scratch file."""
    touch = f"__import__('os').system('touch {marker}')"
    laughs = [f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in itertools.pairwise("abcdefghi")]
    yaml_bomb = "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *laughs])
    space = {"type": "Box", "low": "-inf", "high": "inf", "dtype": "float32"}

    def spec(**changes: Any) -> bytes:
        return whole(path, description(changes))

    deep: Any = {"type": "Discrete", "n": 2, "start": 0}
    for _ in range(300):
        deep = {"type": "Tuple", "items": [deep]}
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return {
        # Programs in other formats' clothes.
        **{f"pickle, protocol {i}": pickle.dumps(Bomb(marker), i) for i in range(6)},
        "pickle that evaluates": pickle.dumps(Bomb(marker, eval)),
        "pickle that executes": pickle.dumps(Bomb(marker, exec)),
        "pickle in a torch archive": zipped(
            {"archive/data.pkl": pickle.dumps(Bomb(marker), 2), "archive/version": b"3"}
        ),
        "pickle in .npy": arrays(np.save, arr=np.array([Bomb(marker)], object), allow_pickle=True),
        "pickle in .npz": arrays(np.savez, program=np.array([Bomb(marker)], object)),
        "pickle in gzip": gzip.compress(pickle.dumps(Bomb(marker))),
        "pickle in zlib, as joblib": zlib.compress(pickle.dumps(Bomb(marker))),
        "marshalled code": marshal.dumps(compile(touch, "x", "eval")),
        "Python source": f"import os; os.system('touch {marker}')".encode(),
        "YAML with an object": f"!!python/object/apply:os.system ['touch {marker}']".encode(),
        # Bombs and traversals.
        "zip bomb": zipped({"params": bytes(10_000_000)}),
        "gzip bomb": gzip.compress(bytes(10_000_000)),
        "bzip2 bomb": bz2.compress(bytes(10_000_000)),
        "xz bomb": lzma.compress(bytes(10_000_000)),
        "zip that climbs": zipped({f"../../../../../..{marker}": b"x"}),
        "tar that climbs": tarred(f"../../../../../..{marker}", b"x"),
        "deep msgpack": b"\x91" * 100_000 + b"\xc0",
        "msgpack with a giant length": b"\xdf\xff\xff\xff\xff",
        "flax's msgpack with an object array": msgpack.packb(
            {"params": msgpack.ExtType(1, pickle.dumps(Bomb(marker)))}
        ),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        # Headers.
        "header of 2**63 bytes": raw(b"{}", length=2**63),
        "header of 2**64 - 1 bytes": raw(b"{}", length=2**64 - 1),
        "header longer than the file": raw(b"{}", length=10_000_000),
        "deep header": raw(nested(200_000, "[", "]").encode()),
        "deep header of dicts": raw((nested(100_000, '{"a":', "}")).encode()),
        "header that is no UTF-8": raw(b'{"__metadata__":"\xff\xfe"}'),
        "header that is a number": raw(b"1e999"),
        "header with a giant integer": raw(b'{"__metadata__":' + b"9" * 10_000 + b"}"),
        "header of metadata alone": raw(b'{"__metadata__":{"gaussjax":"{}","sha256":"' + b"0" * 64 + b'"}}'),
        "digest of another type": raw(b'{"__metadata__":{"gaussjax":"{}","sha256":{"a":1}}}'),
        "empty digest": raw(b'{"__metadata__":{"gaussjax":"{}","sha256":""}}'),
        # Arrays that lie, in files whose digest is right.
        "overlapping arrays": header({"params/a": tensor, "params/b": tensor}, bytes(4)),
        "array beyond the end": header({"params/a": {**tensor, "data_offsets": [0, 2**40]}}, bytes(4)),
        "array before the start": header({"params/a": {**tensor, "data_offsets": [-4, 0]}}, bytes(4)),
        "shape that overflows": header({"params/a": {**tensor, "shape": [2**40, 2**40]}}, bytes(4)),
        "shape of another size": header({"params/a": {**tensor, "shape": [1000]}}, bytes(4)),
        "unknown type": header({"params/a": {**tensor, "dtype": "PY"}}, bytes(4)),
        "bytes that belong to no array": header({"params/a": tensor}, bytes(1000)),
        "name that climbs": whole(path, description({}), {"params/params/head/log_std": f"params/../..{marker}"}),
        "name with two meanings": whole(path, description({}), {"params/params/head/log_std": "params/params"}),
        # Descriptions that ask for what they should not, in files whose digest is right.
        "description that is a list": whole(path, {"format": 1, "policy": []}),
        "deep description": spec(observation_space=deep),
        "kind that is a function": spec(kind="os.system"),
        "kind that is an object": spec(kind={"__reduce__": "os.system"}),
        "network as YAML with an object": spec(network=f"!!python/object/apply:os.system ['touch {marker}']"),
        "network as YAML of a billion laughs": spec(network=yaml_bomb),
        "network of a class by its path": spec(network={"type": "os.system", "name": f"touch {marker}"}),
        "network with a dunder field": spec(network=network(__class__="os.system")),
        "network with a parent": spec(network=network(parent="os", name="x")),
        "activation that is code": spec(network=network(activation=touch)),
        "graph with code for an expression": spec(
            network={"type": "Graph", "nodes": [{"name": "a", "input": touch, "layers": [8]}], "output": touch}
        ),
        "graph with a deep expression": spec(
            network={"type": "Graph", "nodes": [{"name": "a", "input": nested(100_000, "(", ")"), "layers": [8]}]}
        ),
        "a billion layers": spec(network={"type": "LSTM", "num_layers": 10**9}),
        "a million layers by name": spec(network=network(sizes=[1] * 1_000_000)),
        "a layer of 10**15": spec(network=network(sizes=[10**15])),
        "observations of 10**15": spec(observation_space={**space, "shape": [10**15]}),
        "actions of 10**15": spec(
            kind="squashed_gaussian", options={}, action_space={**space, "low": -1.0, "high": 1.0, "shape": [10**15]}
        ),
        "observations of 1000 axes": spec(observation_space={**space, "shape": [1] * 1000}),
        "Discrete of 10**15": spec(observation_space={"type": "Discrete", "n": 10**15, "start": 0}),
        "option that is an object": spec(options={"min_log_std": {"a": 1}}),
        "option that overflows": spec(options={"min_log_std": "1e999"}),
    }
