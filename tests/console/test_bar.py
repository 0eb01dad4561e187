"""Bars on real terminals of several widths, and lines where a terminal can show none."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.console.bar import BAR, State
from tests.conftest import ROOT

LOSS = st.floats(allow_nan=True).map(lambda loss: f"best loss {loss:.6g}")


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(40, 200), LOSS)
def test_the_loss_and_the_time_left_are_shown_at_any_width(one: int, other: int, width: int, loss: str) -> None:
    done, total = sorted((one, other))
    state = State(total, done, f"{done:,} of {total:,} steps", "12,345 steps/s", loss, "12:34:56")
    line = state.line(width)
    assert len(line) <= width
    assert line.endswith(f"{loss}  12:34:56")
    assert state.count in line or BAR not in state.fitting(width)[0] or len(state.count) > width - 60


def frames(folder: Path, width: int, *arguments: str, **env: str) -> list[str]:
    """Return what a terminal of some width shows, one line after the other."""
    terminal, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    inherited |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "runner", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=inherited | env, stdout=program, stderr=program)
    os.close(program)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0, shown
    lines = re.split(r"[\r\n]+|\x1b\[\d*[A-K]", shown.decode())
    return [line for line in (re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", line) for line in lines) if line]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_terminal_shows_a_bar_that_fits(tmp_path: Path, width: int) -> None:
    shown = frames(tmp_path, width, "steps=9000", "tracking=off")
    bars = [line for line in shown if re.match(r"\d.*[━╌]", line)]
    assert len(bars) >= 3
    assert all(len(line) <= width for line in bars)
    said = re.compile(r"(\d+%|[\d,]+ of 9,000 steps)  [━╌]+  ([\d,]+ steps/s  )?loss [\d.]+  [\d:-]+")
    assert [line for line in bars if "loss" in line and not said.fullmatch(line)] == []
    assert ("steps/s" in bars[-1]) == (width > 40)
    assert not any(line.startswith("step ") for line in shown)


def test_the_bar_of_a_recorded_sweep_counts_its_steps_and_then_its_record(tmp_path: Path) -> None:
    shown = frames(tmp_path, 40, "-m", "lr=logspace(-4,-3,40)", "steps=12000")
    bars = [line for line in shown if "loss" in line and re.search("[━╌]", line)]
    percents = [int(line.partition("%")[0]) for line in bars]
    assert percents == sorted(percents)
    assert len({percent for percent in percents if percent < 100}) >= 3
    recording = [place for place, line in enumerate(shown) if line.startswith("recording")]
    assert all(place > shown.index(bars[-1]) for place in recording)


def test_a_terminal_without_cursor_control_shows_lines(tmp_path: Path) -> None:
    shown = frames(tmp_path, 80, "steps=2000", "tracking=off", TERM="dumb")
    assert sum(line.startswith("step ") for line in shown) == 10
    assert not any(re.search("[━╌]", line) for line in shown)
