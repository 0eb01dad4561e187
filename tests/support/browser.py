"""Chromium, as tests drive it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Start Chromium for the tests of a module; they are skipped where it is not installed, except in CI."""
    if CHROMIUM is None:
        assert "CI" not in os.environ, "CI installs Chromium"
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def until(tab: "Page | Frame", condition: str) -> None:
    """Wait until a JavaScript expression is true, without eval, which the policy of our pages refuses."""
    wait_until(lambda: bool(tab.evaluate(condition)))
