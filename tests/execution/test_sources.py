"""The sources of a user's function: a change in any of them makes it a different job."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.execution import sources
from runner.execution.sources import sources_of

Write = Callable[[str, str], None]

FILES = {
    "tasks.py": "from package.bowls import bowl\n",
    "package/__init__.py": "LIMIT = 2\n",
    "package/bowls.py": "from . import powers\nfrom .deep import scale as factor\n\n"
    "def bowl(weight):\n    import late.helper\n    return factor * (weight**powers.TWO).sum()\n",
    "package/powers.py": "import torch\nTWO = 2\n",
    "package/deep/__init__.py": "from .numbers import *\n",
    "package/deep/numbers.py": "import package.bowls\nscale = 1.0\n",
    "late/helper.py": "import json, missing_altogether, broken\n",
    "broken.py": "def (\n",
    "unrelated.py": "X = 1\n",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return a function that writes a file in the working directory, whose modules are removed afterwards."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    for name, text in FILES.items():
        write(name, text)
    yield write
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]
    sources._file_of.cache_clear()


def test_the_modules_of_the_working_directory_are_followed_and_no_others(write: Write) -> None:
    del write
    assert set(sources_of("tasks:bowl")) == {
        "tasks", "package", "package.bowls", "package.powers", "package.deep", "package.deep.numbers", "late.helper",
        "broken",
    }  # fmt: skip


@pytest.mark.parametrize("changed", [name for name in FILES if name != "unrelated.py"])
def test_a_change_in_any_of_the_sources_is_detected(write: Write, changed: str) -> None:
    before = sources_of("tasks:bowl")
    write(changed, FILES[changed] + "# changed\n")
    after = sources_of("tasks:bowl")
    assert [name for name in after if after[name] != before[name]] == [
        changed.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    ]


def test_a_change_in_other_code_does_not_count(write: Write) -> None:
    before = sources_of("tasks:bowl")
    write("unrelated.py", "X = 2\n")
    write("notes.txt", "2")
    assert sources_of("tasks:bowl") == before


def test_a_wrapped_function_is_found_where_it_is_defined(write: Write) -> None:
    write("wrapped.py", "from functools import partial\nfrom package.bowls import bowl\nhalf = partial(bowl)\n")
    assert "package.bowls" in sources_of("wrapped:half")


def test_a_function_of_an_installed_package_has_that_file_alone(write: Write) -> None:
    write("mine.py", "from torch.nn.functional import mse_loss as loss\n")
    assert set(sources_of("mine:loss")) == {"mine", "torch.nn.functional"}


def test_a_function_that_cannot_be_imported_has_no_source(write: Write) -> None:
    write("fails.py", "raise RuntimeError\n")
    assert sources_of("fails:f") == sources_of("absent:f") == sources_of("tasks:absent") == {}
