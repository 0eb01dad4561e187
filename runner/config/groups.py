"""The config groups of a run as typed values; each returns the plain tree that it was read from."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from runner.config.data_settings import TASKS, DataSettings, Kind, kind_of
from runner.config.direction import Direction
from runner.messages.ranges import Tree

# The objectives that are code of the user's.
CODE = ("callable", "module")
# What an objective's YAML file declares about it; its other keys are parameters of its function.
DECLARED = ("name", "dimension", "start", "bounds", "minimum_at", "minimum")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What to minimise.

    Attributes:
        name: which function, or which kind of objective.
        parameters: the arguments of the function, or the settings of the kind.
        declared: what the file declares about it: dimension, usual start, bounds and minimum.
    """

    name: str
    parameters: Tree
    declared: Tree

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree."""
        parameters = {key: value for key, value in tree.items() if key not in DECLARED}
        return cls(tree["name"], parameters, {key: tree[key] for key in tree if key in DECLARED[1:]})

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return {"name": self.name, **self.parameters, **self.declared}

    @property
    def target(self) -> str | None:
        """The user's function, as `package.module:function`."""
        return self.parameters.get("target")

    @property
    def data(self) -> DataSettings | None:
        """Which data it uses; None where it uses none."""
        return DataSettings.of(self.parameters, TASKS.get(self.name)) if "dataset" in self.parameters else None

    @property
    def targets(self) -> tuple[str, ...]:
        """The user's code that it names, each as `package.module:function`."""
        data, loss = self.data, self.parameters.get("loss")
        found = [self.target] if self.target is not None else []
        found += [loss] if loss is not None and kind_of(loss) is Kind.CODE else []
        found += [data.dataset] if data is not None and data.kind is Kind.CODE else []
        return tuple(found)

    @property
    def batch_size(self) -> int | None:
        """How many samples a step sees; None where it sees all, or where there are no samples."""
        return self.parameters.get("batch_size")

    @property
    def epochs(self) -> int | None:
        """How many passes over the training samples the run makes; None where `steps` says how many steps."""
        return self.parameters.get("epochs")


@dataclass(frozen=True)
class OptimizerConfig:
    """The update rule.

    Attributes:
        name: which rule.
        settings: its hyper-parameters; of a class of torch.optim, its name as `algorithm` and its `arguments`; of a
            class of another package, its `target` and its `arguments`.
    """

    name: str
    settings: Tree

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree."""
        return cls(tree["name"], {key: value for key, value in tree.items() if key != "name"})

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return {"name": self.name, **self.settings}

    @property
    def is_torch_optim(self) -> bool:
        """Whether it is a class with the interface of torch.optim rather than one of the runner's update rules."""
        return self.name == "torch" or self.is_package

    @property
    def is_package(self) -> bool:
        """Whether it is a class of a package that the config names."""
        return self.name == "package"

    @property
    def algorithm(self) -> str:
        """The name of the class of torch.optim."""
        return str(self.settings["algorithm"])

    @property
    def target(self) -> str | None:
        """The class of another package, as `package.module:Class`."""
        return self.settings["target"] if self.is_package else None

    @property
    def targets(self) -> tuple[str, ...]:
        """The code that it names, as `package.module:Class`."""
        return () if self.target is None else (self.target,)

    @property
    def label(self) -> str:
        """The name of the class, for people."""
        return str(self.target) if self.is_package else f"torch.optim's {self.algorithm}"

    @property
    def arguments(self) -> Tree:
        """The arguments of the class."""
        arguments: Tree = self.settings["arguments"]
        return arguments

    @property
    def direction(self) -> Direction:
        """Whether it minimises or maximises."""
        settings = self.arguments if self.is_torch_optim else self.settings
        return Direction.UP if settings.get("maximize") else Direction.DOWN


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate as a function of the step.

    Attributes:
        name: which schedule.
        arguments: its own arguments.
        warmup_steps: how many steps the rate rises before the schedule begins.
        warmup_start_factor: the share of the rate that the rise starts from.
    """

    name: str
    arguments: Tree
    warmup_steps: int
    warmup_start_factor: float

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree."""
        arguments = {key: value for key, value in tree.items() if key not in ("name", *WARMUP_KEYS)}
        return cls(tree["name"], arguments, **{key: tree[key] for key in WARMUP_KEYS})

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return {"name": self.name, **self.arguments, **{key: getattr(self, key) for key in WARMUP_KEYS}}

    @property
    def is_constant(self) -> bool:
        """Whether the rate never changes."""
        return self.name == "constant" and self.warmup_steps == 0


WARMUP_KEYS = ("warmup_steps", "warmup_start_factor")


@dataclass(frozen=True)
class LossChange:
    """Stop when the loss has changed by less than `below` in `window` steps; None is no such rule."""

    below: float | None
    window: int


@dataclass(frozen=True)
class StopConfig:
    """The rules that end a run before its last step; None is no such rule."""

    name: str
    gradient_norm: float | None
    loss_change: LossChange
    target_loss: float | None
    seconds: float | None

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree."""
        return cls(**{**tree, "loss_change": LossChange(**tree["loss_change"])})

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class DiagnosticsConfig:
    """What is measured besides loss, weight and gradient."""

    curvature: bool

    @classmethod
    def from_tree(cls, tree: Tree) -> Self:
        """Return the settings of a checked tree."""
        return cls(**tree)

    @property
    def tree(self) -> dict[str, Any]:
        """The plain tree."""
        return {"curvature": self.curvature}
