"""A built wheel contains its configs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT


def test_a_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("runner", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "build", "--wheel", "-o", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
        entry_points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "runner = runner.__main__:main" in archive.read(entry_points).decode()
    done = subprocess.run(
        [sys.executable, "-m", "runner", "lr=0.05", "steps=5", "tracking=off"],
        cwd=elsewhere, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "after 5 steps: ran all its steps" in done.stdout
    shipped = {str(path.relative_to(installed / "runner/conf")) for path in (installed / "runner/conf").rglob("*.yaml")}
    assert shipped == {str(path.relative_to(ROOT / "conf")) for path in (ROOT / "conf").rglob("*.yaml")}
    files = ("plotly-cartesian.min.js.gz", "plotly-license.txt", "document.js", "document.css", "page.js", "page.css")
    for name in files:
        assert (installed / "runner/report" / name).read_bytes() == (ROOT / "runner/report" / name).read_bytes()
    for path in (ROOT / "runner/learn/page").iterdir():
        assert (installed / "runner/learn/page" / path.name).read_bytes() == path.read_bytes()
