"""The commands as dataclasses: each field is an option, and the docstring of the field is its help text."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from gaussjax.cli.errors import usage_errors
from gaussjax.cli.file_options import Convert, Export, Hint, Info, Resume
from gaussjax.core.choices import choose
from gaussjax.training import bc, ppo, sac
from gaussjax.training.algorithm import check_exploration, check_options

EVALUATION_SEED = 10_000
# Options of PPO that a policy file decides.
OF_POLICY = ("network", "policy", "recurrent_size", "hidden_sizes", "activation", "std", "normalize_observations")
_NETWORK = ("network", "sequence_length", "burn_in", "recurrent_size", "hidden_sizes", "activation", "std")
_NETWORK += ("initial_log_std",)
# Words that JSON spells otherwise.
_OF_PYTHON = {"True": "true", "False": "false", "None": "null"}


def named_values(words: Sequence[str], what: str = "environment_options") -> dict[str, Any]:
    """Converts words NAME=VALUE to a dict; a value is a number, true, false, null, a list in brackets or text.

    `True`, `False` and `None` are read as in Python. In quotes of JSON, as in `NAME="500"`, a value is always text.

    Example:
        >>> named_values(["max_steps=500", "backend=spring", "contacts=False"])
        {'max_steps': 500, 'backend': 'spring', 'contacts': False}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ValueError(f"{what}: expected NAME=VALUE, each name once, got {word[:100]!r}.")
        try:
            found[name] = json.loads(_OF_PYTHON.get(value, value))
        except ValueError:
            found[name] = value
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Options that all algorithms share."""

    algorithm: ClassVar[str]

    environment: Annotated[str, Hint("ENVIRONMENT")]
    """Gymnasium name such as Pendulum-v1; brax:ant, playground:CartpoleBalance or gymnax:Pendulum-v1; or a module of
    yours and a name in it, such as myrobot:Reach-v0. The module is imported from the working folder or Python's path.
    """
    seed: int = 0
    """Random seed for training."""
    environment_options: tuple[str, ...] = ()
    """Options of the environment as NAME=VALUE, such as max_steps=500 action_repeat=2, or backend=spring for brax."""
    backend: Literal["gymnasium", "jax"] = "gymnasium"
    """Run environments on the host (gymnasium), or compile them with the training (jax, for Pendulum-v1 only)."""
    out: Annotated[Path | None, Hint(default="runs/ENVIRONMENT-ALGORITHM-seedN")] = None
    """New folder for the results."""
    evaluation_episodes: int = 20
    """Number of episodes of an evaluation with deterministic actions."""
    evaluate_every: int = 0
    """Number of updates between two evaluations, of which the best chooses the best policy; 0 evaluates at the end."""
    checkpoint_every: int = 20
    """Number of updates between two checkpoints for resume; 0 writes none."""
    max_skipped: int = 10
    """Stop after this number of consecutive updates with a NaN or infinite loss, gradient or transition."""
    timeout: float = 300.0
    """Longest time for one step of all environments, in seconds."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, in the folder of the results."""
    wandb: bool = False
    """Write the metrics to Weights & Biases too; WANDB_MODE=offline keeps them in the folder of the results."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("evaluation_episodes", "max_skipped"), ("timeout",))
            for name in ("checkpoint_every", "evaluate_every"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}.")
            if not 0 <= self.seed < 2**32:
                # jax.random.key uses 32 bits of a seed, and environments refuse a negative one.
                raise ValueError(f"seed: expected a number from 0 to 2**32 - 1, got {self.seed}.")
            named_values(self.environment_options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPPO(Train):
    """Train a policy with proximal policy optimisation (PPO).

    Examples:
        gaussjax train ppo Pendulum-v1 --seed 1 --total-steps 150_000
        gaussjax train ppo Pendulum-v1 --backend jax --num-envs 64
        gaussjax train ppo myrobot:Reach-v0 --initial-policy runs/cloned
    """

    algorithm = "ppo"

    initial_policy: Annotated[Path | None, Hint(default="a new policy")] = None
    """Policy file to start from, such as a clone's, or the folder of a training. A policy without a critic gets one."""
    distributed: str | None = None
    """Train on many devices: local, auto, or COORDINATOR:PORT,PROCESSES,INDEX in each process."""
    config: ppo.Config = dataclasses.field(default_factory=ppo.Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSAC(Train):
    """Train a policy with soft actor-critic (SAC).

    Examples:
        gaussjax train sac Pendulum-v1 --total-steps 2e4
        gaussjax train sac HalfCheetah-v5 --num-envs 4 --gradient-steps 4
        gaussjax train sac myrobot:Reach-v0 --tensorboard --out runs/reach
    """

    algorithm = "sac"

    checkpoint_every: int = 100
    """Number of updates between two checkpoints for resume; 0 writes none. Each holds the replay buffer."""
    config: sac.Config = dataclasses.field(default_factory=sac.Config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBC(Train):
    """Train a policy by behavioural cloning (BC) of recorded actions.

    Examples:
        gaussjax train bc Pendulum-v1 --dataset recorded.npz
        gaussjax train bc Pendulum-v1 --dataset recorded.csv --patience 10
        gaussjax train bc myrobot:Reach-v0 --dataset minari:reach-v0 --network lstm
    """

    algorithm = "bc"

    dataset: str
    """A file (.npz, .hdf5, .h5 or .csv) with observations and actions, or minari:NAME for a dataset of Minari."""
    config: bc.Config = dataclasses.field(default_factory=bc.Config)


TRAIN: dict[str, Any] = {"ppo": TrainPPO, "sac": TrainSAC, "bc": TrainBC}
CONFIGS: dict[str, Any] = {"ppo": ppo.Config, "sac": sac.Config, "bc": bc.Config}
# Fields of the commands that `to_dict` does not save.
_NOT_SAVED = ("out", "distributed", "config")
# Types of saved options that no other check looks at.
_TYPES = {"environment": str, "backend": str, "dataset": str, "tensorboard": bool, "wandb": bool}
# Options that a resumed training shares with its checkpoint.
FIXED = (
    *("algorithm", "environment", "backend", "num_envs", "network", "policy", "recurrent_size", "hidden_sizes"),
    *("exploration", "hold", "beta"),
    *("buffer_size", "num_critics", "normalize_observations", "actor_keys", "critic_keys"),
    *("std", "weight_decay", "validation_share"),
)


def to_dict(command: Any) -> dict[str, Any]:
    """Options of a training command as a JSON-able dict, to be saved in the folder of its results."""
    saved = {name: value for name, value in vars(command).items() if name not in _NOT_SAVED}
    if not saved.get("dataset", "minari:").startswith("minari:"):
        saved["dataset"] = str(Path(command.dataset).resolve())
    if saved.get("initial_policy") is not None:
        saved["initial_policy"] = str(command.initial_policy.resolve())
    return {"algorithm": command.algorithm, **saved, **dataclasses.asdict(command.config)}


def from_dict(saved: Mapping[str, Any]) -> Any:
    """Training command with the options that `to_dict` saved, and defaults for missing ones; a wrong one raises."""
    for name, kind in _TYPES.items():
        if not isinstance(saved.get(name, kind()), kind):
            raise TypeError(f"{name}: expected {kind.__name__}, got {saved[name]!r}")
    algorithm = saved.get("algorithm")
    kind, config = (choose(table, algorithm, "algorithm") for table in (TRAIN, CONFIGS))
    choose(dict.fromkeys(("gymnasium", "jax")), saved.get("backend", "gymnasium"), "backend")

    def fields(cls: Any) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(cls)} - {*_NOT_SAVED}
        found = {name: saved[name] for name in names & {*saved}}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}

    found = fields(kind)
    if found.get("initial_policy") is not None:
        found["initial_policy"] = Path(found["initial_policy"])
    return kind(**found, config=config(**fields(config)))


