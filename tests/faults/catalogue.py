"""Wrong options and arguments of all other functions, each with the text of its error."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gaussjax
import gaussjax.torch
from gaussjax import envs, normalize, rollout
from gaussjax.distributions import CensoredGaussian, DiagGaussian, MultivariateGaussian, TanhGaussian, TruncatedGaussian
from gaussjax.networks import CNN, GRU, LSTM, MLP, RNN, ActorCritic, MinGRU
from gaussjax.random import threefry
from gaussjax.spaces import Box, Dict, Discrete, MultiDiscrete
from gaussjax.training import bc, ppo, sac
from tests.faults.arguments import (
    LISTS,
    VALUES,
    Row,
    made,
    statistics_error,
    wrong_arguments,
    wrong_bound,
    wrong_keys,
    zeros,
)

BOX, INF, NAN = Box(-1.0, 1.0, (2,)), float("inf"), float("nan")


NETWORK = MLP((4,))


def gaussian(network: Any = NETWORK, space: Any = 3, actions: Any = BOX, module: Any = gaussjax, **options: Any) -> Any:
    return module.gaussian(network, space, actions, **options)


def normal(act: int = 2) -> DiagGaussian:
    return DiagGaussian(jnp.zeros((5, act)), jnp.zeros(act))


def both(name: str, error: str, call: Callable[[Any], Any]) -> dict[str, tuple[str, Callable[[], Any]]]:
    """The row in JAX and in torch, with the module as argument."""
    return {
        f"{name} in {library}": (error, functools.partial(call, module))
        for library, module in (("JAX", gaussjax), ("torch", gaussjax.torch))
    }


def networks() -> Iterator[tuple[str, str, Any]]:
    """Wrong fields of networks."""
    for network in (MLP, GRU, ActorCritic):
        arguments = {"actor": MLP((4,))} if network is ActorCritic else {}
        for value, says in (
            ("x", "ValueError: initializer: expected one of"),
            (3, "ValueError: initializer: expected one of"),
        ):
            yield f"{network.__name__}(initializer={value!r})", says, network(**arguments, initializer=value)
        for field in ("scale",) if network is ActorCritic else ("scale", "output_scale"):
            for value in (NAN, INF, "a", True, (1.0,)):
                kind = "ValueError: " if isinstance(value, float) else "TypeError: "
                finite = "a finite number" if isinstance(value, float) else "a number"
                says = f"{kind}{field}: expected {finite}, got "
                yield f"{network.__name__}({field}={value!r})", says, network(**arguments, **{field: value})
    for value in (NAN, INF, -INF, 1e308, 89.0, -88.0):
        yield f"initial_log_std={value}", "ValueError: initial_log_std: expected a ", MLP(initial_log_std=value)
    for value in ("a", True, (0.0,), None):
        says = "TypeError: initial_log_std: expected a number, got "
        yield f"initial_log_std={value!r}", says, MLP(initial_log_std=value)
    for value in ((NAN, 1.0), (-INF, 1.0), (-1.0, INF), (-1e308, 1e308)):
        says = "ValueError: log_std_bounds: expected a number from -87 to 88, got "
        yield f"log_std_bounds={value}", says, MLP(log_std_bounds=value)
    for value in (1.0, (1.0,), "ab", (1.0, 2.0, 3.0)):
        yield f"log_std_bounds={value!r}", "TypeError: log_std_bounds: expected ", MLP(log_std_bounds=value)
    for value in ("x", 1, None):
        yield f"std={value!r}", "ValueError: std: expected one of ['fixed', 'parameter', 'state'], got", MLP(std=value)
    for value in ("int32", "uint8", "float8", "x", 3):
        yield f"dtype={value!r}", "ValueError: dtype: expected one of ['bfloat16'", MLP(dtype=value)
    for value in ("batch", True):
        yield f"norm={value!r}", "ValueError: norm: expected one of ['identity', 'layer'], got", MLP(norm=value)
    for value in ((0,), (-3, 4)):
        yield f"sizes={value}", "ValueError: sizes: expected widths of at least 1", MLP(value)
    for value in (8, (8.0,), ("8",), "8", (True,), None):
        yield f"sizes={value!r}", "TypeError: sizes: expected a tuple of widths, got", MLP(value)
    for name in ("hidden_size", "num_layers", "sequence_length"):
        for value in (0, -1):
            yield f"{name}={value}", f"ValueError: {name}: expected at least 1, got {value}", LSTM(**{name: value})
        for value in (2.0, "3", True, None):
            yield f"{name}={value!r}", f"TypeError: {name}: expected an integer, got {value!r}", LSTM(**{name: value})
    yield "memory_steps='9'", "TypeError: memory_steps: expected an integer, got '9'", GRU(memory_steps="9")
    yield "memory_steps=1", "ValueError: memory_steps: expected None, or at least 2", MinGRU(memory_steps=1)
    yield "nonlinearity", "ValueError: nonlinearity: expected one of ['relu', 'tanh'], got 'x'", RNN(nonlinearity="x")
    for network, name in ((LSTM, "fast_backward"), (MLP, "off_diagonal"), (CNN, "scale_pixels")):
        says = f"TypeError: {name}: expected True or False, got 'False'"
        yield f"{name}='False'", says, network(**{name: "False"})
    shared = "TypeError: shared: expected True or False, got 'False'"
    yield "shared='False'", shared, ActorCritic(MLP((4,)), shared="False")


def images() -> Iterator[tuple[str, str, Any]]:
    """Wrong fields of the network for images."""
    for name in ("kernels", "strides", "channels"):
        for value in (0, -1):
            says = f"ValueError: {name}: expected at least 1, got {value}"
            yield f"{name}={value}", says, small_cnn(**{name: (value,)})
        says = f"TypeError: {name}: expected an integer, got 1.5"
        yield f"{name}=1.5", says, small_cnn(**{name: (1.5,)})
        yield f"{name}=2", "ValueError: channels, kernels and strides: expected one entry", small_cnn(**{name: 2})
    for value in ("same", "x", 1):
        yield f"padding={value!r}", "ValueError: padding: expected one of ['SAME', 'VALID']", small_cnn(padding=value)


def small_cnn(**fields: Any) -> CNN:
    return CNN(**{"channels": (3,), "kernels": (3,), "strides": (1,), "sizes": (4,), "activation": "relu", **fields})


def wrong_networks() -> Iterator[Row]:
    """Rows with wrong fields of networks, which the factories of both libraries refuse at once."""
    image = Box(0, 255, (6, 6, 3), "uint8")
    for library, module in (("JAX", gaussjax), ("torch", gaussjax.torch)):
        for space, entries in ((3, networks()), (image, images())):
            for name, says, network in entries:
                shape = image if isinstance(network, CNN) else space
                yield Row(f"{library} {name}", says, functools.partial(gaussian, network, shape, module=module))


def wrong_options() -> Iterator[Row]:
    """Rows with wrong options of factories."""
    factories = ("gaussian", "squashed_gaussian", "multivariate_gaussian")
    for library, module in (("JAX", gaussjax), ("torch", gaussjax.torch)):
        for name in factories:
            make = functools.partial(getattr(module, name), MLP((4,)), 3, BOX)
            flags = ("clip_log_std", "keepdims")
            for flag in flags if name == "squashed_gaussian" else (*flags, "clip_actions", "clip_mean_actions"):
                for value in ("False", 1, None):
                    says = f"TypeError: {flag}: expected True or False, got {value!r}."
                    yield Row(f"{library} {name}({flag}={value!r})", says, functools.partial(make, **{flag: value}))
            for option in ("min_log_std", "max_log_std"):
                for value in ("a", None, True, (1.0,), 1j):
                    says = f"TypeError: {option}: expected a number, got {value!r}"
                    yield Row(f"{library} {name}({option}={value!r})", says, functools.partial(make, **{option: value}))
            ranges: dict[str, dict[str, float]] = {
                "expected at most 88, and max_log_std at least -87": {"min_log_std": 1e308, "max_log_std": 1e308},
                "expected at most 88, and max_log_std at least": {"min_log_std": -1e308, "max_log_std": -1e308},
                "expected a value <= max_log_std, got min_log_std=1e+308": {"min_log_std": 1e308},
                "expected a value <= max_log_std, got min_log_std=nan": {"min_log_std": NAN},
                "expected a value <= max_log_std, got min_log_std=-20.0 and max_log_std=nan": {"max_log_std": NAN},
            }
            for says, options in ranges.items():
                yield Row(
                    f"{library} {name}({options})",
                    f"ValueError: min_log_std: {says}",
                    functools.partial(make, **options),
                )
            reduction = functools.partial(make, reduction="max")
            yield Row(f"{library} {name}(reduction)", "ValueError: reduction: expected 'sum', 'mean'", reduction)


def spaces_rows() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Wrong spaces."""
    types = ("O", "U3", "S3", "c8", "c16", "M8[s]", "m8[s]", "V4", "g")
    real = "TypeError: dtype: expected a dtype of real numbers such as 'float32', got "
    return {
        **{f"Box of {name}": (real, lambda name=name: Box(-1.0, 1.0, (2,), name)) for name in types},
        "Box of no dtype": (real, lambda: Box(-1.0, 1.0, (2,), "float33")),
        "Box with a text": ("TypeError: low: expected real numbers, got <U1", lambda: Box("a", 1.0, (2,))),
        "Box with None": ("TypeError: high: expected real numbers, got object", lambda: Box(0.0, None, (2,))),
        "Box with complex": ("TypeError: low: expected real numbers, got complex128", lambda: Box(1j, 1.0, (2,))),
        "Box with dates": (
            "TypeError: low: expected real numbers, got datetime64",
            lambda: Box(np.datetime64("2026-01-01"), 1.0, (2,)),
        ),
        "ragged Box": (
            "ValueError: space: expected low as one number or of shape",
            lambda: Box([[1], [1, 2]], 3.0, (2,)),
        ),
        "Box(inf, inf)": (
            "ValueError: space: expected low <= high",
            lambda: gaussian(actions=Box(INF, INF, (2,)), clip_actions=True),
        ),
        "Box(nan)": ("ValueError: space: expected low <= high", lambda: Box(NAN, 1.0, (2,))),
        "Box of shape 2.5": ("TypeError: shape: expected a tuple of sizes", lambda: Box(-1.0, 1.0, (2.5,))),
        "Box of shape 'a'": ("TypeError: shape: expected a tuple of sizes", lambda: Box(-1.0, 1.0, "a")),
        "Box of shape -1": ("ValueError: space: expected sizes of zero or more", lambda: Box(-1.0, 1.0, (-1,))),
        **{
            f"observations of shape {shape}": (
                "ValueError: observation_space: expected at least one number, got ",
                lambda shape=shape: gaussian(space=shape),
            )
            for shape in ((3, 0), (0,), 0)
        },
        **{
            f"Discrete({value!r})": (
                f"ValueError: n: expected at least 1, got {value}",
                lambda value=value: Discrete(value),
            )
            for value in (-2, 0)
        },
        **{
            f"Discrete({value!r})": (
                f"TypeError: n: expected an integer, got {value!r}",
                lambda value=value: Discrete(value),
            )
            for value in ("a", 2.5, None, True, (2,))
        },
        "Discrete(2, 'a')": ("TypeError: start: expected an integer, got 'a'", lambda: Discrete(2, "a")),
        "MultiDiscrete((0, 2))": ("ValueError: nvec: expected at least 1, got 0", lambda: MultiDiscrete((0, 2))),
        "MultiDiscrete(('a',))": ("TypeError: nvec: expected an integer, got 'a'", lambda: MultiDiscrete(("a",))),
        "MultiDiscrete(3)": ("TypeError: nvec: expected a tuple of numbers", lambda: MultiDiscrete(3)),
        "Dict with a name twice": (
            "ValueError: items: expected names that differ",
            lambda: Dict((("a", Discrete(2)), ("a", Discrete(3)))),
        ),
        "Dict with a number as name": (
            "TypeError: items: expected texts as names, got ['a', 1]",
            lambda: Dict((("a", Discrete(2)), (1, Discrete(3)))),
        ),
        "actions in a Discrete": ("TypeError: action_space: expected a Box", lambda: gaussian(actions=Discrete(3))),
        "no space": ("TypeError: space: expected a Box, Discrete", lambda: gaussian(space="a")),
        "a bool as space": ("TypeError: space: expected a Box, Discrete", lambda: gaussian(space=True)),
        "a float as space": ("TypeError: space: expected a Box, Discrete", lambda: gaussian(space=3.0)),
        **{
            f"squashed Box {bounds}": (
                "ValueError: action_space: expected a Box with two",
                lambda b=bounds: squashed(b),
            )
            for bounds in ((-INF, 1.0), (-1.0, INF), (1.0, 1.0), (-3e38, 3e38), (0.0, 1e-38), (1.0, 1.0 + 1e-9))
        },
    }


