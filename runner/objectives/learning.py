"""Learning problems: losses of models on data sets of scikit-learn, as functions of all weights."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional

from runner.config.groups import ObjectiveConfig
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.tensors.draws import generator

SPLIT_SEED = 0
# About how many numbers a step allocates for each output or hidden unit of a sample.
ACTIVATIONS = 6
REGRESSION = ("diabetes",)
CLASSIFICATION = ("breast_cancer", "digits")


@dataclass(frozen=True)
class Data:
    """Standardised features `(n, features)` and targets `(n,)`; `classes` is 0 for regression."""

    features: Tensor
    targets: Tensor
    classes: int


@dataclass(frozen=True)
class Split:
    """Training data and held-out data."""

    train: Data
    held_out: Data


@cache
def load(name: str, held_out: float, dtype: torch.dtype, device: torch.device) -> Split:
    """Return a data set of scikit-learn, split in a fixed random order and standardised by its training part.

    Raises:
        UserError: scikit-learn or this data set cannot be loaded, or a part would have too few samples.
    """
    features, targets = _arrays(name)
    order = torch.randperm(len(features), generator=generator(SPLIT_SEED, "split"))
    count = round(len(features) * held_out)
    if not 1 <= count <= len(features) - 2:
        raise UserError(
            f"objective.held_out={held_out:g}: expected a share of the {len(features)} samples of {name} "
            f"that holds out at least 1 and leaves at least 2 for training; it holds out {count}"
        )
    held, train = order[:count], order[count:]
    centre, spread = features[train].mean(0), features[train].std(0)
    scaled = (features - centre) / torch.where(spread > 0, spread, 1.0)
    classes = int(targets.max()) + 1 if name in CLASSIFICATION else 0
    if classes == 0:
        targets = (targets - targets[train].mean()) / targets[train].std()
    kind = torch.int64 if classes else dtype
    parts = [Data(scaled[rows].to(device, dtype), targets[rows].to(device, kind), classes) for rows in (train, held)]
    return Split(*parts)


@cache
def digest_of(name: str) -> str:
    """Return a digest of a data set, as it is before it is split.

    Raises:
        UserError: scikit-learn or this data set cannot be loaded.
    """
    digest = hashlib.sha256()
    for values in _arrays(name):
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _arrays(name: str) -> tuple[Tensor, Tensor]:
    try:
        from sklearn import datasets

        features, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    except (ImportError, AttributeError, OSError) as error:
        raise UserError(f"objective.dataset={name}: scikit-learn cannot load it ({error})") from None
    return torch.as_tensor(features, dtype=torch.float64), torch.as_tensor(targets, dtype=torch.float64)


@dataclass(frozen=True)
class Model:
    """A model with all its weights in one vector.

    Attributes:
        dimension: the number of weights.
        outputs: `(runs, dim)` weights and `(runs, n, features)` features to `(runs, n)` numbers or
            `(runs, n, classes)` scores; two classes have one score.
        start: the default start `(dim,)` for a seed.
        width: the number of outputs and hidden units.
    """

    dimension: int
    outputs: Callable[[Tensor, Tensor], Tensor]
    start: Callable[[int], Tensor]
    width: int


def linear(features: int, outputs: int) -> Model:
    """Return the linear model, with a weight for each feature and a bias for each output; it starts at 0."""

    def scores(weight: Tensor, batch: Tensor) -> Tensor:
        matrix = weight.unflatten(-1, (features + 1, outputs))
        # Batched, because a product with one shared matrix would round differently with the number of runs.
        found: Tensor = torch.bmm(batch, matrix[:, :-1]) + matrix[:, -1:]
        return found.squeeze(-1) if outputs == 1 else found

    dimension = (features + 1) * outputs
    return Model(dimension, scores, lambda _seed: torch.zeros(dimension, dtype=torch.float64), outputs)


def _layer(inputs: int, outputs: int, stream: torch.Generator) -> torch.nn.Module:
    """Return a layer initialised as by torch, in float32 whatever the default dtype, from the given generator."""
    layer: torch.nn.Linear = torch.nn.utils.skip_init(torch.nn.Linear, inputs, outputs, dtype=torch.float32)
    torch.nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=stream)
    bound = 1 / math.sqrt(inputs)
    torch.nn.init.uniform_(layer.bias, -bound, bound, generator=stream)
    return layer


def perceptron(features: int, outputs: int, hidden: int) -> Model:
    """Return the network with one hidden layer of tanh units, initialised as torch's layers are."""

    def network(seed: int) -> torch.nn.Module:
        stream = generator(seed, "start")
        first, last = (_layer(*size, stream) for size in ((features, hidden), (hidden, outputs)))
        return torch.nn.Sequential(first, torch.nn.Tanh(), last)

    module = network(0)
    shapes = {name: weight.shape for name, weight in module.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def of_one(weight: Tensor, batch: Tensor) -> Tensor:
        parts = zip(shapes.items(), weight.split(sizes), strict=True)
        found: Tensor = functional_call(module, {name: part.view(shape) for (name, shape), part in parts}, (batch,))
        return found[..., 0] if outputs == 1 else found

    def start(seed: int) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in network(seed).parameters()])

    return Model(sum(sizes), vmap(of_one), start, hidden + outputs)


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