@dataclasses.dataclass(frozen=True)
class Play:
    """Options of the commands that run a policy in its environment."""

    file: Annotated[Path, Hint("POLICY")]
    """Policy file, written by train or by gaussjax.save; or the folder of a training."""
    environment: Annotated[str | None, Hint(default="the environment of the training")] = None
    """Name of an environment as for train, such as Pendulum-v1."""
    environment_options: Annotated[tuple[str, ...], Hint(default="limit, backend, wrappers of the training")] = ()
    """Options of the environment, as for train."""
    episodes: int = 20
    """Number of episodes."""
    seed: int = EVALUATION_SEED
    """Random seed of the first episode; the seed of each further episode is larger by 1."""
    max_steps: int = 10_000
    """Longest episode in environment steps, for environments whose episodes do not end."""
    timeout: float = 300.0
    """Longest time for one step of all environments, in seconds."""
    stochastic: bool = False
    """Sample the actions; they are deterministic by default."""
    exploration: Literal["white", "held", "colored"] | None = None
    """Noise of sampled actions, as for train."""
    hold: int | None = None
    """Steps for which held noise stays the same, as for train."""
    beta: float | None = None
    """Exponent of colored noise, as for train."""

    def __post_init__(self) -> None:
        with usage_errors(ValueError):
            check_options(self, ("episodes", "max_steps", "hold"), ("timeout",))
            check_exploration(self)
            for name in ("exploration", "hold", "beta"):
                if not self.stochastic and getattr(self, name) not in ("white", None):
                    raise ValueError(f"{name}: expected none for deterministic actions. Add --stochastic to sample.")
            named_values(self.environment_options)
            if not 0 <= self.seed < 2**63:
                raise ValueError(f"seed: expected a number from 0 to 2**63 - 1, got {self.seed}.")


