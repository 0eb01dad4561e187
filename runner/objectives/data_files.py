"""Data sets in files: tables of CSV and Parquet, and arrays of NPZ and safetensors."""

import math
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runner.config.data_settings import SUFFIXES, DataSettings
from runner.messages.errors import UserError, nearest, one_line
from runner.messages.ranges import shown
from runner.objectives.samples import BYTES_A_NUMBER, Samples, as_features, as_targets, check_fits

TARGET = "target"
MOST_NAMES = 12
# A CSV file is read into a table, which is copied into a matrix, standardised and split.
CSV_COPIES = 3


@dataclass(frozen=True)
class Columns:
    """The columns or arrays of a file.

    Attributes:
        kind: `column` or `array`.
        sizes: how many numbers each has, by name.
        take: returns one by name.
    """

    kind: str
    sizes: dict[str, int]
    take: Callable[[str], Any]


def read_file(settings: DataSettings) -> Samples:
    """Return the samples of a file.

    Raises:
        UserError: the file, its columns or its values do not fit.
    """
    path, dataset = settings.path, settings.dataset
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"objective.dataset={shown(dataset)}: expected a file that ends with {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"objective.dataset={shown(dataset)}: no such file in {Path.cwd()}{_similar(path)}")
    try:
        columns = reader(path, dataset)
        return _samples(columns, settings)
    except UserError:
        raise
    except Exception as error:  # of the libraries that read the formats, for a damaged file
        raise UserError(f"objective.dataset={shown(dataset)}: cannot be read ({one_line(error)})") from error


def _similar(path: Path) -> str:
    folder = path.parent
    names = [one.name for one in folder.iterdir() if one.suffix in SUFFIXES] if folder.is_dir() else []
    return nearest(path.name, names)


def _samples(columns: Columns, settings: DataSettings) -> Samples:
    target = _target(columns, settings)
    features = [name for name in columns.sizes if name != target] if settings.features is None else settings.features
    for name in features:
        if name not in columns.sizes:
            raise _unknown("features", name, columns, settings)
    if not features or target in features:
        raise UserError(
            f"objective.features={shown(list(features))}: expected at least one {columns.kind} of {settings.dataset}, "
            f"none of them the target {target}"
        )
    check_fits(settings.dataset, BYTES_A_NUMBER * sum(columns.sizes[name] for name in features))

    def called(name: str) -> str:
        return f"objective.dataset={settings.dataset}: {columns.kind} {name}"

    parts = [as_features(columns.take(name), called(name)) for name in features]
    targets = as_targets(columns.take(target), called(target))
    for name, part in zip(features, parts, strict=True):
        if len(part) != len(targets):
            raise UserError(f"{called(name)} has {len(part):,} samples, expected {len(targets):,} as {target} has")
        if part.dim() > 2 and len(parts) > 1:
            raise UserError(
                f"{called(name)} has the shape {tuple(part.shape)}, expected it as the only one of objective.features"
            )
    return Samples(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), targets, called(target))


def _target(columns: Columns, settings: DataSettings) -> str:
    name = settings.target_column
    if name is None and TARGET not in columns.sizes:
        raise UserError(
            f"objective.target_column=null: expected a {columns.kind} of {settings.dataset}, {_names(columns)}; "
            f"null is the one named {TARGET}"
        )
    if name is not None and name not in columns.sizes:
        raise _unknown("target_column", name, columns, settings)
    return TARGET if name is None else name


def _unknown(key: str, name: str, columns: Columns, settings: DataSettings) -> UserError:
    return UserError(
        f"objective.{key}={shown(name)}: no {columns.kind} of {settings.dataset}, "
        f"expected {_names(columns)}{nearest(name, columns.sizes)}"
    )


def _names(columns: Columns) -> str:
    names = list(columns.sizes)
    more = f" or {len(names) - MOST_NAMES:,} others" if len(names) > MOST_NAMES else ""
    return ("one of " if len(names) > 1 else "") + ", ".join(names[:MOST_NAMES]) + more