def squashed(bounds: tuple[float, float]) -> Any:
    return gaussjax.squashed_gaussian(MLP((4,)), 3, Box(*bounds, (2,)))


def distribution_rows() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Wrong actions, keys and bounds of distributions."""
    made = {
        "DiagGaussian": normal(),
        "TanhGaussian": TanhGaussian(jnp.zeros((5, 2)), jnp.zeros(2), -1.0, 1.0),
        "CensoredGaussian": CensoredGaussian(jnp.zeros((5, 2)), jnp.zeros(2), -1.0, 1.0),
        "TruncatedGaussian": TruncatedGaussian(jnp.zeros((5, 2)), jnp.zeros(2), -1.0, 1.0),
        "MultivariateGaussian": MultivariateGaussian(jnp.zeros((5, 2)), jnp.zeros(2), jnp.zeros(1)),
    }
    rows: dict[str, tuple[str, Callable[[], Any]]] = {}
    for name, one in made.items():
        for shape in ((5, 1), (1,), (5, 3), ()):
            says = f"ValueError: actions: expected (..., 2), got {shape}"
            rows[f"{name}.log_prob{shape}"] = says, lambda one=one, shape=shape: one.log_prob(jnp.zeros(shape))
            rows[f"{name}.from_noise{shape}"] = says, lambda one=one, shape=shape: one.from_noise(jnp.zeros(shape))
        for act in (1, 3):
            fields = [jnp.zeros((5, act)), jnp.zeros(act), jnp.zeros(act * (act - 1) // 2), -1.0, 1.0]
            fields = fields[:3] if isinstance(one, MultivariateGaussian) else [*fields[:2], *fields[3:]]
            other = type(one)(*(fields[:2] if name == "DiagGaussian" else fields))
            says = f"ValueError: other: expected actions of 2 dimensions, got {act}"
            rows[f"{name}.kl_divergence of {act}"] = says, lambda one=one, other=other: one.kl_divergence(other)
        for key in (0, "a", None, jnp.zeros(2), jax.random.split(jax.random.key(0), 3)):
            says = "TypeError: key: expected one PRNG key, got "
            rows[f"{name}.sample({str(key)[:20]})"] = says, lambda one=one, key=key: one.sample(key)
        for label, value, says in (
            ("masked", np.ma.masked_array(zeros(5, 2), np.ones((5, 2))), "TypeError: array: expected an array without"),
            ("swapped", np.zeros((5, 2), ">f4"), "TypeError: array: expected native byte order"),
            ("dates", np.zeros((5, 2), "M8[s]"), "TypeError: array: expected real numbers"),
        ):
            rows[f"{name}.log_prob: {label}"] = says, lambda one=one, value=value: one.log_prob(value)
        rows[f"{name}.log_prob('max')"] = (
            "ValueError: reduction: expected 'sum'",
            lambda one=one: one.log_prob(jnp.zeros((5, 2)), "max"),
        )
    for low, high in ((-3e38, 3e38), (0.0, 1e-38), (-INF, 1.0), (NAN, 1.0), (2.0, 1.0), (1.0, 1.0 + 1e-9)):
        says = "ValueError: low, high: expected finite bounds with low < high and half a width"
        rows[f"TanhGaussian({low}, {high})"] = (
            says,
            lambda a=low, b=high: TanhGaussian(jnp.zeros(2), jnp.zeros(2), a, b),
        )
    return rows


def normalizer_rows() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Wrong arguments of `normalize`."""
    state = normalize.init((3,))
    rows: dict[str, tuple[str, Callable[[], Any]]] = {}
    for name, value in {"clip": (-1.0, 0.0, NAN), "epsilon": (-1.0, NAN, INF)}.items():
        for number in value:
            says = f"ValueError: {name}: expected a number "
            rows[f"apply({name}={number})"] = says, lambda o={name: number}: normalize.apply(state, zeros(3), **o)
        for other in ("a", True, (1.0,)):
            says = f"TypeError: {name}: expected a number, got {other!r}"
            rows[f"apply({name}={other!r})"] = says, lambda o={name: other}: normalize.apply(state, zeros(3), **o)
    for shape in (3, "ab", gaussjax.spaces.Box(shape=(3,)), (3.0,), (-1,), (True,), {"a": 3}):
        says = "TypeError: shape: expected one such as (3,), or a dict or tuple of shapes, got "
        rows[f"init({shape!r})"] = says, lambda shape=shape: normalize.init(shape)
    rows["init(clip=-1)"] = "ValueError: clip: expected a number above 0, got -1", lambda: normalize.init((3,), -1.0)
    for name, (value, says) in {**VALUES, **LISTS}.items():
        says = statistics_error(name, says)
        for function, argument in ((normalize.update, "batch"), (normalize.apply, "x")):
            call = functools.partial(lambda function, value: function(state, value((3,))), function, value)
            rows[f"{function.__name__}: {name}"] = says.replace(": ", f": {argument}: ", 1), call
    return rows


