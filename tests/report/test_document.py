"""A self-contained page, packed by Python and unpacked by a browser."""

import gzip
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from runner.report.document import Document, document, escaped, packed
from tests.support.browser import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.xdist_group("report")  # they share a browser

MARKUP = "</script><script>window.HACKED = 1</script><img src=x onerror='window.HACKED = 2'>\"'&"


def test_data_arrives_in_the_browser_as_it_was(browser: "Browser", tmp_path: Path) -> None:
    data = {
        "text": MARKUP,
        "none": [float("nan"), float("inf"), None],
        "odd": np.arange(3, dtype=np.uint8),
        "numbers": np.array([1e-30, np.nan, np.inf, -0.0], np.float32),
        "nested": {"double": [np.array([0.1, 1e300])], "one": np.float32(0.5)},
    }
    script = "async function draw(data) { window.GOT = data; window.BY_LIBRARY = shout('a') }"
    library = gzip.compress(b"function shout(text) { return text.toUpperCase() }")
    page = Document(MARKUP, f"<h1>{escaped(MARKUP)}</h1><p>{MARKUP}</p>", script, data, library=library)
    (tmp_path / "page.html").write_text(document(page))
    tab = browser.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "page.html").as_uri())
    until(tab, "window.READY > 0 || window.FAILED")
    assert tab.evaluate("window.FAILED") is None
    assert tab.title() == tab.locator("h1").inner_text() == MARKUP
    assert tab.evaluate("[GOT.text, GOT.none, [...GOT.odd], GOT.nested.one, BY_LIBRARY]") == [
        MARKUP, [None, None, None], [0, 1, 2], 0.5, "A",
    ]  # fmt: skip
    assert tab.evaluate("[...GOT.numbers].map(String)") == ["1.0000000031710769e-30", "NaN", "Infinity", "0"]
    assert tab.evaluate("[...GOT.nested.double[0]]") == [0.1, 1e300]
    # Even markup that was not escaped runs nothing: the policy allows the page's own scripts alone.
    assert tab.evaluate("window.HACKED") is None
    assert [url for url in asked if not url.startswith("file:")] == []
    tab.close()


def test_a_frame_of_no_size_draws_once_it_has_one(browser: "Browser", tmp_path: Path) -> None:
    script = "async function draw() { document.body.append('width ' + document.body.clientWidth) }"
    (tmp_path / "page.html").write_text(document(Document("in a frame", "", script)))
    frame = '<iframe id="f" sandbox="allow-scripts" src="page.html" style="width:0;height:0;border:0"></iframe>'
    (tmp_path / "outer.html").write_text(f"<!doctype html>{frame}")
    tab = browser.new_page()
    tab.goto((tmp_path / "outer.html").as_uri())
    inner = tab.frames[1]
    tab.wait_for_timeout(200)
    assert inner.evaluate("window.READY === undefined && window.FAILED === undefined")
    tab.evaluate("document.getElementById('f').style.cssText = 'width:400px;height:300px'")
    until(inner, "window.READY > 0")
    assert "width 400" in inner.inner_text("body")
    tab.close()


def test_an_error_while_drawing_is_shown(browser: "Browser", tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(document(Document("fails", "", "async function draw() { nothing() }")))
    tab = browser.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    until(tab, "window.FAILED")
    assert "nothing is not defined" in tab.get_by_role("alert").inner_text()
    tab.close()


def test_arrays_start_at_multiples_of_eight_bytes() -> None:
    content = packed({"a": np.ones(3, np.uint8), "b": np.array([1.5, 2.5])})
    (length,) = struct.unpack("<I", content[:4])
    header = json.loads(content[4 : 4 + length])
    assert (4 + length) % 8 == 0
    assert [array["at"] % 8 for array in header["arrays"]] == [0, 0]
    assert np.frombuffer(content, "<f8", 2, 4 + length + header["arrays"][1]["at"]).tolist() == [1.5, 2.5]


def test_what_no_page_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="an array of float16, expected one of f4, f8, i4, u1, u2, u4"):
        packed({"a": np.ones(3, np.float16)})
    with pytest.raises(ValueError, match="would end its element"):
        document(Document("", "", "const a = '</script>'"))
