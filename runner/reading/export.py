"""Exporting runs to a file: `python -m runner.export ID... --to FILE`."""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from runner.messages.errors import UserError
from runner.reading.collection import counted
from runner.reading.selection import runs
from runner.recorder.commands import add_uri, print_all

WRITERS: Mapping[str, Callable[[pa.Table, str], None]] = {
    ".csv": lambda table, path: pa.csv.write_csv(table, path),
    ".parquet": lambda table, path: pa.parquet.write_table(table, path),
}


def exported(
    ids: Sequence[str], file: Path, keys: Sequence[str] | None = None, is_frame: bool = False, uri: str | None = None
) -> Iterator[str]:
    """Write the histories of runs, or a row for each run, to a file, and yield a line about it.

    Raises:
        UserError: a run does not exist, or the file cannot be written.
    """
    write = WRITERS.get(file.suffix)
    if write is None:
        raise UserError(f"--to {file}: expected a name that ends in {' or '.join(WRITERS)}")
    if not file.parent.is_dir():
        raise UserError(f"--to {file}: no folder {file.parent}, expected one")
    found = runs(*ids, uri=uri)
    if not found:
        raise UserError(f"{' '.join(ids)}: has no runs, expected some; those in MLflow's trash are left out")
    frame = found.frame() if is_frame else found.histories(keys)
    try:
        _write_whole(_table_of(frame), file, write)
    except OSError as error:
        raise UserError(f"--to {file}: {error.strerror or error}") from None
    rows = f"{len(frame):,} {'row' if is_frame else 'value'}{'s' if len(frame) != 1 else ''}"
    yield f"exported   {rows} of {counted(len(found))} to {file}"


def _write_whole(table: pa.Table, file: Path, write: Callable[[pa.Table, str], None]) -> None:
    """Write a table under another name and rename it, so that the file is never there in part."""
    making = file.with_name(f".{file.name}.{os.getpid()}.making")
    try:
        write(table, str(making))
        making.replace(file)
    finally:
        making.unlink(missing_ok=True)


def _table_of(frame: pd.DataFrame) -> pa.Table:
    """Return a table of columns of one type each; a column with values of several types, or lists, becomes text."""
    columns = {name: _one_type(column) for name, column in frame.items()}
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def _one_type(column: pd.Series) -> pd.Series:
    if column.dtype != object or len({type(value) for value in column if value is not None}) == 1:
        first = next((value for value in column if value is not None), None) if column.dtype == object else None
        return column.map(_text) if isinstance(first, list | dict) else column
    return column.map(_text)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export and return the exit code: 2 where nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.export", description="Write runs, and the runs of sweeps, to a table in a file."
    )
    parser.add_argument("id", nargs="+", help="of a run or a sweep, or its first characters")
    parser.add_argument("--to", required=True, type=Path, metavar="FILE", help="ends in .csv or .parquet")
    parser.add_argument("--keys", type=lambda text: text.split(","), help="only these metrics: loss,gradient_norm")
    parser.add_argument(
        "--frame", action="store_true", help="a row for each run; default: a row for each recorded value"
    )
    add_uri(parser)
    asked = parser.parse_args(arguments)
    if asked.frame and asked.keys:
        parser.error("--keys: not with --frame, which has all results")
    return print_all(exported(asked.id, asked.to, asked.keys, asked.frame, asked.uri), asked.uri)
