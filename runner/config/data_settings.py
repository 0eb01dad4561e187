"""Which data a learning problem uses: a data set by name, a file, or a function of the user's; imports no torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Self

REGRESSION, CLASSIFICATION = "regression", "classification"
SUFFIXES = (".csv", ".parquet", ".npz", ".safetensors")
CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

# The task of an objective that fits one only.
TASKS = {"linear_regression": REGRESSION, "logistic_regression": CLASSIFICATION}

# Keys that the files and records of earlier versions do not have, with what they mean there.
LATER = {
    "features": None,
    "target_column": None,
    "task": None,
    "standardize": True,
    "epochs": None,
    "activation": "tanh",
}


class Kind(Enum):
    """What `objective.dataset` names."""

    NAME = "a data set of scikit-learn"
    FILE = "a file"
    CODE = "a function of the user's"


def kind_of(dataset: str) -> Kind:
    """Return what a value of `objective.dataset` names."""
    if CODE.fullmatch(dataset):
        return Kind.CODE
    return Kind.FILE if Path(dataset).suffix or "/" in dataset or os.sep in dataset else Kind.NAME


@dataclass(frozen=True)
class DataSettings:
    """Which data to use, and how.

    Attributes:
        dataset: a name, a file or `package.module:function`.
        held_out: the share of the samples that is held out.
        features: the columns or arrays of a file that are the features; None for all but the target.
        target_column: the column or array of a file that is the target; None for the one called `target`.
        task: regression or classification; None where the data say it.
        standardize: whether features, and the targets of a regression, are standardised by the training part.
        shape: of the features of one sample; None for that of the data.
    """

    dataset: str
    held_out: float
    features: tuple[str, ...] | None = None
    target_column: str | None = None
    task: str | None = None
    standardize: bool = True
    shape: tuple[int, ...] | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any], task: str | None = None) -> Self:
        """Return the settings among an objective's parameters; `task` is the one that the objective implies."""
        given = parameters.get("features")
        features = None if given is None else tuple(map(str, given if isinstance(given, list) else [given]))
        column, shape = parameters.get("target_column"), parameters.get("shape")
        return cls(
            dataset=str(parameters["dataset"]),
            held_out=parameters["held_out"],
            features=features,
            target_column=None if column is None else str(column),
            task=parameters.get("task") or task,
            standardize=parameters.get("standardize", True),
            shape=None if shape is None else tuple(shape),
        )

    @property
    def kind(self) -> Kind:
        """What the dataset is."""
        return kind_of(self.dataset)

    @property
    def path(self) -> Path:
        """The file, relative to the working directory."""
        return Path(self.dataset).expanduser()

    @property
    def stamp(self) -> tuple[str, int, int] | None:
        """Where a file is, its size and when it was changed; None for other data, and where there is no file."""
        if self.kind is not Kind.FILE:
            return None
        try:
            status = self.path.stat()
        except OSError:
            return None
        return str(self.path.absolute()), status.st_size, status.st_mtime_ns
