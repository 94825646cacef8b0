"""Check of a JAX environment in one run: its functions are traced, then copies run until their episodes end."""

from __future__ import annotations

import inspect
import itertools
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from gaussjax import spaces
from gaussjax.core.compiled import count
from gaussjax.core.text import listed, printable, shortened
from gaussjax.envs.environment import Environment, Step
from gaussjax.envs.guard import place
from gaussjax.envs.protocol import described, leaf_faults, reset_faults, step_faults
from gaussjax.envs.trial import COPIES, Trial, parts

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

# Entries of a container that are searched for Python state.
_ITEMS = 100


def check(environment: Environment, num_steps: int = 1000) -> list[str]:
    r"""Finds everything that is wrong with a JAX environment, in one run.

    `reset` and `step` are traced twice, alone and under `vmap`. Then eight copies take random actions and actions at
    the bounds, until each has ended an episode. Some faults show only then, such as observations outside the space, a
    time limit that is reported as a termination, and an environment that resets itself.

    Args:
        environment: An environment.
        num_steps: Most environment steps of each copy, at least 1.

    Returns:
        A line for each fault, with its place and the repair. The list is empty if nothing was found.

    Raises:
        TypeError: The argument is not an `Environment`.

    Example:
        >>> from gaussjax import envs
        >>> pendulum = envs.make_functional("Pendulum-v1")
        >>> check(pendulum)
        []
        >>> print(*check(pendulum._replace(observation_space=spaces.Box(shape=(2,)))), sep="\n")
        reset.observation: expected (..., 2), got (3,)...
    """
    count(num_steps, "num_steps")
    if not isinstance(environment, Environment):
        raise TypeError(
            f"environment: expected a gaussjax.envs.Environment, got {described(environment)}. Convert it with "
            f"from_brax, from_gymnax or from_functional; gymnasium.utils.env_checker checks Gymnasium's."
        )
    return list(dict.fromkeys(_faults(environment, num_steps)))


def _faults(environment: Environment, num_steps: int) -> Iterator[str]:
    wrong = {}
    for name, convert in (("observation_space", spaces.as_space), ("action_space", spaces.action_box)):
        try:
            convert(getattr(environment, name))
        except (TypeError, ValueError) as error:
            wrong[name] = f"{name}: {error}"
    yield from wrong.values()
    if "action_space" in wrong:
        num_steps = 0  # There are no actions without their bounds; reset is traced all the same.
    if "observation_space" in wrong:
        return
    key = jax.random.key(0)
    begun, faults = _traced("reset", environment.reset, lambda result: reset_faults(environment, result), key)
    yield from faults
    if begun is None or not num_steps:
        return
    state, observation = begun
    action = jax.ShapeDtypeStruct(spaces.action_box(environment.action_space).shape, jnp.float32)
    stepped, faults = _traced(
        "step", environment.step, lambda result: step_faults(environment, result, state, observation), state, action
    )
    yield from faults
    if stepped is None:
        return
    yield from _dtype_faults(environment.observation_space, observation, "reset.observation")
    yield from _dtype_faults(spaces.Box(shape=()), stepped.reward, "step.reward")
    try:
        yield from Trial(environment).faults(num_steps)
    except Exception as error:
        # A structure that changes is a fault already, and may be the reason.
        if not faults:
            yield _raised("reset and step", error)


def _traced(
    name: str, function: Callable[..., Any], look: Callable[[Any], Iterator[Exception]], *arguments: Any
) -> tuple[Any, list[str]]:
    """Traces a function; returns the shapes of its result, or None if no loop can carry it, and the faults."""
    faults: list[str] = []
    usable = [True]

    def wrapped(*arguments: Any) -> Any:
        before = jax.tree.flatten(arguments)
        result = function(*arguments)
        after = jax.tree.flatten(arguments)
        if before[1] != after[1] or any(old is not new for old, new in zip(before[0], after[0], strict=True)):
            faults.append(
                f"{name}: expected a function that leaves its arguments as they are, got one that changes the state in "
                f"place. Return a new state, such as {{**state, 'time': time}}."
            )
        wrong = list(look(result))
        faults.extend(map(str, wrong))
        usable[0] = isinstance(result, tuple | list) and not list(leaf_faults(result, name))
        usable[0] = usable[0] and (isinstance(result, Step) or (name == "reset" and len(result) == 2))
        return result if usable[0] else None

    def trace(function: Callable[..., Any]) -> Any:
        # A new function each time, because JAX keeps the programs of functions that it has seen.
        return jax.make_jaxpr(lambda *arguments: function(*arguments), return_shape=True)(*arguments)

    try:
        program, shapes = trace(wrapped)
        if not usable[0]:
            return None, faults
        faults += _program_faults(name, program)
        before = dict(_python_state(function))
        if _leaks(lambda: trace(function)):
            faults.append(
                f"{name}: expected a pure function, got one that keeps a traced value in a Python object, such as an "
                f"attribute. Keep it in the state that reset and step return."
            )
        elif _text(program) != _text(trace(function)[0]):
            faults.append(
                f"{name}: expected the same program at each trace, got two different ones. Python's numbers are frozen "
                f"when JAX traces: keep counters in the state, and draw random numbers from the key with jax.random."
            )
        # The first trace may fill caches, so the state before it does not count.
        after = dict(_python_state(function))
        changed = [path for path, value in before.items() if path in after and after[path] != value]
        if changed:
            faults.append(
                f"{name}: expected no Python state, got one that each call changes: {listed(changed)}. JAX runs this "
                f"code only when it traces; keep counters in the state that reset and step return."
            )
        copies = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((COPIES, *leaf.shape), leaf.dtype), arguments)
        jax.eval_shape(jax.vmap(lambda *arguments: function(*arguments)), *copies)
    except Exception as error:
        return None, [*faults, _raised(name, error)]
    return shapes, faults


