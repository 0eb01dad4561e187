"""MLflow's UI on the record: over its HTTP API, and in a real browser."""

import contextlib
import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.report.views import LIST, address_of_view
from tests.conftest import Command
from tests.support.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("ui")  # they share a server


@dataclass(frozen=True)
class Server:
    port: int
    opened: str = ""

    def at_the_name(self, address: str) -> str:
        """Return an address at the name that Chromium knows, where the assistant stays shut."""
        return address.replace("127.0.0.1", "runner.localhost")

    def address(self, place: str) -> str:
        return f"http://127.0.0.1:{self.port}/{place}"

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
    sweep = ["-m", "lr=logspace(-3,0.4,200)", "steps=20"]
    for arguments in (["steps=100", "name=shown"], sweep, nan):
        assert shared_runner(*arguments).code == 0
    port = free_port()
    process = shared_runner.start("--port", str(port), "--no-browser", module="runner.ui")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    said = (re.fullmatch(r"open (http\S+) \(Ctrl-C ends the server\)\n", line) for line in lines)
    server = Server(port, next(match[1] for match in said if match))
    assert server.answers()  # the address is printed once it does
    yield server
    os.set_blocking(process.stderr.fileno(), True)  # type: ignore[union-attr]
    os.set_blocking(process.stdout.fileno(), True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False)
    with pytest.raises(OSError, match="refused"):
        server.ask("/health")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(browser: "Browser") -> "Page":
    """A page as wide as the columns of a sweep."""
    from playwright.sync_api import expect

    opened = browser.new_page(viewport={"width": 1700, "height": 900})
    opened.set_default_timeout(180_000)
    expect.set_options(timeout=180_000)
    return opened


def test_runs_are_read_back_over_its_api(ui: Server) -> None:
    query = {"experiment_ids": ["1"], "filter": "tags.`mlflow.parentRunId` IS NULL"}
    status, text = ui.ask("/api/2.0/mlflow/runs/search", query)
    assert status == 200
    runs = json.loads(text)["runs"]
    assert {run["info"]["run_name"] for run in runs} == {"shown", "lr=logspace(-3,0.4,200) steps=20", "no-number"}


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
    refused = shared_runner("--port", "6000", module="runner.ui")
    assert "error: --port 6000: browsers refuse to open it; free is --port " in refused.err


def test_requests_are_not_logged(ui: Server, shared_runner: Command) -> None:
    for _ in range(20):
        ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"], "max_results": 5})
    (process,) = [one for one in shared_runner.started if one.poll() is None]
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        said = ""
        with contextlib.suppress(BlockingIOError):
            said = os.read(stream.fileno(), 2**16).decode()
        assert "runs/search" not in said
        assert len(said.splitlines()) < 9


def test_help_shows_no_password(runner: Command) -> None:
    done = runner("--help", module="runner.ui", MLFLOW_TRACKING_URI="postgresql://me:sec%ret@host/runs")
    assert done.code == 0
    assert "postgresql://***@host/runs" in " ".join(done.out.split())


@pytest.mark.usefixtures("ui")
def test_an_address_that_leads_nowhere_is_reported_in_a_line(shared_runner: Command) -> None:
    port = str(free_port())
    anything = "expected the id of a run or a sweep, its first characters, or an experiment; did you mean 'descent'?"
    server, unknown = f"http://me:secret@127.0.0.1:{port}", "http://no-such-host.invalid"
    for arguments, line in [
        (["0000"], "0000: no such run, expected the id of a run or a sweep, or its first characters"),
        (["desent"], f"desent: no such run or experiment, {anything}"),
        (["--uri", server], f"tracking.uri=http://***@127.0.0.1:{port}: [Errno 111] Connection refused"),
        (["--uri", unknown], f"tracking.uri={unknown}: [Errno -2] Name or service not known"),
    ]:
        done = shared_runner("--port", port, *arguments, module="runner.ui")
        assert (done.code, done.errors) == (2, [line])


