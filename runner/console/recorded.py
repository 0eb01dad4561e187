"""Where a run is recorded, the command that opens it in MLflow's UI, and its address there."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.config.schema import Config, Tracking
from runner.config.uris import DEFAULT_URI
from runner.messages.printing import for_shell, print_lines
from runner.messages.redaction import shown_text
from runner.report.views import DEFAULT_UI, address_of_run, address_of_view, key_of_sweep, ui_of_server

if TYPE_CHECKING:
    from runner.tracking.tracker import Recorded

NOT_COMPLETE = "the recorder completes this record in the background; if it cannot, python -m runner.replay does"
# Enough of an id: it begins with the time in milliseconds and a count.
ID_DIGITS = 18


def print_recorded(recorded: "Recorded | None", config: Config, is_sweep: bool = False) -> None:
    """Print the run's id in MLflow, the command that opens it in the UI, and its address there."""
    if recorded is not None and not config.quiet:
        print_lines(_line(recorded, config.tracking), f"           {_address(recorded, config.tracking, is_sweep)}")


def interrupted_record(recorded: "Recorded | None", config: Config) -> Iterator[str]:
    """Yield where a run that a signal stopped is recorded, and how its record is completed."""
    if recorded is not None:
        yield _line(recorded, config.tracking)
    if config.tracking.name != "off":
        yield f"           {NOT_COMPLETE}"


def _line(recorded: "Recorded", tracking: Tracking) -> str:
    return f"recorded   run {recorded.run_id}; to see it: {ui_command(tracking, recorded.run_id[:ID_DIGITS])}"


def _address(recorded: "Recorded", tracking: Tracking, is_sweep: bool) -> str:
    ui = ui_of_server(tracking.uri or "") or DEFAULT_UI
    if is_sweep:
        return f"{ui}/{address_of_view(recorded.experiment_id, key_of_sweep(recorded.run_id))}"
    return f"{ui}/{address_of_run(recorded.experiment_id, recorded.run_id)}"


def ui_command(tracking: Tracking, run: str) -> str:
    """Return the command that opens a run in MLflow's UI."""
    uri = tracking.uri or ""
    return f"python -m runner.ui {run}" + ("" if uri == DEFAULT_URI else f" --uri {for_shell(shown_text(uri))}")
