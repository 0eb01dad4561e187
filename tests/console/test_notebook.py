"""A notebook shows a bar that is replaced in place, without carriage returns; elsewhere there is none."""

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from runner.console.notebook import in_notebook
from tests.conftest import ROOT

RUN = """
import runner
done = runner.run(lr=0.05, steps=9000, tracking='off')
frame = runner.sweep(lr=(0.1, 0.2), steps=9000, tracking='off')
"""


def test_a_process_without_a_kernel_is_no_notebook() -> None:
    assert not in_notebook()


def test_a_kernel_shows_bars_and_no_carriage_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel", reason="ipykernel is not among the dependencies")
    start_new_kernel = importlib.import_module("jupyter_client.manager").start_new_kernel
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    seen: list[dict[str, Any]] = []
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        answer = client.execute_interactive(RUN, output_hook=seen.append, timeout=200)
        assert answer["content"]["status"] == "ok", answer["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    text = "".join(one["content"]["text"] for one in seen if one["msg_type"] == "stream")
    assert "\r" not in text
    assert "\x1b" not in text
    bars = [one["content"] for one in seen if one["msg_type"] in ("display_data", "update_display_data")]
    assert len({one["transient"]["display_id"] for one in bars}) == 2
    shown = [one["data"]["text/html"] for one in bars]
    assert any("of 9,000 steps" in html and "<progress" in html for html in shown)
    assert any("of 2 runs" in html for html in shown)
    assert shown[-1] == ""
