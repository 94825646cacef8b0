"""Malicious variants of the containers of other libraries: `{name: (reader, suffix, content)}`."""

import base64
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import torch

from tests.faults import bombs, malice
from tests.faults.malice import Bomb
from tests.interop import checkpoints

STORED = zipfile.ZIP_STORED
MB = 2**20


def entries(name):
    with zipfile.ZipFile(checkpoints.folder("sb3") / name) as file:
        return {entry: file.read(entry) for entry in file.namelist()}


def model(name="sb3_ppo.zip", how=STORED, data=None, **changes):
    """A model of SB3 with other entries, and with changes of its JSON."""
    found = entries(name)
    described = json.loads(found["data"])
    for key, value in (data or {}).items():
        described[key] = {**described[key], **value} if isinstance(value, dict) else value
    found |= {"data": json.dumps(described).encode()} | {key.replace("_pth", ".pth"): v for key, v in changes.items()}
    return malice.zipped(found, how)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def sbx(payload):
    """A model of SBX whose policy is another pickle."""
    return model("sbx_ppo.zip", data={"policy": {":serialized:": base64.b64encode(payload).decode()}})


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numpy_array(shape, dtype="f4", data=b"\0" * 4, build=True):
    """Opcodes of an array as NumPy pickles it."""
    numbers = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape) + b"t"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    kind = (
        b"cnumpy\ndtype\n"
        + text(dtype)
        + b"\x89\x88\x87R(K\x03"
        + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    state = b"(K\x01" + numbers + kind + b"\x89B" + struct.pack("<I", len(data)) + data + b"tb"
    return made + (state if build else b"")


STATISTICS = b"cbrax.training.acme.running_statistics\nRunningStatisticsState\n)\x81}("


def brax(policy, statistics=b""):
    """A pickle of brax: statistics, and a policy of opcodes."""
    fields = statistics or text("mean") + numpy_array((1,)) + text("std") + numpy_array((1,))
    return b"\x80\x04" + STATISTICS + fields + b"ub" + policy + b"\x86."


def layers(kernel, bias):
    inner = b"}(" + text("kernel") + kernel + text("bias") + bias + b"u"
    return b"}" + text("params") + b"}" + text("hidden_0") + inner + b"ss"


def vec_normalize(**changes):
    """Opcodes of a VecNormalize with attributes as opcodes."""
    moments = b"cstable_baselines3.common.running_mean_std\nRunningMeanStd\n)\x81}("
    moments += b"".join(text(name) + numpy_array((3,), "f8", bytes(24)) for name in ("mean", "var"))
    moments += text("count") + b"K\x05ub"
    fields = {"norm_obs": b"\x88", "obs_rms": moments, "epsilon": b"G" + struct.pack(">d", 1e-8), "clip_obs": b"K\x0a"}
    body = b"".join(text(name) + value for name, value in {**fields, **changes}.items())
    return b"\x80\x04cstable_baselines3.common.vec_env.vec_normalize\nVecNormalize\n)\x81}(" + body + b"ub."


def files(marker):
    """All malicious files; each is refused."""
    bomb, names = Bomb(marker), {"mlp.0.weight": torch.ones(2, 3), "mlp.0.bias": torch.zeros(2), "std": torch.ones(2)}
    big = (torch.zeros(1).expand(3 * 10**8), torch.zeros(1, dtype=torch.bfloat16).expand(2000, 2000))
    thin = {
        f"mlp.{2 * i}.{part}": torch.ones((1, 1) if part == "weight" else 1)
        for i in range(3000)
        for part in ("weight", "bias")
    }
    half = torch.zeros(10**6, dtype=torch.float16)
    views = {f"mlp.{2 * i}.weight": half.reshape(1000, 1000) for i in range(70)}
    views |= {f"mlp.{2 * i}.bias": half[:1000] for i in range(70)}
    return {
        "a bomb in the actor": ("rsl_rl", ".pt", saved({"actor_state_dict": {**names, "std": bomb}})),
        "a bomb in infos": ("rsl_rl", ".pt", saved({"actor_state_dict": names, "infos": bomb})),
        "a bomb as a key": (
            "rsl_rl",
            ".pt",
            malice.zipped({"a/data.pkl": pickle.dumps({"actor_state_dict": bomb})}, STORED),
        ),
        "huge views": ("rsl_rl", ".pt", saved({"actor_state_dict": {**names, "mlp.0.weight": big[0]}})),
        "huge views of bfloat16": ("rsl_rl", ".pt", saved({"actor_state_dict": {**names, "mlp.0.weight": big[1]}})),
        "3000 layers": ("rsl_rl", ".pt", saved({"actor_state_dict": {**thin, "std": torch.ones(1)}})),
        "copies of shared halves": ("rsl_rl", ".pt", saved({"actor_state_dict": {**views, "std": torch.ones(1000)}})),
        "a compressed zip": ("rsl_rl", ".pt", malice.zipped({"a/data.pkl": bytes(30 * MB)})),
        "overlapping entries": ("rsl_rl", *bombs.overlapping(".pt", 5000, MB)),
        "TorchScript": (
            "rsl_rl",
            ".pt",
            malice.zipped({"p/data.pkl": b"\x80\x02}.", "p/code/a.py": b"import os"}, STORED),
        ),
        "lists that share lists": ("rsl_rl", *bombs.torch_zip(bombs.named(bombs.shared(60, 10)))),
        "a layer with a name of 5000 digits": (
            "rsl_rl",
            ".pt",
            saved({"actor_state_dict": {**names, f"mlp.{'1' * 5000}.weight": torch.ones(1)}}),
        ),
        "a bomb in an agent": (
            "cleanrl",
            ".pt",
            saved({"actor_mean.0.weight": torch.ones(1, 3), "actor_logstd": bomb}),
        ),
        "a pickle in place of a zip": ("cleanrl", ".pt", pickle.dumps(bomb)),
        "a list in place of an agent": ("cleanrl", ".pt", saved([torch.ones(1)])),
        "a bomb as policy.pth": ("sb3", ".zip", model(policy_pth=pickle.dumps(bomb))),
        "a bomb in policy.pth": ("sb3", ".zip", model(policy_pth=saved({"log_std": bomb}))),
        "a compressed model": ("sb3", ".zip", model(how=zipfile.ZIP_DEFLATED, policy_pth=bytes(30 * MB))),
        "overlapping entries of a model": ("sb3", *bombs.overlapping(".zip", 5000, MB)),
        "deep JSON": ("sb3", ".zip", malice.zipped({"data": b"[" * 10**6}, STORED)),
        "wide JSON": ("sb3", ".zip", malice.zipped({"data": b"[" + b"[]," * 3_000_000 + b"0]"}, STORED)),
        "a huge action space": (
            "sb3",
            ".zip",
            model(data={"action_space": {"_shape": [10**9], "low": "[-1.]", "high": "[1.]"}}),
        ),
        "a huge observation space": ("sb3", ".zip", model(data={"observation_space": {"_shape": [10**9, 10**9]}})),
        "a text that matches slowly": ("sb3", ".zip", model(data={"observation_space": {":type:": "a" * MB}})),
        "a Dict that matches slowly": (
            "sb3",
            ".zip",
            model("sb3_ppo_dict.zip", data={"observation_space": {"spaces": "{'b': Box(" + "(" * MB + "}"}}),
        ),
        "a Dict of 50,000 parts": (
            "sb3",
            ".zip",
            model(
                "sb3_ppo_dict.zip",
                data={
                    "observation_space": {"spaces": "{" + ", ".join(f"'{i}': Discrete(3)" for i in range(50_000)) + "}"}
                },
            ),
        ),
        "code as an activation": (
            "sb3",
            ".zip",
            model(data={"policy_kwargs": {"activation_fn": f"__import__('os').system('touch {marker}')"}}),
        ),
        "a bomb as SBX's policy": ("sb3", ".zip", sbx(pickle.dumps(bomb))),
        "shared lists in SBX's policy": ("sb3", ".zip", sbx(b"\x80\x04" + bombs.shared(60, 10) + b".")),
        "a deep tuple in SBX's policy": ("sb3", ".zip", sbx(b"\x80\x04N" + b"\x85" * 400_000 + b".")),
        "a bomb of brax": ("brax", ".pickle", pickle.dumps((bomb, bomb))),
        "a class of brax with a bomb": (
            "brax",
            ".pickle",
            brax(layers(pickle.dumps(bomb, 4)[2:-1], numpy_array((1,)))),
        ),
        "a huge array": ("brax", ".pickle", brax(layers(numpy_array((2**40, 2)), numpy_array((2,), data=bytes(8))))),
        "a negative shape": ("brax", ".pickle", brax(layers(numpy_array((-1, 2)), numpy_array((2,), data=bytes(8))))),
        "an array of objects": (
            "brax",
            ".pickle",
            brax(layers(numpy_array((1, 1), "O8", bytes(8)), numpy_array((1,)))),
        ),
        "an array without a state": (
            "brax",
            ".pickle",
            brax(layers(numpy_array((1, 1), build=False), numpy_array((1,)))),
        ),
        "lists for statistics": (
            "brax",
            ".pickle",
            brax(layers(numpy_array((1, 1)), numpy_array((1,))), text("mean") + b"]"),
        ),
        "shared dicts": ("brax", ".pickle", b"\x80\x04" + bombs.shared(60, 10) + b"\x85" + b"N\x86."),
        "a memo of 2**31": ("brax", ".pickle", b"\x80\x04}r\xff\xff\xff\x7f."),
        "a long text": ("brax", ".pickle", b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x."),
        "an extension": ("brax", ".pickle", b"\x80\x02\x82\x01."),
        "a bomb of VecNormalize": ("statistics", ".pkl", pickle.dumps(bomb)),
        "a VecNormalize of bombs": ("statistics", ".pkl", vec_normalize(obs_rms=pickle.dumps(bomb, 4)[2:-1])),
        "a VecNormalize of a huge array": ("statistics", ".pkl", vec_normalize(obs_rms=numpy_array((2**40,)))),
        "a VecNormalize of text": ("statistics", ".pkl", vec_normalize(epsilon=text("a" * MB))),
        "a VecNormalize of NaN": ("statistics", ".pkl", vec_normalize(epsilon=b"G" + struct.pack(">d", np.nan))),
    }


def harmless(marker):
    """Models with bombs where no reader looks; they are read without running them."""
    serialized = base64.b64encode(pickle.dumps(Bomb(marker))).decode()
    fields = ("policy_class", "action_space", "observation_space", "lr_schedule")
    hooked = pickle.dumps(Bomb(marker), 4)[2:-1]
    return {
        "bombs beside the readable text": (
            "sb3",
            ".zip",
            model(data={name: {":serialized:": serialized} for name in fields}),
        ),
        "a bomb as optimizer": (
            "sb3",
            ".zip",
            malice.zipped({**entries("sb3_ppo.zip"), "policy.optimizer.pth": pickle.dumps(Bomb(marker))}, STORED),
        ),
        "a bomb beside the statistics": ("statistics", ".pkl", vec_normalize(venv=hooked)),
    }
