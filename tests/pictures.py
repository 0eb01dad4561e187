"""The pictures of the pages, made by the program: `python -m tests.pictures`."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
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


def photograph_ui(path: Path) -> None:
    """Take a picture of some runs and a sweep in MLflow's UI, in Chromium."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shown: dict[str, Any] = {"objective": "branin", "steps": 150, "quiet": True}
        sweep(shown, lr=(0.003, 0.01, 0.03, 0.1), optimizer=("adam", "rmsprop"), name="sweep")
        for optimizer, rate in {"gd": 0.003, "momentum": 0.001, "rmsprop": 0.03, "adam": 0.1}.items():
            run(shown, optimizer=optimizer, lr=rate, name=optimizer)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen([sys.executable, "-m", "runner.ui", "--port", str(port)])
        try:
            _wait_for(f"http://127.0.0.1:{port}/health")
            _photograph(f"http://127.0.0.1:{port}/#/experiments/1/runs?compareRunsMode=CHART", path)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
            os.chdir(ROOT)
    _make_small(path)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{address} does not answer")


def _photograph(address: str, path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 680})
        page.goto(address)
        page.get_by_placeholder("Search metric charts").fill("^(loss|gradient_norm)$", timeout=180_000)
        page.get_by_role("button", name="Close", exact=True).click()
        page.get_by_role("button", name="Toggle sidebar").click()
        expect(page.locator(".js-plotly-plot .scatterlayer path.js-line").nth(7)).to_be_attached(timeout=180_000)
        page.wait_for_timeout(3000)  # the charts are animated
        page.screenshot(path=path)
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
    photograph_ui(UI)
    photograph_learner(LEARN)
