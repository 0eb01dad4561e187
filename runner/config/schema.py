"""What a config may say: the keys, their types and ranges, and what is wrong with one.

Knows neither torch nor MLflow, so that a mistake is told before anything heavy is imported.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

from runner.config.direction import Direction
from runner.config.groups import (
    DECLARED,
    DiagnosticsConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ScheduleConfig,
    StopConfig,
)
from runner.config.schedule_ranges import schedule_problems
from runner.config.stop_rules import stop_problems
from runner.formulas.parser import parse
from runner.messages.errors import UserError
from runner.messages.ranges import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    POINT,
    POSITIVE,
    TEXT,
    Rule,
    Tree,
    _is_scalar,
    at_least,
    is_finite,
    is_name,
    is_point,
    is_text,
    is_whole,
    one_of,
    shown,
    unknown_key,
    wrong_value,
)
from runner.messages.redaction import HIDDEN, Hidden

# What one of MLflow's charts shows of a run.
POINTS_IN_A_SWEEP = 320
DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICE = Rule(
    "auto, cpu, cuda, cuda:N or mps",
    lambda value: isinstance(value, str) and re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value) is not None,
    DEVICES,
)
START = Rule(f"{POINT.allowed}, or random", lambda value: value == "random" or is_point(value), ("random",))
DIAGNOSTICS = Rule(
    "true or false for curvature",
    lambda value: isinstance(value, dict) and set(value) == {"curvature"} and isinstance(value["curvature"], bool),
)
TAGS = Rule(
    "names with text or numbers, as in tags.team=blue",
    lambda value: isinstance(value, dict) and all(map(is_text, value)) and all(map(_is_scalar, value.values())),
)
# Beyond these torch cannot start the threads, nor Python list the coordinates within a minute.
THREADS = at_least(1, "a whole number", at_most=4096)
DIMENSION = at_least(1, "a whole number", at_most=10_000_000)
GROUP = Rule("a config group, which has a name", lambda value: isinstance(value, dict) and is_text(value.get("name")))
URI = Rule(
    "a database or server, such as sqlite:///outputs/mlflow.db or http://127.0.0.1:5000",
    lambda value: (
        isinstance(value, str)
        and re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://.|https?://[^/]", value) is not None
    ),
)
# What MLflow takes.
LONGEST_EXPERIMENT = 500
EXPERIMENT = Rule(
    f"{TEXT.allowed}, of at most {LONGEST_EXPERIMENT} characters",
    lambda value: TEXT.accepts(value) and len(str(value)) <= LONGEST_EXPERIMENT,
)


@dataclass(frozen=True)
class Key:
    """What a key means, and which values it takes."""

    rule: Rule
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where runs are recorded; all but the name is None when they are not."""

    name: Annotated[str, Key(one_of("sqlite", "server", "off"), "which of these")]
    uri: Annotated[str | None, Key(URI, "the database or server")]
    experiment: Annotated[str | None, Key(EXPERIMENT, "the MLflow experiment")]
    artifacts: Annotated[str | None, Key(TEXT.or_null("where the server puts them"), "folder of the artifacts")]
    offline: Annotated[str | None, Key(one_of("error", "spool"), "what to do when nothing answers there")]

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree; what `tracking=off` leaves out is None."""
        name = tree["name"]
        values: dict[str, Any] = {key: tree.get(key) if name != "off" else None for key in keys_of(cls)}
        return cls(**values | {"name": name})

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, completely: what to minimise, how, on what, and where to record it."""

    device: Annotated[str, Key(DEVICE, "where to compute; auto takes the GPU when there is one")]
    threads: Annotated[int | None, Key(THREADS.or_null("all logical CPUs"), "threads inside one operation")]
    interop_threads: Annotated[int | None, Key(THREADS.or_null("all logical CPUs"), "threads between operations")]
    dtype: Annotated[str, Key(one_of("float32", "float64"), "precision of weights and arithmetic")]
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
    name: Annotated[str | None, Key(TEXT.or_null("one made of what is run"), "the run's name in MLflow")]
    tags: Annotated[dict[str, Any], Key(TAGS, "tags of the run in MLflow")]
    diagnostics: Annotated[DiagnosticsConfig, Key(DIAGNOSTICS, "record the curvature of the objective too")]
    allow_code: Annotated[bool, Key(FLAG, "run functions that the config names; on the command line only")]
    fail_on_divergence: Annotated[bool, Key(FLAG, "end with exit code 1 where something diverged")]
    quiet: Annotated[bool, Key(FLAG, "print errors only")]
    parent_run: Annotated[str | None, Key(TEXT.or_null("none"), "the sweep of the run; a sweep sets it")]
    objective: Annotated[ObjectiveConfig, Key(GROUP, "what to minimise")]
    optimizer: Annotated[OptimizerConfig, Key(GROUP, "the update rule")]
    schedule: Annotated[ScheduleConfig, Key(GROUP, "the learning rate as a function of the step")]
    stop: Annotated[StopConfig, Key(GROUP, "when to stop before the last step")]
    tracking: Annotated[Tracking, Key(GROUP, "where runs are recorded")]

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the config that a plain, resolved tree describes.

        Raises:
            UserError: with one line for each key that is unknown, missing or out of its range.
        """
        found = list(problems(tree))
        if found:
            raise UserError(*found)
        return cls.of(tree)

    @classmethod
    def of(cls, tree: Tree) -> Self:
        """Return the config of a tree in which nothing is wrong."""
        typed = {key: group.from_tree(tree[key]) for key, group in TYPED.items()}
        values: dict[str, Any] = {**tree, **typed}
        if not isinstance(values["name"], str | None):
            values["name"] = str(values["name"])
        return cls(**values)

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree, as recorded and compared."""
        return {key: getattr(self, key).tree if key in TYPED else value for key, value in vars(self).items()}

    @property
    def direction(self) -> Direction:
        """Whether the run minimises or maximises."""
        return self.optimizer.direction

    @property
    def recorded_every(self) -> int:
        """Every how many steps one is recorded: as given, else each; in a sweep, so that charts show them all."""
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
GROUPS = tuple(name for name, key in keys_of(Config).items() if key.rule is GROUP)


