"""The page of sweeps and runs, as a browser draws it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runner.report.analysis import analysed
from runner.report.page import Part, RunPart, SweepPart, page_of
from runner.report.runs import Runs
from runner.report.search import Search
from tests.support.browser import until
from tests.support.reports import descents, logspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("report")  # they share a browser

MARKUP = "<img src=x onerror='window.HACKED=1'></script><b>$x$</b>"


def sweep(runs: Runs, title: str = "a sweep") -> SweepPart:
    return SweepPart(title, "0123", analysed(runs), "python -m runner -m lr=0.1,0.2")


@pytest.fixture
def shown(browser: "Browser", tmp_path: Path) -> "Iterator[Shown]":
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield Shown(context.new_page(), tmp_path)
    context.close()


class Shown:
    """A page in the browser, with what it reports."""

    def __init__(self, tab: "Page", folder: Path) -> None:
        self.tab, self.problems, self.file = tab, list[str](), folder / "report.html"
        tab.on("console", lambda message: self.problems.append(message.text))
        tab.on("pageerror", lambda error: self.problems.append(str(error)))

    def __call__(self, *parts: Part) -> "Page":
        self.file.write_text(page_of(parts))
        self.tab.goto(self.file.as_uri())
        until(self.tab, "window.READY > 0 || window.FAILED")
        assert (self.problems, self.tab.evaluate("window.FAILED")) == ([], None)
        assert self.tab.evaluate("window.HACKED") is None
        return self.tab


def traces(tab: "Page", key: str) -> dict[str, Any]:
    """Return the number of finite points of each trace of a figure, by its name."""
    count = "t => [t.name, t.type == 'heatmap' ? t.z.flat().length : t.y.filter(Number.isFinite).length]"
    return dict(tab.evaluate(f"document.getElementById('{key}').data.map({count})"))


def test_a_sweep_of_learning_rates(shown: Shown) -> None:
    tab = shown(sweep(descents({"lr": [*logspace(1e-3, 0.9, 40), 1.01, 1.02, 3.0]}, made=60), MARKUP))
    assert tab.title() == tab.locator("h1").inner_text() == MARKUP
    answer = tab.locator(".answer").inner_text()
    assert "Measured border of stability: lr 0.9 still fell, 1.01 did not." in answer
    assert "2/λ_max is 1 " in answer
    ends = traces(tab, "part-0-points-0")
    assert {name: ends[name] for name in ("fell", "grew", "diverged", "best run")} == {
        "fell": 40, "grew": 2, "diverged": 1, "best run": 1,
    }  # fmt: skip
    assert {"border: 0.9 to 1.01", "2/λ<sub>max</sub> = 1"} <= ends.keys()
    axes = tab.evaluate(
        "(({xaxis, yaxis}) => [xaxis.type, yaxis.type])(document.getElementById('part-0-points-0').layout)"
    )
    assert axes == ["log", "log"]
    curves = traces(tab, "part-0-curves")
    assert "10 to 90 % of the 42 runs that ended finite" in curves
    assert sum(name.startswith(("best: ", "median: ", "worst: ")) for name in curves if name) == 3
    assert tab.locator(".count").all_inner_texts() == ["○ fell 40", "△ grew 2", "✕ diverged 1"]
    first, second = tab.locator("tbody tr").all_inner_texts()[:2]
    assert first.split()[0] == "1"
    assert second.split()[0] == "2"


def test_by_keyboard_in_the_dark_and_on_a_phone(shown: Shown) -> None:
    tab = shown(sweep(descents({"lr": [0.1, 0.2, 0.3, 0.4, 3.0]}, made=20)))
    ends = tab.locator("#part-0-points-0")
    ends.focus()
    ends.press("ArrowRight")
    assert "lr=0.4" in tab.locator("#part-0-chosen").inner_text()  # the best
    ends.press("ArrowLeft")
    assert "lr=0.3" in tab.locator("#part-0-chosen").inner_text()
    assert traces(tab, "part-0-curves")["chosen: lr=0.3"] == 20
    visible = "document.getElementById('part-0-points-0').data[1].visible"
    assert tab.evaluate(visible) is None
    ends.press("2")
    until(tab, f"{visible} == 'legendonly'")
    colour = "document.getElementById('part-0-points-0').layout.font.color"
    light = tab.evaluate(colour)
    tab.emulate_media(color_scheme="dark")
    until(tab, f"{colour} != '{light}'")
    tab.set_viewport_size({"width": 380, "height": 800})
    until(tab, "document.documentElement.scrollWidth <= 380")
    assert shown.problems == []


def test_several_settings(shown: Shown) -> None:
    rates, optimizers = logspace(1e-3, 3, 12), ["gd", MARKUP]
    grid: dict[str, list[Any]] = {"lr": rates * 2, "optimizer": [one for one in optimizers for _ in rates]}
    names = [f"{MARKUP}{index}" for index in range(24)]
    tab = shown(sweep(descents(grid, names=names)))
    assert traces(tab, "part-0-grid")["best"] == 1
    assert tab.evaluate("document.getElementById('part-0-grid').data[0].z.flat().length") == 24
    lines = traces(tab, "part-0-points-0")
    assert "optimizer=gd" in lines
    assert tab.evaluate("document.querySelectorAll('#part-0-points-0 img').length") == 0
    tab.locator("#part-0-points-0").press("ArrowRight")
    assert MARKUP in tab.locator("#part-0-chosen").inner_text()

    generator = np.random.default_rng(0)
    many = {"lr": logspace(1e-3, 3, 60)} | {f"p{index}": list(generator.uniform(size=60)) for index in range(15)}
    tab = shown(sweep(descents(many)))
    assert tab.locator("#part-0-parallel .scatterlayer").count() == 1
    assert tab.locator("main > section > .two figure").count() == 8  # six settings, curves, parallel coordinates
    tab.locator("summary").click()
    tab.wait_for_selector("#part-0-points-15 .scatterlayer")


def odd_sweeps() -> Sequence[Part]:
    nan = np.full(3, np.nan)
    nothing: dict[str, Any] = {"curves": np.zeros((3, 0)), "steps": np.zeros(0, np.int64)}
    keys = ("final", "best", "best_step", "done", "distance", "loss_error")
    unknown: dict[str, Any] = dict.fromkeys(keys, nan)
    infinite = descents({"lr": [0.1, 0.2, 0.3]}, offset=None, is_upward=np.array([True, False, True]))
    infinite.curves[0, 3:] = np.nan
    infinite.curves[1, 5] = -np.inf
    return [
        sweep(descents({"lr": [0.1, 0.2, 0.3]}, made=1), "one step"),
        sweep(descents({"lr": [3.0, 4.0, 5.0]}, made=60), "all diverged"),
        sweep(descents({"lr": [0.1, 0.2, 0.3]}, **nothing, **unknown), "no metrics"),
        sweep(infinite, "not finite"),
        sweep(replace(descents({"lr": [0.1, 0.1, 0.1]}), varied=[]), "nothing varied"),
        sweep(descents({"lr": []}, made=3), "no runs"),
        RunPart("a single run", "4567", descents({"lr": [0.1]})),
    ]


def test_odd_sweeps_side_by_side(shown: Shown) -> None:
    tab = shown(*odd_sweeps())
    headings = tab.locator("h1").all_inner_texts()
    assert headings == ["7 compared", *(part.title for part in odd_sweeps())]
    text = tab.locator("main").inner_text()
    assert "None of the 3 runs ended with a finite loss." in text
    assert "No loss over steps is recorded." in text
    assert "The sweep has no runs." in text
    assert len(traces(tab, "comparison")) == 4


def test_ten_thousand_runs_are_thinned_and_the_page_says_so(shown: Shown) -> None:
    tab = shown(sweep(descents({"lr": logspace(1e-4, 1.4, 10_000)}, made=200)))
    assert shown.file.stat().st_size < 1_100_000
    text = tab.locator("main").inner_text()
    assert "Drawn are 2,000 of 10,000 runs: the best, the worst, the ends of every number, and an even sample." in text
    assert "Counts, table, border and quantiles are of all runs." in text
    ends = traces(tab, "part-0-points-0")
    assert ends["fell"] + ends["grew"] + ends["diverged"] == 2000


def searched(values: Sequence[Sequence[float]], **more: Any) -> Search:
    one = len(values[0]) == 1
    given: dict[str, Any] = {
        "metrics": ["best/loss", MARKUP][: len(values[0])],
        "is_upward": [False] * len(values[0]),
        "sampler": "tpe",
        "study": MARKUP,
        "counts": {"complete": len(values), "pruned": 2, "failed": 0},
        "numbers": np.arange(len(values)),
        "values": np.array(values, np.float64),
        "best": {"lr": "0.1"} if one else {},
        "best_trial": 2 if one else None,
        "importances": {"lr": 0.75, MARKUP: 0.25},
        "remark": "",
    }
    return Search(**given | more)


def test_searches_by_one_metric_and_by_two(shown: Shown) -> None:
    runs = descents({"lr": [0.1, 0.2, 0.3, 0.4]})
    one = replace(sweep(runs), search=searched([[5.0], [7.0], [1e-4], [2.0]]))
    two = replace(sweep(runs), search=searched([[1, 9], [2, 5], [3, 6], [4, 1]], importances={}, remark="too few"))
    without = replace(searched([[1.0]]), numbers=np.zeros(0, np.int64), values=np.zeros((0, 1)))
    none = replace(sweep(runs), search=without)
    tab = shown(one, two, none)
    assert traces(tab, "part-0-history") == {"trial": 4, "best so far": 4}
    best = tab.evaluate("document.getElementById('part-0-history').data[1].y.map(y => Number(y.toPrecision(6)))")
    assert best == [5, 5, 1e-4, 1e-4]
    shares = tab.evaluate("document.getElementById('part-0-importances').data[0].x")
    assert shares == [0.25, 0.75]
    assert traces(tab, "part-1-front-0") == {"trial": 1, "on the Pareto front": 3}
    texts = tab.locator("main").inner_text()
    assert "Searched by best/loss, minimized; sampler tpe. Best trial 2: lr 0.1 with best/loss 0.0001." in texts
    assert "On the Pareto front: trials 0, 1, 3." in texts
    assert "Importances: too few." in texts
    assert "No trial is complete." in texts
    assert "◇ pruned 2" in tab.locator(".count").all_inner_texts()
