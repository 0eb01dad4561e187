"""Data sets: loaded, split into training and held-out samples, and standardised."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.config.data_settings import CLASSIFICATION, REGRESSION, DataSettings, Kind
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.objectives.data_code import call
from runner.objectives.data_files import read_file
from runner.objectives.samples import Samples
from runner.tensors.draws import generator

SPLIT_SEED = 0
# The data sets of scikit-learn, and what they are for.
DATASETS = {"breast_cancer": CLASSIFICATION, "digits": CLASSIFICATION, "diabetes": REGRESSION}
FILE_OR_CODE = "or a file, or package.module:function"


@dataclass(frozen=True)
class Data:
    """Features `(n, *sample_shape)` and targets `(n,)`; `classes` is 0 for regression."""

    features: Tensor
    targets: Tensor
    classes: int

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of the features of one sample."""
        return tuple(self.features.shape[1:])

    @property
    def scores(self) -> int:
        """How many outputs a model of it has: 1 for regression and for two classes, else one for each class."""
        return self.classes if self.classes > 2 else 1


@dataclass(frozen=True)
class Split:
    """Training data and held-out data.

    Attributes:
        labels: of the classes, where they are not 0, 1, 2 and so on.
    """

    train: Data
    held_out: Data
    labels: tuple[str, ...] = ()

    def as_numbers(self, dtype: torch.dtype) -> Self:
        """Return the split with features of that dtype, also where they are integers."""
        train, held_out = (replace(data, features=data.features.to(dtype)) for data in (self.train, self.held_out))
        return replace(self, train=train, held_out=held_out)


def load(settings: DataSettings, dtype: torch.dtype, device: torch.device) -> Split:
    """Return data split in a fixed random order, and standardised by the training part.

    Features that are not standardised stay integers if they are.

    Raises:
        UserError: the data cannot be loaded, do not fit the settings, or a part would have too few samples.
    """
    return _load(settings, settings.stamp, dtype, device)


@cache
def _load(settings: DataSettings, _stamp: Any, dtype: torch.dtype, device: torch.device) -> Split:
    samples = _samples(settings)
    labels, targets = _targets(samples, settings)
    features = _shaped(samples.features, settings)
    order = torch.randperm(len(features), generator=generator(SPLIT_SEED, "split"))
    count = round(len(features) * settings.held_out)
    if not 1 <= count <= len(features) - 2:
        raise UserError(
            f"objective.held_out={settings.held_out:g}: expected a share of the {len(features)} samples of "
            f"{settings.dataset} that holds out at least 1 and leaves at least 2 for training; it holds out {count}"
        )
    held, train = order[:count], order[count:]
    if settings.standardize:
        features = _standardised(features.to(torch.float64), train)
        targets = targets if labels is not None else _standardised(targets, train)
    number = dtype if features.is_floating_point() else torch.int64
    kind = dtype if labels is None else torch.int64
    classes = 0 if labels is None else len(labels)
    first, second = (
        Data(features[rows].to(device, number), targets[rows].to(device, kind), classes) for rows in (train, held)
    )
    is_told = labels is not None and labels != tuple(map(str, range(classes)))
    return Split(first, second, labels if is_told and labels is not None else ())


def _standardised(values: Tensor, train: Tensor) -> Tensor:
    """Return values with mean 0 and standard deviation 1 in the training part; constant ones become 0."""
    centre, spread = values[train].mean(0), values[train].std(0)
    return (values - centre) / torch.where(spread > 0, spread, 1.0)


def _samples(settings: DataSettings) -> Samples:
    match settings.kind:
        case Kind.FILE:
            return read_file(settings)
        case Kind.CODE:
            return call(settings.dataset)
    if settings.dataset not in DATASETS:
        raise unknown_dataset(settings.dataset, tuple(DATASETS))
    features, targets = _arrays(settings.dataset)
    return Samples(features, targets.numpy(), f"objective.dataset={settings.dataset}: the target")


