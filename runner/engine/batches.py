"""Which runs can share a batch, and into how many batches they are split."""

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from runner.config.groups import ObjectiveConfig
from runner.config.schedule_ranges import schedule_problems
from runner.config.schema import Config
from runner.messages.errors import UserError
from runner.objectives import Objective, ObjectiveSpec, objective_of, start_point
from runner.optimizers import FIXED, OPTIONAL, RULES
from runner.tensors.device import choose_device
from runner.tensors.draws import noise_numbers
from runner.tensors.hyper_parameters import structure
from runner.tensors.rows import GRAIN, ROWS

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Above this dimension padding would cost too much: a single run is one row.
PADDED_DIMENSION = 64
# Vectors a row: weight, gradient, the state of the optimizer that has the most, and temporaries of an update.
VECTORS_A_ROW = 16
MEMORY_MIB = 512


@dataclass(frozen=True, eq=False)
class Member:
    """A run that is ready for a batch: its config fits this machine and its objective.

    Attributes:
        start: `(dim,)`, on the CPU.
    """

    config: Config
    objective: Objective
    start: Tensor

    @property
    def is_padded(self) -> bool:
        """Whether batches of it are padded to a multiple of 64 rows."""
        return self.why_alone is None and self.objective.dimension <= PADDED_DIMENSION

    @property
    def rows_of_fixed_layout(self) -> int:
        """How many rows diagnostics evaluate at once, so that no bit depends on which other rows there are."""
        return ROWS if self.objective.dimension <= PADDED_DIMENSION else 1

    @property
    def why_alone(self) -> str | None:
        """Why the run cannot share a batch; None if it can."""
        if self.config.optimizer.is_torch_optim:
            return f"{self.config.optimizer.label} takes one run at a time"
        if self.objective.refusal is not None:
            return f"vmap refuses objective {self.objective.name}: {self.objective.refusal}"
        return None

    @property
    def bytes_a_row(self) -> int:
        """About how many bytes one row takes in a step."""
        dimension = self.objective.dimension
        rule = RULES.get(self.config.optimizer.name)
        drawn = (self.config.gradient_noise != 0) + (rule is not None and rule.probes)
        noise = drawn * noise_numbers(dimension)
        own = 0 if rule is None else rule.numbers(self.objective.shapes, **self.config.optimizer.settings)
        numbers = VECTORS_A_ROW * dimension + self.objective.numbers_a_row + noise + own
        return DTYPES[self.config.dtype].itemsize * numbers


def member_of(config: Config) -> Member:
    """Return the run that a config describes.

    Raises:
        UserError: the config does not fit this machine or its objective.
    """
    config, objective = with_steps(config), _objective_of(config)
    return Member(config, objective, start_point(objective, config.initial_weight, config.seed, DTYPES[config.dtype]))


def with_steps(config: Config) -> Config:
    """Return a config with as many steps as its epochs take, if it has epochs; the last of an epoch may begin the next.

    Raises:
        UserError: the data cannot be loaded, or the schedule does not fit so many steps.
    """
    epochs = config.objective.epochs
    if epochs is None:
        return config
    samples, size = _objective_of(config).batches or (1, 1)
    steps = epochs * -(-samples // size)
    wrong = list(schedule_problems(config.schedule.tree, config.lr, steps))
    if wrong:
        raise UserError(*wrong)
    return replace(config, steps=steps)


def _objective_of(config: Config) -> Objective:
    device, dtype = choose_device(config.device), DTYPES[config.dtype]
    length = len(config.initial_weight) if isinstance(config.initial_weight, list) else None
    data = config.objective.data
    stamp = None if data is None else data.stamp  # a file may change while the process lives
    return _objective(json.dumps(config.objective.tree), length, dtype, device, stamp)


@lru_cache(maxsize=1024)
def _objective(
    settings: str, length: int | None, dtype: torch.dtype, device: torch.device, _stamp: Hashable
) -> Objective:
    start = None if length is None else [0.0] * length
    return objective_of(ObjectiveSpec(ObjectiveConfig.from_tree(json.loads(settings)), start, dtype, device))


def batch_key(member: Member) -> Hashable:
    """Return what the runs of a batch have in common: everything but the numbers that can be tensors."""
    if member.why_alone is not None:
        return id(member)
    config, objective = member.config, member.objective
    varying = ("constants", "epochs", *objective.parameters)
    own = {key: value for key, value in config.objective.parameters.items() if key not in varying}
    fixed = json.dumps(own, sort_keys=True)
    return (
        (config.device, config.threads, config.interop_threads, config.dtype, config.engine, config.tracking),
        (objective.name, objective.dimension, tuple(sorted(objective.parameters)), fixed),
        (
            structure(config.optimizer.tree, OPTIONAL, FIXED),
            structure(config.schedule.tree),
            config.schedule.is_constant,
        ),
        (config.gradient_noise == 0, config.clip_value is None, config.clip_norm is None),
        (config.diagnostics.curvature, config.initial_weight is None),
    )


def grouped(members: Iterable[Member]) -> list[list[Member]]:
    """Return the runs grouped into those that can share a batch, in the order of their first run."""
    groups: dict[Hashable, list[Member]] = {}
    for member in members:
        groups.setdefault(batch_key(member), []).append(member)
    return list(groups.values())


def most_rows(group: Sequence[Member], memory_mib: int) -> int:
    """Return how many runs of a group fit the memory as one batch."""
    most = min(GRAIN, max(1, memory_mib * 2**20 // max(member.bytes_a_row for member in group)))
    return most if most < ROWS else most - most % ROWS


def portions(group: Sequence[Member], memory_mib: int = MEMORY_MIB) -> Iterator[Sequence[Member]]:
    """Split a group into batches whose steps fit the memory; runs with similar numbers of steps stay together."""
    most = most_rows(group, memory_mib)
    if len(group) > most:
        group = sorted(group, key=lambda member: member.config.steps)
    for first in range(0, len(group), most):
        yield group[first : first + most]