def _csv(path: Path, dataset: str) -> Columns:
    from pyarrow import ArrowInvalid, csv

    check_fits(dataset, CSV_COPIES * path.stat().st_size)
    options = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    try:
        table = csv.read_csv(path, convert_options=options)
    except ArrowInvalid as error:
        raise _damaged_row(error, path, dataset) from error
    return _of_table(table.rename_columns([name.strip() for name in table.column_names]), dataset)


def _damaged_row(error: Exception, path: Path, dataset: str) -> UserError:
    """Return the error of a file whose rows have different numbers of columns, with the line of the first such row."""
    found = re.search(r"Expected (\d+) columns, got (\d+): (.*)", str(error))
    if found is None:
        return UserError(f"objective.dataset={dataset}: cannot be read ({one_line(error)})")
    with path.open(encoding="utf-8", errors="replace") as file:
        line = next((number for number, text in enumerate(file, 1) if text.rstrip("\r\n") == found[3]), None)
    where = "a row" if line is None else f"line {line:,}"
    return UserError(f"objective.dataset={dataset}: {where} has {found[2]} columns, expected {found[1]}")


def _parquet(path: Path, dataset: str) -> Columns:
    from pyarrow import parquet

    check_fits(dataset, BYTES_A_NUMBER * parquet.read_metadata(path).num_rows)
    file = parquet.ParquetFile(path)
    sizes = dict.fromkeys(file.schema_arrow.names, file.metadata.num_rows)
    _check_names(file.schema_arrow.names, dataset)
    return Columns("column", sizes, lambda name: _values(file.read([name]).column(name), name, dataset))


def _of_table(table: Any, dataset: str) -> Columns:
    _check_names(table.column_names, dataset)
    sizes = dict.fromkeys(table.column_names, table.num_rows)
    return Columns("column", sizes, lambda name: _values(table.column(name), name, dataset))


def _check_names(names: Sequence[str], dataset: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"objective.dataset={dataset}: has two columns named {twice[0]}, expected different names")


def _values(column: Any, name: str, dataset: str) -> Any:
    """Return a column of a table as an array of numbers, flags or texts."""
    import pyarrow

    kind, path = column.type, f"objective.dataset={dataset}: column {name}"
    if column.null_count:
        raise UserError(f"{path} has {column.null_count:,} missing values of {len(column):,}, expected none")
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pyarrow.types.is_decimal(kind):
        column = column.cast(pyarrow.float64())
    elif not (
        pyarrow.types.is_integer(kind)
        or pyarrow.types.is_floating(kind)
        or pyarrow.types.is_boolean(kind)
        or pyarrow.types.is_string(kind)
        or pyarrow.types.is_large_string(kind)
    ):
        raise UserError(f"{path} holds {kind}, expected numbers or text")
    return column.to_numpy()


def _npz(path: Path, dataset: str) -> Columns:
    with zipfile.ZipFile(path) as archive:
        sizes = {
            entry.filename.removesuffix(".npy"): _size_in(archive, entry)
            for entry in archive.infolist()
            if entry.filename.endswith(".npy")
        }
        check_fits(dataset, max((entry.file_size for entry in archive.infolist()), default=0))
    file = np.load(path, allow_pickle=False)
    return Columns("array", sizes, file.__getitem__)


def _size_in(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return how many numbers an array has, by its header."""
    with archive.open(entry) as file:
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        return math.prod(read(file)[0])


def _safetensors(path: Path, dataset: str) -> Columns:
    from safetensors import safe_open

    check_fits(dataset, path.stat().st_size)
    file: Any = safe_open(path, framework="pt")
    names = list(file.keys())
    sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in names}
    return Columns("array", sizes, file.get_tensor)


READERS: dict[str, Callable[[Path, str], Columns]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".npz": _npz,
    ".safetensors": _safetensors,
}