def _python_state(
    value: Any, path: str = "", depth: int = 8, seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yields the names and values of the numbers, texts and lengths of lists that a function can reach."""
    seen = set() if seen is None else seen
    if isinstance(value, (bool, int, float, str)):
        yield path, value
    if not depth or id(value) in seen or isinstance(value, (bool, int, float, str, bytes, type, types.ModuleType)):
        return
    seen.add(id(value))
    parts: dict[str, Any] = {}
    if isinstance(value, types.MethodType):
        parts = {"self": value.__self__, "function": value.__func__}
    elif isinstance(value, types.FunctionType):
        variables = inspect.getclosurevars(value)
        parts = {**variables.nonlocals, **variables.globals}
    elif isinstance(value, (list, tuple, dict)):
        if isinstance(value, list):
            yield f"len({path})", len(value)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        parts = {f"[{key!r}]": part for key, part in itertools.islice(items, _ITEMS)}
    elif not isinstance(value, (jax.Array, np.ndarray)):
        own = {name: part for kind in type(value).__mro__[-2::-1] for name, part in vars(kind).items()}
        parts = {f".{name}": part for name, part in own.items() if isinstance(part, (int, float, types.FunctionType))}
        parts |= {f".{name}": part for name, part in getattr(value, "__dict__", {}).items()}
    for name, part in parts.items():
        yield from _python_state(part, f"{path}{name}" if name[:1] in ".[" else name, depth - 1, seen)


def _leaks(trace: Callable[[], Any]) -> bool:
    """True if a traced value outlives a trace; JAX then raises errors of several types."""
    try:
        with jax.checking_leaks():
            trace()
    except Exception:
        return True
    return False


def _raised(name: str, error: Exception) -> str:
    """A line for an error that a function of the environment raised."""
    where = place(error.__traceback__)
    at = f" ({where})" if where else ""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    if isinstance(error, _UNTRACEABLE):
        return (
            f"{name}: expected a function that JAX can trace, got {type(error).__name__}{at}. Use jnp.where or "
            f"jax.lax.cond in place of `if`, and jax.numpy in place of float(), int() and NumPy."
        )
    return f"{name}: expected a result, got {type(error).__name__}: {shortened(printable(text))}{at}. Correct the line."


def _text(program: Any) -> list[Any]:
    """A program as text without addresses, and its constants."""
    constants = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in program.consts]
    return [re.sub(r"0x[0-9a-f]+", "", str(program)), *(np.asarray(constant).tobytes() for constant in constants)]


def _program_faults(name: str, program: Any) -> Iterator[str]:
    if program.effects:
        yield (
            f"{name}: expected a pure function, got the side effects {', '.join(sorted(map(str, program.effects)))}. "
            f"Remove jax.debug.print, jax.debug.callback and io_callback."
        )
    if _draws_from_constants(program.jaxpr, set(program.jaxpr.constvars)):
        yield (
            f"{name}: expected random numbers from its argument, got some that are drawn from a fixed key and so are "
            f"the same in each call. Use the key of reset, and keep a key in the state for step."
        )


def _draws_from_constants(program: Any, fixed: set[Any]) -> bool:
    """True if a program draws random numbers from a key that depends on none of its inputs.

    Args:
        program: A jaxpr.
        fixed: Its variables that are constants; those computed from them are added.
    """

    def constant(variables: Any) -> bool:
        return all(isinstance(variable, Literal) or variable in fixed for variable in variables)

    for equation in program.eqns:
        known = constant(equation.invars)
        if equation.primitive.name == "random_bits" and known:
            return True
        parameters = [x for value in equation.params.values() for x in (value if isinstance(value, tuple) else [value])]
        for inner in [getattr(value, "jaxpr", value) for value in parameters]:
            if not hasattr(inner, "eqns"):
                continue
            inputs, own = equation.invars[len(equation.invars) - len(inner.invars) :], set(inner.constvars)
            if known:
                own |= set(inner.invars)
            elif equation.primitive.name not in ("scan", "while") and len(inputs) == len(inner.invars):
                # The last inputs of `cond` and all inputs of a call are the arguments of the inner program.
                own |= {mine for mine, theirs in zip(inner.invars, inputs, strict=True) if constant([theirs])}
            if _draws_from_constants(inner, own):
                return True
        if known:
            fixed.update(equation.outvars)
    return False


def _dtype_faults(space: Any, value: Any, name: str) -> Iterator[str]:
    try:
        for part, inner, array in parts(space, value, name):
            real = isinstance(inner, spaces.Box) and np.issubdtype(inner.dtype, np.floating)
            if real and not jnp.issubdtype(array.dtype, jnp.floating):
                yield f"{part}: expected floating-point numbers, got {array.dtype}. Use .astype(jnp.float32)."
            if isinstance(inner, spaces.Box) and not real and jnp.issubdtype(array.dtype, jnp.floating):
                yield f"{part}: expected {inner.dtype} as in its space, got {array.dtype}. Use .astype, or correct it."
    except (LookupError, TypeError):
        return  # An observation of another structure is a fault already.
