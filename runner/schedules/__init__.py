"""Learning-rate schedules, by the names that configs give them.

To add one, write its form in `closed_forms.py` or `loss_driven.py`, and give it a file in conf/schedule/. Ranges that
no other schedule's argument of the same name has go into runner/config/schedule_ranges.py.
"""

from runner.schedules import closed_forms, loss_driven  # noqa: F401  # they register their schedules
from runner.schedules.rates import (
    LossDrivenRates,
    PlannedRates,
    Rates,
    rates_of,
    schedule_of,
    schedule_parameters,
)
from runner.schedules.schedule import SCHEDULES, ClosedForm, LossDriven, Schedule, State

__all__ = [
    "SCHEDULES",
    "ClosedForm",
    "LossDriven",
    "LossDrivenRates",
    "PlannedRates",
    "Rates",
    "Schedule",
    "State",
    "rates_of",
    "schedule_of",
    "schedule_parameters",
]
