"""Pictures and pages of the record."""

import os

from runner.config.schema import Config

VARIABLE = "RUNNER_REPORT"
OFF = ("false", "0", "no", "off")
AFTERWARDS = "runner.report.afterwards.write"


def drawing(config: Config) -> str | None:
    """Return the name of the function that draws what was recorded; None where the user wants nothing drawn."""
    is_wanted = config.report and os.environ.get(VARIABLE, "").strip().lower() not in OFF
    return AFTERWARDS if is_wanted else None
