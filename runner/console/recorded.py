"""Where a run is recorded, and the command that opens it in MLflow's UI."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.config.schema import Config, Tracking
from runner.config.uris import DEFAULT_URI
from runner.messages.printing import for_shell, print_lines
from runner.messages.redaction import shown_text

if TYPE_CHECKING:
    from runner.tracking.tracker import Recorded

NOT_COMPLETE = "the recorder completes this record in the background; if it cannot, python -m runner.replay does"


def print_recorded(recorded: "Recorded | None", config: Config) -> None:
    """Print the run's id in MLflow and the command that opens the UI."""
    if recorded is not None and not config.quiet:
        print_lines(_line(recorded, config))


def interrupted_record(recorded: "Recorded | None", config: Config) -> Iterator[str]:
    """Yield where a run that a signal stopped is recorded, and how its record is completed."""
    if recorded is not None:
        yield _line(recorded, config)
    if config.tracking.name != "off":
        yield f"           {NOT_COMPLETE}"


def _line(recorded: "Recorded", config: Config) -> str:
    return f"recorded   run {recorded.run_id}; to see it: {ui_command(config.tracking)}"


def ui_command(tracking: Tracking) -> str:
    """Return the command that opens MLflow's UI on the store."""
    uri = tracking.uri or ""
    if uri.startswith("http"):
        return f"open {shown_text(uri)}"
    return "python -m runner.ui" + ("" if uri == DEFAULT_URI else f" --uri {for_shell(shown_text(uri))}")
