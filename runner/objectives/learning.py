"""Learning problems: losses of models on data sets, as functions of all weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from runner.config.data_settings import CLASSIFICATION, REGRESSION, Kind
from runner.config.groups import ObjectiveConfig
from runner.messages.errors import UserError
from runner.objectives.data import DATASETS, Data, Split, load, unknown_dataset
from runner.objectives.models import Model, linear, perceptron

# About how many numbers a step allocates for each output or hidden unit of a sample.
ACTIVATIONS = 6


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error `(runs,)` of outputs `(runs, n)`."""
    return ((outputs - targets) ** 2).mean(-1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean negative log-likelihood `(runs,)` of classes `(runs, n)` under scores."""
    if outputs.dim() == targets.dim():
        return functional.softplus(torch.where(targets == 1, -outputs, outputs)).mean(-1)
    chosen = outputs.gather(-1, targets[..., None])[..., 0]
    return (outputs.logsumexp(-1) - chosen).mean(-1)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share `(runs,)` of classes `(runs, n)` that the scores predict correctly."""
    chosen = (outputs > 0).to(targets.dtype) if outputs.dim() == targets.dim() else outputs.argmax(-1)
    return (chosen == targets).to(torch.float64).mean(-1)


def determination(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the coefficient of determination R2 `(runs,)` of outputs `(runs, n)`."""
    total = ((targets - targets.mean(-1, keepdim=True)) ** 2).sum(-1)
    return 1 - ((outputs - targets) ** 2).sum(-1) / total


@dataclass(frozen=True)
class Learning:
    """A model with its data: the training loss, and the loss with the accuracy or R2 on held-out data."""

    model: Model
    split: Split
    batch_size: int | None

    @property
    def samples(self) -> int:
        """The number of training samples."""
        return len(self.split.train.features)

    @property
    def numbers_a_row(self) -> int:
        """About how many numbers the loss of one run allocates: selected features, outputs and gradients."""
        seen = self.samples if self.batch_size is None else self.batch_size
        taken = 0 if self.batch_size is None else math.prod(self.split.train.sample_shape)
        return seen * (taken + ACTIVATIONS * max(1, self.model.width))

    def loss(self, weight: Tensor, samples: Tensor | None, *, l2: Tensor) -> Tensor:
        """Return the mean errors `(runs,)` on the samples of indices `(runs, batch_size)`, or on all, plus a penalty.

        The penalty is `l2 / 2 * |w|**2`.
        """
        outputs, targets = self._outputs(weight, self.split.train, samples)
        error = cross_entropy if self.split.train.classes else squared_error
        return error(outputs, targets) + l2 / 2 * (weight**2).sum(-1)

    def held_out(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the metrics on held-out data, each `(runs,)`, by key."""
        outputs, targets = self._outputs(weight, self.split.held_out, None)
        if self.split.train.classes:
            return {"held_out_accuracy": accuracy(outputs, targets), "held_out_loss": cross_entropy(outputs, targets)}
        return {"held_out_loss": squared_error(outputs, targets), "held_out_r2": determination(outputs, targets)}

    def _outputs(self, weight: Tensor, data: Data, samples: Tensor | None) -> tuple[Tensor, Tensor]:
        if samples is None:
            features = data.features.expand(len(weight), *data.features.shape)
            targets = data.targets.expand(len(weight), -1)
        else:
            features, targets = data.features[samples], data.targets[samples]
        return self.model.outputs(weight, features), targets


def linear_regression(data: Data) -> Model:
    """Return the model of linear regression."""
    return linear(math.prod(data.sample_shape), 1)


def logistic_regression(data: Data) -> Model:
    """Return the model of logistic regression, multinomial for more than two classes."""
    return linear(math.prod(data.sample_shape), data.scores)


def mlp(data: Data, *, hidden: int) -> Model:
    """Return a multi-layer perceptron with one hidden layer."""
    return perceptron(math.prod(data.sample_shape), data.scores, hidden)


@dataclass(frozen=True)
class Task:
    """A kind of learning problem: its model, and what it predicts where it predicts one only."""

    model: Callable[..., Model]
    predicts: str | None = None

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets of scikit-learn that it takes."""
        return tuple(name for name, task in DATASETS.items() if self.predicts in (None, task))


TASKS: dict[str, Task] = {
    "linear_regression": Task(linear_regression, REGRESSION),
    "logistic_regression": Task(logistic_regression, CLASSIFICATION),
    "mlp": Task(mlp),
}


def learning(config: ObjectiveConfig, dtype: torch.dtype, device: torch.device) -> Learning:
    """Return the learning problem that the config group describes.

    Raises:
        UserError: data or a batch size that does not fit the problem.
    """
    settings, data, task = config.parameters, config.data, TASKS[config.name]
    assert data is not None
    if data.kind is Kind.NAME and data.dataset not in task.datasets:
        raise unknown_dataset(data.dataset, task.datasets)
    split = load(data, dtype, device).as_numbers(dtype)
    size = config.batch_size
    if size is not None and not 1 <= size <= len(split.train.features):
        raise UserError(
            f"objective.batch_size={size}: expected 1 to {len(split.train.features)}, or null for all samples at once"
        )
    extra = {key: settings[key] for key in ("hidden",) if key in settings}
    return Learning(task.model(split.train, **extra), split, size)
