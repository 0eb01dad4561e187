"""Data sets: loaded, split into training and held-out samples, and standardised."""

import hashlib
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from runner.messages.errors import UserError
from runner.tensors.draws import generator

SPLIT_SEED = 0
REGRESSION = ("diabetes",)
CLASSIFICATION = ("breast_cancer", "digits")


@dataclass(frozen=True)
class Data:
    """Standardised features `(n, *sample_shape)` and targets `(n,)`; `classes` is 0 for regression."""

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
