"""Opening a page in the user's browser."""

import os
import sys
import webbrowser


def open_in_browser(address: str) -> bool:
    """Open an address and return whether that was possible: not where only a browser in the terminal could."""
    has_screen = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    try:
        return has_screen and webbrowser.open(address)
    except webbrowser.Error:
        return False
