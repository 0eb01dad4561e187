"""MLflow's UI on the record: over its HTTP API, and in a real browser."""

import json
import os
import re
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Command
from tests.support.processes import wait_until

pytestmark = pytest.mark.xdist_group("ui")  # they share a server

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@dataclass(frozen=True)
class Server:
    port: int

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def answers(self) -> bool:
        try:
            return self.ask("/health")[0] == 200
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def ui(shared_runner: Command) -> Iterator[Server]:
    nan = [
        "objective=expression",
        "objective.formula='sqrt(x)'",
        "initial_weight=1",
        "lr=1.5",
        "name=no-number",
        "steps=9",
    ]
    for arguments in (["steps=100", "name=shown"], ["-m", "lr=0.01,0.02", "steps=20"], nan):
        assert shared_runner(*arguments).code == 0
    server = Server(free_port())
    process = shared_runner.start("--port", str(server.port), module="runner.ui")
    wait_until(server.answers)
    yield server
    os.set_blocking(process.stderr.fileno(), True)  # type: ignore[union-attr]
    os.set_blocking(process.stdout.fileno(), True)  # type: ignore[union-attr]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False)
    with pytest.raises(OSError, match="refused"):
        server.ask("/health")


def test_runs_are_read_back_over_its_api(ui: Server) -> None:
    status, text = ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})
    assert status == 200
    runs = json.loads(text)["runs"]
    assert {run["info"]["run_name"] for run in runs} == {
        "shown",
        "lr=0.01,0.02 steps=20",
        "lr=0.01",
        "lr=0.02",
        "no-number",
    }


def test_only_this_machine_is_served(ui: Server) -> None:
    listening = [line.split()[1] for line in open("/proc/net/tcp").readlines()[1:] if line.split()[3] == "0A"]  # noqa: SIM115
    assert [address for address in listening if address.endswith(f":{ui.port:04X}")] == [f"0100007F:{ui.port:04X}"]
    assert ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]}, Host="evil.example")[0] == 403


def test_a_missing_database_is_reported(runner: Command) -> None:
    done = runner(module="runner.ui")
    assert done.code == 2
    assert "no database there yet, expected one; a run creates it: python -m runner" in done.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "99999999"], "--port 99999999: expected a whole number from 1 to 65535"),
        (["--uri", "mlruns"], "--uri mlruns: expected a database or server, such as"),
        (["--uri", "http://me:secret@host"], "--uri http://***@host: expected a database"),
    ],
)
def test_an_unreadable_database_is_reported_by_the_ui(runner: Command, arguments: list[str], line: str) -> None:
    done = runner(*arguments, module="runner.ui")
    assert done.code == 2
    assert line in done.err.splitlines()[-1]


def test_a_taken_port_is_reported_at_once_with_a_free_one(ui: Server, shared_runner: Command) -> None:
    done = shared_runner("--port", str(ui.port), module="runner.ui")
    assert done.code == 2
    said = re.search(rf"--port {ui.port}: taken by another process; free is --port (\d+)\n$", done.err)
    assert said is not None, done.err
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", int(said[1])))


def test_requests_are_not_logged(ui: Server, shared_runner: Command) -> None:
    for _ in range(20):
        ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})
    (process,) = [one for one in shared_runner.started if one.poll() is None]
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        said = stream.read() or ""
        assert "runs/search" not in said
        assert len(said.splitlines()) < 9


def test_help_shows_no_password(runner: Command) -> None:
    done = runner("--help", module="runner.ui", MLFLOW_TRACKING_URI="postgresql://me:sec%ret@host/runs")
    assert done.code == 0
    assert "postgresql://***@host/runs" in " ".join(done.out.split())


def test_a_browser_shows_the_runs_and_a_chart_of_the_loss(ui: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    if CHROMIUM is None:
        assert "CI" not in os.environ, "CI installs Chromium"
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    runs = json.loads(ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})[1])["runs"]
    run_id = next(run["info"]["run_id"] for run in runs if run["info"]["run_name"] == "shown")
    folder = tmp_path_factory.mktemp("screenshots")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"http://127.0.0.1:{ui.port}/#/experiments/1/runs")
        for name in ("shown", "lr=0.01,0.02 steps=20"):
            expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=180_000)
        page.screenshot(path=folder / "runs.png")
        page.goto(f"http://127.0.0.1:{ui.port}/#/experiments/1/runs/{run_id}/model-metrics")
        page.get_by_placeholder("Search metric charts").fill("^loss$")
        expect(page.get_by_text("shown (loss)")).to_have_count(1, timeout=180_000)
        expect(page.locator(".js-plotly-plot .scatterlayer path.js-line").first).to_be_visible(timeout=180_000)
        page.screenshot(path=folder / "loss.png")
        diverged = next(run["info"]["run_id"] for run in runs if run["info"]["run_name"] == "no-number")
        page.goto(f"http://127.0.0.1:{ui.port}/#/experiments/1/runs/{diverged}")
        for text in ("no-number", "diverged_at_step"):
            expect(page.get_by_text(text).first).to_be_visible(timeout=180_000)
        page.screenshot(path=folder / "nan.png")
        browser.close()
    assert (folder / "loss.png").stat().st_size > 10_000
