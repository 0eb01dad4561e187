"""Stores that are opened in the tests' own process."""

from pathlib import Path

import pytest

from tests.support.template import use_template


@pytest.fixture(scope="package", autouse=True)
def _tables(template: Path) -> None:
    use_template(template)
