"""The root keys of a config: what they mean and which values they take; imports neither torch nor MLflow."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

from runner.config.direction import Direction
from runner.config.groups import (
    DiagnosticsConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ScheduleConfig,
    StopConfig,
)
from runner.config.initial import RUNS, SUFFIX, is_saved
from runner.config.uris import DEFAULT_URI
from runner.messages.ranges import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    POINT,
    POSITIVE,
    TEXT,
    Constraint,
    Tree,
    at_least,
    is_point,
    is_scalar,
    is_text,
    one_of,
)

CHILDREN = ("all", "varied", "summary")
# The number of points that MLflow's charts show of a run.
POINTS_IN_A_SWEEP = 320
ENGINES = ("auto", "eager", "compiled")
DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICE = Constraint(
    "auto, cpu, cuda, cuda:N or mps",
    lambda value: isinstance(value, str) and re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value) is not None,
    DEVICES,
    synonyms={"gpu": "cuda", "nvidia": "cuda", "metal": "mps"},
)
START = Constraint(
    f"{POINT.allowed}, random, a file {SUFFIX}, or {RUNS}ID of a run",
    lambda value: value == "random" or is_point(value) or is_saved(value),
    ("random",),
)
SAVE = Constraint("true, false or all", lambda value: isinstance(value, bool) or value == "all", ("all",))
DIAGNOSTICS = Constraint(
    "true or false for curvature",
    lambda value: isinstance(value, dict) and set(value) == {"curvature"} and isinstance(value["curvature"], bool),
)
TAGS = Constraint(
    "names with text or numbers, as in tags.team=blue",
    lambda value: isinstance(value, dict) and all(map(is_text, value)) and all(map(is_scalar, value.values())),
)
# Torch cannot start more threads.
THREADS = at_least(1, "a whole number", at_most=4096)
GROUP = Constraint(
    "a config group, which has a name", lambda value: isinstance(value, dict) and is_text(value.get("name"))
)
URI = Constraint(
    f"a database or server, such as {DEFAULT_URI} or http://127.0.0.1:5000",
    lambda value: (
        isinstance(value, str)
        and re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://.|https?://[^/]", value) is not None
    ),
)
# The limit of MLflow.
LONGEST_EXPERIMENT = 500
EXPERIMENT = Constraint(
    f"{TEXT.allowed}, of at most {LONGEST_EXPERIMENT} characters",
    lambda value: TEXT.accepts(value) and len(str(value)) <= LONGEST_EXPERIMENT,
)


@dataclass(frozen=True)
class Key:
    """The meaning of a key, and the values that it takes."""

    constraint: Constraint
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where runs are recorded; with `tracking=off` everything but the name is None."""

    name: Annotated[str, Key(one_of("sqlite", "server", "off"), "which of these")]
    uri: Annotated[str | None, Key(URI, "the database or server")]
    experiment: Annotated[str | None, Key(EXPERIMENT, "the MLflow experiment")]
    artifacts: Annotated[str | None, Key(TEXT.or_null("where the server puts them"), "folder of the artifacts")]
    offline: Annotated[str | None, Key(one_of("error", "spool"), "what to do when nothing answers there")]
    children: Annotated[str | None, Key(one_of(*CHILDREN), "what the runs of a sweep's jobs record")] = CHILDREN[0]

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree; keys missing with `tracking=off` are None."""
        name = tree["name"]
        given = {"children": CHILDREN[0], **tree}
        values: dict[str, Any] = {key: given.get(key) if name != "off" else None for key in keys_of(cls)}
        return cls(**values | {"name": name})

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Config:
    """A complete run: what to minimise, how, on which device, and where to record it."""

    device: Annotated[str, Key(DEVICE, "where to compute; auto takes the GPU when there is one")]
    threads: Annotated[int | None, Key(THREADS.or_null("all logical CPUs"), "threads inside one operation")]
    interop_threads: Annotated[int | None, Key(THREADS.or_null("all logical CPUs"), "threads between operations")]
    dtype: Annotated[str, Key(one_of("float32", "float64"), "precision of weights and arithmetic")]
    engine: Annotated[str, Key(one_of(*ENGINES), "how steps are made; auto compiles long descents, to the same bits")]
    seed: Annotated[int, Key(at_least(0, "a whole number"), "seed of everything random")]
    initial_weight: Annotated[
        float | list[float] | str | None, Key(START.or_null("the objective's usual start"), "where the descent starts")
    ]
    lr: Annotated[float, Key(POSITIVE, "learning rate")]
    steps: Annotated[int, Key(COUNT, "how many updates to make")]
    gradient_noise: Annotated[float, Key(NOT_NEGATIVE, "scale of normal noise added to the gradient")]
    clip_value: Annotated[float | None, Key(POSITIVE.or_null("no clipping"), "largest size of a gradient's component")]
    clip_norm: Annotated[float | None, Key(POSITIVE.or_null("no clipping"), "largest norm of a gradient")]
    log_every: Annotated[
        int | None,
        Key(
            COUNT.or_null(f"every step; in a sweep at most {POINTS_IN_A_SWEEP}"), "record every n-th step and the last"
        ),
    ]
    keep_weights: Annotated[
        str,
        Key(one_of("best", "all", "none"), "whose final and best weights to keep: a sweep's best run's or all runs'"),
    ]
    save_weights: Annotated[
        bool | str | None,
        Key(SAVE.or_null("true for models"), "save last weights by parameter; in a sweep the best run's, or all runs'"),
    ]
    name: Annotated[str | None, Key(TEXT.or_null("one made of what is run"), "the run's name in MLflow")]
    tags: Annotated[dict[str, Any], Key(TAGS, "tags of the run in MLflow")]
    diagnostics: Annotated[DiagnosticsConfig, Key(DIAGNOSTICS, "record the curvature of the objective too")]
    allow_code: Annotated[bool, Key(FLAG, "run functions that the config names; on the command line only")]
    fail_on_divergence: Annotated[bool, Key(FLAG, "end with exit code 1 where something diverged")]
    quiet: Annotated[bool, Key(FLAG, "print errors only")]
    report: Annotated[bool, Key(FLAG, "draw figures, and the page of a sweep, once all is recorded")]
    parent_run: Annotated[str | None, Key(TEXT.or_null("none"), "the sweep of the run; a sweep sets it")]
    objective: Annotated[ObjectiveConfig, Key(GROUP, "what to minimise")]
    optimizer: Annotated[OptimizerConfig, Key(GROUP, "the update rule")]
    schedule: Annotated[ScheduleConfig, Key(GROUP, "the learning rate as a function of the step")]
    stop: Annotated[StopConfig, Key(GROUP, "when to stop before the last step")]
    tracking: Annotated[Tracking, Key(GROUP, "where runs are recorded")]

    @classmethod
    def of(cls, tree: Tree, known: Mapping[str, Any] | None = None) -> Self:
        """Return the config of a checked tree; `known` has the settings of groups that are made already."""
        typed = {key: group.from_tree(tree[key]) for key, group in TYPED.items() if key not in (known or {})}
        typed |= known or {}
        values: dict[str, Any] = {**tree, **typed}
        if not isinstance(values["name"], str | None):
            values["name"] = str(values["name"])
        return cls(**values)

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree, as it is recorded and compared."""
        return {key: getattr(self, key).tree if key in TYPED else value for key, value in vars(self).items()}

    @property
    def direction(self) -> Direction:
        """Whether the run minimises or maximises."""
        return self.optimizer.direction

    @property
    def targets(self) -> tuple[str, ...]:
        """The user's code that it names, each as `package.module:name`."""
        return self.objective.targets + self.optimizer.targets

    @property
    def recorded_every(self) -> int:
        """The interval of recorded steps: `log_every`, or 1; in a sweep the smallest for POINTS_IN_A_SWEEP points."""
        if self.log_every is not None:
            return self.log_every
        return 1 if self.parent_run is None else -(-self.steps // POINTS_IN_A_SWEEP)


def keys_of(schema: type) -> dict[str, Key]:
    """Return the keys of a schema, by name."""
    return {field.name: get_args(field.type)[1] for field in dataclasses.fields(schema)}


TYPED: dict[str, Any] = {
    "diagnostics": DiagnosticsConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "stop": StopConfig,
    "tracking": Tracking,
}
GROUPS = tuple(name for name, key in keys_of(Config).items() if key.constraint is GROUP)


def key_help() -> str:
    """Return a line for each root key: what it means and which values it takes."""
    rows = {name: key for name, key in keys_of(Config).items() if name not in GROUPS}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {key.meaning}: {key.constraint.allowed}" for name, key in rows.items())