@dataclass(frozen=True)
class Learning:
    """A model with its data: the training loss, and the loss and accuracy on held-out data."""

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
        taken = 0 if self.batch_size is None else self.split.train.features.shape[-1]
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
        return {"held_out_loss": squared_error(outputs, targets)}

    def _outputs(self, weight: Tensor, data: Data, samples: Tensor | None) -> tuple[Tensor, Tensor]:
        if samples is None:
            features = data.features.expand(len(weight), *data.features.shape)
            targets = data.targets.expand(len(weight), -1)
        else:
            features, targets = data.features[samples], data.targets[samples]
        return self.model.outputs(weight, features), targets


def linear_regression(data: Data) -> Model:
    """Return the model of linear regression."""
    return linear(data.features.shape[-1], 1)


def logistic_regression(data: Data) -> Model:
    """Return the model of logistic regression, multinomial for more than two classes."""
    return linear(data.features.shape[-1], _scores(data))


def mlp(data: Data, *, hidden: int) -> Model:
    """Return a multi-layer perceptron with one hidden layer."""
    return perceptron(data.features.shape[-1], _scores(data), hidden)


def _scores(data: Data) -> int:
    return data.classes if data.classes > 2 else 1


@dataclass(frozen=True)
class Task:
    """A kind of learning problem: its data sets and its model."""

    datasets: tuple[str, ...]
    model: Callable[..., Model]


TASKS: dict[str, Task] = {
    "linear_regression": Task(REGRESSION, linear_regression),
    "logistic_regression": Task(CLASSIFICATION, logistic_regression),
    "mlp": Task((*CLASSIFICATION, *REGRESSION), mlp),
}


def learning(config: ObjectiveConfig, dtype: torch.dtype, device: torch.device) -> Learning:
    """Return the learning problem that the config group describes.

    Raises:
        UserError: a data set or batch size that does not fit the problem.
    """
    settings = config.parameters
    task, name = TASKS[config.name], settings["dataset"]
    if name not in task.datasets:
        allowed = ", ".join(task.datasets)
        raise UserError(
            f"objective.dataset={shown(name)}: expected one of {allowed}{nearest(str(name), task.datasets)}"
        )
    split = load(name, settings["held_out"], dtype, device)
    size = config.batch_size
    if size is not None and not 1 <= size <= len(split.train.features):
        raise UserError(
            f"objective.batch_size={size}: expected 1 to {len(split.train.features)}, or null for all samples at once"
        )
    extra = {key: settings[key] for key in ("hidden",) if key in settings}
    return Learning(task.model(split.train, **extra), split, size)
