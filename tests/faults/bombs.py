"""Files that ask for more memory or time than their size justifies, by kind: `{kind: {variant: (suffix, content)}}`."""

import io
import json
import pickle
import struct
import zipfile

import msgpack
import numpy as np

from tests.faults import malice

STORED = zipfile.ZIP_STORED
MB = 2**20
POLICY, TORCH, PICKLE, FLAX = ".safetensors", ".pt", ".pickle", ".flax"


def policy(changes, tensors=(), data=b""):
    """A policy file with a correct digest; the tensors of POLICY unless others are given."""
    if not tensors:
        arrays = malice.named_arrays()
        tensors, data = malice.table(arrays)
    return POLICY, malice.header(dict(tensors), data, malice.description(changes))


def box(*shape, low=-1.0, high=1.0):
    return {"type": "Box", "shape": list(shape), "low": low, "high": high, "dtype": "float32"}


def graph(nodes, **more):
    return policy({"network": {"type": "Graph", "nodes": nodes, **more}})


def tiny(count, shape=(1,)):
    """A table of many tensors without content."""
    size = 4 * int(np.prod(shape))
    entries = {
        f"params/{i}": {"dtype": "F32", "shape": list(shape), "data_offsets": [i * size, (i + 1) * size]}
        for i in range(count)
    }
    return entries, bytes(count * size)


def beside(*names):
    """The tensors of POLICY and others of these names."""
    return malice.table(malice.named_arrays() | dict.fromkeys(names, np.zeros(1, np.float32)))


def inside(text):
    """A policy file whose description is any JSON text."""
    good = {"gaussjax": text, "sha256": "0" * 64}
    return POLICY, malice.signed(malice.raw(json.dumps({"__metadata__": good}, separators=(",", ":")).encode()))


def torch_zip(pickled, data=b"\0" * 4, **more):
    names = {"archive/data.pkl": pickled, "archive/data/0": data, "archive/version": b"3\n", **more}
    return TORCH, malice.zipped(names, STORED)


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(value):
    """A pickle of a dict with one entry."""
    return b"\x80\x02}" + text("a") + value + b"s."


