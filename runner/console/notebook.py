"""A progress bar in a notebook: HTML that is replaced in place. IPython is there, since its kernel runs the cell."""

import importlib
import sys
import time
from html import escape

# A kernel sends each update to the browser.
SECONDS = 0.25


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this code."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookBar:
    """A bar and a text beside it, in the output of the cell that runs."""

    def __init__(self) -> None:
        self._display = importlib.import_module("IPython.display")
        self._handle = self._display.display(self._html(0.0, ""), display_id=True)
        self._next = 0.0

    def show(self, share: float, text: str) -> None:
        """Show how much is done, from 0 to 1; a few times a second at most."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SECONDS
            self._handle.update(self._html(share, text))

    def stop(self) -> None:
        """Remove the bar."""
        self._handle.update(self._display.HTML(""))

    def _html(self, share: float, text: str) -> object:
        bar = f'<progress value="{share:.4f}" max="1"></progress>'
        return self._display.HTML(f"<div>{bar} <code>{escape(text)}</code></div>")
