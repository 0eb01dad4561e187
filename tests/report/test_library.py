"""Plotly's bundle, as it is shipped."""

import gzip
import re

from runner.report.page import LIBRARY
from tests.conftest import ROOT

FOLDER = ROOT / "runner/report"


def test_the_bundle_is_the_version_that_the_readme_remakes() -> None:
    start = gzip.decompress((FOLDER / LIBRARY).read_bytes())[:200].decode()
    found = re.search(r"cartesian - minified\) v([\d.]+)", start)
    assert found is not None
    assert f"plotly.js-cartesian-dist-min@{found[1]}" in (FOLDER / "README.md").read_text()
    assert (FOLDER / "plotly-license.txt").read_text().startswith("MIT License")