def tensor(shape, strides, storage="FloatStorage", key="0", count=1, offset=0):
    """Opcodes of a tensor as torch.save writes it."""

    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    pid = b"(" + text("storage") + b"ctorch\n" + storage.encode() + b"\n" + text(key) + text("cpu")
    pid += b"J" + struct.pack("<i", count) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + pid + b"J" + struct.pack("<i", offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"tR"


def shared(depth, width, opening=b"]", closing=b"e"):
    """Lists that share lists: `width ** depth` entries in a few bytes."""
    code = b"](" + opening + b"q\0"
    for i in range(depth):
        code += opening + b"q" + bytes([i + 1]) + b"(" + (b"h" + bytes([i])) * width + closing
    return code + b"e"


def flax(value):
    return FLAX, value if isinstance(value, bytes) else msgpack.packb(value)


def array(shape, name="float32", data=b"\0" * 4):
    return msgpack.ExtType(1, msgpack.packb((shape, name, data)))


def npy(header, data=b"", version=1):
    text = header.encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def npz(names, how=zipfile.ZIP_DEFLATED):
    return ".npz", malice.zipped({f"{name}.npy": content for name, content in names.items()}, how)


def of_shape(shape, dtype="<f4", data=b""):
    return npy(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", data)


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return ".npz", buffer.getvalue()


def overlapping(suffix, count, size):
    """A zip whose entries all name the same bytes."""
    one = malice.zipped({"archive/data/0": bytes(size)}, STORED)
    start = one.index(b"PK\x01\x02")
    entry, end = one[start : one.index(b"PK\x05\x06")], one[one.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"data/0", b"dat" + struct.pack("<I", i)[:3]) for i in range(count))
    end = end[:8] + struct.pack("<HHII", count % 65536, count % 65536, len(entries), start) + end[20:]
    return suffix, one[:start] + entries + end


def files(times=20):
    """All bombs: kinds, and variants of each kind as a suffix and bytes; the widest have `times` MB."""
    half = MB * times // 40
    linear, lstm = {"linear": 8}, {"lstm": {"hidden_size": 8, "num_layers": 100}}
    deep, alias = "[" * 100_000, [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    wide = {"type": "Dict", "items": [[str(i), box(100)] for i in range(20_000)]}
    twice = {"type": "Tuple", "items": [box(10**6)] * 30}
    nested = malice.network()
    for _ in range(40):
        nested = {"type": "ActorCritic", "actor": nested}
    tree = malice.network()
    for _ in range(11):
        tree = {"type": "ActorCritic", "actor": tree, "critic": tree}
    signs = {"type": "ActorCritic", "actor": {"type": "LSTM", "num_layers": 10**9}}
    signs["critic"] = {"type": "LSTM", "num_layers": -(10**9)}
    bf16 = b"".join(text(f"{i}") + tensor((100_000,), (1,), "BFloat16Storage", count=100_000) for i in range(2000))
    views = b"".join(text(f"{i}") + tensor((100_000,), (1,), count=100_000) for i in range(5000))
    one = bytes(MB // 2)
    many = b"".join(b"\xa3%03d" % (i % 1000) + msgpack.packb({"a": 0}) for i in range(1000))
    expression = "+".join(["observations"] * 75)
    chain = [{"name": f"n{i}", "input": "+".join([f"n{j}" for j in range(i)] or ["observations"])} for i in range(200)]
    low, squashed = {"low": "-inf", "high": "inf"}, {"kind": "squashed_gaussian", "options": {}}
    full = {"kind": "multivariate_gaussian", "options": {}}
    anchors = "\n".join(f"k{i}: &k{i} {{a: 1}}" for i in range(5000))
    merges = "\n".join([anchors, "z:", *(f"  <<: *k{i}" for i in range(5000))])
    nest = [f"b{i}: &b{i}\n  <<: [*b{i - 1}, *b{i - 1}]\n  k{i}: 1" for i in range(1, 40)]
    csv = b"observation_0,action_0\n"
    return {
        "huge actions": {
            "squashed": policy({**squashed, "action_space": box(10**8)}),
            "plain": policy({"action_space": box(10**8)}),
            "two axes": policy({"action_space": box(10**5, 10**5)}),
            "covariance of 100,000": policy({**full, "action_space": box(10**5)}),
            "covariance of 3,000": policy({**full, "action_space": box(3000)}),
        },
        "huge observations": {
            "Box": policy({"observation_space": box(10**9, **low)}),
            "Discrete": policy({"observation_space": {"type": "Discrete", "n": 10**9, "start": 0}}),
            "900 parts": policy({"observation_space": {**wide, "items": wide["items"][:900]}}),
            "MultiDiscrete": policy({"observation_space": {"type": "MultiDiscrete", "nvec": [10**8] * 20}}),
            "20,000 parts": policy({"observation_space": wide}),
            "30 parts of a million": policy({"observation_space": twice}),
            "a shape that is infinite": policy({"observation_space": box(float("inf"))}),
        },
        "layers that multiply": {
            "50 × 100 LSTMs": graph([{"name": "a", "layers": [lstm] * 50}]),
            "500 × 40 linears": graph([{"name": f"n{i}", "layers": [linear] * 40} for i in range(500)]),
            "5000 activations": graph([{"name": "a", "layers": ["relu"] * 5000}]),
            "500 nodes of LSTMs": graph([{"name": f"n{i}", "layers": [lstm]} for i in range(500)]),
            "negative layers beside positive ones": policy({"network": signs}),
        },
        "layers with tensors": {
            "2000 layers": policy({"network": malice.network(sizes=[1] * 2000)}, *tiny(5000)),
            "250 LSTMs": policy({"network": {"type": "LSTM", "num_layers": 250, "hidden_size": 1}}, *tiny(5000)),
            "13,000 tensors": policy({}, *tiny(13_000)),
            "250 layers": policy({"network": malice.network(sizes=[1] * 250)}, *tiny(5000)),
        },
        "wide layers": {
            "hidden_size": policy({"network": {"type": "LSTM", "hidden_size": 10**9}}),
            "conv kernel": graph([{"name": "a", "layers": [{"conv": {"features": 8, "kernel": 10**6}}]}]),
            "channels": policy({"network": {"type": "CNN", "channels": [10**9] * 3}}),
            "critic": policy({"network": {"type": "ActorCritic", "actor": malice.network(), "sizes": [10**9]}}),
            "number of 4000 digits": policy({"network": malice.network(sizes=[int("9" * 4000)])}),
        },
        "networks in networks": {"40 deep": policy({"network": nested}), "a tree of 4,096": policy({"network": tree})},
        "long expressions": {
            "sums of all nodes": graph(chain),
            "1,000 sums": graph([{"name": f"n{i}", "input": expression} for i in range(1000)]),
            "unary minus": graph([{"name": "a", "input": "-" * 999 + "1"}]),
            "powers": graph([{"name": "a", "input": "9**9**9**9"}]),
            "long output": policy({"network": malice.network(output_activation="2 * " * 200_000 + "tanh(mean)")}),
        },
        "deep JSON": {
            "lists in the description": inside(deep + "]" * 100_000),
            "900 lists in the description": inside("[" * 900 + "]" * 900),
            "900 dicts in metadata": inside('{"metadata":' * 900 + "{}" + "}" * 900),
            "lists in the header": (POLICY, malice.raw(b"[" * 500_000)),
            "dicts in the header": (POLICY, malice.raw(b'{"a":' * 200_000)),
        },
        "wide JSON": {
            "empty lists": inside("[" + "[]," * 300_000 + "[]]"),
            "many empty lists": inside("[" + "[]," * (350_000 * times) + "[]]"),
            "many dicts": inside("[" + '{"":0},' * (150_000 * times) + "0]"),
            "many chains": inside("[" + ("[" * 400 + "]" * 400 + ",") * (1250 * times) + "0]"),
            "many lists in the header": (POLICY, malice.raw(b'{"a":[' + b"[[]]," * (200_000 * times) + b"[]]}")),
            "names": inside("{" + ",".join(f'"{i:x}":0' for i in range(100_000)) + "}"),
            "one wide character": inside('{"a":"\U0001f600' + "a" * MB + '"}'),
            "a number of a million digits": inside('{"a":' + "9" * MB + "}"),
        },
        "long texts in a policy file": {
            "name of a tensor": policy({}, *beside("params/" + "a" * MB)),
            "name with many slashes": policy({}, *beside("params/" + "a/" * 250_000)),
            "statistics with many slashes": policy({}, *beside("normalizer/" + "a/" * 250_000)),
            "10,000 names": policy({}, *beside(*(f"params/{i}" * 9 for i in range(10_000)))),
            "kind": policy({"kind": "k" * MB}),
            "option": policy({"options": {"o" * MB: 1}}),
            "100,000 options": policy({"options": {str(i): 1 for i in range(100_000)}}),
            "field": policy({"network": malice.network(**{"f" * MB: 1})}),
            "activation": policy({"network": malice.network(activation="r" * MB)}),
        },
        "tensors that lie": {
            "shape of 10,000 axes": policy({}, *tiny(1, (1,) * 10_000)),
            "product of zero": policy({}, {"a": {"dtype": "F32", "shape": [2**60, 0], "data_offsets": [0, 0]}}),
            "floats for sizes": policy({}, {"a": {"dtype": "F32", "shape": [1e300], "data_offsets": [0, 4]}}, bytes(4)),
            "equal names": (POLICY, malice.raw(b'{"a":1,' * 100_000 + b'"b":1}')),
        },
        "shared lists (.pt)": {
            "lists": torch_zip(named(shared(60, 10))),
            "dicts": torch_zip(named(b"](}q\0" + (b"}" + text("a") + b"h\0s" + text("b") + b"h\0sq\0") * 60 + b"e")),
            "list in itself": torch_zip(named(b"]q\0h\0a")),
            "dict in itself": torch_zip(b"\x80\x02}q\0" + text("a") + b"h\0s."),
            "tuples": torch_zip(named(b"](Nq\0" + b"h\0h\0h\0\x87q\0" * 40 + b"e")),
        },
        "deep pickles": {
            "tuples (.pt)": torch_zip(named(b"N" + b"\x85" * 500_000)),
            "tuples as a key (.pt)": torch_zip(b"\x80\x02}N" + b"\x85" * 500_000 + b"Ns."),
            "tuples as a storage (.pt)": torch_zip(
                named(tensor((1,), (1,)).replace(text("0") + text("cpu"), b"N" + b"\x85" * 500_000 + text("cpu")))
            ),
            "lists (.pickle)": (PICKLE, b"\x80\x04" + b"]" * 500_000 + b"a" * 499_999 + b"."),
            "marks (.pickle)": (PICKLE, b"\x80\x04" + b"(" * 1_000_000 + b"."),
            "tuples as a key (.pickle)": (PICKLE, b"\x80\x04}N" + b"\x85" * 500_000 + b"Ns."),
        },
        "calls (.pt)": {
            "bytearray": torch_zip(named(b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R")),
            "bytes": torch_zip(named(b"c__builtin__\nbytes\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R")),
            "encode": torch_zip(named(b"c_codecs\nencode\n" + text("a" * 100_000) + text("punycode") + b"\x86R")),
            "OrderedDict of a list": torch_zip(named(b"ccollections\nOrderedDict\n]\x85R")),
            "storage": torch_zip(named(b"ctorch\nFloatStorage\nJ" + struct.pack("<i", 10**9) + b"\x85R")),
            "Size": torch_zip(named(b"ctorch\nSize\n(J" + struct.pack("<i", 10**9) + b"t\x85R")),
        },
        "memory by opcode (.pickle)": {
            "memo index": (PICKLE, b"\x80\x04Nr\xff\xff\xff\x7f."),
            "memo index of text": (PICKLE, b"Np9999999999\n."),
            "bytearray8": (PICKLE, b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
            "long4": (PICKLE, b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"."),
            "frame": (PICKLE, b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."),
            "digits": (PICKLE, b"L" + b"9" * MB + b"L\n."),
            "empty dicts": (PICKLE, b"\x80\x04](" + b"}" * 10 * MB + b"e."),
            "memos": (PICKLE, b"\x80\x04" + b"N\x94" * 5 * MB + b"."),
            "next buffer": (PICKLE, b"\x80\x05\x97."),
        },
        "one module many times (.pickle)": {
            "1000 names": (PICKLE, pickle.dumps(dict.fromkeys(map(str, range(1000)), one))),
            "text": (PICKLE, pickle.dumps(dict.fromkeys(map(str, range(1000)), "a" * MB))),
            "maps": (PICKLE, pickle.dumps({str(i): b"\xde\x03\xe8" + many for i in range(100)})),
        },
        "tensors of one storage (.pt)": {
            "bfloat16": torch_zip(b"\x80\x02}(" + bf16 + b"u.", bytes(200_000)),
            "float32": torch_zip(b"\x80\x02}(" + views + b"u.", bytes(400_000)),
            "strides of zero": torch_zip(named(tensor((2**30, 2**30), (0, 0)))),
            "offset beyond the end": torch_zip(named(tensor((1,), (1,), offset=10**9))),
            "negative stride": torch_zip(named(tensor((1, 1), (-1, 1)))),
            "more numbers than the storage": torch_zip(named(tensor((1000,), (1,), count=1000))),
            "1000 axes": torch_zip(named(tensor((1,) * 1000, (1,) * 1000))),
            "another storage": torch_zip(named(tensor((1,), (1,), key="../../etc/passwd"))),
        },
        "zips (.pt)": {
            "overlapping entries": overlapping(TORCH, 10_000, 200_000),
            "100,000 entries": overlapping(TORCH, 100_000, 8),
            "big-endian": torch_zip(named(b"N"), **{"archive/byteorder": b"big"}),
        },
        "prefixes (.flax)": {
            "lists": flax(b"\xdd\x00\x0f\xff\xff" * 200_000),
            "lists of the size of the file": flax((b"\xdc\xff\xff" * 500) + bytes(MB)),
            "maps": flax(b"\xdf\x00\x0f\xff\xff\xa1a" * 200_000),
            "empty lists": flax(b"\xdd" + struct.pack(">I", MB) + b"\x90" * MB),
            "empty maps": flax(b"\xde\xff\xff" + b"".join(b"\xa4%04x\x80" % i for i in range(65535))),
            "names": flax({f"{j}": {f"{i}": 0 for i in range(1999)} for j in range(150)}),
            "maps of maps": flax(b"\xde\x07\xcf" + b"".join(b"\xa3%03x\xde\x03\xe8" % i + many for i in range(999))),
            "extension": flax(b"\xc9\x7f\xff\xff\xff\x01"),
        },
        "arrays that lie (.flax)": {
            "huge shape": flax({"a": array((2**40,))}),
            "shape of 10,000 axes": flax({"a": array((1,) * 10_000)}),
            "shape of lists": flax({"a": array([[[[1]]]])}),
            "structures": flax({"a": array((1,), "f4,f4", b"\0" * 8)}),
            "inner extension": flax({"a": msgpack.ExtType(1, msgpack.packb(array((1,))))}),
        },
        "expansion (.npz)": {
            "zeros": npz({"observations": of_shape((64 * half,), data=bytes(256 * half)), "actions": of_shape((1,))}),
            "float64": saved(observations=np.zeros((half // 32, 1024)), actions=np.zeros((half // 32, 1))),
            "bytes": saved(observations=np.zeros((half // 4, 1024), np.uint8), actions=np.zeros((half // 4, 1))),
            "overlapping entries": overlapping(".npz", 10_000, 200_000),
            "100,000 entries": overlapping(".npz", 100_000, 8),
        },
        "headers (.npz)": {
            "huge shape": npz({"observations": of_shape((2**50,)), "actions": of_shape((1,), data=bytes(4))}),
            "many axes": npz({"observations": of_shape((1,) * 100, data=bytes(4)), "actions": of_shape((1,))}),
            "objects": npz({"observations": of_shape((1,), "|O", pickle.dumps(None)), "actions": of_shape((1,))}),
            "long header": npz({"observations": npy("{" + "'a': 1," * 200_000 + "}", version=2), "actions": b""}),
            "deep header": npz({"observations": npy("(" * 9000, version=2), "actions": b""}),
            "negative shape": npz({"observations": of_shape((-1, -4), data=bytes(16)), "actions": of_shape((1,))}),
        },
        "tables (.csv)": {
            "one long line": (".csv", b"0," * 4 * MB),
            "a million columns": (".csv", b",".join(b"observation_%d" % i for i in range(200_000)) + b"\n"),
            "a long quoted field": (".csv", csv + b'"' + b"1\n" * MB),
            "long numbers": (".csv", csv + b"1," + b"9" * 100_000 + b"\n"),
        },
        "aliases (.yaml)": {
            "a billion laughs": (".yaml", "\n".join(["a0: &a0 [x, x]", *alias]).encode()),
            "list in itself": (".yaml", b"type: &a [*a]"),
            "anchors": (".yaml", anchors.encode()),
        },
        "merges (.yaml)": {
            "many": (".yaml", merges.encode()),
            "nested": (".yaml", "\n".join(["b0: &b0 {a: 1}", *nest]).encode()),
            "in itself": (".yaml", b"&a\n<<: *a\ntype: MLP"),
        },
        "size (.yaml)": {
            "100,000 layers": (".yaml", f"{{type: MLP, sizes: [{'8, ' * 100_000}8]}}".encode()),
            "30,000 layers": (".yaml", f"{{type: MLP, sizes: [{'8,' * 30_000}8]}}".encode()),
            "deep": (".yaml", b"[" * 50_000),
            "keys": (".yaml", "\n".join(f"? k{i}" for i in range(10_000)).encode()),
            "binary": (".yaml", b"!!binary " + b"A" * 90_000),
            "a long integer": (".yaml", b"{type: MLP, sizes: [" + b"9" * 50_000 + b"]}"),
            "base 60": (".yaml", b"{type: LSTM, num_layers: 1" + b":59" * 20_000 + b"}"),
            "an object": (".yaml", b"!!python/object/new:os.system [true]"),
        },
    }
