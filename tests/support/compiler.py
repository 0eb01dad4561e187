"""The C++ compiler, which most tests do without."""

import os
from pathlib import Path

import pytest


def with_compiler(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let descents be compiled, and keep the programs in a folder; skip where there is no compiler; CI has one."""
    from runner.compiling.programs import compiler  # with torch, which the Pythons of some tests do not have

    patch.delenv("CXX", raising=False)
    patch.setenv("RUNNER_CACHE_DIR", str(folder))
    if compiler() is None:
        assert "CI" not in os.environ, "CI has a C++ compiler"
        pytest.skip("there is no C++ compiler (g++)")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the programs that tests share, for they take seconds to compile."""
    return tmp_path_factory.mktemp("programs")
