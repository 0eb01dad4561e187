"""Figures and pages of recorded runs: those of the recorder's process, and those of `python -m runner.report`."""

import io
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runner.reading import runs
from runner.report import files, from_record
from runner.report.afterwards import write
from runner.report.command import main
from tests.conftest import Command
from tests.support.processes import wait_until

pytestmark = pytest.mark.xdist_group("report")  # they share a record
MARKUP = "<b>$x$</b>"
URI = "sqlite:///outputs/mlflow.db"
FIGURES = ["curvature.svg", "loss.svg", "lr.svg", "path.svg"]


class Record:
    """A sweep, a run on a plane, one that diverged at once and one without figures, all recorded in one folder."""

    def __init__(self, runner: Command) -> None:
        self.folder = runner.folder
        on = {"RUNNER_REPORT": "true"}
        plane = ["objective=rosenbrock", "optimizer=adam", "schedule=cosine", "lr=0.1", "steps=20"]
        commands = {
            "sweep": ["-m", "lr=0.01,0.1,0.3,1.2", "steps=20", f"name='{MARKUP}'"],
            "plane": [*plane, "diagnostics.curvature=true"],
            "diverged": ["lr=1e30", "steps=5"],
        }
        for arguments in commands.values():
            done = runner(*arguments, **on)
            assert (done.code, done.err) == (0, "")
        self.ids = dict(zip(commands, self.leading(), strict=True))
        done = runner("lr=0.1", "steps=3", "report=false", **on)
        assert done.code == 0
        self.ids["off"] = self.leading()[-1]
        wait_until(lambda: all(self.is_drawn(name) for name in commands))

    def leading(self) -> list[str]:
        query = (
            "SELECT run_uuid FROM runs WHERE run_uuid NOT IN"
            " (SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId') ORDER BY start_time, run_uuid"
        )
        with sqlite3.connect(self.folder / "outputs/mlflow.db") as database:
            return [run_id for (run_id,) in database.execute(query)]

    def files(self, name: str) -> list[str]:
        return sorted(path.name for path in self.artifact(name, "report").glob("*"))

    def artifact(self, name: str, path: str) -> Path:
        return self.folder / "outputs/artifacts" / self.ids[name] / "artifacts" / path

    def is_drawn(self, name: str) -> bool:
        last = {"sweep": "report.html", "plane": "curvature.svg", "diverged": "path.svg"}[name]
        return self.artifact(name, "report").joinpath(last).is_file()


@pytest.fixture(scope="module")
def record(shared_runner: Command) -> Record:
    return Record(shared_runner)


