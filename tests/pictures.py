"""The pictures of the pages, made by the program: `python -m tests.pictures`."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from runner import run, sweep

ROOT = Path(__file__).parents[1]
DESCENT = ROOT / "runner/api/descent.png"
UI = ROOT / "runner/recorder/ui.png"
CHARTS = ROOT / "runner/recorder/charts.png"
LEARN = ROOT / "runner/learn/learn.png"
OPTIMIZERS = {"gd": 0.003, "momentum": 0.001, "rmsprop": 0.02, "adam": 0.1}
COLOURS = 96
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]


def draw_descent(path: Path, rates: int = 1000, steps: int = 400) -> None:
    """Draw the paths of some optimizers, and their last losses over many learning rates."""
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
    _draw_valley(left)
    valley: dict[str, Any] = {"objective": "rosenbrock", "steps": steps, "tracking": "off", "quiet": True}
    for optimizer, rate in OPTIMIZERS.items():
        done = run(valley, optimizer=optimizer, lr=rate)
        left.plot(*done.trajectory.weight.T, linewidth=1.5, label=f"{optimizer}, lr {rate:g}")
        jobs = sweep(valley, optimizer=optimizer, lr=f"logspace(-5,1,{rates})")
        losses = jobs["final/loss"].where(jobs["status"] != "DIVERGED")
        right.loglog(jobs["lr"].astype(float), losses, linewidth=1.2, label=optimizer)
    left.plot(1, 1, "*", color="white", markeredgecolor="black", markersize=12)
    left.set(title=f"Rosenbrock's function, {steps:,} steps", xlabel="weight/0", ylabel="weight/1")
    left.legend(loc="lower right", fontsize=8)
    right.set(
        title=f"{rates:,} learning rates each", xlabel="lr", ylabel=f"loss after {steps:,} steps", ylim=(1e-8, 1e4)
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)
    _make_small(path)


def _draw_valley(axes: Any) -> None:
    x, y = np.meshgrid(np.linspace(-1.7, 1.7, 300), np.linspace(-0.6, 1.8, 300))
    loss = (1 - x) ** 2 + 100 * (y - x**2) ** 2
    axes.contourf(x, y, loss, levels=[0, *np.geomspace(0.05, 2000, 15)], norm="symlog", cmap="Greys_r", alpha=0.4)
    axes.set(xlim=(-1.7, 1.7), ylim=(-0.6, 1.8))


def _make_small(path: Path, colours: int = COLOURS, method: Image.Quantize = Image.Quantize.MEDIANCUT) -> None:
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(colours, method, dither=Image.Dither.NONE).save(path, optimize=True)


def photograph_ui(table: Path, charts: Path) -> None:
    """Take pictures of a sweep in MLflow's UI, in Chromium: its jobs, best first, and its charts."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sweep(objective="branin", steps=150, quiet=True, lr="logspace(-3.5,0,40)", optimizer=("gd", "adam", "rmsprop"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "runner.ui", "--port", str(port), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            said = (re.match(r"open (http\S+)", line) for line in server.stdout)
            # Chromium knows the name, at which the UI does not open its assistant.
            address = next(match[1] for match in said if match).replace("127.0.0.1", "runner.localhost")
            _photograph(address, table, charts)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
            os.chdir(ROOT)
    for path in (table, charts):
        _make_small(path, 48)


def _photograph(address: str, table: Path, charts: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=180_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(180_000)
        page.goto(address)
        expect(page.locator('[row-index="0"]').first).to_be_visible()
        page.get_by_role("button", name="Toggle sidebar").click()
        page.wait_for_timeout(2000)
        page.screenshot(path=table)
        page.goto(f"{address}&compareRunsMode=CHART")
        expect(page.locator(".js-plotly-plot .scatterlayer path.js-line").nth(11)).to_be_attached()
        page.wait_for_timeout(3000)  # the charts are animated
        page.screenshot(path=charts)
        browser.close()


def photograph_learner(path: Path) -> None:
    """Take a picture of the learner's page, in Chromium."""
    from playwright.sync_api import sync_playwright

    from runner.learn.command import main
    from tests.support.browser import until

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "learn.html"
        settings = ["objective=rosenbrock", "optimizer=momentum", "lr=0.0005", "steps=150", "quiet=true"]
        if main([*settings, "--no-browser", "--out", str(page)]) != 0:
            raise RuntimeError("the learner's page could not be made")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1100, "height": 900}, locale="en-GB")
        tab.goto(page.as_uri())
        until(tab, "window.READY > 0")
        bottom = tab.locator("#curvature").bounding_box()
        assert bottom is not None
        tab.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": 1100, "height": bottom["y"] - 4})
        browser.close()
    _make_small(path, 160, Image.Quantize.MAXCOVERAGE)  # keeps the colours of few pixels


if __name__ == "__main__":
    draw_descent(DESCENT)
    photograph_ui(UI, CHARTS)
    photograph_learner(LEARN)