def key_help() -> str:
    """Return a line for each root key: what it means and which values it takes."""
    rows = {name: key for name, key in keys_of(Config).items() if name not in GROUPS}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {key.meaning}: {key.rule.allowed}" for name, key in rows.items())


def problems(tree: Tree) -> Iterator[str]:
    """Yield a line for each key of a resolved tree that is unknown, missing or out of its range."""
    yield from _problems_of(Config, tree, "")
    tracking = tree.get("tracking")
    if isinstance(tracking, dict) and tracking.get("name") != "off":
        yield from _problems_of(Tracking, tracking, "tracking.")
    if isinstance(tree.get("objective"), dict):
        yield from _objective_problems(tree["objective"], is_code_allowed=tree.get("allow_code") is True)
    yield from _step_problems(tree)
    if isinstance(tree.get("optimizer"), dict):
        yield from _optimizer_problems(tree["optimizer"])
    for group in ("objective", "optimizer"):
        if isinstance(tree.get(group), dict):
            yield from _not_finite(tree[group], group)


def _step_problems(tree: Tree) -> Iterator[str]:
    """Yield what is wrong with the schedule and the stopping rules, for a run of that learning rate and length."""
    lr, steps = tree.get("lr"), tree.get("steps")
    if isinstance(tree.get("schedule"), dict) and POSITIVE.accepts(lr) and COUNT.accepts(steps):
        yield from schedule_problems(tree["schedule"], lr, steps)  # type: ignore[arg-type]  # the rules have shown it
    if isinstance(tree.get("stop"), dict):
        yield from stop_problems(tree["stop"], steps if COUNT.accepts(steps) else None)


def _is_written(value: object) -> bool:
    return is_text(value) or is_whole(value) or isinstance(value, float)


def _is_nested(value: object, depth: int) -> bool:
    """Tell whether `value` is a number or formula, or a list of such or of lists, down to a depth."""
    if isinstance(value, list) and depth > 0:
        return len(value) > 0 and all(_is_nested(item, depth - 1) for item in value)
    return _is_written(value)