@pytest.fixture
def report(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(record.folder)

    def called(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--uri", URI])
        out, err = capsys.readouterr()
        return code, err or out

    return called


def test_the_recorder_draws_once_all_is_recorded(record: Record) -> None:
    assert record.files("sweep") == ["curves.svg", "loss.svg", "report.html"]
    assert record.files("plane") == FIGURES
    assert record.files("diverged") == ["loss.svg", "path.svg"]
    assert record.files("off") == []
    text = record.artifact("sweep", "report/report.html").read_text()
    assert "&lt;b&gt;$x$&lt;/b&gt;</h1>" in text
    assert MARKUP not in text
    figure = record.artifact("sweep", "report/loss.svg").read_text()
    assert "&lt;b&gt;$x$&lt;/b&gt;</text>" in figure  # text stays text, a dollar a dollar
    assert "fell (3)" in figure
    assert "known minimum" in record.artifact("plane", "report/path.svg").read_text()
    with sqlite3.connect(record.folder / "outputs/mlflow.db") as database:
        assert database.execute("SELECT value FROM tags WHERE key = 'report.error'").fetchall() == []


def test_the_landscape_is_that_of_the_objective(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.folder)
    (plane,), best = runs(record.ids["plane"], uri=URI), runs(record.ids["sweep"], uri=URI).best()[0]
    content = plane.artifact("landscape.npz")
    assert content is not None
    with np.load(io.BytesIO(content)) as file:
        x, y = np.meshgrid(file["x"], file["y"])
        assert file["loss"].dtype == np.float32
        assert file["loss"].shape == (121, 121)
        np.testing.assert_allclose(file["loss"], (1 - x) ** 2 + 100 * (y - x**2) ** 2, rtol=1e-3, atol=1e-3)
        assert file["minima"].tolist() == [[1.0, 1.0]]
        path = plane.trajectory()
        assert file["x"][0] < path["weight/0"].min()
        assert path["weight/0"].max() < file["x"][-1]
    of_the_best = best.artifact("landscape.npz")
    assert of_the_best is not None
    with np.load(io.BytesIO(of_the_best)) as file:
        np.testing.assert_allclose(file["loss"], file["x"] ** 2 + 20, rtol=1e-6)
    assert best.artifact("report/loss.svg") is None


def test_a_page_of_a_sweep_and_runs_side_by_side(
    record: Record, report: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ids = [record.ids["sweep"][:12], record.ids["plane"], record.ids["diverged"], record.ids["sweep"][:12]]
    code, out = report(*ids, "--out", str(page))
    assert (code, out.split()[:2]) == (0, ["written", str(page)])
    text = page.read_text()
    assert "<h1>3 compared</h1>" in text
    assert "python -m runner objective=rosenbrock optimizer=adam" in text
    assert "Best of 4: <b>lr 0.3</b>" in text
    assert text.count("data:image/svg+xml;base64,") == 2
    child = runs(record.ids["sweep"], uri=URI)[0]
    assert report(child.id, "--out", str(page))[0] == 0
    assert "<h1>lr=0.01</h1>" in page.read_text()


def test_pictures_for_a_slide(record: Record, report: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    assert report(record.ids["sweep"], "--png", str(png), "--svg", str(svg))[0] == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text() == record.artifact("sweep", "report/loss.svg").read_text()
    assert not Path("report.html").exists()
    assert report(record.ids["plane"], record.ids["sweep"], "--svg", str(svg))[0] == 0
    assert "rosenbrock adam lr=0.1 steps=20" in svg.read_text()


def test_mistakes_are_told_in_a_line(record: Record, report: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    sweep = record.ids["sweep"]
    for arguments, message in (
        (["ffff"], "ffff: no such run, expected the id of a run or a sweep, or its first characters"),
        ([sweep, "--out", str(tmp_path)], f"--out {tmp_path}: a folder, expected a file"),
        ([sweep, "--png", "no/a.png"], "--png no/a.png: no folder no, expected one that exists"),
    ):
        code, err = report(*arguments)
        assert (code, err) == (2, f"error: {message}\n")
    assert main([sweep, "--uri", "sqlite:///nothing.db"]) == 2


def test_a_failure_is_a_tag_of_the_run(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.folder)

    def fail(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(files, "files_of", fail)
    run_id = record.ids["off"]
    write({"uri": URI, "artifacts": "outputs/artifacts"}, [run_id])
    (tagged,) = runs(run_id, uri=URI)
    assert tagged.tags["report.error"] == f"RuntimeError: no room; to try again: python -m runner.report {run_id}"
    assert tagged.row.status == "FINISHED"


def test_a_record_that_was_removed_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({"uri": URI, "artifacts": "outputs/artifacts"}, ["0" * 32])
    assert list(tmp_path.iterdir()) == []


def test_of_very_many_losses_some_steps_are_read(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.folder)
    sweep = runs(record.ids["sweep"], uri=URI)
    whole = from_record.runs_of(sweep)
    for name, value in {"MOST_VALUES": 10, "AT_ONCE": 2, "MOST_STEPS": 5}.items():
        monkeypatch.setattr(from_record, name, value)
    thin = from_record.runs_of(sweep)
    assert thin.steps.tolist() == [1, 5, 10, 15, 20]
    np.testing.assert_array_equal(thin.curves, whole.curves[:, thin.steps - 1])
    assert thin.outcomes.tolist() == whole.outcomes.tolist()
