"""The table that `sweep` returns: a pandas frame that shows figures of the sweep in notebooks."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pandas as pd


class SweepFrame(pd.DataFrame):  # type: ignore[misc]  # pandas has no types here
    """A row for each job; frames made from it, such as by sorting, are plain ones."""

    # pandas keeps no other attributes.
    _metadata: ClassVar[list[str]] = ["uri"]

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], uri: str | None) -> "SweepFrame":
        """Return the rows of jobs that are recorded in a store, or nowhere."""
        frame = cls(rows)
        frame.uri = uri
        return frame

    def _repr_html_(self) -> str:
        """Return the figures of a recorded sweep, and the table."""
        table = str(super()._repr_html_() or "")
        run_id = next((one for one in self.get("run_id", ()) if one is not None), None)
        return table if run_id is None else f"{_figures(run_id, self.uri)}{table}"


def _figures(run_id: str, uri: str | None) -> str:
    """Return the figures of the sweep of a run; nothing where it cannot be read any more."""
    from runner.api.display import figures_html
    from runner.messages.errors import UserError
    from runner.reading import runs
    from runner.report.analysis import analysed
    from runner.report.from_record import runs_of
    from runner.report.sweep_figures import sweep_figures

    try:
        (sweep,) = runs(run_id, uri=uri).sweeps
        found = runs(sweep.id, uri=uri)
    except (UserError, ValueError):  # deleted, or recorded by a launcher without a parent
        return ""
    return figures_html(draw for _, draw in sweep_figures(sweep.name, analysed(runs_of(found))))