WRITTEN = Rule("a number or a formula", _is_written)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(is_name, value)) and len(set(value)) == len(value)


MAPPING = Rule("names with values, as in {a:1}", lambda value: isinstance(value, dict))
# What is read of these whatever their file declares; functions and update rules tell their own.
LEARNING = ("dataset", "held_out", "batch_size", "l2")
OBJECTIVE_KEYS = {
    "expression": ("formula", "variables", "constants"),
    "callable": ("target", "of_one_point", "arguments"),
    "linear_regression": LEARNING,
    "logistic_regression": LEARNING,
    "mlp": (*LEARNING, "hidden"),
}
OPTIMIZER_KEYS = {"torch": ("algorithm", "arguments")}
OBJECTIVE_RULES = {
    "dimension": DIMENSION.or_null("that of the start"),
    "start": Rule(f"{WRITTEN.allowed}, or a list of them", lambda value: _is_nested(value, depth=1)),
    "bounds": Rule(
        "[low, high], or such a pair for each coordinate",
        lambda value: isinstance(value, list) and _is_nested(value, depth=2),
    ).or_null("none"),
    "minimum_at": Rule(
        f"{WRITTEN.allowed}, or a list of them, or of such lists", lambda value: _is_nested(value, depth=2)
    ).or_null("not known"),
    "minimum": WRITTEN.or_null("not known"),
    "batch_size": COUNT.or_null("all samples"),
    "hidden": COUNT,
    "dataset": Rule("the name of a data set", is_text),
    "formula": Rule("a formula, such as (x - 1)**2", is_text),
    "of_one_point": FLAG,
    "arguments": MAPPING,
    "target": Rule("package.module:function", lambda value: value is None or is_text(value)),
    "held_out": Rule("a share above 0 and below 1", lambda value: is_finite(value) and 0 < value < 1),  # type: ignore[operator]
    "l2": NOT_NEGATIVE,
    "condition": Rule("a finite number of at least 1", lambda value: is_finite(value) and value >= 1),  # type: ignore[operator]
    "variables": Rule("a list of different names", _are_names).or_null("those found"),
    "constants": Rule(
        "names with finite numbers",
        lambda value: isinstance(value, dict) and all(map(is_name, value)) and all(map(is_finite, value.values())),
    ),
}


FORMULA_HIDDEN = f"objective.formula={HIDDEN}: expected a formula, such as (x - 1)**2; the environment's is none"


def _objective_problems(settings: Tree, is_code_allowed: bool) -> Iterator[str]:
    wrong = list(_out_of_range(settings, "objective", OBJECTIVE_RULES, OBJECTIVE_KEYS))
    yield from wrong
    if settings.get("name") == "callable" and not is_code_allowed:
        yield "objective=callable: runs code that the config names, expected allow_code=true on the command line"
    if settings.get("name") == "expression" and not wrong:
        for name in set(settings["constants"]).intersection(settings["variables"] or ()):
            yield f"objective.constants.{name}: {name} is a variable, expected another name"
        try:
            parse(
                str(settings["formula"]),
                path="objective.formula",
                variables=settings["variables"],
                constants=tuple(settings["constants"]),
            )
        except UserError as error:
            is_hidden = isinstance(settings["formula"], Hidden)  # and what is wrong would tell parts of it
            yield from (FORMULA_HIDDEN,) if is_hidden else error.lines


OPTIMIZER_RULES = {
    **dict.fromkeys(("weight_decay", "eps", "momentum", "lr_decay", "momentum_decay"), NOT_NEGATIVE),
    "initial_accumulator_value": NOT_NEGATIVE,
    "algorithm": Rule("the name of a class of torch.optim", is_text),
    "arguments": MAPPING,
    "dampening": Rule("a finite number", is_finite),
    "alpha": NOT_NEGATIVE,
    "rho": Rule("a number from 0 to 1", lambda value: is_finite(value) and 0 <= value <= 1),  # type: ignore[operator]
    "betas": Rule(
        "two numbers of at least 0 and below 1",
        lambda value: isinstance(value, list) and len(value) == 2 and all(is_finite(b) and 0 <= b < 1 for b in value),
    ),
    **dict.fromkeys(("maximize", "centered", "amsgrad", "decoupled_weight_decay"), FLAG),
}


