"""The contenders and their Python environments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Contender(NamedTuple):
    """A contender, one row of the tables.

    Attributes:
        module: Name of a module in `benchmarks.contenders`.
        environment: Folder made by `make bench-peers`, or None for the environment of this process.
        packages: Packages whose versions are recorded.
        options: Arguments added to each case.
        title: Name in the tables.
        variables: Environment variables of its process.
    """

    module: str
    environment: str | None
    packages: tuple[str, ...]
    title: str
    options: Mapping[str, Any] = MappingProxyType({})
    variables: Mapping[str, str] = MappingProxyType({})


_JAX = ("jax", "jaxlib", "flax", "numpy")
# JAX runs calls on CPU in the thread of the caller.
_INLINE = {"BENCHMARKS_DISPATCH": "inline"}
_WIDE = {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"}

CONTENDERS = {
    "gaussjax": Contender("ours", None, ("gaussjax", *_JAX), "gaussjax"),
    "gaussjax-inline": Contender("ours", None, ("gaussjax", *_JAX), "gaussjax, inline", variables=_INLINE),
    "gaussjax-serve": Contender(
        "ours", None, ("gaussjax", *_JAX), "gaussjax, served inline", {"by": "serve"}, variables=_INLINE
    ),
    "gaussjax-load": Contender(
        "ours", None, ("gaussjax", *_JAX), "gaussjax, loaded file, inline", {"by": "load"}, variables=_INLINE
    ),
    "gaussjax-wide": Contender("ours", None, ("gaussjax", *_JAX), "gaussjax, vectors of 512 bits", variables=_WIDE),
    "gaussjax-truncated": Contender(
        "ours", None, ("gaussjax", *_JAX), "gaussjax, truncated", {"kind": "truncated_gaussian"}
    ),
    "gaussjax-gsde": Contender("ours", None, ("gaussjax", *_JAX), "gaussjax, gSDE held", {"gsde": True}),
    "distrax-inline": Contender(
        "by_hand_distrax", None, ("distrax", *_JAX), "distrax by hand, inline", variables=_INLINE
    ),
    "distrax-bound": Contender(
        "by_hand_distrax",
        None,
        ("distrax", *_JAX),
        "distrax by hand, parameters bound, actions alone, inline",
        {"outputs": 1},
        variables=_INLINE,
    ),
    "brax-inline": Contender("brax_policy", "brax", ("brax", *_JAX), "brax, inline", variables=_INLINE),
    "brax-bound": Contender(
        "brax_policy", "brax", ("brax", *_JAX), "brax, actions alone, inline", {"alone": True}, variables=_INLINE
    ),
    "gaussjax-evolution": Contender("evolution", None, ("gaussjax", "gymnasium", *_JAX), "gaussjax"),
    "evolution-by-hand": Contender(
        "evolution", None, ("gymnasium", "optax", *_JAX), "Flax by hand, as with evosax", {"library": "hand"}
    ),
    "gaussjax-loop": Contender("ours", None, ("gaussjax", *_JAX), "gaussjax, Python loop", {"loop": True}),
    "gaussjax-devices": Contender(
        "ours",
        None,
        ("gaussjax", *_JAX),
        "gaussjax",
        variables={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    ),
    "gaussjax-training": Contender("our_training", None, ("gaussjax", "gymnasium", *_JAX), "gaussjax, training"),
    "gaussjax-training-truncated": Contender(
        "our_training",
        None,
        ("gaussjax", "gymnasium", *_JAX),
        "gaussjax, training, truncated",
        {"policy": "truncated_gaussian"},
    ),
    # The command line sets the same for PPO.
    "gaussjax-command": Contender(
        "our_training",
        None,
        ("gaussjax", "gymnasium", *_JAX),
        "gaussjax, training, inline",
        variables=_INLINE,
    ),
    "sb3-training": Contender(
        "sb3_training", "sb3", ("stable-baselines3", "gymnasium", "torch", "numpy"), "SB3, training"
    ),
    "sbx-training": Contender(
        "sbx_training", "sbx", ("sbx-rl", "stable-baselines3", "gymnasium", *_JAX), "SBX, training"
    ),
    "sbx-inline": Contender(
        "sbx_training",
        "sbx",
        ("sbx-rl", "stable-baselines3", "gymnasium", *_JAX),
        "SBX, training, inline",
        variables=_INLINE,
    ),
    "torch-cloning": Contender("torch_cloning", None, ("torch", "numpy"), "PyTorch, a plain loop"),
    "imitation": Contender("imitation_cloning", "imitation", ("imitation", "torch", "numpy"), "imitation"),
    "rejax": Contender("rejax_training", "rejax", ("rejax", "gymnax", "distrax", *_JAX), "rejax"),
    "gaussjax-memory": Contender("recurrent_layers", None, ("gaussjax", *_JAX), "gaussjax"),
    "gaussjax-autodiff": Contender(
        "recurrent_layers", None, ("gaussjax", *_JAX), "gaussjax, automatic", {"library": "autodiff"}
    ),
    "flax-scan": Contender("recurrent_layers", None, _JAX, "Flax, scan with a mask", {"library": "flax"}),
    "torch-split": Contender(
        "recurrent_layers", None, ("torch", "numpy"), "torch, split at resets", {"library": "torch"}
    ),
    "distrax": Contender("by_hand_distrax", None, ("distrax", *_JAX), "distrax by hand"),
    "distrax-five": Contender(
        "by_hand_distrax", None, ("distrax", *_JAX), "distrax by hand, five outputs", {"outputs": 5}
    ),
    "tfp-truncated": Contender(
        "by_hand_distrax", None, ("tfp-nightly", *_JAX), "TFP by hand, truncated", {"truncated": True}
    ),
    "torch": Contender("by_hand_torch", None, ("torch", "numpy"), "torch by hand"),
    "torch-vmap": Contender("by_hand_torch", None, ("torch", "numpy"), "torch.func.vmap"),
    "skrl-torch": Contender("skrl_torch", "skrl", ("skrl", "torch", "numpy"), "skrl (torch)"),
    "skrl-jax": Contender("skrl_jax", "skrl", ("skrl", *_JAX), "skrl (jax)"),
    "skrl-jax-agent": Contender(
        "skrl_jax", "skrl", ("skrl", *_JAX), "skrl (jax), as its agents run it", {"compiled": True}
    ),
    "sb3": Contender("sb3_policy", "sb3", ("stable-baselines3", "torch", "numpy"), "SB3"),
    "sb3-gsde": Contender(
        "sb3_policy", "sb3", ("stable-baselines3", "torch", "numpy"), "SB3, gSDE held", {"gsde": True}
    ),
    "brax": Contender("brax_policy", "brax", ("brax", *_JAX), "brax"),
    "torchrl": Contender("torchrl_policy", "torchrl", ("torchrl", "tensordict", "torch", "numpy"), "TorchRL"),
    "gaussjax-seeds": Contender(
        "our_training", "playground", ("brax", *_JAX), "16 seeds in one program, by vmap", {"vmapped": True}
    ),
    "gaussjax-one-by-one": Contender(
        "our_training", "playground", ("brax", *_JAX), "16 × one seed", {"vmapped": False}
    ),
    # Trainings on environments of JAX packages; each finds its settings by its name.
    "gaussjax-playground": Contender(
        "our_training",
        "playground",
        ("brax", "playground", "mujoco-mjx", *_JAX),
        "gaussjax",
        {"contender": "gaussjax-playground"},
    ),
    "brax-training": Contender(
        "brax_training", "playground", ("brax", "playground", *_JAX), "brax's PPO", {"contender": "brax-training"}
    ),
    "brax-inside": Contender(
        "brax_training", "playground", ("brax", *_JAX), "with our squashed policy", {"ours": True}
    ),
    "brax-own": Contender("brax_training", "playground", ("brax", *_JAX), "with its own", {"ours": False}),
    **{
        f"skrl-{framework}-{which}": Contender(
            "skrl_training",
            "skrl",
            ("skrl", framework, "gymnasium", "numpy"),
            title,
            {"framework": framework, "ours": which == "inside"},
        )
        for framework in ("torch", "jax")
        for which, title in (("inside", "with our model"), ("own", "with its own"))
    },
    "gaussjax-gymnax": Contender(
        "our_training", "rejax", ("gymnax", *_JAX), "gaussjax", {"contender": "gaussjax-gymnax"}
    ),
    "rejax-training": Contender(
        "rejax_training", "rejax", ("rejax", "gymnax", *_JAX), "rejax", {"contender": "rejax-training"}
    ),
    "purejaxrl": Contender(
        "purejaxrl_training", "rejax", ("gymnax", "distrax", *_JAX), "purejaxrl", {"contender": "purejaxrl"}
    ),
    "gaussjax-nnx-ppo": Contender(
        "our_training", "nnx_ppo", ("gaussjax", *_JAX), "gaussjax", {"contender": "gaussjax-nnx-ppo"}
    ),
    "nnx-ppo": Contender("nnx_ppo_training", "nnx_ppo", ("nnx-ppo", *_JAX), "nnx-ppo", {"contender": "nnx-ppo"}),
}


def chosen(default: tuple[str, ...], asked: str | None) -> list[str]:
    """gaussjax and the selected peers, by default all peers of the command.

    Raises:
        SystemExit: A name is unknown.
    """
    names = default if asked is None else [name for name in asked.split(",") if name and name != "none"]
    unknown = sorted(set(names) - CONTENDERS.keys())
    if unknown:
        raise SystemExit(f"--peers: expected some of {', '.join(default)}, got {', '.join(unknown)}.")
    return [default[0], *(name for name in names if name != default[0])]
