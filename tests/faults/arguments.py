"""Wrong values of every kind in place of every argument of a policy, each with the text of its error."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

import gaussjax
import gaussjax.torch
from gaussjax import normalize
from gaussjax.files import Loaded
from gaussjax.spaces import Box
from tests import policies

BOX, INF, NAN = Box(-1.0, 1.0, (2,)), float("inf"), float("nan")


class Row(NamedTuple):
    """A wrong call with the class and a part of the text of its error.

    Attributes:
        name: What is wrong, and where.
        error: Class of the error, a colon and a part of its text.
        call: The call.
        traced: Whether the call is also made under `jax.jit`.
    """

    name: str
    error: str
    call: Callable[[], Any]
    traced: bool = False


def fault(row: Row, traced: bool = False) -> str | None:
    """What is wrong with the error of a row, or None if it is right."""
    call = jax.jit(lambda: jax.tree.leaves(row.call())) if traced else row.call
    name, _, says = row.error.partition(": ")
    try:
        call()
    except Exception as error:
        text = str(error)
        right = type(error).__name__ == name and says in text and "\n" not in text
        if not right or not re.search("expected|is missing|is unknown", text):
            return f"{row.name}: expected {row.error}, got {type(error).__name__}: {text[:300]}"
        return None
    return f"{row.name}: silent"


# Values that are no array of real numbers: a function (shape) -> value, and the text of the error.
VALUES: dict[str, tuple[Callable[[tuple[int, ...]], Any], str]] = {
    "bytes swapped": (lambda shape: np.zeros(shape, ">f4"), "TypeError: expected native byte order, got >f4."),
    "doubles swapped": (lambda shape: np.zeros(shape, ">f8"), "TypeError: expected native byte order, got >f8."),
    "integers swapped": (lambda shape: np.zeros(shape, ">i4"), "TypeError: expected native byte order, got >i4."),
    "masked": (
        lambda shape: np.ma.masked_array(np.zeros(shape, np.float32), np.ones(shape)),
        "TypeError: expected an array without a mask, got a masked array.",
    ),
    "complex": (lambda shape: np.zeros(shape, "c8"), "TypeError: expected real numbers, got complex64."),
    "complex of JAX": (lambda shape: jnp.zeros(shape, "c8"), "TypeError: , got complex64."),
    "dates": (lambda shape: np.zeros(shape, "M8[s]"), "TypeError: expected real numbers, got datetime64[s]."),
    "durations": (lambda shape: np.zeros(shape, "m8[s]"), "TypeError: expected real numbers, got timedelta64[s]."),
    "texts": (lambda shape: np.full(shape, "a"), "TypeError: expected real numbers, got <U1."),
    "bytes": (lambda shape: np.full(shape, b"a"), "TypeError: expected real numbers, got |S1."),
    "objects": (lambda shape: np.full(shape, None), "TypeError: expected real numbers, got object."),
    "records": (lambda shape: np.zeros(shape, "V4"), "TypeError: expected real numbers, got |V4."),
    "long doubles": (lambda shape: np.zeros(shape, "g"), "TypeError: expected real numbers, got float128."),
    "floats of 8 bits": (
        lambda shape: np.zeros(shape, jnp.float8_e4m3fn),
        "TypeError: expected real numbers, got float8_e4m3fn.",
    ),
    "a text": (lambda _: "a", "TypeError: expected numbers in arrays of JAX or NumPy, got str."),
    "an object": (lambda _: object(), "TypeError: expected numbers in arrays of JAX or NumPy, got object."),
    "a set": (lambda _: {1.0}, "TypeError: expected numbers in arrays of JAX or NumPy, got set."),
    "a function": (lambda _: zeros, "TypeError: expected numbers in arrays of JAX or NumPy, got function."),
}
TENSOR = {
    "a tensor": (
        lambda shape: torch.zeros(shape),
        "TypeError: expected numbers in arrays of JAX or NumPy, got Tensor.",
    ),
}
# Lists are no leaves of parameters and of a carry.
LISTS = {
    "ragged lists": (lambda _: [[0.0, 1.0], [2.0]], "ValueError: expected lists of equal lengths, got ragged ones."),
    "texts in a list": (lambda _: [["a", "b", "c"]], "TypeError: expected numbers in arrays of JAX or NumPy, got str."),
    "unsorted keys": (lambda _: {"a": 1.0, 2: 1.0}, "TypeError: expected dicts with keys of one type"),
}


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@functools.cache
def made(library: str, recurrent: bool = False) -> tuple[Any, Any, Any]:
    """A policy, its parameters as NumPy arrays or tensors, and a key."""
    spec = policies.make("gaussian-gru" if recurrent else "gaussian")
    if library == "jax":
        return *spec, jax.random.key(0)
    policy = gaussjax.torch.from_spec(spec[0].spec)
    return policy, policy.init(gaussjax.torch.key(0)), gaussjax.torch.key(1)


def arguments(library: str, function: str, recurrent: bool) -> dict[str, Any]:
    """Good arguments of a function of the policy."""
    policy, params, key = made(library, recurrent)
    good = {"params": params, "observations": zeros(4, 3)}
    if function == "act":
        good |= {"key": key}
    if function == "evaluate":
        good |= {"raw_actions": zeros(4, 2)}
    if recurrent:
        good |= {"carry": policy.initial_carry((4,)), "resets": np.zeros(4, bool)}
    return good


SHAPES = {"observations": (4, 3), "noise": (4, 2), "taken_actions": (4, 2), "raw_actions": (4, 2), "resets": (4,)}
# The arguments of each function that get wrong values, of a policy with and without a carry.
FUNCTIONS = {
    ("act", False): ("observations", "noise", "taken_actions", "params"),
    ("act", True): ("carry", "resets", "params"),
    ("evaluate", False): ("observations", "raw_actions", "taken_actions", "params"),
    ("evaluate", True): ("carry", "resets"),
    ("apply", False): ("observations", "params"),
    ("apply", True): ("carry", "resets"),
    ("entropy", False): ("observations", "params"),
    ("log_std", False): ("observations", "params"),
}


def replaced(tree: Any, value: Any) -> Any:
    """The tree with another first leaf of the same shape."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten([value(np.shape(leaves[0])), *leaves[1:]])


