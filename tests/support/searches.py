"""What the journals of searches say while these run."""

from runner.search.study import JOURNALS
from tests.conftest import Command

# Of Optuna's journal: a trial has got its state.
TOLD = '"op_code":6'


def trials_told(runner: Command) -> int:
    """Return how many trials the searches in a folder have told."""
    return sum(journal.read_text().count(TOLD) for journal in (runner.folder / JOURNALS).glob("*.log"))
