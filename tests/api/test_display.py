"""Results show themselves in notebooks: figures as inline SVG and a table, with every text escaped."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import runner
from runner.api.sweep_frame import SweepFrame
from tests.support.places import working_in

MARKUP = "<script>alert(1)</script>"


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("display")
    with working_in(folder):
        yield folder


@pytest.mark.parametrize(
    ("settings", "figures"),
    [
        ({"lr": 0.05, "steps": 20}, 2),  # loss and path
        ({"objective": "rosenbrock", "schedule": "cosine", "lr": 1e-3, "steps": 9}, 3),  # and the rate
        ({"objective": "logistic_regression", "steps": 2}, 1),
        ({"lr": 1e30, "steps": 9}, 2),
        ({"steps": 1}, 2),
    ],
)
def test_a_run_shows_figures_and_a_table(settings: dict[str, object], figures: int) -> None:
    done = runner.run(settings, tracking="off", quiet=True)
    html = done._repr_html_()
    assert html.count("<svg") == figures
    assert "<?xml" not in html
    table = dict(re.findall(r"<th[^>]*>([^<]*)</th><td>([^<]*)</td>", html))
    assert table["steps"] == f"{done.result.steps:,}"
    assert table["loss"] == f"{done.loss:.6g}"
    assert table["outcome"] == done.result.sentence
    assert len(repr(done)) < 200


def test_a_long_run_is_drawn_with_a_few_thousand_points() -> None:
    done = runner.run(steps=3000, lr=1e-4, tracking="off", quiet=True)
    assert len(done._repr_html_()) < 150_000


def test_a_sweep_shows_figures_and_its_frame() -> None:
    frame = runner.sweep({"lr": (0.1, 0.5), "steps": 5, "name": MARKUP, "quiet": True})
    html = frame._repr_html_()
    assert html.count("<svg") == 2
    assert "<script" not in html
    assert html.endswith(str(pd.DataFrame(frame)._repr_html_()))
    assert type(frame.sort_values("rank")) is pd.DataFrame
    assert isinstance(frame, pd.DataFrame)
    deleted = SweepFrame.of([{"run_id": "0" * 32}], frame.uri)
    assert deleted._repr_html_() == pd.DataFrame(deleted)._repr_html_()


def test_a_sweep_that_is_not_recorded_shows_its_frame() -> None:
    frame = runner.sweep(lr=(0.1, 0.5), steps=5, tracking="off", quiet=True)
    assert frame._repr_html_() == pd.DataFrame(frame)._repr_html_()
