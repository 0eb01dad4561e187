"""The learner's page in Chromium: what it shows, and how it is used."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import run
from runner.learn.command import main
from tests.support.browser import chromium, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MARKUP = "<img src=x onerror='window.HACKED=1'></script>"
COLOURS = """id => {
    const canvas = document.getElementById(id);
    const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(pixels).size;
}"""
PATIENCE = 60_000  # milliseconds
MOVES = ["loss-now", "gradient-now", "weight-now"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a page of the seed case, and one of a formula of two variables."""
    folder = tmp_path_factory.mktemp("pages")
    settings = {
        "seed": [],
        "formula": [
            "objective=expression", "objective.formula='(1-x)**2+10*(y-x**2)**2'", "optimizer=adam", "steps=40",
            f'name="{MARKUP}"',
        ],
    }  # fmt: skip
    for name, overrides in settings.items():
        assert main([*overrides, "--no-browser", "--out", str(folder / f"{name}.html")]) == 0
    return {name: folder / f"{name}.html" for name in settings}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as started:
        yield started


@contextmanager
def opened(browser: "Browser", path: Path, **options: Any) -> "Iterator[Page]":
    context = browser.new_context(**options)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    until(page, "window.READY > 0 || window.FAILED")
    assert page.evaluate("window.FAILED") is None
    yield page
    assert asked == [path.as_uri()]
    context.close()


def expect_text(page: "Page", name: str, shown: "str | re.Pattern[str]") -> None:
    """Wait until an element has a text; the page's policy allows no polling by `wait_for_function`."""
    from playwright.sync_api import expect

    expect(page.locator(f"#{name}")).to_have_text(shown, timeout=PATIENCE)


def expect_value(page: "Page", name: str, shown: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(f"#{name}")).to_have_value(shown, timeout=PATIENCE)


def choose(page: "Page", slider: str, place: int) -> None:
    page.locator(f"#{slider}").fill(str(place))
    page.evaluate("new Promise(requestAnimationFrame)")


def text(page: "Page", name: str) -> str:
    return page.locator(f"#{name}").inner_text()


def step_to(page: "Page", step: str) -> None:
    """Move the slider of the steps to a step by its number."""
    for place in range(int(page.locator("#step").get_attribute("max") or 0), -1, -1):
        choose(page, "step", place)
        if text(page, "step-shown").startswith(f"{step} of"):
            return
    raise AssertionError(f"no step {step}")


def test_the_four_moves_are_the_numbers_of_the_engine(pages: dict[str, Path], browser: "Browser") -> None:
    assert pages["seed"].stat().st_size < 1_500_000
    with opened(browser, pages["seed"], locale="en-GB") as page:
        assert all(page.evaluate(COLOURS, name) > 5 for name in ("field", "loss", "map", "strip"))
        step_to(page, "300")
        assert [text(page, name) for name in MOVES] == ["20.0005664825", "0.0476021431", "0.0233250502"]
        command = text(page, "command")
        assert command == "python -m runner lr=0.01 steps=300"
        done = run([*shlex.split(command)[3:], "tracking=off", "quiet=true"])
        expected = [done.loss, float(done.result.gradient), float(done.weight)]
        assert [text(page, name) for name in MOVES] == [f"{value:.10f}" for value in expected]
        assert text(page, "said").startswith("Monotone: the loss reaches 20 in 1,000 steps")
        assert "measured between 1 and 1.02. From the curvature: 2/λ_max = 1" in text(page, "border")
        expect_text(page, "live", re.compile("^Monotone"))
        choose(page, "rate", 59)
        assert text(page, "said").startswith("Diverging: the steps grow, until at step")
        page.locator("#again").click()
        expect_text(page, "step-shown", "0 of 1,000")
        assert text(page, "weight-now") == "10.0000000000"
        assert text(page, "command").endswith("steps=1000")
        page.locator("#on").click()
        expect_text(page, "field-note", re.compile("Zoomed out 9 times"))


def test_the_page_is_used_by_keyboard_and_pointer(pages: dict[str, Path], browser: "Browser") -> None:
    with opened(browser, pages["formula"], locale="zh-CN", color_scheme="dark") as page:
        assert page.evaluate("document.documentElement.lang") == "zh"
        assert text(page, "map-heading").endswith("学习率与动量")
        page.locator("#language").click()
        assert page.evaluate("document.documentElement.lang") == "en"
        assert "window.HACKED=1" in text(page, "command")
        assert page.evaluate("[window.HACKED, document.querySelectorAll('img').length]") == [None, 0]
        assert all(page.evaluate(COLOURS, name) > 5 for name in ("field", "loss", "map", "strip"))
        page.locator("#language").evaluate("button => button.blur()")
        for key, shown in {
            "Home": "0 of 40",
            "ArrowRight": "1 of 40",
            "End": "40 of 40",
            "ArrowLeft": "39 of 40",
        }.items():
            page.keyboard.press(key)
            expect_text(page, "step-shown", shown)
        page.keyboard.press("Home")
        page.keyboard.press(" ")
        expect_text(page, "step-shown", "40 of 40")
        rates = {}
        for place in (0, 10, 9):
            choose(page, "rate", place)
            rates[place] = text(page, "rate-shown")
        page.locator("#map").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        expect_text(page, "rate-shown", rates[10])
        expect_value(page, "momentum", "4")
        page.locator("#map").click(position={"x": 60, "y": 150})
        expect_text(page, "rate-shown", rates[0])
        expect_value(page, "momentum", "0")


def test_a_result_is_hidden_until_it_is_guessed(pages: dict[str, Path], browser: "Browser") -> None:
    with opened(browser, pages["seed"], viewport={"width": 360, "height": 740}, reduced_motion="reduce") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.locator("#begin").click()
        expect_text(page, "said", "hidden until you have guessed")
        assert text(page, "question").endswith("1,000 steps. What will happen?")
        assert page.locator("#step").is_disabled()
        choose(page, "rate", 59)
        page.locator("#guesses button").nth(0).click()
        expect_text(page, "score", "0 of 1 right.")
        assert text(page, "question") == "Not quite. You guessed: slow. It is: diverging."
        assert text(page, "said").startswith("Diverging")
        page.locator("#stop").click()
        expect_text(page, "question", "Guess what a run does before you see it.")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
