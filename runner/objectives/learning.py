"""Learning problems: losses of models on data sets, as functions of all weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from runner.config.data_settings import CLASSIFICATION, REGRESSION, Kind
from runner.config.groups import ObjectiveConfig
from runner.messages.errors import UserError
from runner.messages.ranges import shown
from runner.objectives.data import DATASETS, Data, Split, load, unknown_dataset
from runner.objectives.losses import Error, error_of
from runner.objectives.models import Model, convolutional, linear, perceptron
from runner.objectives.module import Builder, model_of_module

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
    """A model with its data: the training loss, and the loss with the accuracy or R2 on held-out data.

    Attributes:
        model: the model.
        split: its data.
        batch_size: how many samples a step sees; None for all.
        chosen_error: the loss of its outputs; None for the usual one.
    """

    model: Model
    split: Split
    batch_size: int | None
    chosen_error: Error | None = None

    @property
    def error(self) -> Error:
        """The loss of outputs: squared error for regression, cross-entropy for classification, or the chosen one."""
        return self.chosen_error or (cross_entropy if self.split.train.classes else squared_error)

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

    def loss(self, weight: Tensor, samples: Tensor | None, *, l2: Tensor | None = None) -> Tensor:
        """Return the mean errors `(runs,)` on the samples of indices `(runs, batch_size)`, or on all, plus a penalty.

        The penalty is `l2 / 2 * |w|**2`.
        """
        keys = None
        if samples is not None and self.model.draws:
            samples, keys = samples[:, :-1], samples[:, -1]
        features, targets = self._seen(self.split.train, len(weight), samples)
        outputs = self.evaluated(weight, features) if samples is None else self._trained(weight, features, keys)
        error = self.error(outputs, targets)
        return error if l2 is None else error + l2 / 2 * (weight**2).sum(-1)

    @property
    def has_residuals(self) -> bool:
        """Whether the loss is the sum of squares of `residuals`."""
        return self.error is squared_error and not self.model.draws

    def residuals(self, weight: Tensor, samples: Tensor | None, *, l2: Tensor | None = None) -> Tensor:
        """Return the residuals `(runs, n)` of a squared error; those of the penalty are `sqrt(l2 / 2) * w`."""
        features, targets = self._seen(self.split.train, len(weight), samples)
        outputs = self.evaluated(weight, features) if samples is None else self.model.outputs(weight, features)
        errors = (outputs - targets).flatten(1) / math.sqrt(targets.shape[1])
        return errors if l2 is None else torch.cat([errors, (l2 / 2).sqrt()[:, None] * weight], -1)

    def held_out(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the metrics on held-out data, each `(runs,)`, by key."""
        features, targets = self._seen(self.split.held_out, len(weight), None)
        outputs = self.evaluated(weight, features)
        loss, classes = {"held_out_loss": self.error(outputs, targets)}, self.split.train.classes
        if classes:
            is_scored = _are_scores(outputs.shape[2:], classes)
            return {"held_out_accuracy": accuracy(outputs, targets)} | loss if is_scored else loss
        return loss | {"held_out_r2": determination(outputs, targets)} if outputs.dim() == targets.dim() else loss

    def _seen(self, data: Data, runs: int, samples: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return features and targets of the samples of indices `(runs, batch_size)`, or of all."""
        if samples is None:
            return data.features.expand(runs, *data.features.shape), data.targets.expand(runs, -1)
        return data.features[samples], data.targets[samples]

    def _trained(self, weight: Tensor, features: Tensor, keys: Tensor | None) -> Tensor:
        return self.model.outputs(weight, features) if keys is None else self.model.outputs(weight, features, keys)

    def evaluated(self, weight: Tensor, features: Tensor) -> Tensor:
        """Return the outputs in evaluation mode, for features `(runs, n, *sample_shape)`."""
        return (self.model.evaluated or self.model.outputs)(weight, features)


def _are_scores(shape: Sequence[int], classes: int) -> bool:
    """Return whether outputs of this shape for a sample are scores of the classes."""
    return tuple(shape) == (classes,) or (classes == 2 and tuple(shape) == ())


def linear_regression(data: Data) -> Model:
    """Return the model of linear regression."""
    return linear(math.prod(data.sample_shape), 1)


def logistic_regression(data: Data) -> Model:
    """Return the model of logistic regression, multinomial for more than two classes."""
    return linear(math.prod(data.sample_shape), data.scores)


def mlp(data: Data, *, hidden: int | list[int], activation: str = "tanh") -> Model:
    """Return a multi-layer perceptron; `hidden` is the size of its hidden layer, or of each."""
    sizes = hidden if isinstance(hidden, list) else [hidden]
    return perceptron(math.prod(data.sample_shape), data.scores, sizes, activation)


def cnn(data: Data, *, channels: list[int], kernel_size: int, stride: int, activation: str) -> Model:
    """Return a convolutional network on images `(channels, height, width)`, or `(height, width)` with one channel.

    Raises:
        UserError: the samples are no such images, or smaller than the kernel.
    """
    shape = data.sample_shape
    image = (1, *shape) if len(shape) == 2 else shape
    if len(image) != 3 or min(image[1:]) < kernel_size:
        raise UserError(
            f"objective.shape={shown(list(shape))}: expected [channels,height,width] of images for objective cnn, "
            f"at least as high and wide as objective.kernel_size={kernel_size}"
        )
    return convolutional(image, data.scores, channels, kernel_size, stride, activation)


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
    "cnn": Task(cnn),
}
# The settings of models.
OWN = ("hidden", "activation", "channels", "kernel_size", "stride")
# The shape of images among the data sets of scikit-learn.
IMAGES = {"digits": (1, 8, 8)}


def learning(config: ObjectiveConfig, dtype: torch.dtype, device: torch.device) -> Learning:
    """Return the learning problem that the config group describes.

    Raises:
        UserError: data or a batch size that does not fit the problem.
    """
    settings, task = config.parameters, TASKS[config.name]
    split = _split_of(config, task.datasets, dtype, device).as_numbers(dtype)
    extra = {key: settings[key] for key in OWN if key in settings}
    return Learning(task.model(split.train, **extra), split, config.batch_size)


def module_learning(config: ObjectiveConfig, dtype: torch.dtype, device: torch.device) -> Learning:
    """Return the learning problem of a user's module.

    Raises:
        UserError: the module, its loss, its data or a batch size does not fit.
    """
    settings = config.parameters
    if config.target is None:
        raise UserError("objective.target=null: expected package.module:function, which returns a torch.nn.Module")
    build = Builder(config.target, settings["arguments"])
    split = _split_of(config, tuple(DATASETS), dtype, device)
    data = split.train
    problem = Learning(model_of_module(build, data, config.batch_size, dtype), split, config.batch_size)
    some = slice(config.batch_size)
    outputs = problem.evaluated(problem.model.start(0)[None].to(device, dtype), data.features[None, some])[0]
    if settings["loss"] is None:
        _check_scores(build, outputs.shape[1:], data.classes)
        return problem
    return replace(problem, chosen_error=error_of(settings["loss"], outputs, data.targets[some]))


def _check_scores(build: Builder, shape: Sequence[int], classes: int) -> None:
    """Check that outputs of this shape for a sample fit the usual loss of the data."""
    if _are_scores(shape, classes) if classes else tuple(shape) == ():
        return
    found = "1 number" if tuple(shape) == () else f"shape {tuple(shape)}"
    allowed = "1 number" if classes == 0 else f"{classes} scores, or 1" if classes == 2 else f"{classes} scores"
    raise UserError(f"{build}: returns {found} for a sample, expected {allowed}, or set objective.loss")


def _split_of(config: ObjectiveConfig, datasets: Sequence[str], dtype: torch.dtype, device: torch.device) -> Split:
    data = config.data
    assert data is not None
    if data.kind is Kind.NAME and data.dataset not in datasets:
        raise unknown_dataset(data.dataset, tuple(datasets))
    if config.name == "cnn" and data.shape is None and data.dataset in IMAGES:
        data = replace(data, shape=IMAGES[data.dataset])
    split, size = load(data, dtype, device), config.batch_size
    if size is not None and not 1 <= size <= len(split.train.features):
        raise UserError(
            f"objective.batch_size={size}: expected 1 to {len(split.train.features)}, or null for all samples at once"
        )
    return split