def _optimizer_problems(settings: Tree) -> Iterator[str]:
    yield from _out_of_range(settings, "optimizer", OPTIMIZER_RULES, OPTIMIZER_KEYS)


def _out_of_range(
    settings: Tree, group: str, rules: Mapping[str, Rule], needed: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    for key in needed.get(str(settings.get("name")), ()):
        if key not in settings:
            yield f"{group}.{key}: missing, expected {rules[key].allowed}"
    for key, rule in rules.items():
        if key in settings and not rule.accepts(settings[key]):
            yield wrong_value(f"{group}.{key}", settings[key], rule)


def _problems_of(schema: type, tree: Tree, prefix: str) -> Iterator[str]:
    keys = keys_of(schema)
    for name in tree:
        if name not in keys:
            yield unknown_key(f"{prefix}{name}", tree[name], [f"{prefix}{known}" for known in keys])
    for name, key in keys.items():
        if name not in tree:
            yield f"{prefix}{name}: missing, expected {key.rule.allowed}"
        elif not key.rule.accepts(tree[name]):
            is_choice = key.rule is GROUP and _is_scalar(tree[name])
            choice = f"; a file chooses one in its defaults list, as in - override /{name}: OPTION" if is_choice else ""
            yield wrong_value(f"{prefix}{name}", tree[name], key.rule) + choice


def _not_finite(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}={shown(value)}: expected a finite number"


def unlike_declared(given: object, declared: object, path: str) -> Iterator[str]:
    """Yield a line for each key of a group that its YAML file does not declare, or of another kind.

    An empty mapping declares that any key may stand there; null and interpolations take any value.
    """
    if isinstance(declared, dict) and isinstance(given, dict):
        if not declared:
            return
        for key, value in given.items():
            if path == "objective" and key in DECLARED[1:]:
                continue  # numbers or formulas in many shapes, which have rules of their own
            if key == "name" and path in GROUPS and value != declared.get(key):
                yield from _other_name(path, value, declared.get(key))
            elif key in declared:
                yield from unlike_declared(value, declared[key], f"{path}.{key}")
            else:
                yield unknown_key(f"{path}.{key}", value, [f"{path}.{name}" for name in declared])
    elif not _same_kind(given, declared):
        yield f"{path}={shown(given)}: expected {_kind_of(declared)}"


def _other_name(group: str, given: object, declared: object) -> Iterator[str]:
    if is_text(given):
        yield f"{group}.name={shown(given)}: expected {shown(declared)}; {group}={shown(given)} chooses another"


def not_given(given: object, declared: object, path: str) -> Iterator[str]:
    """Yield a line for each key that the YAML file of a group declares and that is missing."""
    if not isinstance(declared, dict) or not isinstance(given, dict):
        return
    for key, inner in declared.items():
        if path == "objective" and key in DECLARED:
            continue
        if key in given:
            yield from not_given(given[key], inner, f"{path}.{key}")
        elif key != "name":
            yield f"{path}.{key}: missing, expected {_kind_of(inner)}"


def _same_kind(given: object, declared: object) -> bool:
    if declared is None or (isinstance(declared, str) and "${" in declared):
        return True
    if isinstance(declared, list):
        return _is_numeric(given) if is_point(declared) else isinstance(given, list)
    if is_finite(declared):
        return not isinstance(given, list) and _is_numeric(given)
    return isinstance(given, type(declared))


def _is_numeric(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(is_whole(item) or isinstance(item, float) for item in items)


def _kind_of(declared: object) -> str:
    if isinstance(declared, list):
        return POINT.allowed if is_point(declared) else "a list"
    if isinstance(declared, bool):
        return FLAG.allowed
    if isinstance(declared, dict):
        return f"keys {', '.join(map(str, declared))}" if declared else MAPPING.allowed
    return "a finite number" if is_finite(declared) else TEXT.allowed
