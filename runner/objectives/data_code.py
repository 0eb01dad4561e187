"""Data from a function of the user's that returns tensors or a data set of torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from runner.messages.errors import UserError
from runner.objectives.imported import import_function
from runner.objectives.samples import Samples, as_features, as_targets
from runner.process.tracebacks import described

EXPECTED = "expected features and targets, as two tensors or a torch.utils.data.Dataset of such pairs"


def call(target: str) -> Samples:
    """Return the samples that `package.module:function` returns, called without arguments.

    Raises:
        UserError: it cannot be imported, fails, or returns something else.
    """
    path = f"objective.dataset={target}"
    function = import_function(target, "objective.dataset")
    try:
        features, targets = _pair(function(), path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise UserError(f"{path}: the function raises {described(error)}") from error
    target_name = f"{path}: the target"
    found = Samples(as_features(features, f"{path}: the features"), as_targets(targets, target_name), target_name)
    if len(found.features) != len(found.targets):
        raise UserError(f"{path}: returns {len(found.features):,} features and {len(found.targets):,} targets")
    return found


def _pair(returned: Any, path: str) -> Sequence[Any]:
    if isinstance(returned, TensorDataset):
        returned = returned.tensors
    elif isinstance(returned, Dataset):
        returned = _stacked(returned, path)
    if isinstance(returned, tuple | list) and len(returned) == 2:
        return returned
    kind = type(returned).__name__
    count = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
    raise UserError(f"{path}: returns {kind}{count}, {EXPECTED}")


def _stacked(dataset: Any, path: str) -> tuple[Tensor, Any]:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise UserError(f"{path}: returns {type(dataset).__name__}, expected a data set with a length")
    items = [dataset[index] for index in range(len(dataset))]
    wrong = next((item for item in items if not isinstance(item, tuple | list) or len(item) != 2), None)
    if wrong is not None or not items:
        raise UserError(f"{path}: its samples are {type(wrong).__name__}, {EXPECTED}")
    features, targets = zip(*items, strict=True)
    shapes = {tuple(torch.as_tensor(one).shape) for one in features}
    if len(shapes) > 1:
        raise UserError(f"{path}: its samples have the shapes {sorted(shapes)[:2]}, expected one shape")
    return torch.stack([torch.as_tensor(one) for one in features]), [
        one.item() if isinstance(one, Tensor) else one for one in targets
    ]