def test_the_address_of_a_server_and_of_its_runs_is_printed(ui: Server, shared_runner: Command) -> None:
    uri = f"http://127.0.0.1:{ui.port}"
    done = shared_runner("--uri", uri, "--no-browser", module="runner.ui")
    assert (done.code, done.out) == (0, f"open {ui.opened}\n")
    done = shared_runner("--uri", uri, "--no-browser", "descent", module="runner.ui")
    assert done.out.endswith("viewStateShareKey=sweeps-and-runs\n")
    runs = json.loads(ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})[1])["runs"]
    run_id = next(run["info"]["run_id"] for run in runs if run["info"]["run_name"] == "shown")
    done = shared_runner("--uri", uri, "--no-browser", run_id[:20], module="runner.ui")
    assert done.out == f"open {uri}/#/experiments/1/runs/{run_id}?workflowType=machine_learning\n"


def test_the_opened_page_shows_the_best_learning_rate_first(ui: Server, page: "Page", tmp_path: Path) -> None:
    from playwright.sync_api import expect

    query = {"experiment_ids": ["1"], "filter": "metrics.rank = 1"}
    (best,) = json.loads(ui.ask("/api/2.0/mlflow/runs/search", query)[1])["runs"]
    lr = next(param["value"] for param in best["data"]["params"] if param["key"] == "lr")
    assert float(lr) == pytest.approx(0.5, rel=0.01)  # which reaches the minimum in one step
    page.goto(ui.at_the_name(ui.opened))
    first = page.locator('[row-index="0"]')
    expect(first.locator("[col-id='params.`lr`']")).to_have_text(lr)
    expect(first.locator("[col-id='metrics.`rank`']")).to_have_text("1")
    results = ["rank", "final/loss", "final/loss_error", "final/distance", "best/step", "steps_done"]
    columns = ["params.`lr`", *(f"metrics.`{key}`" for key in results), "tags.`runner.outcome`"]
    headers = page.locator(".ag-header-cell")
    for column in columns:
        expect(headers.and_(page.locator(f'[col-id="{column}"]'))).to_be_attached()
    # Elements stand in the order in which they were made, not in that of their places.
    cells = headers.evaluate_all("all => all.map(one => [one.getBoundingClientRect().x, one.getAttribute('col-id')])")
    shown = [column for _, column in sorted(cells)]
    assert shown[3 : 3 + len(columns)] == columns  # after the checkbox, the name and the time
    expect(page.get_by_text("Best of the last sweep")).to_be_visible()
    expect(page.get_by_text("MLflow Assistant")).to_have_count(0)
    page.screenshot(path=tmp_path / "sweep.png")


def test_the_charts_of_a_sweep_begin_with_curves(ui: Server, page: "Page", tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page.goto(ui.at_the_name(f"{ui.opened}&compareRunsMode=CHART"))
    expect(page.locator(".js-plotly-plot .scatterlayer path.js-line").first).to_be_visible()
    text = page.locator("body").inner_text()
    places = [text.index(f"\n{words}\n") for words in ("Curves of the ten best", "loss", "gradient_norm")]
    assert places == sorted(places)
    assert places[-1] < text.index("Results of the ten best")
    page.screenshot(path=tmp_path / "charts.png")


def test_the_list_has_sweeps_and_single_runs_without_the_jobs(ui: Server, page: "Page") -> None:
    from playwright.sync_api import expect

    page.goto(ui.at_the_name(ui.address(address_of_view("1", LIST))))
    expect(page.get_by_text("3 matching runs")).to_be_visible()
    for name in ("shown", "no-number", "lr=logspace(-3,0.4,200) steps=20"):
        expect(page.locator(".ag-row").get_by_text(name, exact=True)).to_be_visible()


def test_a_run_describes_itself_and_draws_its_loss(ui: Server, page: "Page", tmp_path: Path) -> None:
    from playwright.sync_api import expect

    runs = json.loads(ui.ask("/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})[1])["runs"]
    ids = {run["info"]["run_name"]: run["info"]["run_id"] for run in runs}
    page.goto(ui.address(f"#/experiments/1/runs/{ids['shown']}/model-metrics"))
    page.get_by_placeholder("Search metric charts").fill("^loss$")
    expect(page.get_by_text("shown (loss)")).to_have_count(1)
    expect(page.locator(".js-plotly-plot .scatterlayer path.js-line").first).to_be_visible()
    page.screenshot(path=tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 10_000
    page.goto(ui.address(f"#/experiments/1/runs/{ids['no-number']}"))
    for words in ("no-number", "diverged_at_step"):
        expect(page.get_by_text(words).first).to_be_visible()
    expect(page.get_by_text("Diverged at step 3")).to_be_visible()