def key_rows() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Wrong keys and numbers for the random numbers in NumPy and torch."""
    key, tensor = threefry.key(0), gaussjax.torch.key(0)
    words, one = "TypeError: key: expected the two words of a key, got ", "TypeError: key: expected one PRNG key, got "
    wrong = {
        "3 words": np.zeros(3, np.uint32),
        "floats": np.zeros(2, np.float32),
        "a text": "ab",
        "texts": np.array(["a", "b"]),
        "None": None,
        "negative words": np.array([-1, 0]),
        "wide words": np.array([2**32, 0]),
        "masked": np.ma.masked_array(np.zeros(2, np.uint32), [True, False]),
    }
    rows: dict[str, tuple[str, Callable[[], Any]]] = {}
    functions = ("split", "bits", "uniform", "normal")
    for name, value in wrong.items():
        for function in functions:
            rows[f"threefry.{function}: {name}"] = words, lambda f=function, v=value: getattr(threefry, f)(v)
            rows[f"torch.random.{function}: {name}"] = (
                one,
                lambda f=function, v=value: getattr(gaussjax.torch.random, f)(v),
            )
        rows[f"threefry.fold_in: {name}"] = words, lambda v=value: threefry.fold_in(v, 1)
        rows[f"torch.random.fold_in: {name}"] = one, lambda v=value: gaussjax.torch.random.fold_in(v, 1)
    for library, module, one_key in (("threefry", threefry, key), ("torch.random", gaussjax.torch.random, tensor)):
        for value in (-1, 1.5, "2", 2**32, None, True):
            says = f"expected an integer from 0 to 2**32 - 1, got {value!r}"
            rows[f"{library}.split({value!r})"] = (
                f"ValueError: num: {says}",
                lambda m=module, k=one_key, v=value: m.split(k, v),
            )
            rows[f"{library}.fold_in({value!r})"] = (
                f"ValueError: data: {says}",
                lambda m=module, k=one_key, v=value: m.fold_in(k, v),
            )
            rows[f"{library}.key({value!r})"] = f"ValueError: seed: {says}", lambda m=module, v=value: m.key(v)
    others = {
        "rbg": jax.random.key(0, impl="rbg"),
        "several": jax.random.split(jax.random.key(0), 3),
        "several legacy": jax.random.split(jax.random.PRNGKey(0), 3),
        "'7'": "7",
        "7": 7,
        "3 words": np.zeros(3, np.uint32),
        "floats": np.zeros(2, np.float32),
        "signed": np.zeros(2, np.int32),
        "tensor": tensor,
    }
    for name, value in others.items():
        says = "TypeError: key: expected one threefry key of JAX, got "
        rows[f"from_jax: {name}"] = says, lambda v=value: gaussjax.torch.from_jax(v)
    return rows


def training_rows() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Wrong options of trainings and rollouts."""
    rows: dict[str, tuple[str, Callable[[], Any]]] = {}
    fields = {
        ppo: ("total_steps", "num_envs", "batch_size", "num_steps", "num_epochs"),
        sac: ("total_steps", "num_envs", "batch_size", "num_steps", "buffer_size", "gradient_steps", "num_critics"),
        bc: ("total_epochs", "batch_size", "chunk_size", "sequence_length"),
    }
    for module, names in fields.items():
        label = module.__name__.rpartition(".")[2]
        for name in names:
            for value in (2.5, 256.0, "256", True, None):
                says = f"TypeError: {name}: expected a whole number, got {value!r}"
                rows[f"{label}.Config({name}={value!r})"] = says, lambda m=module, o={name: value}: m.Config(**o)
            for value in (0, -1):
                says = f"ValueError: {name}: expected at least 1, got {value}"
                if (module, name) == (ppo, "batch_size"):
                    says = f"ValueError: batch_size: expected a divisor of num_envs * num_steps = 2048, got {value}"
                rows[f"{label}.Config({name}={value!r})"] = says, lambda m=module, o={name: value}: m.Config(**o)
        for value in ("0.1", True, (0.1,), None):
            says = f"TypeError: learning_rate: expected a number, got {value!r}"
            rows[f"{label}.Config(learning_rate={value!r})"] = says, lambda m=module, v=value: m.Config(learning_rate=v)
        for value in (NAN, INF):
            says = f"ValueError: learning_rate: expected a finite number of float32, got {value}"
            rows[f"{label}.Config(learning_rate={value!r})"] = says, lambda m=module, v=value: m.Config(learning_rate=v)
        for value in ("False", 1, None):
            says = f"TypeError: normalize_observations: expected True or False, got {value!r}"
            rows[f"{label}.Config(normalize_observations={value!r})"] = (
                says,
                lambda m=module, v=value: m.Config(normalize_observations=v),
            )
        for value in ("64", 64, (64.0,), ("64",), None):
            says = "TypeError: hidden_sizes: expected a tuple of whole numbers, got "
            rows[f"{label}.Config(hidden_sizes={value!r})"] = says, lambda m=module, v=value: m.Config(hidden_sizes=v)
    for value in (2.5, "2", None, True):
        says = f"TypeError: num_envs: expected an integer, got {value!r}"
        rows[f"make_vector(num_envs={value!r})"] = says, lambda v=value: envs.make_vector("Pendulum-v1", v)
    for value in (0, -1):
        says = f"ValueError: num_envs: expected at least 1, got {value}"
        rows[f"make_vector(num_envs={value!r})"] = says, lambda v=value: envs.make_vector("Pendulum-v1", v)
    for name, values in {"episodes": (2.5, "2", None, True), "seed": (1.5, "1", None)}.items():
        for value in values:
            says = f"TypeError: {name}: expected an integer, got {value!r}"
            rows[f"evaluate({name}={value!r})"] = says, lambda o={name: value}: evaluate(**o)
    for value in (0.0, -1.0, NAN):
        says = "ValueError: timeout: expected a number of seconds above 0"
        rows[f"evaluate(timeout={value})"] = says, lambda v=value: evaluate(timeout=v)
    rows["evaluate(timeout='1')"] = "TypeError: timeout: expected a number, got '1'", lambda: evaluate(timeout="1")
    for value, says in (
        (0, "ValueError: num_steps: expected at least 1, got 0"),
        (2.5, "TypeError: num_steps: expected an"),
    ):
        rows[f"collect(num_steps={value})"] = (
            says,
            lambda v=value: rollout.collect(None, None, zeros(1), zeros(1), (), v),
        )
    for name, value in (("episodes", 0), ("seed", -1)):
        rows[f"evaluate({name}={value})"] = (
            f"ValueError: {name}: expected at least",
            lambda o={name: value}: evaluate(**o),
        )
    return rows


def evaluate(**options: Any) -> Any:
    policy, params, _ = made("jax")
    return rollout.evaluate(policy, params, "Pendulum-v1", **options)


def rows() -> Iterator[Row]:
    """All rows, of this file and of `tests.faults.arguments`."""
    yield from wrong_arguments("jax")
    yield from wrong_arguments("torch")
    yield from wrong_keys()
    yield from wrong_bound()
    yield from wrong_networks()
    yield from wrong_options()
    for table in (spaces_rows, distribution_rows, normalizer_rows, key_rows, training_rows):
        for name, (error, call) in table().items():
            yield Row(name, error, call)