@dataclasses.dataclass(frozen=True)
class Evaluate(Play):
    """Measure the returns of a policy in its environment.

    Examples:
        gaussjax evaluate runs/pendulum
        gaussjax evaluate runs/pendulum --episodes 1 --gif episode.gif
        gaussjax evaluate runs/pendulum --stochastic --hold 8
    """

    gif: Path | None = None
    """New GIF file with a recording of the first episode."""


@dataclasses.dataclass(frozen=True)
class Record(Play):
    """Record episodes of a policy as a dataset for train bc.

    Examples:
        gaussjax record runs/pendulum --episodes 100 --out recorded.npz
        gaussjax record runs/pendulum --stochastic --minari pendulum/expert-v0
        gaussjax record --uniform Pendulum-v1 --out random.hdf5
    """

    file: Annotated[Path | None, Hint("POLICY")] = None
    """Policy file, written by train or by gaussjax.save; or the folder of a training."""
    seed: int = 3 * EVALUATION_SEED
    """Random seed of the first episode, which is none of an evaluation; each further seed is larger by 1."""
    out: Path | None = None
    """New file to write; its suffix .npz, .hdf5 or .h5 is its format."""
    minari: str | None = None
    """Name of a new dataset in Minari's local store, such as pendulum/expert-v0, in place of a file."""
    uniform: str | None = None
    """Name of an environment for actions that are uniform in the Box, without a policy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with usage_errors(ValueError):
            if (self.file is None) == (self.uniform is None):
                raise ValueError("file: expected a policy, or an environment with --uniform. Name one of them.")
            if (self.out is None) == (self.minari is None):
                raise ValueError("out: expected a new file, or the name of a dataset with --minari. Name one of them.")
            if self.out is not None and self.out.suffix.lower() not in (".npz", ".hdf5", ".h5"):
                raise ValueError(f"out: expected a name that ends in .npz, .hdf5 or .h5, got {self.out}.")
            if self.uniform is not None and (self.stochastic or self.environment is not None):
                raise ValueError("uniform: expected no --stochastic and no --environment. Leave them out.")


# Each command by its words.
COMMANDS: dict[str, Any] = {
    **{f"train {name}": kind for name, kind in TRAIN.items()},
    "resume": Resume,
    "evaluate": Evaluate,
    "record": Record,
    "info": Info,
    "export": Export,
    "convert": Convert,
}


class Option(NamedTuple):
    """Field of a command or of its config.

    Attributes:
        name: Name of the field.
        form: Type of the field, without an annotation.
        default: Default, or `dataclasses.MISSING`.
        hint: Annotation for the help.
        group: Heading in the help.
        nested: True for a field of the config.
    """

    name: str
    form: Any
    default: Any
    hint: Hint
    group: str
    nested: bool

    @property
    def word(self) -> str:
        """Word on the command line, such as `--num-envs`."""
        return f"--{self.name.strip('_').replace('_', '-')}"


def all_fields(kind: Any, nested: bool = False) -> list[Option]:
    """All options of a command; the fields of its config follow its own."""
    found, forms = [], typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        form, hint = forms[field.name], Hint()
        if dataclasses.is_dataclass(form):
            found += all_fields(form, nested=True)
            continue
        if typing.get_origin(form) is Annotated:
            form, hint = typing.get_args(form)
        group = "network" if field.name in _NETWORK else "algorithm" if nested else "options"
        found.append(Option(field.name, form, field.default, hint, "arguments" if hint.argument else group, nested))
    return found


def docstrings(kind: Any) -> dict[str, str]:
    """Docstrings of the fields of a command and of its config, read from the source."""
    found: dict[str, str] = {}
    configs = [CONFIGS[kind.algorithm]] if kind in TRAIN.values() else []
    for cls in (*kind.__mro__[:-1], *configs):
        body: Any = ast.parse(inspect.getsource(cls)).body[0]
        for field, text in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found.setdefault(ast.unparse(field.target), ast.literal_eval(text.value))
    return found
