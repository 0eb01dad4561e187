"""What is wrong in a resolved config, before anything heavy is imported."""

import math
from collections.abc import Iterator

from runner.config.data_settings import TASKS, DataSettings, Kind
from runner.config.group_ranges import OBJECTIVE, OBJECTIVE_REQUIRED, OPTIMIZER, OPTIMIZER_OWN, OPTIMIZER_REQUIRED
from runner.config.groups import CODE
from runner.config.schedule_ranges import schedule_problems
from runner.config.schema import CHILDREN, GROUPS, Config, Tracking, keys_of
from runner.config.stop_rules import stop_problems
from runner.formulas.parser import parse
from runner.messages.errors import UserError
from runner.messages.ranges import COUNT, POSITIVE, Tree, is_scalar, key_problems, shown
from runner.messages.redaction import HIDDEN, Hidden

FORMULA_HIDDEN = f"objective.formula={HIDDEN}: expected a formula, such as (x - 1)**2; the environment's is none"


def checked_config(tree: Tree) -> Config:
    """Return the config that a plain, resolved tree describes.

    Raises:
        UserError: with one line for each key that is unknown, missing or out of its range.
    """
    found = list(problems(tree))
    if found:
        raise UserError(*found)
    return Config.of(tree)


def problems(tree: Tree) -> Iterator[str]:
    """Yield a line for each key of a resolved tree that is unknown, missing or out of its range."""
    yield from _root_problems(tree)
    groups = {group: tree[group] for group in GROUPS if isinstance(tree.get(group), dict)}
    if "tracking" in groups and groups["tracking"].get("name") != "off":
        constraints = {name: key.constraint for name, key in keys_of(Tracking).items()}
        # Files and records of earlier versions do not have it.
        yield from key_problems({"children": CHILDREN[0]} | groups["tracking"], constraints, "tracking.")
    if "objective" in groups:
        yield from _objective_problems(groups["objective"], is_code_allowed=tree.get("allow_code") is True)
    yield from _step_problems(tree, groups)
    if "optimizer" in groups:
        name = str(groups["optimizer"].get("name"))
        constraints = OPTIMIZER | OPTIMIZER_OWN.get(name, {})
        yield from key_problems(groups["optimizer"], constraints, "optimizer.", OPTIMIZER_REQUIRED.get(name, ()))
        if name == "package" and tree.get("allow_code") is not True:
            yield "optimizer=package: runs code that the config names, expected allow_code=true on the command line"
    for group in ("objective", "optimizer"):
        yield from _not_finite(groups.get(group), group)


def _root_problems(tree: Tree) -> Iterator[str]:
    for line in key_problems(tree, {name: key.constraint for name, key in keys_of(Config).items()}):
        name = line.partition("=")[0]
        is_choice = name in GROUPS and is_scalar(tree.get(name))
        choice = f"; a file chooses one in its defaults list, as in - override /{name}: OPTION" if is_choice else ""
        yield line + choice


def _step_problems(tree: Tree, groups: Tree) -> Iterator[str]:
    """Yield what is wrong with the schedule and the stopping rules, for a run of that learning rate and length."""
    lr, steps = tree.get("lr"), tree.get("steps")
    if groups.get("objective", {}).get("epochs") is not None:
        steps = None  # known when the data are, and checked then
    if "schedule" in groups and POSITIVE.accepts(lr) and COUNT.accepts(steps):
        yield from schedule_problems(groups["schedule"], lr, steps)  # type: ignore[arg-type]  # as just checked
    if "stop" in groups:
        yield from stop_problems(groups["stop"], steps if COUNT.accepts(steps) else None)


def _objective_problems(settings: Tree, is_code_allowed: bool) -> Iterator[str]:
    required = OBJECTIVE_REQUIRED.get(str(settings.get("name")), ())
    wrong = list(key_problems(settings, OBJECTIVE, "objective.", required))
    yield from wrong
    if settings.get("name") in CODE and not is_code_allowed:
        name = settings["name"]
        yield f"objective={name}: runs code that the config names, expected allow_code=true on the command line"
    if "dataset" in settings and not wrong:
        yield from _data_problems(settings, is_code_allowed)
    if settings.get("name") == "expression" and not wrong:
        yield from _formula_problems(settings)


def _data_problems(settings: Tree, is_code_allowed: bool) -> Iterator[str]:
    name, data = settings["name"], DataSettings.of(settings)
    if data.kind is Kind.CODE and not is_code_allowed:
        path = f"objective.dataset={shown(data.dataset)}"
        yield f"{path}: runs code that the config names, expected allow_code=true on the command line"
    if data.kind is not Kind.FILE:
        for key in ("features", "target_column"):
            if settings.get(key) is not None:
                yield f"objective.{key}={shown(settings[key])}: {shown(data.dataset)} is no file, expected null"
    if data.task not in (None, TASKS.get(name, data.task)):
        yield f"objective.task={data.task}: expected {TASKS[name]} or null for objective {name}"


def _formula_problems(settings: Tree) -> Iterator[str]:
    constants, variables = settings["constants"], settings["variables"]
    for name in set(constants).intersection(variables or ()):
        yield f"objective.constants.{name}: {name} is a variable, expected another name"
    try:
        parse(str(settings["formula"]), path="objective.formula", variables=variables, constants=tuple(constants))
    except UserError as error:
        is_hidden = isinstance(settings["formula"], Hidden)  # its error would quote parts of it
        yield from (FORMULA_HIDDEN,) if is_hidden else error.lines


def _not_finite(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}={shown(value)}: expected a finite number"
