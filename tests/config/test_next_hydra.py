"""The newest pre-release of Hydra composes every option of every group, prints the config and the help.

It may fail, since the runner requires a Hydra below 1.4; `NEXT_HYDRA=1 pytest -rxX` then prints the reason.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMPOSE = """
import hydra
from runner.composition.composition import compose, config_folder
from runner.config.plain import plain
from runner.config.schema import GROUPS

for group in (*GROUPS, "experiment"):
    for file in sorted((config_folder() / group).glob("*.yaml")):
        code = "allow_code=true" if file.stem in ("callable", "module", "package") else "lr=0.5"
        plain(compose([f"{group}={file.stem}", code]))
print(hydra.__version__)
"""


def failure(python: Path, *arguments: str) -> str | None:
    """Return the last line that Python prints where it fails."""
    done = subprocess.run(
        [python, *arguments], cwd=python.parent, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (done.stderr or done.stdout).strip().splitlines()
    return (
        None
        if done.returncode == 0
        else f"{' '.join(arguments[-2:])}: {lines[-1].partition(' (at ')[0] if lines else done.returncode}"
    )


@pytest.mark.skipif("NEXT_HYDRA" not in os.environ, reason="installs a Hydra of its own; NEXT_HYDRA=1 runs it")
def test_the_next_hydra_composes_every_option(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    install = ["--python", str(python), "install", "-q", "--pre", "hydra-core>=1.4.0.dev0", "rich"]
    if subprocess.run([sys.executable, "-m", "pip", *install], check=False).returncode != 0:
        pytest.xfail("pip cannot install it")
    found = [failure(python, "-c", COMPOSE), failure(python, "-m", "runner", "--cfg", "job")]
    found.append(failure(python, "-m", "runner", "--help"))
    if reasons := [reason for reason in found if reason is not None]:
        pytest.xfail("; ".join(reasons))
