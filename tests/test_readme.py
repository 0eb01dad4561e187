"""Every command of the README runs, and prints what the README shows."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

# What differs from one machine or moment to the next.
VARYING = (
    (re.compile(r"^device .*$", re.MULTILINE), "device"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<run>"),
    (re.compile(r"^ *[0-9,]+ of [0-9,]+ runs ended, .*\n", re.MULTILINE), ""),
    (re.compile(r"\([0-9.]+ s, [0-9,]+ steps/s\)"), "<pace>"),
)


@dataclass(frozen=True)
class Example:
    command: str
    printed: str


def examples() -> list[Example]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [Example(*part.partition("\n")[::2]) for part in parts]


def comparable(text: str) -> str:
    for pattern, stand_in in VARYING:
        text = pattern.sub(stand_in, text)
    return text.strip()


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.command)
def test_a_command_prints_what_the_readme_shows(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = shlex.split(example.command)
    assert words[:3] == ["python", "-m", "runner"]
    done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert comparable(done.stdout + done.stderr) == comparable(example.printed)
    assert done.returncode == (2 if example.printed.startswith("error:") else 0)


def test_the_commands_at_the_top_install_and_run() -> None:
    # The second is what .ci/run runs, in a clean clone; the first installs the same package.
    commands = [line for line in README.splitlines() if line.startswith("pip install -c")]
    assert commands == [
        "pip install -c constraints.txt -e . && python -m runner lr=0.05 steps=1000",
        "pip install -c constraints.txt -e '.[test]' && pytest",
    ]
    assert "README.md" in (ROOT / ".ci/run").read_text()


def test_the_cpu_build_is_the_version_that_the_constraints_file_pins() -> None:
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert f"pip install {pinned} --index-url https://download.pytorch.org/whl/cpu\n" in README