def unknown_dataset(name: str, known: tuple[str, ...]) -> UserError:
    """Return the error for a data set that is not among the known ones."""
    allowed = ", ".join(known)
    return UserError(
        f"objective.dataset={shown(name)}: expected one of {allowed}, {FILE_OR_CODE}{nearest(name, known)}"
    )


def _arrays(name: str) -> tuple[Tensor, Tensor]:
    try:
        from sklearn import datasets

        features, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    except (ImportError, AttributeError, OSError) as error:
        raise UserError(f"objective.dataset={name}: scikit-learn cannot load it ({error})") from None
    return torch.as_tensor(features, dtype=torch.float64), torch.as_tensor(targets, dtype=torch.float64)


def _shaped(features: Tensor, settings: DataSettings) -> Tensor:
    if settings.shape is None:
        return features
    numbers = features[0].numel()
    if torch.Size(settings.shape).numel() != numbers:
        raise UserError(
            f"objective.shape={shown(list(settings.shape))}: expected a shape of the {numbers:,} numbers "
            f"that a sample of {settings.dataset} has"
        )
    return features.reshape(len(features), *settings.shape)


def _targets(samples: Samples, settings: DataSettings) -> tuple[tuple[str, ...] | None, Tensor]:
    """Return the labels of the classes with their numbers `(n,)`, or None with the targets of a regression `(n,)`.

    Raises:
        UserError: the targets do not fit the task.
    """
    values, task = samples.targets, _task(samples, settings)
    if task == REGRESSION:
        if values.dtype.kind == "U":
            raise UserError(f"{samples.target} holds text, expected numbers for a regression")
        if (values == values[0]).all():
            raise UserError(f"{samples.target} is {values[0]:g} in all samples, expected targets that differ")
        return None, torch.from_numpy(values.astype(np.float64))
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        wrong = values[values != np.floor(values)][0]
        raise UserError(f"{samples.target} holds {wrong:g}, expected whole numbers or text as the labels of classes")
    found, numbers = np.unique(values.astype(np.int64) if values.dtype.kind in "fui" else values, return_inverse=True)
    if len(found) == 1:
        raise UserError(f"{samples.target} is {found[0]} in all samples, expected at least 2 classes")
    if len(found) == len(values):
        raise UserError(
            f"{samples.target} differs in all {len(values):,} samples, expected classes; "
            "objective.task=regression takes any numbers"
        )
    return tuple(map(str, found)), torch.from_numpy(numbers.astype(np.int64))


def _task(samples: Samples, settings: DataSettings) -> str:
    if settings.kind is Kind.NAME:
        task = DATASETS[settings.dataset]
        if settings.task not in (None, task):
            raise UserError(f"objective.task={settings.task}: {settings.dataset} is for {task}")
        return task
    return settings.task or _implied_task(samples.targets, samples.target)


def _implied_task(values: NDArray[Any], target: str) -> str:
    """Return the task that targets leave no doubt of."""
    if values.dtype.kind in "Ub":
        return CLASSIFICATION
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return REGRESSION
    raise UserError(
        f"objective.task=null: expected {REGRESSION} or {CLASSIFICATION}, {target} holds whole numbers, which fit both"
    )


def digest_of(settings: DataSettings) -> str:
    """Return a digest of the data before they are split; of a file, the SHA-256 of its content.

    Raises:
        UserError: the data cannot be loaded.
    """
    return _digest(settings.dataset, settings.stamp)


@cache
def _digest(dataset: str, stamp: Any) -> str:
    settings = DataSettings(dataset, held_out=0.0)
    if settings.kind is Kind.FILE:
        if stamp is None:
            raise UserError(f"objective.dataset={shown(dataset)}: no such file")
        with settings.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    samples = _samples(settings)
    digest = hashlib.sha256()
    for values in (samples.features.numpy(), samples.targets):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