def wrong_arguments(library: str, wrap: Callable[[Any], Any] = lambda policy: policy) -> Iterator[Row]:
    """Rows with wrong arguments of a policy's functions; `wrap` changes the policy."""
    for (function, recurrent), names in FUNCTIONS.items():
        for argument in names:
            in_tree = argument in ("carry", "params")
            values = VALUES if in_tree else {**VALUES, **LISTS}
            if library == "jax":
                values = {**values, **TENSOR}
            for name, (value, error) in values.items():
                yield Row(
                    f"{library} {function}({argument}): {name}",
                    expected(library, argument, name, error),
                    functools.partial(call, library, wrap, function, recurrent, argument, value),
                    traced=library == "jax",
                )


def expected(library: str, argument: str, name: str, error: str) -> str:
    if library == "torch" and argument == "params":
        return "TypeError: params: expected a dict of tensors, got "
    if name == "complex of JAX":
        return (
            "TypeError: expected bool, got complex64" if argument == "resets" else "TypeError: numbers, got complex64"
        )
    return error


def call(library, wrap, function, recurrent, argument, value):
    good = arguments(library, function, recurrent)
    if argument == "taken_actions":
        good.pop("raw_actions", None)
    wrong = value(SHAPES[argument]) if argument in SHAPES else replaced(good[argument], value)
    return getattr(wrap(made(library, recurrent)[0]), function)(**{**good, argument: wrong})


def wrong_keys() -> Iterator[Row]:
    """Rows with wrong keys: a policy draws nothing without a PRNG key."""
    keys = {**VALUES, **TENSOR, "ragged lists": LISTS["ragged lists"], "unsorted keys": LISTS["unsorted keys"]}
    for library in ("jax", "torch"):
        for name, (value, _) in keys.items():
            if library == "jax" or name not in TENSOR:
                for function, make in (("act", act_with), ("noise", noise_with), ("init", init_with)):
                    call = functools.partial(make, library, value)
                    says = "TypeError: key: expected one PRNG key, got "
                    yield Row(f"{library} {function}(key): {name}", says, call, traced=library == "jax")


def act_with(library, value):
    policy, params, _ = made(library)
    return policy.act(params, value((2,)), zeros(4, 3))


def noise_with(library, value):
    return made(library)[0].noise(value((2,)))


def init_with(library, value):
    return made(library)[0].init(value((2,)))


@functools.cache
def bound(library: str, recurrent: bool) -> tuple[Any, Any]:
    """The functions `serve` and `Loaded.act` of a policy with observation statistics."""
    policy, params, _ = made(library, recurrent)
    statistics = normalize.init((3,)) if library == "jax" else normalize.Statistics(*map(torch.zeros, ((), (3,), (3,))))
    loaded = Loaded(policy, params, statistics, {}).act
    return None if recurrent else gaussjax.serve(policy, params, statistics), loaded


def bound_call(library, recurrent, index, value, name):
    good = {"observations": zeros(4, 3)}
    if recurrent:
        good |= {"carry": made(library, True)[0].initial_carry((4,)), "resets": np.zeros(4, bool)}
    wrong = replaced(good[name], value) if name == "carry" else value(SHAPES.get(name, (2,)))
    return bound(library, recurrent)[index](**{**good, name: wrong})


def wrong_bound() -> Iterator[Row]:
    """Rows with wrong arguments of `serve`d policies and of `Loaded.act`."""
    for library in ("jax", "torch"):
        for index, function in enumerate(("serve", "loaded.act")):
            for name in ("observations", "key") if index == 0 else ("observations", "key", "carry", "resets"):
                values = VALUES if name == "carry" else {**VALUES, **LISTS}
                for kind, (value, error) in ({**values, **TENSOR} if library == "jax" else values).items():
                    says = (
                        "TypeError: key: expected one PRNG key"
                        if name == "key"
                        else expected(library, name, kind, error)
                    )
                    # In torch the statistics see the observations first.
                    if name == "observations" and library == "torch":
                        says = statistics_error(kind, says)
                    call = functools.partial(bound_call, library, name in ("carry", "resets"), index, value, name)
                    yield Row(f"{library} {function}({name}): {kind}", says, call)


def statistics_error(kind: str, error: str) -> str:
    """Error of `normalize` for a kind of wrong value."""
    if kind in ("a text", "an object", "a set", "a function", "texts in a list", "complex of JAX"):
        return "TypeError: expected real numbers, got "
    return "TypeError: expected one array, got a dict" if kind == "unsorted keys" else error
